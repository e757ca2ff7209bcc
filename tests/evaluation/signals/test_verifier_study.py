"""Judging verifiers on a log: a broken one costs itself alone, and what is found is shown."""

import csv
import io
from dataclasses import dataclass, replace

import numpy as np
import pytest

from routing_pomdp.envs import CostModel, Rules
from routing_pomdp.evaluation.plots.likelihood_figure import likelihood_figure
from routing_pomdp.evaluation.signals.verifier_figure import verifier_figure
from routing_pomdp.evaluation.signals.verifier_report import (
    CHAIN,
    HEADER,
    left_out,
    ranges_text,
    summary,
    text_rows,
    value_rows,
    verifier_csv,
    verifier_page,
)
from routing_pomdp.evaluation.signals.verifier_study import Study, judge, judge_all
from routing_pomdp.verifiers import (
    Beta,
    GaussianMixture,
    Histogram,
    KernelDensity,
    LoggedSignal,
    Merged,
    Product,
    SideBySide,
    Verifier,
    VerifierError,
)
from tests.support.logs import log_of

LOG = log_of()
PRICES = [0, 0.1, 0.5]


def study(**changed):
    settings = {
        "cost_model": CostModel(),
        "observation": Histogram(bins=4),
        "rules": Rules(3, skip=True, free_start=True),
        "levels": None,
        "prices": PRICES,
        "shuffles": 2,
        "resamples": 50,
    }
    return Study(**(settings | changed))


@dataclass(frozen=True)
class Raises(Verifier):
    def signal(self, rollouts):
        return rollouts.signals["sharp"] / rollouts.nothing


@dataclass(frozen=True)
class WrongShape(Verifier):
    def signal(self, rollouts):
        return rollouts.signals["sharp"][:, 0]


@dataclass(frozen=True)
class NaNs(Verifier):
    def signal(self, rollouts):
        signal = rollouts.signals["sharp"].copy()
        signal[::5, 0] = np.nan
        return signal


@dataclass(frozen=True)
class NeverSpeaks(Verifier):
    def signal(self, rollouts):
        return np.full(rollouts.score.shape, np.nan)


def refuses():
    raise ValueError("verifiers.refuses.scale is 'x': expected a number")


GOOD = {"sharp": lambda: LoggedSignal("sharp"), "dull": lambda: LoggedSignal("dull")}
BROKEN = {
    "raises": (Raises, "verifier Raises failed: AttributeError"),
    "shape": (WrongShape, "verifier WrongShape returned signals of shape"),
    "silent": (NeverSpeaks, "verifier NeverSpeaks has no signal for any model"),
    "refuses": (refuses, "verifiers.refuses.scale is 'x'"),
}


@pytest.fixture(scope="module")
def judged():
    return judge_all(LOG, GOOD, study())[0]


def test_a_broken_verifier_costs_its_own_rows_alone(judged):
    broken = {name: make for name, (make, _) in BROKEN.items()}
    found, failed = judge_all(LOG, broken | GOOD | {"nans": NaNs}, study())
    sound = [one for one in found if one.verifier != "nans"]
    assert [one.verifier for one in sound] == ["sharp", "dull"]
    assert text_rows(sound) == text_rows(judged)
    assert value_rows(sound) == value_rows(judged)
    assert {one.verifier for one in failed} == set(BROKEN)
    for one in failed:
        assert BROKEN[one.verifier][1] in one.reason
    lines = left_out(failed)
    assert len(lines) == 4
    assert all(any(f"{name} on toy: " in line for line in lines) for name in BROKEN)


def test_a_signal_that_is_missing_for_some_answers_is_worth_almost_as_much(judged):
    found = judge(LOG, "nans", NaNs(), study())
    # A fifth of the first model's signals are missing at random; the others' are all there.
    whole, most = (one.chain.worth.value["free"] for one in (judged[0], found))
    assert (most > 0.6 * whole).all()
    assert found.quality[0].queries < found.quality[1].queries == len(LOG.where("test"))
    verifier_figure([found], "")


