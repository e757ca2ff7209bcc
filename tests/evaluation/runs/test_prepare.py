"""From configuration and log to the problem: the pre-query signal."""

import re
from dataclasses import replace

import numpy as np
import pytest

from routing_pomdp.envs import CostModel
from routing_pomdp.envs.logs.calls_table import write_calls
from routing_pomdp.evaluation.configuration.build import build
from routing_pomdp.evaluation.evaluate import evaluate
from routing_pomdp.evaluation.runs.prepare import prepare
from routing_pomdp.solvers import Exact
from routing_pomdp.solvers.pre_query import PreQueryConditioned
from routing_pomdp.verifiers import VerifierError
from tests.support.commands import composed, train
from tests.support.texts import log_with_texts

LOG = log_with_texts(400, 0, prompt_tells=True).rollouts


def prepared(log, *arguments):
    config = composed("train", "env=full", "costs=logged", "model=joint", *arguments)
    return prepare(config, log, build(config.costs, "costs"))


def played(problem, train, test, price=0.1):
    policy = PreQueryConditioned(Exact()).solve(problem.at(price), train)
    return policy, evaluate(policy, test)


def test_a_prompt_that_tells_all_routes_as_signals_of_answers_cannot():
    _, outcome = played(*without_validation(prepared(LOG)))
    assert outcome.cost.mean() > 0.9
    problem, train, test = without_validation(prepared(LOG, "pre_query=prompt", "model=classes"))
    _, outcome = played(problem, train, test)
    assert outcome.score.mean() > 0.99
    # One of four bins may hold both kinds; the others tell.
    hard = test.score[:, 0] == 0
    assert (outcome.cost[hard] == 1.0).mean() > 0.99
    assert (outcome.cost[~hard] == 0.01).mean() > 0.7
    # As good on training queries as on new ones: what they show was not learned from themselves.
    assert np.ptp(train.pre_signal) > 0.3


@pytest.mark.parametrize(
    ("costs", "expected"), [("costs=logged", 0.03), ("costs.ratio=50", 0.03 * 50)]
)
def test_a_logged_signal_is_paid_for_in_the_unit_of_the_most_expensive_call(costs, expected):
    nothing = np.full(LOG.score.shape, np.nan)
    signal, cost = nothing.copy(), nothing.copy()
    signal[:, 0], cost[:, 0] = LOG.score[:, 0], 0.03
    log = replace(
        LOG, signals=LOG.signals | {"pre_query": signal}, signal_costs={"pre_query": cost}
    )
    problem, train, test = without_validation(
        prepared(log, "pre_query=logged", "verifier.name=confidence", costs)
    )
    assert problem.pre.cost == pytest.approx(expected)
    assert problem.at(0.2).pre_price == pytest.approx(0.2 * 0.03)
    _, outcome = played(problem, train, test)
    assert outcome.score.mean() == 1
    assert outcome.cost.min() == pytest.approx(expected + problem.costs.call[0])


def test_another_train_seed_trains_on_other_queries_and_keeps_the_test():
    def split(*arguments):
        _, *splits = prepared(LOG, *arguments)
        return [{tuple(row) for row in data.signal[:, 0]} for data in splits]

    train, validation, test = split()
    assert split("evaluation.train_seed=0") == [train, validation, test]
    other_train, other_validation, same_test = split("evaluation.train_seed=1")
    assert same_test == test
    assert other_train != train
    assert other_train | other_validation == train | validation
    kept = [split("evaluation.train_size=40", f"evaluation.train_seed={k}")[0] for k in (0, 1)]
    assert kept[0] != kept[1]


def test_a_log_with_splits_can_be_split_anew():
    split = np.where(np.arange(len(LOG)) < 100, "train", "test")
    sizes = []
    for again in ("false", "true"):
        given = prepared(replace(LOG, split=split), f"evaluation.resplit={again}")
        sizes.append([len(data) for data in given[1:]])
    assert sizes[0][0] + sizes[0][1] == 100
    assert sizes[1] == [len(data) for data in prepared(LOG)[1:]]
    assert sum(sizes[1]) == len(LOG)


def test_nothing_is_seen_before_the_first_call_unless_it_is_asked_for():
    problem, train, validation, test = prepared(LOG)
    assert problem.pre is None
    assert not problem.rules.pre_query
    assert all(data.pre_signal is None for data in (train, validation, test))


def test_a_log_without_prompts_is_refused_by_name():
    message = "verifier PromptEase: the log has no prompt"
    with pytest.raises(VerifierError, match=re.escape(message)):
        prepared(replace(LOG, prompt=None), "pre_query=prompt")


@pytest.mark.slow
def test_a_run_has_it(tmp_path):
    write_calls(LOG.take(np.arange(200)), tmp_path / "calls.parquet")
    done = train(
        "rollouts=calls_table",
        f"rollouts.path={tmp_path}/calls.parquet",
        "pre_query=prompt",
        "evaluation.prices=[0.1]",
        "evaluation.resamples=50",
        f"out={tmp_path}/runs",
    )
    assert done.measures["model_regret_max"] == pytest.approx(0, abs=1e-9)


def without_validation(found):
    problem, train, _, test = found
    return problem, train, test


def test_a_ladder_without_logged_costs_leaves_the_signal_free():
    log = replace(LOG, cost=None)
    found = prepared(log, "pre_query=prompt", "costs=ratio")
    assert found[0].pre.cost == 0
    assert CostModel(ratio=50).fit(log).unit == 50
