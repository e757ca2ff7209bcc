"""docs/reinforcement_learning.md: other people's learners, unchanged, come near the optimum."""

import re

import numpy as np
import pytest

from routing_pomdp.envs import STAY, History, RoutingEnv, RoutingVectorEnv, Rules
from routing_pomdp.envs.gym.wrappers import StackedSignals, StackedView
from routing_pomdp.evaluation.evaluate import evaluate, model_value, returns
from routing_pomdp.solvers import Exact
from routing_pomdp.solvers.exact.bounds import Bounds
from tests.support.problems import random_problem

pytest.importorskip("sb3_contrib", reason="sb3-contrib is not installed: pip install '.[rl]'")

import torch

from routing_pomdp.envs.gym.stable_baselines import LearnedPolicy, StableBaselinesVecEnv
from tests.support.checkout import DOCS

PAGE = DOCS / "reinforcement_learning.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
NEAR = 0.02


@pytest.fixture(scope="module")
def page():
    """All that the page defines, with each training run cut to one round."""
    names: dict = {}
    for block in BLOCKS:
        exec(re.sub(r"learn\([\d_]+\)", "learn(1)", block), names)
    return names


def _trained(name: str, page: dict):
    """The learner that the page trains on many environments, at full length."""
    (block,) = [block for block in BLOCKS if re.search(rf"= {name}\(\"\w+\", many\(", block)]
    names = dict(page)
    exec(block, names)
    return names["learner"]


def _sampled_regret(learner, problem, n: int = 20_000) -> tuple[float, float]:
    """What the exact policy gets more than a learner with a memory on the same queries, with its
    standard error."""
    queries = problem.sample(n, np.random.default_rng(7))
    env = RoutingVectorEnv(n, queries, problem=problem)
    observation, _ = env.reset(seed=0, options={"query": np.arange(n)})
    state, first = None, np.ones(n, dtype=bool)
    total, alive = np.zeros(n), np.ones(n, dtype=bool)
    while alive.any():
        action, state = learner.predict(observation, state, first, deterministic=True)
        observation, reward, ended, _, _ = env.step(action)
        total += np.where(alive, reward, 0)
        alive &= ~ended
        first = np.zeros(n, dtype=bool)
    lost = returns(evaluate(Exact().solve(problem), queries), problem) - total
    return float(lost.mean()), float(lost.std() / np.sqrt(n))


def test_no_policy_that_looks_at_nothing_comes_near(page):
    for problem in (page["problem"], page["core"]):
        assert Exact().solve(problem).value - Bounds.of(problem).blind > 3 * NEAR


@pytest.mark.slow
@pytest.mark.parametrize("name", ["DQN", "MaskablePPO"])
def test_a_learner_comes_near_the_optimum(name, page):
    policy = LearnedPolicy(_trained(name, page), page["problem"])
    regret = Exact().solve(page["problem"]).value - model_value(policy)
    assert -1e-12 <= regret < NEAR


@pytest.mark.slow
def test_a_learner_with_a_memory_comes_near_the_optimum(page):
    regret, error = _sampled_regret(_trained("RecurrentPPO", page), page["core"])
    assert error < 0.004
    assert -4 * error < regret < NEAR


def test_the_page_runs_as_it_stands(page):
    assert page["regret"] >= -1e-12
    np.testing.assert_allclose(page["value"] + page["regret"], Exact().solve(page["problem"]).value)
    assert page["action_costs"].shape == (4096, 5)
    assert page["stacked"].single_observation_space.shape == (3, 3)
    assert isinstance(page["reward"], torch.Tensor)


# -- the adapter ------------------------------------------------------------------------------


def test_the_adapter_says_what_the_environment_does():
    problem = random_problem(Rules(3, skip=True), np.random.default_rng(0))
    adapter = StableBaselinesVecEnv(RoutingVectorEnv(6, problem, autoreset_mode="SameStep"))
    env = RoutingVectorEnv(6, problem, autoreset_mode="SameStep")
    adapter.seed(5)
    np.testing.assert_array_equal(adapter.reset(), env.reset(seed=5)[0])
    rng, ended = np.random.default_rng(0), 0
    for _ in range(30):
        np.testing.assert_array_equal(
            np.stack(adapter.env_method("action_masks")), env.action_masks()
        )
        action = rng.integers(3, size=6)
        observation, reward, done, told = adapter.step(action)
        seen, got, over, _, infos = env.step(action)
        np.testing.assert_array_equal(observation, seen)
        np.testing.assert_array_equal(reward, got.astype(np.float32))
        np.testing.assert_array_equal(done, over)
        for i, info in enumerate(told):
            assert bool(info) == over[i]
            if over[i]:
                ended += 1
                np.testing.assert_array_equal(info["terminal_observation"], infos["final_obs"][i])
                assert info["score"] == infos["final_info"]["score"][i]
                assert not info["TimeLimit.truncated"]
    assert ended > 30


def test_the_adapter_needs_the_autoreset_of_stable_baselines():
    problem = random_problem(Rules(3), np.random.default_rng(0))
    with pytest.raises(ValueError, match="autoreset_mode is NEXT_STEP: expected SAME_STEP"):
        StableBaselinesVecEnv(RoutingVectorEnv(2, problem))


class _Same:
    """A learner that always answers with the same action, and keeps what it was shown."""

    def __init__(self, action):
        self.action, self.seen = action, None

    def predict(self, observation, deterministic):
        assert deterministic
        self.seen = observation
        return np.full(len(observation), self.action), None


def test_a_learned_policy_sees_and_plays_as_in_the_environment():
    problem = random_problem(
        Rules(3, skip=True, free_start=True, verify=True), np.random.default_rng(0)
    )
    learner = _Same(STAY)
    view = StackedView(RoutingEnv(problem, show_action_costs=True).config)
    policy = LearnedPolicy(learner, problem, view=view, show_action_costs=True)
    env = StackedSignals(RoutingEnv(problem, show_action_costs=True))
    observation, _ = env.reset(seed=0)
    # To stay is illegal at first: the lowest legal action calls model 0.
    action = policy.act(History.start(np.zeros(1, dtype=np.int64), 3, 1))
    assert action == [1]
    np.testing.assert_allclose(learner.seen[0], observation, atol=1e-12)
    first = np.flatnonzero(problem.rules.masks[0, 0])[0]
    expected = problem.prior @ problem.score[:, first - 1] - problem.call_price[first - 1]
    assert model_value(policy) == pytest.approx(expected)
