"""No solver's policy sees what it has not paid for: every config in conf/solver, and the oracle as
the exception that shows the test can fail."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from envs import Costs, Replay, RoutingPOMDP, Rules
from evaluation.build import build
from evaluation.evaluate import evaluate
from solvers import Policy, Unbound
from tests.texts import log_with_texts

CONF = Path(__file__).parents[2] / "conf"
QUICK = {
    "belief_dqn": ["solver.steps=30", "solver.episodes=200"],
    "belief_ppo": ["solver.updates=3", "solver.episodes=64"],
    "belief_fqi": ["solver.pretraining=30", "solver.simulations=500"],
    "history_net": ["solver.pretraining=30", "solver.simulations=500"],
    "pomcp": ["solver.simulations=50"],
    "pomcpow": ["observation=kernel", "solver.simulations=50"],
    "pickllm": ["solver.rounds=200"],
    "c2mab_v": ["solver.rounds=200"],
    "automix_simple": ["solver.models=[0,2]"],
    "automix_greedy": ["solver.models=[0,2]"],
    "automix_union": ["solver.models=[0,2]"],
}
# One that was trained before is held to this by its training.
SOLVERS = sorted({path.stem for path in (CONF / "solver").glob("*.yaml")} - {"checkpoint"})
RULES = {
    "core": Rules(3),
    "full": Rules(3, skip=True, free_start=True, verify=True),
}


class Watched:
    """A policy that notes which answers' signals it was shown."""

    def __init__(self, policy: Policy, n: int) -> None:
        self.policy, self.problem = policy, policy.problem
        self.called, self.verified = np.zeros((2, n, 3), dtype=bool)

    def act(self, history):
        self.called[history.query] |= history.called
        self.verified[history.query] |= history.verified
        return self.policy.act(history)


def telling(replay: Replay) -> Replay:
    """The same queries with a confidence that says something."""
    confidence = np.clip(0.6 * replay.score + 0.4 * replay.signal[..., 0], 0, 1)
    return replace(replay, signal=confidence[..., None])


def solved(name: str, rules: Rules):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [f"solver={name}", *QUICK.get(name, [])])
    train, test = (telling(log_with_texts(120, seed, answer_tells=True)) for seed in (0, 1))
    costs = Costs(train.call_cost[0], train.verify_cost[0])
    problem = RoutingPOMDP.fit(train, build(config.observation, "observation"), costs, rules)
    policies = build(config.solver, "solver").solve_frontier(problem, [0.02, 0.3], train)
    return policies, test


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("name", SOLVERS)
def test_only_what_was_paid_for_decides(name, rules):
    policies, test = solved(name, RULES[rules])
    rng = np.random.default_rng(0)
    seen_scores = []
    for policy in policies:
        bound = policy.bind(test) if isinstance(policy, Unbound) else policy
        watched = Watched(bound, len(test))
        answers = evaluate(watched, test).answer
        hidden = replace(
            test,
            score=1 - test.score,
            signal=np.where(watched.verified[..., None], test.signal, rng.random((120, 3, 1))),
            rollouts=replace(
                test.rollouts,
                score=1 - test.score,
                answer=np.where(watched.called, test.rollouts.answer, "perhaps surely not"),
            ),
        )
        again = evaluate(policy, hidden).answer
        seen_scores.append((again != answers).any())
    assert any(seen_scores) == (name == "oracle")
