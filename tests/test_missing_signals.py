"""Missing and infinite signals, from the log to the policy (`envs.signals`)."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from omegaconf import OmegaConf

from routing_pomdp.envs import (
    CostModel,
    RoutingData,
    RoutingEnv,
    RoutingPOMDP,
    RoutingVectorEnv,
    Rules,
)
from routing_pomdp.envs.costs.cost_model import Costs
from routing_pomdp.envs.history import History
from routing_pomdp.envs.signals import ShownSignals, SignalRange, between
from routing_pomdp.evaluation.evaluate import evaluate, returns
from routing_pomdp.evaluation.runs.prepare import split_log
from routing_pomdp.solvers import Exact
from routing_pomdp.solvers.automix.pomdp import AutoMixPOMDP
from routing_pomdp.solvers.automix.thresholds import AutoMixDoubleThreshold, AutoMixThreshold
from routing_pomdp.solvers.baselines import Static
from routing_pomdp.solvers.cascades.cascade_routing import CascadeRouting
from routing_pomdp.solvers.cascades.margin import Margin
from routing_pomdp.solvers.cascades.pairwise import PairwiseEnvelope
from routing_pomdp.solvers.cascades.rational_tuning import RationalTuning
from routing_pomdp.solvers.cascades.threshold import Threshold
from routing_pomdp.solvers.exact.bounds import QMDP
from routing_pomdp.solvers.exact.point_based import PointBased
from routing_pomdp.solvers.learned.fitted_q import FittedQ
from routing_pomdp.solvers.learned.simulated import simulated
from routing_pomdp.verifiers import (
    AffordableFirst,
    Beta,
    CalibratedMerge,
    GaussianMixture,
    Histogram,
    KernelDensity,
    LoggedSignal,
    Merged,
    Product,
    SideBySide,
    emitted,
    fitted,
    make_routing_data,
    paid,
)
from routing_pomdp.verifiers.observation.calibration import Calibrator
from tests.support.logs import log_of

NAN, INF = np.nan, np.inf
DENSITIES = [KernelDensity, Beta, GaussianMixture]
RAW = [
    Threshold(),
    Margin(),
    PairwiseEnvelope(),
    AutoMixThreshold(),
    AutoMixDoubleThreshold(),
    FittedQ(),
    CascadeRouting(draws=64),
    RationalTuning(cells=8, starts=0),
]
LEARNERS = [Exact(), AutoMixPOMDP(), *RAW]


def name_of(solver):
    return type(solver).__name__


def data_of(score, signal, costs=(1.0, 10.0)):
    """Queries with costs of calls, verification for free; signals ``(n, N - 1)``."""
    score = np.asarray(score, dtype=float)
    padded = np.column_stack([signal, np.full(len(score), NAN)])
    call = np.tile(costs, (len(score), 1))
    return RoutingData(score, call, np.zeros_like(call), padded[..., None])


def problem_of(data, rules=None, observation=None, price=0.3):
    costs = Costs(data.call_cost.mean(axis=0), data.verify_cost.mean(axis=0))
    rules = rules or Rules(data.n_models)
    return RoutingPOMDP.fit(data, observation or Histogram(bins=4), costs, rules, price)


def telling(n=400):
    """The small model is wrong exactly where its signal is missing, the large one always right."""
    rng = np.random.default_rng(3)
    right = np.arange(n) % 4 > 0
    signal = np.where(right, rng.random(n), NAN)
    return data_of(np.column_stack([right, np.ones(n)]), signal[:, None])


def noisy(n=600, seed=0, missing=0.2):
    """Three models, signals that say something, missing more often where the answer is wrong."""
    log = log_of(n, seed=seed, split=(1, 0, 0))
    rng = np.random.default_rng(seed)
    signal = np.exp(log.signals["sharp"])
    hole = rng.random(signal.shape) < missing * (1.5 - log.score)
    call = np.broadcast_to([1.0, 4.0, 16.0], signal.shape)
    shown = np.where(hole, NAN, signal)[..., None]
    return RoutingData(log.score, call, 0.1 * call, shown, log)


# -- the convention --------------------------------------------------------------------------------

numbers = st.floats(-1e6, 1e6) | st.sampled_from([NAN, INF, -INF])
signals = arrays(float, st.tuples(st.integers(1, 6), st.integers(1, 3)), elements=numbers)


@given(signals)
def test_what_an_environment_shows_is_finite_and_gives_the_raw_signals_back(signal):
    shown = ShownSignals.fit(signal)
    seen = shown.show(signal)
    assert np.isfinite(seen).all()
    assert seen.shape[-1] == shown.width
    low, high = shown.bounds(signal)
    assert ((seen >= low) & (seen <= high)).all()
    np.testing.assert_array_equal(shown.raw(seen), signal)


@given(signals)
def test_finite_signals_keep_their_order_and_infinite_ones_lie_beyond_all(signal):
    finite = SignalRange.fit(signal).finite(signal)
    for column, raw in zip(finite.T, signal.T, strict=True):
        there = ~np.isnan(raw)
        assert np.isfinite(column[there]).all()
        assert np.isnan(column[~there]).all()
        np.testing.assert_array_equal(
            np.sign(np.subtract.outer(column[there], column[there])),
            np.sign(np.subtract.outer(np.clip(raw[there], -1e300, 1e300),
                                      np.clip(raw[there], -1e300, 1e300))),
        )  # fmt: skip


@given(numbers, numbers)
def test_a_cut_lies_between(one, other):
    low, high = sorted((one, other))
    if low < high:
        cut = between(np.array(low), np.array(high))
        assert np.isfinite(cut)
        assert low < cut <= high


# -- observation models ----------------------------------------------------------------------------


@pytest.mark.parametrize("binning", ["quantile", "uniform", "supervised"])
def test_a_missing_symbols_likelihood_is_its_smoothed_frequency_given_the_score(binning):
    data = noisy()
    level, silent = data.score[:, 0].astype(int), np.isnan(data.signal[:, 0, 0])
    problem = problem_of(data, observation=Histogram(bins=4, binning=binning, smoothing=2.0))
    symbol = problem.symbols(0, np.array([[NAN]]))[0]
    assert symbol == problem.n_symbols - 1 == 4
    used = len(problem.observation.edges_[0]) + 2
    pooled = (silent.sum() + 0.5) / (len(silent) + 0.5 * used)
    for k in (0, 1):
        of_level = level == k
        expected = (silent[of_level].sum() + 2 * pooled) / (of_level.sum() + 2)
        found = problem.likelihood[0, problem.score[:, 0] == k, symbol]
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert np.isnan(problem.representative[0, symbol]).all()


@pytest.mark.parametrize("kind", DENSITIES)
@pytest.mark.parametrize("conditioning", ["own", "joint"])
def test_densities_have_a_point_mass_for_missing_signals(kind, conditioning):
    data = noisy()
    model = kind(bins=4, conditioning=conditioning)
    problem = problem_of(data, observation=model)
    symbol = problem.symbols(1, np.array([[NAN]]))[0]
    np.testing.assert_allclose(
        model.density(1, np.array([[NAN]]))[0], problem.likelihood[1, :, symbol]
    )
    # The density of signals that are there integrates to the rest.
    grid = np.linspace(-16, 16, 4001)
    density = model.density(1, model.scale_[1].inverse(grid)[:, None])
    mass = np.trapezoid(density, grid, axis=0)
    np.testing.assert_allclose(mass, 1 - problem.likelihood[1, :, symbol], atol=0.02)


@pytest.mark.parametrize(
    "observation",
    [
        Histogram(missing=True),
        Histogram(missing=True, conditioning="joint"),
        KernelDensity(missing=True),
        Merged(Histogram(missing=True)),
    ],
)
def test_a_missing_signal_that_training_never_showed_is_possible_and_says_nothing(observation):
    data = noisy(missing=0.0)
    problem = problem_of(data, observation=observation)
    history = History(
        np.zeros(1, int),
        np.zeros(1, int),
        np.array([[True, False, False]]),
        np.array([[True, False, False]]),
        np.full((1, 3, 1), NAN),
    )
    code = problem.encode(history)
    np.testing.assert_allclose(problem.belief(code)[0], problem.prior, rtol=1e-12)
    assert 0 < problem.joint(code).sum() < 0.01
    np.testing.assert_allclose(problem.likelihood.sum(axis=2), 1)


def test_a_symbol_is_reserved_only_where_missing_signals_come():
    data = noisy(missing=0.0)
    model = Histogram(bins=4)
    assert problem_of(data, observation=model).n_symbols == 4
    # One that comes all the same is taken for the bin that says least.
    ratio = model.likelihood[0].max(axis=0) / model.likelihood[0].min(axis=0)
    assert model.symbols(0, np.array([[NAN]]))[0] == ratio.argmin()


def test_a_missing_part_of_several_signals_is_learned_from():
    data = noisy(missing=0.0)
    rng = np.random.default_rng(5)
    hole = rng.random(data.score.shape) < 0.8 * (1 - data.score)  # says: wrong
    second = np.where(hole, NAN, rng.random(data.score.shape))
    both = replace(data, signal=np.stack([data.signal[..., 0], second], axis=2))
    for model in (Product(Histogram(bins=3)), Merged(Histogram(bins=4))):
        problem = problem_of(both, observation=model)
        belief = [
            problem.likelihood[0][:, problem.symbols(0, np.array([[0.5, value]]))[0]]
            for value in (0.5, NAN)
        ]
        right = problem.score[:, 0] == 1
        odds = [(b * problem.prior)[right].sum() / (b * problem.prior).sum() for b in belief]
        assert odds[1] < odds[0] - 0.2
        problem.symbols(0, np.array([[NAN, NAN]]))


def test_a_calibration_reads_what_is_there_and_what_is_not():
    rng = np.random.default_rng(0)
    score = (rng.random(800) < 0.5).astype(float)
    signal = np.column_stack([score + rng.normal(size=800), rng.random(800)])
    signal[score == 0, 1] = np.where(rng.random((score == 0).sum()) < 0.7, NAN, 0.5)
    signal[:5] = NAN
    calibration, held_out = Calibrator().fit(signal, score)
    assert np.isnan(held_out[:5]).all()
    assert np.isfinite(held_out[5:]).all()
    with_it, without, nothing = calibration(np.array([[0.5, 0.5], [0.5, NAN], [NAN, NAN]]))
    assert without < with_it - 0.2
    assert np.isnan(nothing)


def test_an_affordable_first_buys_the_second_where_the_first_says_nothing():
    log = log_of(600, split=(1, 0, 0))
    cheap = np.where(np.arange(600)[:, None] % 3 == 0, NAN, log.signals["dull"])
    log = replace(log, signals={"cheap": cheap, "sharp": log.signals["sharp"]})
    verifier = fitted(AffordableFirst(LoggedSignal("cheap"), LoggedSignal("sharp")), log)
    silent = np.isnan(cheap)
    np.testing.assert_allclose(paid(verifier, log)[silent], log.signal_costs["sharp"][silent])
    assert np.isfinite(emitted(verifier, log)).all()
    merge = fitted(CalibratedMerge({"a": LoggedSignal("cheap"), "b": LoggedSignal("sharp")}), log)
    assert np.isfinite(emitted(merge, log)).all()
    side = SideBySide({"a": LoggedSignal("cheap"), "b": LoggedSignal("sharp")})
    assert np.isnan(emitted(side, log)[0, :, 0]).all()


# -- solvers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", LEARNERS, ids=name_of)
@pytest.mark.parametrize("verify", [False, True])
def test_where_missing_tells_all_every_learner_finds_the_optimum(solver, verify):
    data = telling()
    problem = problem_of(data, Rules(2, verify=verify))
    (policy,) = solver.solve_frontier(problem, [0.3], data)
    got = returns(evaluate(policy, data), problem)
    wrong = np.isnan(data.signal[:, 0, 0])
    np.testing.assert_allclose(got, np.where(wrong, 1 - 0.3 * 1.1, 1 - 0.3 * 0.1))


@pytest.mark.parametrize("solver", LEARNERS, ids=name_of)
def test_signals_missing_at_random_change_no_decision_on_the_others(solver):
    whole = noisy(300, missing=0.0)
    silent = replace(whole, signal=np.full_like(whole.signal, NAN), rollouts=None)
    both = RoutingData(
        *(
            np.concatenate([getattr(part, name) for part in (whole, silent)])
            for name in ("score", "call_cost", "verify_cost", "signal")
        )
    )
    plain, mixed = (problem_of(data, price=0.5) for data in (whole, both))
    (one,) = solver.solve_frontier(plain, [0.5], whole)
    (other,) = solver.solve_frontier(mixed, [0.5], both)
    apart = evaluate(one, whole).answer != evaluate(other, whole).answer
    # Twice the queries: folds and smoothing differ, exact cuts do not; a parametric model of
    # confidences is another one with a point mass in its middle.
    most = {Threshold: 0.0, Margin: 0.0, RationalTuning: 0.2}
    assert apart.mean() <= most.get(type(solver), 0.1)


@pytest.mark.parametrize("solver", [Exact(), *RAW[:-1]], ids=name_of)
@pytest.mark.parametrize("binning", ["quantile", "supervised"])
def test_minus_infinity_is_any_very_low_number_to_what_ranks(solver, binning):
    data = noisy(300, missing=0.1)
    low = data.signal < np.nanquantile(data.signal, 0.1)
    outcome = []
    for least in (-INF, -1e6):
        shown = replace(data, signal=np.where(low, least, data.signal))
        problem = problem_of(shown, observation=Histogram(4, binning), price=0.5)
        (policy,) = solver.solve_frontier(problem, [0.5], shown)
        outcome.append(evaluate(policy, shown))
    np.testing.assert_array_equal(outcome[0].answer, outcome[1].answer)
    np.testing.assert_array_equal(outcome[0].cost, outcome[1].cost)


def test_plus_infinity_is_the_highest_signal():
    data = telling()
    data = replace(data, signal=np.where(np.isnan(data.signal), INF, data.signal))
    problem = problem_of(data)
    policy = AutoMixDoubleThreshold().solve(problem, data)
    wrong = data.signal[:, 0, 0] == INF
    np.testing.assert_array_equal(evaluate(policy, data).answer, wrong)


def test_simulated_queries_keep_the_share_of_missing_and_infinite_signals():
    data = noisy(400)
    data = replace(data, signal=np.where(data.signal < 0.3, -INF, data.signal))
    drawn = simulated(data, 4000, 3, np.random.default_rng(0)).signal[:, :-1]
    logged = data.signal[:, :-1]
    for odd in (np.isnan, np.isinf):
        np.testing.assert_allclose(
            odd(drawn).mean(axis=(0, 2)), odd(logged).mean(axis=(0, 2)), atol=0.06
        )


# -- environments ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rules", [Rules(3), Rules(3, skip=True, free_start=True, verify=True)])
def test_environments_show_finite_numbers_and_equal_the_batch(rules):
    data = noisy(40)
    data = replace(data, signal=np.where(data.signal < 0.3, -INF, data.signal))
    problem = problem_of(data, rules)
    policy = Exact().solve(problem)
    expected = evaluate(policy, data)
    env = RoutingEnv(data, problem=problem)
    many = RoutingVectorEnv(40, data, problem=problem)
    together, _ = many.reset(seed=0, options={"query": np.arange(40)})
    for query in range(40):
        observation, _ = env.reset(seed=0, options={"query": query})
        np.testing.assert_array_equal(observation, together[query])
        done, info = False, {}
        while not done:
            assert env.observation_space.contains(observation)
            history = env.config.history(observation[None])
            np.testing.assert_array_equal(env.config.observed(history)[0], observation)
            seen = history.verified[0]
            np.testing.assert_array_equal(history.signal[0, seen], data.signal[query, seen])
            action = policy.act(replace(history, query=np.array([query])))[0]
            observation, _, done, _, info = env.step(action)
        assert info["answer"] == expected.answer[query]
        assert info["cost"] == pytest.approx(expected.cost[query])


# -- logs ------------------------------------------------------------------------------------------


def test_a_verification_that_says_nothing_and_logs_no_cost_is_free():
    log = log_of(50)
    hole = np.zeros(log.score.shape, dtype=bool)
    hole[3, 0] = True
    log = replace(
        log,
        signals={"sharp": np.where(hole, NAN, log.signals["sharp"])},
        signal_costs={"sharp": np.where(hole, NAN, log.signal_costs["sharp"])},
    )
    model = CostModel()
    verifier = LoggedSignal("sharp")
    data = make_routing_data(log, verifier, model, model.fit(log, paid(verifier, log)))
    assert data.verify_cost[3, 0] == 0
    assert np.isnan(data.signal[3, 0, 0])


# -- sizes ----


def wide(n=60, models=33):
    """Queries of more models than a joint table of their scores has room for."""
    rng = np.random.default_rng(0)
    call = np.broadcast_to(np.geomspace(1, 50, models), (n, models))
    score = (rng.random((n, models)) < np.linspace(0.2, 0.9, models)).astype(float)
    return RoutingData(score, call, 0.0 * call, rng.random((n, models, 1)))


@pytest.mark.parametrize(
    "solver", [Static(), Threshold(), PairwiseEnvelope(), FittedQ(folds=2)], ids=name_of
)
def test_what_needs_no_joint_table_runs_on_33_models(solver):
    data = wide()
    problem = problem_of(data)
    assert not problem.has_table
    (policy,) = solver.solve_frontier(problem, [0.5], data)
    assert np.isfinite(returns(evaluate(policy, data), problem)).all()


@pytest.mark.parametrize(
    "solver", [Exact(), QMDP(), CascadeRouting(), AutoMixPOMDP(), PointBased()], ids=name_of
)
def test_what_needs_the_joint_table_says_in_one_line_what_to_do(solver):
    data = wide()
    with pytest.raises(ValueError, match=r"33 models.*rollouts\.models") as error:
        solver.solve_frontier(problem_of(data), [0.5], data)
    assert "\n" not in str(error.value)


def test_rules_that_need_the_joint_table_are_refused_at_once():
    with pytest.raises(ValueError, match=r"2\^33 score vectors"):
        problem_of(wide(), Rules(33, answer="best"))


@pytest.mark.parametrize("queries", [1, 2])
def test_a_log_of_a_few_queries_says_that_it_cannot_be_split(queries):
    log = log_of(queries, split=(1, 0, 0))
    settings = OmegaConf.create(
        {"split_seed": 0, "train_seed": None, "resplit": True, "test": 0.01, "validation": 0.01,
         "train_size": None}
    )  # fmt: skip
    with pytest.raises(ValueError, match="1 query is too few to split: none is left to train on"):
        split_log(log, settings)
