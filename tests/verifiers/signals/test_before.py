"""Signals of queries, and the one that is learned from prompts."""

import re
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from routing_pomdp.envs import CostModel
from routing_pomdp.verifiers import (
    LoggedSignal,
    PreQuery,
    PromptEase,
    VerifierError,
    emitted,
    fitted,
    make_routing_data,
    seen_before,
    signal_of_query,
)
from tests.support.logs import log_of
from tests.support.texts import log_with_texts


def logged(signal, cost=None):
    costs = {} if cost is None else {"pre_query": np.array(cost)}
    return log_of(len(signal), signals={"pre_query": np.array(signal)}, signal_costs=costs)


NAN = np.nan


@pytest.mark.parametrize(
    ("signal", "cost"),
    [
        ([[0.2, NAN, NAN], [NAN, 0.7, NAN]], [[3.0, NAN, NAN], [NAN, 4.0, NAN]]),
        ([[0.2, 0.2, 0.2], [0.7, 0.7, 0.7]], [[3.0, 3.0, 3.0], [4.0, 4.0, 4.0]]),
        ([[0.2, 0.2, NAN], [NAN, 0.7, 0.7]], [[3.0, 0.0, NAN], [NAN, 4.0, 0.0]]),
    ],
)
@pytest.mark.parametrize("verifier", [LoggedSignal(), PreQuery()])
def test_a_query_has_one_signal_and_pays_for_it_once(signal, cost, verifier):
    found, paid = signal_of_query(verifier, logged(signal, cost))
    np.testing.assert_array_equal(found, [[0.2], [0.7]])
    np.testing.assert_array_equal(paid, [3.0, 4.0])
    assert signal_of_query(verifier, logged(signal))[1] is None


def test_a_query_of_which_nothing_was_said_has_a_missing_signal_or_its_substitute():
    log = logged([[0.2, NAN, NAN], [NAN, NAN, NAN]])
    assert signal_of_query(PreQuery(missing=0.5), log)[0].tolist() == [[0.2], [0.5]]
    for verifier in (PreQuery(), LoggedSignal()):
        np.testing.assert_array_equal(signal_of_query(verifier, log)[0], [[0.2], [NAN]])


def test_a_pre_query_signal_may_be_infinite():
    log = logged([[-np.inf, NAN, NAN], [-np.inf, -np.inf, NAN]])
    assert signal_of_query(LoggedSignal(), log)[0].tolist() == [[-np.inf], [-np.inf]]


def test_a_signal_of_the_answers_is_no_pre_query_signal():
    with pytest.raises(VerifierError, match="different signals for the answers to query 'q0'"):
        signal_of_query(LoggedSignal("sharp"), log_of())


def test_a_data_shows_it_in_its_own_unit_of_cost():
    log = logged([[0.2, NAN, NAN], [NAN, 0.7, NAN]], [[3.0, NAN, NAN], [NAN, 4.0, NAN]])
    log = replace(log, signals={**log.signals, "own": np.zeros((2, 3))})
    model = CostModel(ratio=100)
    data = make_routing_data(log, LoggedSignal("own"), model, model.fit(log))
    seen = seen_before(data, LoggedSignal("pre_query"), unit=5.0)
    np.testing.assert_array_equal(seen.pre_signal, [[0.2], [0.7]])
    np.testing.assert_array_equal(seen.pre_cost, [15.0, 20.0])
    np.testing.assert_array_equal(seen.score, data.score)


# -- from prompts -----------------------------------------------------------------------------


def texts(n=300, seed=0, **options):
    return log_with_texts(n, seed, **options).rollouts


@pytest.mark.parametrize(("target", "sign"), [("mean", 1), ("gain", -1)])
def test_prompts_that_tell_are_understood_on_training_queries_and_new_ones(target, sign):
    train, new = texts(prompt_tells=True), texts(seed=1, prompt_tells=True)
    new = replace(new, query_id=np.array([f"n{i}" for i in range(len(new))]))
    verifier = fitted(PromptEase(target), train)
    for log in (train, new):
        found, cost = signal_of_query(verifier, log)
        assert cost is None
        assert roc_auc_score(log.score[:, 0], sign * found[:, 0]) > 0.99


def test_training_queries_are_predicted_without_their_own_scores():
    """Were they not, random prompts would seem to tell."""
    train = texts(400)
    found = signal_of_query(fitted(PromptEase(), train), train)[0][:, 0]
    ease = train.score.mean(axis=1)
    assert abs(np.corrcoef(found, ease)[0, 1]) < 0.2
    # Not even through a query with the same prompt.
    twice = np.concatenate([train.prompt[:200], train.prompt[:200]])
    score = np.concatenate([train.score[:200], train.score[:200]])
    doubled = replace(train, prompt=twice, score=score)
    found = signal_of_query(fitted(PromptEase(), doubled), doubled)[0][:, 0]
    assert np.corrcoef(found, score.mean(axis=1))[0, 1] < 0.2


def test_a_querys_prediction_does_not_depend_on_its_company():
    train = texts(100, prompt_tells=True)
    verifier = fitted(PromptEase(), train)
    whole = emitted(verifier, train)
    np.testing.assert_allclose(emitted(verifier, train.take(np.array([7, 3]))), whole[[7, 3]])


def test_prompts_without_words_and_queries_without_scores_do_not_break_it():
    train = texts(20)
    empty = replace(train, prompt=np.array(["?!"] * 20, dtype=object))
    found = signal_of_query(fitted(PromptEase(), empty), empty)[0]
    np.testing.assert_allclose(found, train.score.mean(), atol=0.2)
    some = replace(train, score=np.where(np.arange(20)[:, None] < 5, NAN, train.score))
    assert np.isfinite(signal_of_query(fitted(PromptEase("gain"), some), some)[0]).all()


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: PromptEase("worst"), "verifier.target is 'worst'"),
        (lambda: PromptEase(folds=1), "verifier.folds is 1"),
        (lambda: emitted(PromptEase(), texts(5)), "PromptEase: this verifier learns: call fit"),
        (lambda: fitted(PromptEase(), log_of()), "PromptEase: the log has no prompt"),
    ],
)
def test_bad_use_is_said(attempt, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        attempt()
