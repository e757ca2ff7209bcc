"""Profiles: the shipped ones against their logs, the copula against closed forms and itself."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import multivariate_normal, norm, rankdata

from routing_pomdp.envs.logs.rollouts import Rollouts
from routing_pomdp.envs.profiles import (
    Marginal,
    describe,
    fit_marginal,
    fit_profile,
    load_profile,
    save_profile,
    shipped_profiles,
    simulate,
)
from routing_pomdp.envs.profiles.copula import fit_correlation, uniforms
from tests.support.profiles import LLAMA_PROFILES, SIGNAL, assert_equal, binary, known_profile

LOGS = LLAMA_PROFILES
PUBLIC = ("letters_chain", "letters_mmlu", "mmlu_pro_openai", "mmlu_pro_thinking", "swe_bench_pro")


def read_train(folder: Path, dataset: str) -> Rollouts:
    """A log's train split read here and not by the package, so that both can be compared."""
    names = {
        "correct": "score",
        "confidence_logprob": "signal",
        "answer_cost_usd": "cost",
        "verifier_cost_usd": "signal_cost",
        "latency_ms": "latency",
    }
    path = folder / f"{dataset}.llama.train.calls.parquet"
    table = pq.read_table(path, columns=["query_id", "model", "model_rank", *names])
    query_id, row = np.unique(table["query_id"].to_pylist(), return_inverse=True)
    rank = table["model_rank"].to_numpy()
    cells = {}
    for column, name in names.items():
        cells[name] = np.full((len(query_id), rank.max() + 1), np.nan)
        cells[name][row, rank] = table[column].to_numpy(zero_copy_only=False)
    model = dict(zip(rank.tolist(), table["model"].to_pylist(), strict=True))
    return Rollouts(
        models=tuple(model[i] for i in sorted(model)),
        query_id=query_id,
        score=cells["score"],
        cost=cells["cost"],
        signals={SIGNAL: cells["signal"]},
        signal_costs={SIGNAL: cells["signal_cost"]},
        split=np.full(len(query_id), "train"),
        dataset=np.full(len(query_id), dataset),
        latency=cells["latency"],
    )


def read_calls(path: Path, signal: str) -> Rollouts:
    """A public log's calls table, read here and not by the package."""
    columns = ["query_id", "model", "model_rank", "score", "cost", f"signal_{signal}"]
    table = pq.read_table(path, columns=columns)
    query_id, row = np.unique(table["query_id"].to_pylist(), return_inverse=True)
    rank = table["model_rank"].to_numpy()
    cells = {name: np.full((len(query_id), rank.max() + 1), np.nan) for name in columns[3:]}
    for name, cell in cells.items():
        cell[row, rank] = table[name].to_numpy(zero_copy_only=False)
    model = dict(zip(rank.tolist(), table["model"].to_pylist(), strict=True))
    return Rollouts(
        models=tuple(model[i] for i in sorted(model)),
        query_id=query_id,
        score=cells["score"],
        cost=cells["cost"],
        signals={signal: cells[columns[-1]]},
        split=np.full(len(query_id), "train"),
        dataset=np.full(len(query_id), "any"),
    )


def auroc(signal, right) -> float:
    """Wilcoxon's rank sum."""
    rights, wrongs = right.sum(), (~right).sum()
    return (rankdata(signal)[right].sum() - rights * (rights + 1) / 2) / (rights * wrongs)


def aurocs(rollouts: Rollouts, name: str = SIGNAL) -> np.ndarray:
    """(N, N): of column's signal for row's correctness, where the signal is not missing."""
    right, signal = rollouts.score == 1, rollouts.signals[name]
    models = range(right.shape[1])
    there = ~np.isnan(signal)
    return np.array(
        [[auroc(signal[there[:, j], j], right[there[:, j], i]) for j in models] for i in models]
    )


