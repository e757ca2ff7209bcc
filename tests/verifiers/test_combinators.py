"""Verifiers made of verifiers, and errors that name the verifier that failed."""

from dataclasses import dataclass

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from routing_pomdp.verifiers import (
    AffordableFirst,
    CalibratedMerge,
    LoggedColumn,
    LoggedSignal,
    NoSignal,
    SideBySide,
    Verifier,
    VerifierError,
    emitted,
    fitted,
    paid,
)
from tests.support.logs import log_of

SHARP, DULL = LoggedSignal("sharp"), LoggedSignal("dull")
BOTH = {"sharp": SHARP, "dull": DULL}


def test_verifiers_side_by_side_are_one_vector_and_all_are_paid_for():
    log = log_of()
    both = SideBySide({"a": SHARP, "b": SHARP, "c": DULL})
    np.testing.assert_array_equal(
        emitted(both, log),
        np.stack([log.signals["sharp"], log.signals["sharp"], log.signals["dull"]], axis=-1),
    )
    np.testing.assert_array_equal(paid(both, log), 2 * log.signal_costs["sharp"])
    assert paid(SideBySide({"free": DULL}), log) is None


@pytest.mark.parametrize("kind", ["logistic", "isotonic"])
def test_a_merge_is_calibrated_on_queries_it_has_not_seen(kind):
    log = log_of(4000)
    train, test = log.where("train"), log.where("test")
    merge = fitted(CalibratedMerge(BOTH, kind), train)
    confidence = emitted(merge, test)[..., 0]
    for model in range(log.n_models):
        right = test.score[:, model]
        assert confidence[:, model].mean() == pytest.approx(right.mean(), abs=0.03)
        high = confidence[:, model] > 0.8
        assert right[high].mean() == pytest.approx(confidence[high, model].mean(), abs=0.04)
        best = roc_auc_score(right, test.signals["sharp"][:, model])
        assert roc_auc_score(right, confidence[:, model]) > best - 0.01
    np.testing.assert_array_equal(paid(merge, test), test.signal_costs["sharp"])


def test_training_queries_get_confidences_that_do_not_know_their_labels():
    noise = np.random.default_rng(0).normal(size=(300, 3))
    log = log_of(300, signals={f"noise{i}": noise + i for i in range(1)}, signal_costs={})
    train = log.where("train")
    merge = fitted(CalibratedMerge({"noise": LoggedSignal()}, "isotonic"), train)
    seen = emitted(merge, train)[:, 0, 0]
    assert abs(roc_auc_score(train.score[:, 0], seen) - 0.5) < 0.1
    # Whatever order or company they come in.
    order = np.random.default_rng(1).permutation(len(log))
    again = emitted(merge, log.take(order))[:, 0, 0]
    position = {name: i for i, name in enumerate(train.query_id)}
    for i, name in enumerate(log.query_id[order]):
        if name in position:
            assert again[i] == seen[position[name]]


def test_the_dear_verifier_is_bought_only_in_doubt():
    log = log_of(1000)
    train = log.where("train")
    chain = fitted(AffordableFirst(DULL, SHARP, low=0.3, high=0.7), train)
    first = emitted(fitted(CalibratedMerge({"d": DULL}), train), log)[..., 0]
    both = emitted(fitted(CalibratedMerge({"d": DULL, "s": SHARP}), train), log)[..., 0]
    doubt = (first >= 0.3) & (first <= 0.7)
    assert 0.1 < doubt.mean() < 0.9
    np.testing.assert_array_equal(emitted(chain, log)[..., 0], np.where(doubt, both, first))
    np.testing.assert_array_equal(paid(chain, log), doubt * log.signal_costs["sharp"])


def test_never_and_always_in_doubt_are_one_verifier_and_both():
    log = log_of(500)
    train = log.where("train")
    never = fitted(AffordableFirst(DULL, SHARP, low=0.0, high=0.0), train)
    always = fitted(AffordableFirst(DULL, SHARP, low=0.0, high=1.0), train)
    assert (paid(never, log) == 0).all()
    np.testing.assert_array_equal(paid(always, log), log.signal_costs["sharp"])


