"""Stepping a batch of episodes, against a dull replay of one query at a time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing_pomdp.envs import ESCALATE, STAY, Episodes, RoutingData, Rules
from tests.support.problems import problems, random_data, random_policy, steps, with_bands

SEEDS = st.integers(0, 2**32)


def _follow(data: RoutingData, rules: Rules, query: int, actions: list[int]):
    """What happened to one query, by the definition: models called, verified and the bill."""
    called: list[int] = []
    verified: list[int] = []
    paid = 0.0

    def call(model):
        nonlocal paid
        called.append(model)
        paid += data.call_cost[query, model]
        if not rules.verify and model < data.n_models - 1:
            verify()

    def verify():
        nonlocal paid
        verified.append(called[-1])
        paid += data.verify_cost[query, called[-1]]

    if not rules.free_start:
        call(0)
    for action in actions:
        if rules.verify and action == rules.n_actions - 1:
            verify()
        elif action != STAY:
            call((called[-1] if called else -1) + action)
    return called, verified, paid


@given(problems(), SEEDS)
def test_a_batch_is_many_single_episodes(problem, seed):
    rng = np.random.default_rng(seed)
    policy = random_policy(with_bands(problem), rng)
    data = random_data(12, problem.n_models, rng)
    actions: list[list[int]] = [[] for _ in range(len(data))]
    episodes = Episodes(data, problem.rules)
    while len(episodes):
        action = policy.act(episodes.history)
        for query, chosen in zip(episodes.history.query, action, strict=True):
            actions[query].append(int(chosen))
        ended, paid = episodes.step(action)
        for row, query in enumerate(ended.query):
            called, verified, bill = _follow(data, problem.rules, query, actions[query])
            assert paid[row] == bill
            assert ended.stage[row] == called[-1]
            assert np.flatnonzero(ended.called[row]).tolist() == called
            assert np.flatnonzero(ended.verified[row]).tolist() == verified
            for model in range(problem.n_models):
                shown = ended.signal[row, model]
                expected = data.signal[query, model] if model in verified else np.nan
                np.testing.assert_array_equal(shown, np.broadcast_to(expected, shown.shape))


@given(problems(), SEEDS)
def test_every_query_ends_once(problem, seed):
    policy = random_policy(with_bands(problem), np.random.default_rng(seed))
    episodes = Episodes(random_data(30, problem.n_models, np.random.default_rng(1)), problem.rules)
    ended = []
    for _ in range(2 * problem.n_models + 1):
        if len(episodes):
            ended += episodes.step(policy.act(episodes.history))[0].query.tolist()
    assert sorted(ended) == list(range(30))
    assert len(episodes) == 0


@given(problems(), SEEDS)
def test_a_history_that_was_handed_out_never_changes(problem, seed):
    policy = random_policy(with_bands(problem), np.random.default_rng(seed))
    data = random_data(20, problem.n_models, np.random.default_rng(seed))
    kept = []
    for episodes, _ in steps(data, policy):
        history = episodes.history
        kept.append((history, history.query.copy(), history.to_array()))
    for history, query, array in kept:
        np.testing.assert_array_equal(history.query, query)
        np.testing.assert_array_equal(history.to_array(), array)


@given(problems(), SEEDS)
def test_stepping_leaves_the_data_alone(problem, seed):
    policy = random_policy(with_bands(problem), np.random.default_rng(seed))
    data = random_data(20, problem.n_models, np.random.default_rng(seed))
    names = ("score", "call_cost", "verify_cost", "signal")
    for name in names:
        getattr(data, name).setflags(write=False)
    for _ in steps(data, policy):
        pass


def test_verification_is_charged_only_where_a_decision_follows():
    data = RoutingData(
        score=np.ones((1, 3)),
        call_cost=np.array([[1.0, 10.0, 100.0]]),
        verify_cost=np.array([[0.5, 5.0, 50.0]]),
        signal=np.zeros((1, 3, 1)),
    )

    def bill(rules, *actions):
        episodes = Episodes(data, rules)
        for action in actions:
            _, paid = episodes.step(np.array([action]))
        assert len(episodes) == 0
        return paid[0]

    assert bill(Rules(3), STAY) == 1.5
    assert bill(Rules(3), ESCALATE, STAY) == 1.5 + 15
    assert bill(Rules(3), ESCALATE, ESCALATE) == 1.5 + 15 + 100
    assert bill(Rules(3, skip=True), 2) == 1.5 + 100
    assert bill(Rules(3, free_start=True), 3) == 100
    assert bill(Rules(3, free_start=True), 2, STAY) == 15
    bought = Rules(3, free_start=True, verify=True)
    assert bill(bought, 2, STAY) == 10
    assert bill(bought, 2, bought.verify_action, STAY) == 15
    assert bill(bought, 2, bought.verify_action, ESCALATE) == 115


def test_a_slice_plays_those_rows_and_names_them_by_their_place_in_the_data():
    data = random_data(10, 2, np.random.default_rng(0))
    episodes = Episodes(data, Rules(2), slice(6, 9))
    np.testing.assert_array_equal(episodes.history.query, [6, 7, 8])
    np.testing.assert_array_equal(episodes.history.signal[:, 0], data.signal[6:9, 0])
    bill = data.call_cost[6:9, 0] + data.verify_cost[6:9, 0]
    np.testing.assert_array_equal(episodes.paid, bill)


@given(problems(), SEEDS, st.integers(-3, 9))
def test_an_illegal_action_is_refused_with_query_and_stage(problem, seed, action):
    rules = problem.rules
    policy = random_policy(with_bands(problem), np.random.default_rng(seed))
    data = random_data(8, problem.n_models, np.random.default_rng(seed))
    for episodes, chosen in steps(data, policy, slice(2, None)):
        history = episodes.history
        row = seed % len(episodes)
        legal = rules.masks[history.stage[row] + 1, int(history.last_verified[row])]
        if 0 <= action < rules.n_actions and legal[action]:
            continue
        played = chosen.copy()
        played[row] = action
        before = history.to_array()
        with pytest.raises(
            ValueError,
            match=f"illegal action .* on query {history.query[row]} at stage {history.stage[row]}",
        ):
            episodes.step(played)
        assert episodes.history is history
        np.testing.assert_array_equal(history.to_array(), before)


def test_an_illegal_action_is_named():
    episodes = Episodes(random_data(2, 3, np.random.default_rng(0)), Rules(3, verify=True))
    episodes.step(np.array([2, 2]))
    with pytest.raises(ValueError, match="illegal action VERIFY on query 1 at stage 0"):
        episodes.step(np.array([STAY, 2]))
    with pytest.raises(ValueError, match="illegal action -1 on query 0 at stage 0"):
        episodes.step(np.array([-1, STAY]))


@pytest.mark.parametrize("shape", [(1,), (4,), (3, 1)])
def test_one_action_an_episode_is_asked_for(shape):
    episodes = Episodes(random_data(3, 2, np.random.default_rng(0)), Rules(2))
    with pytest.raises(ValueError, match=r"actions have shape .*, expected \(3,\)"):
        episodes.step(np.zeros(shape, dtype=np.int64))
