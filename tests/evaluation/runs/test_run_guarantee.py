"""A run's guarantee: calibrated on validation alone, scored on test, kept with the run."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from routing_pomdp.envs import Rules
from routing_pomdp.evaluation.evaluate import evaluate
from routing_pomdp.evaluation.guarantee import certify
from routing_pomdp.evaluation.runs.report import report
from routing_pomdp.evaluation.runs.run_folder import load, save
from routing_pomdp.evaluation.runs.run_guarantee import Tolerance, apart
from routing_pomdp.evaluation.sweeps.comparison import sort_runs
from routing_pomdp.evaluation.sweeps.sections import guarantee_section
from routing_pomdp.solvers import Exact, Solver, Static, Threshold, Training
from routing_pomdp.solvers.pre_query import PreQueryConditioned
from tests.support.problems import random_problem

PRICES = [0.0, 0.05, 0.2, 1.0]
NAMES = ["a", "b", "c"]


@pytest.fixture(scope="module")
def setting():
    rng = np.random.default_rng(8)
    problem = random_problem(Rules(3, skip=True, free_start=True), rng, 4, 2, price=0.0)
    return problem, *(problem.sample(n, rng) for n in (400, 600, 500))


def reported(setting, solver, epsilon=0.1, **changed):
    problem, train, validation, test = setting
    name = type(solver).__name__.lower()
    tolerance = Tolerance(name, epsilon, 0.1, train, validation, **changed)
    policies = solver.solve_frontier(problem, PRICES, train)
    found = report(
        policies, problem, PRICES, validation, test, NAMES, resamples=50, tolerance=tolerance
    )
    return policies, found


def test_it_is_certified_on_validation_and_scored_on_test(setting):
    _, train, validation, test = setting
    policies, found = reported(setting, Exact())
    guarantee, calibration = found.guarantee, found.calibration
    reference = int(train.score.mean(axis=0).argmax())
    assert guarantee["reference"] == NAMES[reference]
    np.testing.assert_array_equal(calibration.reference_score, validation.score[:, reference])
    assert guarantee["index"] >= 0
    policy = policies[guarantee["index"]]
    np.testing.assert_array_equal(
        calibration.score[:, guarantee["index"]], evaluate(policy, validation).score
    )
    played = evaluate(policy, test)
    saving = 1 - played.cost.mean() / test.call_cost[:, reference].mean()
    lost = 100 * (test.score[:, reference].mean() - played.score.mean())
    assert found.measures["certified_saving"] == pytest.approx(saving)
    assert found.measures["certified_loss"] == pytest.approx(lost)
    assert found.measures["certified_loss_bound"] == pytest.approx(10)
    assert guarantee["price"] == PRICES[guarantee["index"]]
    for name in ("certified_saving", "certified_loss"):
        low, high = found.intervals[name]
        assert low - 1e-9 <= found.measures[name] <= high + 1e-9


def test_nothing_is_certified_where_nothing_is_asked_for(setting):
    problem, train, validation, test = setting
    policies = Static().solve_frontier(problem, PRICES, train)
    found = report(policies, problem, PRICES, validation, test, NAMES, resamples=10)
    assert found.guarantee is None
    assert "certified_saving" not in found.measures


def test_the_reference_itself_saves_and_loses_nothing(setting):
    _, found = reported(setting, Exact(), epsilon=0.0001)
    assert found.guarantee["solver"] is None
    assert found.guarantee["says"].startswith("the reference")
    for name in ("certified_saving", "certified_loss", "certified_loss_bound"):
        assert found.measures[name] == 0


def test_a_guarantee_by_data_set_needs_a_log(setting):
    with pytest.raises(ValueError, match=r"guarantee\.by_dataset needs a log"):
        reported(setting, Exact(), by_dataset=True)


@dataclass(frozen=True)
class Stopping(Static):
    """Keeps what a run offers."""

    training: Training = field(default_factory=Training)

    def with_training(self, training: Training) -> Solver:
        return replace(self, training=training)


@pytest.mark.parametrize("wrapped", [False, True])
def test_what_a_solver_stops_by_does_not_calibrate_it(setting, wrapped):
    validation = setting[2]
    training = Training(validation=validation)

    def configured(solver):
        return PreQueryConditioned(solver) if wrapped else solver

    solver, calibrating = apart(configured(Stopping()), training, validation, seed=0)
    own = solver.training.validation
    assert len(own) == len(calibrating) == 300
    rows = np.concatenate([own.signal[:, 0], calibrating.signal[:, 0]])
    np.testing.assert_array_equal(np.sort(rows, axis=0), np.sort(validation.signal[:, 0], axis=0))
    same, everything = apart(configured(Threshold()), training, validation, seed=0)
    assert everything is validation
    assert isinstance(same, PreQueryConditioned if wrapped else Threshold)


def test_a_run_keeps_what_it_was_calibrated_on_and_a_sweep_joins_its_solvers(setting, tmp_path):
    runs = []
    for solver in (Exact(), Threshold()):
        _, found = reported(setting, solver)
        name = type(solver).__name__.lower()
        about = {
            "solver": name, "dataset": "toy", "costs": "10", "seed": 0, "sweep": "s",
            "queries": {"train": 10}, "finished": "now",
            "config": {"solver": {"_target_": name}, "evaluation": {"level": 0.95}},
        }  # fmt: skip
        save(tmp_path / name, about, found)
        run = load(tmp_path / name)
        assert run is not None
        kept = run.calibration()
        np.testing.assert_array_equal(kept.score, found.calibration.score)
        assert tuple(kept.order) == found.calibration.order
        assert certify({name: kept}, 0.1).index == run.guarantee["index"]
        runs.append(run)
    section = guarantee_section(sort_runs(runs))
    in_order = sort_runs(runs).popitem()[1]
    together = certify({label: run.calibration() for label, run in in_order.items()}, 0.1)
    assert [row[1] for row in section.rows] == [*in_order, "all of them"]
    expected = f"{together.solver} at {PRICES[together.index]:g}"
    assert section.rows[-1][5] == expected
    without = [replace(run, guarantee=None) for run in runs]
    assert guarantee_section(sort_runs(without)) is None
