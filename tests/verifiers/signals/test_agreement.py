"""Agreement with the answers bought so far: offline, through the data, as live."""

from itertools import combinations

import numpy as np
import pytest

from routing_pomdp.envs import STAY, CostModel, Episodes, RoutingEnv, RoutingVectorEnv, Rules
from routing_pomdp.verifiers import Agreement, LoggedColumn, SideBySide, emitted, make_routing_data
from tests.support.clients import case_of, signal_of
from tests.support.logs import log_of

TEXTS = ("Paris", "paris.", "Rome", "", "The answer is: Rome", "the Paris", "42")
ORDERS = [order for k in range(1, 4) for order in combinations(range(3), k)]


def answered(n=40):
    rng = np.random.default_rng(0)
    answer = np.array(TEXTS, dtype=object)[rng.integers(len(TEXTS), size=(n, 4))]
    return log_of(n, 4, split=(1, 0, 0), answer=answer)


def data_of(log, verifier):
    model = CostModel()
    return make_routing_data(log, verifier, model, model.fit(log))


def live(log, query, order):
    texts = [log.answer[query, model] for model in order]
    return signal_of(Agreement(), case_of(None, *texts)).value


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("several", [False, True])
def test_every_order_of_calls_shows_what_live_would(verify, several):
    log, verifier = answered(), Agreement()
    if several:
        verifier = SideBySide({"tokens": LoggedColumn(), "agreement": Agreement()})
    data, at = data_of(log, verifier), int(several)
    rules = Rules(4, skip=True, free_start=True, verify=verify)
    for order in ORDERS:
        episodes = Episodes(data, rules)
        env = RoutingEnv(data, rules=rules)
        env.reset(seed=0, options={"query": 7})
        stage = -1
        for position, model in enumerate(order):
            episodes.step(np.full(len(log), model - stage))
            observation = env.step(model - stage)[0]
            if verify:
                episodes.step(np.full(len(log), rules.verify_action))
                observation = env.step(rules.verify_action)[0]
            stage = model
            expected = [live(log, q, order[: position + 1]) for q in range(len(log))]
            np.testing.assert_array_equal(episodes.history.signal[:, model, at], expected)
            seen = env.config.history(observation[None]).signal[0, model, at]
            assert seen == expected[7]
            assert env.observation_space.contains(observation)
        episodes.step(np.full(len(log), STAY))


def test_offline_it_is_what_a_cascade_without_skips_sees_live():
    log = answered()
    found = emitted(Agreement(), log)[..., 0]
    for query in range(len(log)):
        for model in range(4):
            assert found[query, model] == live(log, query, range(model + 1))
    env = RoutingVectorEnv(len(log), data_of(log, Agreement()), rules=Rules(4))
    observation, _ = env.reset(seed=0, options={"query": np.arange(len(log))})
    for model in (1, 2):
        observation = env.step(np.ones(len(log), dtype=int))[0]
        np.testing.assert_array_equal(
            env.config.history(observation).signal[:, model, 0], found[:, model]
        )


def test_a_log_without_answers_has_the_signal_as_it_was_collected():
    logged = np.full((10, 3), 0.25)
    log = log_of(10, signals={"agreement": logged}, signal_costs={})
    np.testing.assert_array_equal(emitted(Agreement(), log)[..., 0], logged)
    assert not Agreement().compared(log)


def test_vectors_of_environments_refuse_what_they_cannot_show():
    with pytest.raises(ValueError, match="use RoutingEnv"):
        RoutingVectorEnv(2, data_of(answered(), Agreement()), rules=Rules(4, skip=True))