def rank_correlations(rollouts: Rollouts, name: str = SIGNAL) -> np.ndarray:
    """(N, N) Spearman's, of each pair of signals on the queries that have both."""
    signal = rollouts.signals[name]
    models = range(signal.shape[1])
    found = np.empty((len(models), len(models)))
    for i in models:
        for j in models:
            both = ~np.isnan(signal[:, [i, j]]).any(axis=1)
            found[i, j] = np.corrcoef(*rankdata(signal[both][:, [i, j]], axis=0).T)[0, 1]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("dataset", LOGS)
def test_a_large_simulation_of_a_shipped_profile_reproduces_its_log(shared_logs, dataset):
    log = read_train(shared_logs, dataset)
    drawn = simulate(load_profile(dataset), {"train": 60_000}, seed=1)
    assert drawn.models == log.models
    assert np.abs(drawn.score.mean(axis=0) - log.score.mean(axis=0)).max() < 0.01
    off = np.abs(aurocs(drawn) - aurocs(log))
    assert np.diag(off).max() < 0.02
    assert off.max() < 0.03
    phi = np.abs(np.corrcoef(drawn.score.T) - np.corrcoef(log.score.T))
    assert phi.max() < (0.1 if dataset == "gsm8k" else 0.05)
    assert np.abs(rank_correlations(drawn) - rank_correlations(log)).max() < 0.05


@pytest.mark.parametrize("dataset", LOGS)
def test_a_simulated_signal_is_distributed_as_the_logged_one(shared_logs, dataset):
    logged = read_train(shared_logs, dataset).signals[SIGNAL]
    drawn = simulate(load_profile(dataset), 30_000, seed=2).signals[SIGNAL]
    for model in range(logged.shape[1]):
        at = np.sort(logged[:, model])
        of_log = np.searchsorted(at, at, side="right") / len(at)
        of_drawn = np.searchsorted(np.sort(drawn[:, model]), at, side="right") / len(drawn)
        # Kolmogorov's distance of two samples of 300 at 5% would be 0.11.
        assert np.abs(of_log - of_drawn).max() < 0.04


@pytest.mark.parametrize("dataset", LOGS)
def test_a_shipped_profile_is_what_fitting_the_train_split_gives(shared_logs, dataset):
    shipped = load_profile(dataset)
    log = read_train(shared_logs, dataset)
    assert (shipped.split, shipped.queries) == ("train", len(log))
    fitted = fit_profile(log, SIGNAL, dataset, source=shipped.source)
    assert_equal(fitted, shipped, within=2e-3)  # another BLAS may round another way
    assert shipped.answer_cost == pytest.approx(log.cost.mean(axis=0), rel=1e-5)
    assert shipped.signal_cost == pytest.approx(log.signal_costs[SIGNAL].mean(axis=0), rel=1e-5)


def test_ten_profiles_are_shipped_and_name_their_source_and_split():
    assert set(shipped_profiles()) == {*LOGS, *PUBLIC}
    for name in LOGS:
        profile = load_profile(name)
        assert profile.name == profile.dataset == name
        assert profile.split == "train"
        assert "arXiv 2501.09345" in profile.source
    for name in PUBLIC:
        profile = load_profile(name)
        assert profile.name == name
        assert profile.source
        assert (simulate(profile, 5, seed=0).dataset == name).all()


@pytest.mark.parametrize("name", PUBLIC)
def test_a_large_simulation_reproduces_a_public_log(public_logs, name):
    """Missing signals are simulated as well: pairs of signals are compared where both are there."""
    profile = load_profile(name)
    file = {"letters_chain": "letters_mmlu"}.get(name, name)
    log = read_calls(public_logs / f"{file}.parquet", profile.signal).select(profile.models)
    drawn = simulate(profile, 200_000, seed=1)
    assert (drawn.models, profile.queries) == (log.models, len(log))
    assert np.abs(drawn.score.mean(axis=0) - log.score.mean(axis=0)).max() < 0.01
    off = np.abs(aurocs(drawn, profile.signal) - aurocs(log, profile.signal))
    assert off.max() < 0.02
    phi = np.abs(np.corrcoef(drawn.score.T) - np.corrcoef(log.score.T))
    assert phi.max() < 0.05
    spearman = [rank_correlations(one, profile.signal) for one in (drawn, log)]
    assert np.abs(spearman[0] - spearman[1]).max() < 0.05
    missing = [np.isnan(one.signals[profile.signal]).mean(axis=0) for one in (drawn, log)]
    assert np.abs(missing[0] - missing[1]).max() < 0.005
    assert profile.answer_cost == pytest.approx(log.cost.mean(axis=0), rel=1e-5)