def test_the_better_verifier_stands_first_and_is_worth_more_than_noise(judged):
    sharp, dull = judged
    assert sharp.verifier == "sharp"
    assert sharp.chain.worth.value["choice"].max() > dull.chain.worth.value["choice"].max()
    at = sharp.chain.worth.best("choice")
    assert sharp.chain.worth.value["choice"][at] > 3 * sharp.chain.noise[at]
    assert sharp.kind == "logprob"
    assert dull.kind == "real"
    np.testing.assert_allclose(sharp.costs.verify / sharp.costs.call, 0.5)


def test_a_single_models_value_is_part_of_the_chains(judged):
    for one in judged:
        assert len(one.alone) == 2
        whole = one.chain.worth.value["free"]
        assert all((a.worth.value["free"] <= whole + 1e-12).all() for a in one.alone)


def test_the_csv_has_every_figure_and_the_table_shows_them(judged):
    rows = list(csv.DictReader(io.StringIO(verifier_csv(judged))))
    assert [row["model"] for row in rows] == ["m0", "m1", "m2", CHAIN] * 2
    shown = text_rows(judged)
    assert all(len(row) == len(HEADER) for row in shown)
    sharp, quality = judged[0], judged[0].quality[0]
    assert float(rows[0]["auroc"]) == quality.estimates["auroc"].value
    assert shown[1][4].startswith(f"{quality.estimates['auroc'].value:.2f} [")
    best = sharp.chain.worth.best("choice")
    value = sharp.chain.worth.value["choice"][best]
    assert float(rows[3]["value_choice"]) == pytest.approx(value)
    assert shown[0][HEADER.index("value")] == f"{100 * value:+.2f} @ {PRICES[best]:g}"
    assert float(rows[3]["test_choice"]) == sharp.chain.gain["choice"].mean[best]
    assert summary(judged)["toy/sharp/value_choice"] == pytest.approx(value)


def test_values_price_by_price_are_those_of_the_appraisals(judged):
    rows = value_rows(judged)
    assert len(rows) == 2 * 3 * 3 * len(PRICES)  # verifiers, chain and models, ways, prices
    for row in rows:
        if row["bought"] == "choice":
            assert row["test_low"] <= row["test"] <= row["test_high"]
    always = [row["value"] for row in rows if row["bought"] == "always" and row["model"] == CHAIN]
    np.testing.assert_allclose(always[:3], judged[0].chain.worth.value["always"])


def test_the_page_holds_the_table_and_what_was_left_out(judged):
    page = verifier_page(judged, [], ["verifiers.png"])
    assert "![verifiers.png](verifiers.png)" in page
    assert "| toy" in page
    assert "left out" not in page


def test_graded_scores_are_judged():
    rng = np.random.default_rng(0)
    score = np.clip(LOG.score * 0.7 + rng.random(LOG.score.shape) * 0.3, 0, 1)
    found = judge(replace(LOG, score=score), "sharp", LoggedSignal("sharp"), study())
    assert found.problem.score.shape == (5**3, 3)
    assert found.chain.worth.value["choice"].max() > 0
    assert found.quality[0].estimates["auroc"].value > 0.6
    likelihood_figure(found.problem, found.train, found.models, "graded")


def test_several_signals_at_once_are_judged_as_a_vector():
    both = SideBySide({name: make() for name, make in GOOD.items()})
    found = judge(LOG, "both", both, study(observation=Product(Histogram(bins=4), keep=6)))
    assert found.kind == "vector"
    assert found.quality[0].as_it_stands is None
    with pytest.raises(ValueError, match="the verifier gives 2"):
        judge(LOG, "both", both, study())


def test_a_single_answer_is_no_ground_for_a_judgement():
    rows = np.append(np.flatnonzero(LOG.split == "train")[:1], np.flatnonzero(LOG.split == "test"))
    with pytest.raises(VerifierError, match="no signal for any model on two or more"):
        judge(LOG.take(rows), "sharp", LoggedSignal("sharp"), study())