def test_a_model_without_signals_has_none_after_merging():
    log = log_of()
    sharp = log.signals["sharp"].copy()
    sharp[:, -1] = np.nan
    log = log_of(signals={"sharp": sharp}, signal_costs={})
    merge = fitted(CalibratedMerge({"sharp": SHARP}), log.where("train"))
    confidence = emitted(merge, log)
    assert np.isnan(confidence[:, -1]).all()
    assert np.isfinite(confidence[:, :-1]).all()


def test_a_combinator_that_learns_says_so_before_it_has():
    with pytest.raises(VerifierError, match=r"CalibratedMerge: this verifier learns: call fit"):
        emitted(CalibratedMerge(BOTH), log_of())


def test_columns_of_the_log_and_nothing_at_all_are_verifiers():
    log = log_of()
    np.testing.assert_array_equal(emitted(LoggedColumn(), log)[..., 0], log.tokens_out)
    with pytest.raises(VerifierError, match="LoggedColumn: the log has no latency"):
        emitted(LoggedColumn("latency"), log)
    assert (emitted(NoSignal(), log) == 0).all()
    assert paid(NoSignal(), log) is None


# -- errors name the plug-in ----------------------------------------------------------------------


@dataclass(frozen=True)
class Broken(Verifier):
    returns: object = None
    charges: object = None

    def fit(self, train):
        if self.returns == "fit":
            raise KeyError("no such model")
        return self

    def signal(self, rollouts):
        return self.returns(rollouts)

    def cost(self, rollouts):
        return None if self.charges is None else self.charges(rollouts)


@pytest.mark.parametrize(
    ("returns", "message"),
    [
        (lambda log: np.zeros(3), r"verifier Broken returned signals of shape \(3,\), expected"),
        (lambda log: np.zeros((len(log), 3, 0)), r"verifier Broken returned signals of shape"),
        (lambda log: 1 / 0, r"verifier Broken failed: ZeroDivisionError"),
        (lambda log: log.nothing, r"verifier Broken failed: AttributeError"),
        (lambda log: "high", r"verifier Broken: could not convert string"),
    ],
)
def test_what_a_plug_in_gets_wrong_is_said_with_its_name(returns, message):
    log = log_of()
    for verifier in (Broken(returns), SideBySide({"good": DULL, "bad": Broken(returns)})):
        with pytest.raises(VerifierError, match=message):
            emitted(verifier, log)


@pytest.mark.parametrize(
    ("charges", "message"),
    [
        (lambda log: np.zeros(3), r"verifier Broken returned costs of shape \(3,\)"),
        (lambda log: -np.ones(log.score.shape), r"verifier Broken charges -1 for 'm0' on query"),
        (lambda log: {}["usd"], r"verifier Broken failed: KeyError"),
    ],
)
def test_wrong_costs_are_said_with_its_name(charges, message):
    with pytest.raises(VerifierError, match=message):
        paid(Broken(charges=charges), log_of())


def test_a_failure_to_learn_names_the_plug_in_inside_a_combinator_too():
    for verifier in (Broken("fit"), CalibratedMerge({"bad": Broken("fit")})):
        with pytest.raises(VerifierError, match=r"^verifier Broken failed: KeyError"):
            fitted(verifier, log_of())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SideBySide({}), "verifier.verifiers is empty"),
        (lambda: CalibratedMerge(BOTH, "platt"), "verifier.kind is 'platt'"),
        (lambda: AffordableFirst(DULL, SHARP, low=0.9, high=0.1), "verifier.low and verifier.high"),
        (lambda: LoggedColumn("answer"), "verifier.column is 'answer'"),
    ],
)
def test_bad_settings_are_refused_by_key(make, message):
    with pytest.raises(ValueError, match=message):
        make()
