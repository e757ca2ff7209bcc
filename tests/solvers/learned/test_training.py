"""The training loop: interrupted or not, the same numbers; broken, nothing lost."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from routing_pomdp.envs import Rules
from routing_pomdp.evaluation.evaluate import evaluate, returns
from routing_pomdp.solvers import Static, Training
from routing_pomdp.solvers.learned.checkpoint import FORMAT, CheckpointError, load
from routing_pomdp.solvers.learned.training import Loop, TrainingError, mean_return
from tests.support.problems import random_policy, random_problem

ABOUT = {"format": FORMAT, "solver": "toy"}


class InterruptionError(Exception):
    """Stands for a kill."""


def train(folder=None, steps=40, stop=None, broken=None, about=ABOUT, log=None, **options):
    """Fits y = 3x from random batches; the state and the curve of judgements."""
    torch.manual_seed(0)
    network = nn.Linear(1, 1)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    loop = Loop(
        {"network": network},
        optimiser,
        steps=steps,
        seed=5,
        about=about,
        training=Training(log=log, folder=folder),
        schedule=schedule,
        every=10,
        **options,
    )
    for step in loop:
        if step == stop:
            raise InterruptionError
        x = torch.as_tensor(loop.rng(step).normal(size=(16, 1)), dtype=torch.float32)
        loss = ((network(x) - 3 * x) ** 2).mean()
        loop.descend(loss * (math.nan if step == broken else 1.0))
        if loop.due(step):
            loop.judge(-abs(network.weight.item() - 1.0))  # the way there passes the best
            loop.log(weight=network.weight.item())
    last = [value.clone() for value in network.parameters()]
    loop.finish()
    return last, [value.clone() for value in network.parameters()], loop


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("stop", [5, 11, 37])
def test_an_interrupted_training_goes_on_to_the_same_numbers(tmp_path, stop):
    last, best, whole = train()
    with pytest.raises(InterruptionError):
        train(tmp_path, stop=stop)
    again_last, again_best, again = train(tmp_path)
    assert same(last, again_last)
    assert same(best, again_best)
    assert whole.best_value == again.best_value


def test_a_finished_training_is_not_repeated(tmp_path):
    last, best, _ = train(tmp_path)
    rows = []
    again_last, again_best, _ = train(tmp_path, log=rows.append)
    assert same(last, again_last)
    assert same(best, again_best)
    assert not rows


def test_the_best_by_judgement_are_kept_not_the_last():
    last, best, loop = train()
    assert not same(last, best)
    assert -abs(best[0].item() - 1.0) == loop.best_value


def test_patience_ends_a_training_that_gets_no_better():
    rows = []
    train(steps=1000, patience=2, log=rows.append)
    steps = [row["step"] for row in rows]
    assert steps[-1] < 1000
    values = [-abs(row["weight"] - 1.0) for row in rows]
    assert steps[-1] == steps[int(np.argmax(values))] + 20


def test_a_loss_that_is_no_number_stops_it_and_leaves_the_last_good_checkpoint(tmp_path):
    with pytest.raises(
        TrainingError,
        match=r"toy: the loss is no finite number at step 25 of 40: "
        r"the checkpoint of step 20 stays in .*training.pt",
    ):
        train(tmp_path, broken=25)
    assert load(tmp_path / "training.pt")["step"] == 20
    assert same(train(tmp_path)[0], train()[0])


def test_a_gradient_that_is_no_number_leaves_the_networks_as_they_were():
    network = nn.Linear(1, 1)
    before = [value.clone() for value in network.parameters()]
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    loop = Loop(
        {"n": network}, optimiser, steps=3, seed=0, about=ABOUT, training=Training(), every=1
    )
    next(iter(loop))
    with pytest.raises(
        TrainingError, match="gradient is no finite number at step 1 of 3: no check"
    ):
        loop.descend(torch.sqrt(network(torch.zeros(1, 1)).sum() * 0.0))  # d√x at 0 is infinite
    assert same(before, list(network.parameters()))


def test_another_configurations_checkpoint_is_refused(tmp_path):
    train(tmp_path)
    with pytest.raises(CheckpointError, match=r"begun with lr = None, now it is 2: delete it"):
        train(tmp_path, about={**ABOUT, "lr": 2})


def test_mean_return_is_that_of_evaluation():
    problem = random_problem(Rules(3, verify=True, answer="best"), np.random.default_rng(0))
    data = problem.sample(300, np.random.default_rng(1))
    policies = [random_policy(problem.at(price), np.random.default_rng(2)) for price in (0.1, 1.0)]
    policies.append(Static(1).solve(problem, data))
    expected = np.mean([returns(evaluate(p, data), p.problem).mean() for p in policies])
    assert mean_return(policies, data) == pytest.approx(expected, abs=1e-12)