@pytest.mark.parametrize(("key", "value"), [("bins", 1), ("shuffles", -1)])
def test_bad_settings_are_refused_by_key(key, value):
    with pytest.raises(ValueError, match=f"{key} is {value}"):
        study(**{key: value})


def test_ranges_for_people():
    assert ranges_text([]) == "never"
    assert ranges_text([(0.0, 0.25), (1.234, np.inf)]) == "0–0.25, 1.2–∞"
    assert ranges_text([(0, 1), (2, 3), (4, 5), (6, np.inf)]) == "0–1, …, 6–∞"


# -- figures --------------------------------------------------------------------------------------


def test_the_figure_has_a_pair_of_panels_a_log_and_verifier(judged):
    other = [replace(one, log="other") for one in judged[:1]]
    figure = verifier_figure([*judged, *other], "title")
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == 6
    assert [axes.get_title(loc="left") for axes in shown[:2]] == ["toy", "other"]
    choice = shown[2].lines
    drawn = [line.get_ydata() for line in choice]
    expected = 100 * judged[0].chain.worth.value["choice"]
    assert any(len(y) == len(expected) and np.allclose(y, expected) for y in drawn)
    diagram = judged[0].quality[1].as_it_stands
    assert any(np.array_equal(line.get_ydata(), diagram.score) for line in shown[0].lines)


def test_of_many_verifiers_the_figure_says_which_it_shows(judged):
    many = [replace(judged[0], verifier=f"v{i}") for i in range(5)]
    figure = verifier_figure(many, "title")
    assert sum(axes.get_visible() for axes in figure.axes) == 6
    assert figure.get_suptitle() == "title (the 3 of 5 with the largest value)"
    with pytest.raises(ValueError, match="no verifier to show"):
        verifier_figure([], "")


OBSERVATIONS = {
    "histogram": Histogram(bins=4),
    "kernel": KernelDensity(bins=4),
    "beta": Beta(bins=4),
    "mixture": GaussianMixture(bins=4),
    "joint": Beta(bins=4, conditioning="joint"),
    "product": Product(Histogram(bins=3), keep=5),
    "merged": Merged(Histogram(bins=4)),
}


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_every_observation_model_is_drawn_over_its_data(name):
    several = name in ("product", "merged")
    verifier = SideBySide({n: m() for n, m in GOOD.items()}) if several else LoggedSignal("sharp")
    quick = study(observation=OBSERVATIONS[name], shuffles=0, resamples=2, prices=[0.1])
    found = judge(LOG, name, verifier, quick)
    problem, train = found.problem, found.train
    figure = likelihood_figure(problem, train, found.models, name)
    dense = name in ("kernel", "beta", "mixture", "joint")
    assert len(figure.axes) == 2 * (1 + dense)
    symbol, right = problem.symbols(0, train.signal[:, 0]), train.score[:, 0] == 1
    for level, rows in enumerate((~right, right)):
        bars = figure.axes[0].containers[level]
        share = np.bincount(symbol[rows], minlength=len(bars)) / rows.sum()
        np.testing.assert_allclose([bar.get_height() for bar in bars], share)
        weight = problem.prior * (problem.score[:, 0] == level)
        expected = (weight / weight.sum()) @ problem.likelihood[0]
        line = figure.axes[0].lines[level].get_ydata()
        np.testing.assert_allclose(line, expected[: len(line)])
        if dense:
            curve = figure.axes[2].lines[level]
            assert np.trapezoid(curve.get_ydata(), curve.get_xdata()) == pytest.approx(1, abs=0.1)


def test_a_problem_of_bare_symbols_has_no_likelihoods_to_draw(judged):
    with pytest.raises(ValueError, match="no observation model"):
        likelihood_figure(replace(judged[0].problem, observation=None), judged[0].train, [], "")
