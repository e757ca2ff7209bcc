"""The training of `BeliefDQN`: it resumes, is kept and restored, and says what is wrong."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from routing_pomdp.envs import Rules
from routing_pomdp.evaluation.evaluate import evaluate
from routing_pomdp.evaluation.frontier import aiq, frontier
from routing_pomdp.solvers import Exact, Static, Training
from routing_pomdp.solvers.learned.belief_dqn import BeliefDQN
from routing_pomdp.solvers.learned.checkpoint import CheckpointError, Restored, load, save
from routing_pomdp.solvers.learned.training import TrainingError
from tests.support.problems import random_problem

ALL = Rules(3, skip=True, free_start=True, verify=True)
PRICES = [0, 0.05, 0.2, 0.6, 2.0]
TINY = BeliefDQN(hidden=16, episodes=200, steps=24, batch=32)


def problem_of(rules=ALL, symbols=3, seed=0):
    return random_problem(rules, np.random.default_rng(seed), symbols, 2, price=0.1)


def queries(problem, n=100):
    return problem.sample(n, np.random.default_rng(1))


def weights(folder):
    return load(folder / "policy.pt")["network"]


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


class InterruptionError(Exception):
    """Stands for a kill."""


def interrupted_at(step):
    def log(row):
        if row["step"] >= step:
            raise InterruptionError

    return log


@pytest.mark.parametrize("stop", [1, 15])
def test_an_interrupted_training_goes_on_to_the_same_numbers(stop, tmp_path):
    problem = problem_of()
    validation = queries(problem)
    for name, log in (("whole", None), ("stopped", interrupted_at(stop))):
        training = Training(log, validation, tmp_path / name)
        trained = replace(TINY, patience=100).with_training(training)
        if log:
            with pytest.raises(InterruptionError):
                trained.solve_frontier(problem, PRICES)
            trained = trained.with_training(replace(training, log=None))
        trained.solve_frontier(problem, PRICES)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "stopped"))


def test_the_same_seed_gives_the_same_network_and_leaves_torch_alone():
    problem = problem_of()
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    one, two, other = (
        replace(TINY, seed=seed).solve(problem).network.state_dict() for seed in (0, 0, 1)
    )
    assert torch.rand(1) == expected
    assert same(one, two)
    assert not same(one, other)


def test_a_loss_that_is_no_number_stops_it_and_the_last_good_checkpoint_stays(
    tmp_path, monkeypatch
):
    problem, whole = problem_of(), tmp_path / "whole"
    TINY.with_training(Training(folder=whole)).solve_frontier(problem, PRICES)
    calls, loss = [], nn.functional.mse_loss

    def breaks(*arguments):
        calls.append(1)
        return loss(*arguments) * (float("nan") if len(calls) == 20 else 1.0)

    monkeypatch.setattr(nn.functional, "mse_loss", breaks)
    folder = tmp_path / "broken"
    broken = TINY.with_training(Training(folder=folder))
    message = "belief_dqn: the loss is no finite number at step 20 of 24: the checkpoint of step"
    with pytest.raises(TrainingError, match=message):
        broken.solve_frontier(problem, PRICES)
    assert load(folder / "training.pt")["step"] == 19
    assert not (folder / "policy.pt").exists()
    # Once what broke it is gone, it goes on to where it would have come.
    broken.solve_frontier(problem, PRICES)
    assert same(weights(folder), weights(whole))


def test_restored_it_decides_as_it_did(tmp_path):
    problem = problem_of()
    trained = TINY.with_training(Training(folder=tmp_path)).solve_frontier(problem, PRICES)
    again = Restored(str(tmp_path / "policy.pt")).solve_frontier(problem, PRICES, queries(problem))
    history = problem.decode(np.arange(problem.n_histories))
    for one, two in zip(trained, again, strict=True):
        assert one.problem.price == two.problem.price
        np.testing.assert_array_equal(one.act(history), two.act(history))


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (problem_of(replace(ALL, n_models=4)), "trained for n_models = 3, this problem has 4"),
        (problem_of(symbols=5), "trained for n_symbols = 3, this problem has 5"),
        (problem_of(Rules(3)), "trained for rules = .*'skip': True.*, this problem has .*False"),
    ],
    ids=["models", "verifier", "rules"],
)
def test_a_checkpoint_of_another_problem_is_refused(problem, message, tmp_path):
    short = replace(TINY, steps=1)
    short.with_training(Training(folder=tmp_path)).solve_frontier(problem_of(), PRICES)
    path = tmp_path / "policy.pt"
    with pytest.raises(CheckpointError, match=message):
        Restored(str(path)).solve_frontier(problem, PRICES, queries(problem))


def test_a_checkpoint_of_another_verifier_or_version_is_refused(tmp_path):
    problem, here = problem_of(), {"verifier": {"column": "p_true"}}
    short = replace(TINY, steps=1)
    short.with_training(Training(folder=tmp_path, source=here)).solve_frontier(problem, PRICES)
    path = tmp_path / "policy.pt"
    again = Restored(str(path)).with_training(Training(source={"verifier": {"column": "votes"}}))
    with pytest.raises(CheckpointError, match=r"verifier = .*p_true.*, this problem has .*votes"):
        again.solve_frontier(problem, PRICES, queries(problem))
    saved = load(path)
    save(path, saved | {"about": saved["about"] | {"format": 0}})
    with pytest.raises(CheckpointError, match="format 0, this version reads"):
        Restored(str(path)).solve_frontier(problem, PRICES, queries(problem))


def test_another_setting_does_not_go_on_with_an_old_training(tmp_path):
    training = Training(folder=tmp_path)
    TINY.with_training(training).solve_frontier(problem_of(), PRICES)
    with pytest.raises(CheckpointError, match=r"begun with settings = .*'seed': 0.*delete it"):
        replace(TINY, seed=1).with_training(training).solve_frontier(problem_of(), PRICES)


def test_a_price_outside_the_trained_range_warns_trained_and_restored(tmp_path):
    problem = problem_of()
    narrow = replace(TINY, price_range=(0.1, 1.0)).with_training(Training(folder=tmp_path))
    message = r"price 5 lies outside the trained range \[0.1, 1\]"
    with pytest.warns(UserWarning, match=message):
        narrow.solve_frontier(problem, [0.5, 5.0])
    with pytest.warns(UserWarning, match=message):
        Restored(str(tmp_path / "policy.pt")).solve_frontier(problem, [5.0], queries(problem))


@pytest.mark.parametrize("validation", [None, queries(problem_of(), 0)], ids=["none", "empty"])
def test_without_validation_queries_early_stopping_says_so_and_trains_to_the_end(validation):
    curve = []
    asked = replace(TINY, patience=1).with_training(Training(curve.append, validation))
    with pytest.warns(UserWarning, match=r"solver.patience is 1, but there are no validation"):
        asked.solve_frontier(problem_of(), PRICES)
    assert curve[-1]["step"] == 24
    assert "validation_return" not in curve[-1]


def test_patience_stops_early_and_keeps_the_best_by_validation():
    problem, curve = problem_of(), []
    data = queries(problem)
    asked = replace(TINY, patience=2).with_training(Training(curve.append, data))
    policies = asked.solve_frontier(problem, PRICES)
    returns = [row["validation_return"] for row in curve]
    assert len(curve) < 24
    assert int(np.argmax(returns)) == len(curve) - 3
    rates = [policy.problem.price / problem.costs.unit for policy in policies]
    played = [evaluate(policy, data) for policy in policies]
    got = [(o.score - rate * o.cost).mean() for o, rate in zip(played, rates, strict=True)]
    assert np.mean(got) == pytest.approx(max(returns))


def test_one_network_for_all_prices_is_as_good_as_one_for_each():
    problem = problem_of(symbols=4, seed=17)
    data = queries(problem, 10_000)
    solver = replace(TINY, steps=200, batch=64, hidden=32, learning_rate=1e-2)

    def quality(policies):
        outcomes = [evaluate(policy, data) for policy in policies]
        cheapest = evaluate(Static(0).solve(problem, data), data)
        cost, score = np.array([(o.cost.mean(), o.score.mean()) for o in [cheapest, *outcomes]]).T
        return float(aiq(frontier(cost, score), cost[0], problem.costs.call[-1]))

    conditioned = quality(solver.solve_frontier(problem, PRICES))
    apart = quality([solver.solve(problem.at(price)) for price in PRICES])
    exact = quality(Exact().solve_frontier(problem, PRICES))
    single = quality([Static(model).solve(problem, data) for model in range(3)])
    assert exact - single > 0.01  # routing pays here
    assert abs(conditioned - apart) < 0.005
    assert abs(conditioned - exact) < 0.005


def test_the_device_is_honoured():
    policy = replace(TINY, device="cpu").solve(problem_of())
    assert {p.device.type for p in policy.network.parameters()} == {"cpu"}
    with pytest.raises(ValueError, match=r"solver\.device is 'cuda:99', which cannot be used"):
        replace(TINY, device="cuda:99").solve(problem_of())
    with pytest.raises(ValueError, match=r"solver\.device is 'abacus': expected auto, cpu"):
        replace(TINY, device="abacus").solve(problem_of())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_gives_the_same_within_tolerance():
    problem = problem_of()
    on_cpu, on_cuda = (
        replace(TINY, device=device).solve(problem).network.state_dict()
        for device in ("cpu", "cuda")
    )
    for key, value in on_cpu.items():
        torch.testing.assert_close(on_cuda[key].cpu(), value, rtol=1e-2, atol=1e-3)