def test_values_that_crowd_below_one_stay_apart():
    """Probabilities of an answer's letter: rounded to five digits, a third of them would be 1."""
    rng = np.random.default_rng(0)
    marginal = fit_marginal(1 - np.exp(-rng.uniform(0, 18, 5000)))
    assert (np.diff(marginal.values) > 0).all()
    assert marginal.values[0] == float(f"{marginal.values[0]:.12g}")


def test_the_copula_matches_sheppards_and_spearmans_closed_forms():
    rho = 0.6
    half, rare = binary(0.5), binary(0.9)
    uniform = Marginal(np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    both = multivariate_normal.cdf(
        [norm.ppf(0.5), norm.ppf(0.1)], cov=[[1, rho], [rho, 1]], abseps=1e-10
    )
    cases = {
        # orthant probability: 1/4 + asin(rho) / 2 pi
        (half, half): 2 / np.pi * np.arcsin(rho),
        (uniform, uniform): 6 / np.pi * np.arcsin(rho / 2),
        (half, rare): (both - 0.5 * 0.1) / np.sqrt(0.25 * 0.09),
    }
    for pair, correlation in cases.items():
        target = np.array([[1, correlation], [correlation, 1]])
        fitted = fit_correlation(pair, target, np.full((2, 2), 0.001))
        assert fitted[0, 1] == pytest.approx(rho, abs=5e-4)


def test_statistics_are_the_textbook_ones():
    drawn = simulate(known_profile(), 3_000, seed=5)
    rounded = replace(drawn, signals={SIGNAL: np.round(drawn.signals[SIGNAL], 1)})  # many ties
    measured = describe(rounded, SIGNAL)
    right_or_wrong = [0, 1]  # the third model's score is graded
    assert measured.auroc[right_or_wrong] == pytest.approx(aurocs(rounded)[right_or_wrong])
    assert measured.spearman == pytest.approx(rank_correlations(rounded))
    assert measured.phi == pytest.approx(np.corrcoef(rounded.score.T))


def test_fitting_a_simulation_recovers_its_profile():
    profile = known_profile()
    drawn = simulate(profile, {"train": 100_000}, seed=3)
    fitted = fit_profile(drawn, SIGNAL, "known")
    assert np.abs(fitted.correlation - profile.correlation).max() < 0.02
    assert fitted.accuracy == pytest.approx(profile.accuracy, abs=0.005)
    level = (np.arange(40) + 0.5) / 40  # off the atoms' edges
    for ours, truth in zip(fitted.signals, profile.signals, strict=True):
        assert ours.quantile(level) == pytest.approx(truth.quantile(level), rel=0.03, abs=0.01)
    assert fitted.answer_cost == pytest.approx(profile.answer_cost)
    assert fitted.latency is None


def test_marginals_of_a_simulation_are_exact():
    profile = known_profile()
    drawn = simulate(profile, 200_000, seed=4)
    assert set(np.unique(drawn.score[:, 0])) == {0.0, 1.0}
    assert set(np.unique(drawn.score[:, 2])) == {0.0, 0.5, 1.0}
    assert drawn.score.mean(axis=0) == pytest.approx([0.6, 0.8, 0.65], abs=0.004)
    assert (drawn.signals[SIGNAL][:, 0] == 0).mean() == pytest.approx(0.3, abs=0.004)
    assert (drawn.signals[SIGNAL][:, 0] < -10).mean() == pytest.approx(0.05, abs=0.002)
    assert (drawn.cost == profile.answer_cost).all()
    assert (drawn.signal_costs[SIGNAL] == profile.signal_cost).all()


def test_the_same_seed_draws_the_same_and_another_seed_independently():
    profile, n = known_profile(), {"train": 20_000, "test": 20_000}
    one, again, other = (simulate(profile, n, seed) for seed in (7, 7, 8))
    assert (one.score == again.score).all()
    assert (one.signals[SIGNAL] == again.signals[SIGNAL]).all()
    for first, second in (
        (one.signals[SIGNAL], other.signals[SIGNAL]),
        (one.signals[SIGNAL][:20_000], one.signals[SIGNAL][20_000:]),
    ):
        across = np.corrcoef(rankdata(first, axis=0).T, rankdata(second, axis=0).T)[:3, 3:]
        assert np.abs(across).max() < 0.03


def test_one_call_gives_all_splits_and_each_keeps_its_draws_when_others_grow():
    profile = known_profile()
    drawn = simulate(profile, {"train": 300, "validation": 150, "test": 1000}, seed=1)
    splits, sizes = np.unique(drawn.split, return_counts=True)
    assert dict(zip(splits.tolist(), sizes.tolist(), strict=True)) == {
        "train": 300,
        "validation": 150,
        "test": 1000,
    }
    assert len(set(drawn.query_id.tolist())) == len(drawn) == 1450
    assert drawn.query_id[1] == "known-sim-0000001"
    larger = simulate(profile, {"train": 900, "test": 1000}, seed=1)
    assert np.allclose(
        larger.signals[SIGNAL][larger.split == "test"], drawn.signals[SIGNAL][drawn.split == "test"]
    )
    assert np.allclose(larger.score[:300], drawn.score[:300])


def test_a_model_that_is_always_right_or_always_wrong_is_simulated_so():
    drawn = simulate(known_profile(), 2_000, seed=6)
    score = drawn.score.copy()
    score[:, 0], score[:, 2] = 0, 1
    log = replace(drawn, score=score)
    fitted = fit_profile(log, SIGNAL, "extremes")
    again = simulate(fitted, 50_000, seed=0)
    assert (again.score[:, 0] == 0).all()
    assert (again.score[:, 2] == 1).all()
    measured, logged = describe(again, SIGNAL), describe(log, SIGNAL)
    assert np.isnan(measured.auroc[[0, 2]]).all()
    assert np.abs(measured.auroc[1] - logged.auroc[1]).max() < 0.02
    assert np.abs(measured.spearman - logged.spearman).max() < 0.02


def test_a_model_that_fails_once_keeps_scores_of_0_and_1():
    marginal = fit_marginal(np.r_[0, np.ones(299)])
    assert marginal.mean == pytest.approx(299 / 300, abs=1e-6)
    assert set(marginal.quantile(np.linspace(0.0001, 0.9999, 9999))) == {0.0, 1.0}


def test_a_most_expensive_model_without_a_signal_stays_without():
    drawn = simulate(known_profile(), 5_000, seed=9)
    cells = {"signals": drawn.signals[SIGNAL], "signal_costs": drawn.signal_costs[SIGNAL]}
    only_small = {
        key: {SIGNAL: np.where([True, True, False], x, np.nan)} for key, x in cells.items()
    }
    log = replace(drawn, **only_small)
    fitted = fit_profile(log, SIGNAL, "automix")
    assert fitted.signals[2] is None
    assert fitted.correlation.shape == (5, 5)
    again = simulate(fitted, 20_000, seed=0)
    assert np.isnan(again.signals[SIGNAL][:, 2]).all()
    assert np.isfinite(again.signals[SIGNAL][:, :2]).all()
    off = np.abs(describe(again, SIGNAL).auroc - describe(log, SIGNAL).auroc)
    assert np.isnan(off[:, 2]).all()
    assert off[:, :2].max() < 0.02


def test_graded_scores_keep_their_atoms_and_correlations():
    rng = np.random.default_rng(0)
    latent = rng.standard_normal((4_000, 4)) + rng.standard_normal((4_000, 1))
    f1 = np.clip(norm.cdf(latent[:, :2]) * 1.6 - 0.3, 0, 1)
    log = Rollouts(
        models=("small", "large"),
        query_id=np.arange(4_000).astype(str),
        score=f1,
        cost=None,
        signals={SIGNAL: latent[:, 2:]},
        split=np.full(4_000, "train"),
        dataset=np.full(4_000, "qasper"),
    )
    fitted = fit_profile(log, SIGNAL, "f1")
    drawn = simulate(fitted, 100_000, seed=0)
    assert drawn.cost is None
    for edge in (0, 1):
        assert (drawn.score == edge).mean(axis=0) == pytest.approx(
            (f1 == edge).mean(axis=0), abs=0.01
        )
    ours, logs = (
        np.corrcoef(np.hstack([x.score, rankdata(x.signals[SIGNAL], axis=0)]).T)
        for x in (drawn, log)
    )
    assert np.abs(ours - logs).max() < 0.02


def test_correlations_that_no_variables_have_give_the_nearest_that_some_do():
    target = np.array([[1, 0.9, -0.9], [0.9, 1, 0.9], [-0.9, 0.9, 1]])
    uniform = Marginal(np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    fitted = fit_correlation([uniform] * 3, target, np.full((3, 3), 0.05))
    assert np.linalg.eigvalsh(fitted)[0] >= 0
    drawn = np.corrcoef(uniforms(fitted, 50_000, np.random.default_rng(0)))
    # By symmetry the three misses are equal, and the least possible is 0.4 each.
    assert np.abs(drawn - target)[np.triu_indices(3, 1)] == pytest.approx([0.41] * 3, abs=0.03)


def test_missing_and_infinite_signals_are_simulated_as_often_as_logged(tmp_path):
    log = simulate(known_profile(), 4000, seed=0)
    signal, wrong = log.signals[SIGNAL].copy(), log.score[:, 0] < 0.5
    rng = np.random.default_rng(1)
    signal[rng.random(4000) < np.where(wrong, 0.4, 0.1), 0] = np.nan
    signal[:200, 1] = -np.inf
    save_profile(
        fit_profile(replace(log, signals={SIGNAL: signal}), SIGNAL, "holes"),
        path := tmp_path / "holes.yaml",
    )
    drawn = simulate(load_profile(path), 20_000, seed=1)
    found, failed = drawn.signals[SIGNAL], drawn.score[:, 0] < 0.5
    for simulated, logged in ((failed, wrong), (~failed, ~wrong)):
        share = np.isnan(signal[logged, 0]).mean()
        assert np.isnan(found[simulated, 0]).mean() == pytest.approx(share, abs=0.015)
    assert not np.isnan(found[:, 1]).any()
    lowest = found[:, 1] < log.signals[SIGNAL][:, 1].min()
    assert lowest.mean() == pytest.approx(0.05, abs=0.02)


def test_a_log_that_cannot_be_fitted_says_why():
    log = simulate(known_profile(), 100, seed=0)
    with pytest.raises(ValueError, match="no signal 'votes' in the log: it has"):
        fit_profile(log, "votes", "x")
    score = log.score.copy()
    score[3, 1] = np.nan
    with pytest.raises(
        ValueError, match=r"score of model 'medium' is missing on 1 of 100.*0000003"
    ):
        fit_profile(replace(log, score=score), SIGNAL, "x")
    with pytest.raises(ValueError, match="missing on every query of every model"):
        fit_profile(replace(log, signals={SIGNAL: log.signals[SIGNAL] * np.nan}), SIGNAL, "x")
    with pytest.raises(ValueError, match="9 queries are too few"):
        fit_profile(simulate(known_profile(), 9, seed=0), SIGNAL, "x")


def test_an_impossible_draw_is_refused():
    for n in (0, {}, {"train": 5, "test": 0}):
        with pytest.raises(ValueError, match="at least one query"):
            simulate(known_profile(), n, seed=0)
    with pytest.raises(ValueError, match="seed is -1"):
        simulate(known_profile(), 5, seed=-1)
