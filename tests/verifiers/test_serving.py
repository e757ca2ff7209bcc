"""Live verifiers alone, together and read back from the log."""

import asyncio
import math
from dataclasses import dataclass

import numpy as np
import pytest

from routing_pomdp.verifiers import (
    AffordableFirst,
    Agreement,
    CalibratedMerge,
    LiveVerifier,
    LoggedColumn,
    PTrue,
    SelfConsistency,
    SideBySide,
    Signal,
    VerifierError,
    emitted,
    fitted,
    judged,
    live_parts,
    live_signals,
    paid,
    row_of,
)
from tests.support.clients import Scripted, case_of
from tests.support.logs import log_of

MODELS = ("m0", "m1", "m2")


@dataclass(frozen=True)
class Says(LiveVerifier):
    """What it is told to, once the client was asked."""

    name: str
    value: object = 0.5

    async def verify(self, case):
        await case.client.complete([], samples=1)
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


def run(coroutine):
    return asyncio.run(coroutine)


# -- one verifier -----------------------------------------------------------------------------


def test_a_number_is_a_signal_without_notes():
    assert run(judged(Says("a", np.float64(0.25)), case_of())) == Signal(0.25)
    assert math.isnan(run(judged(Says("a", math.nan), case_of())).value)
    noted = Signal(1, {"seen": 3})
    assert run(judged(Says("a", noted), case_of())) == Signal(1.0, {"seen": 3.0})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("high", r"verifier Says returned 'high' for 'm0' on query 'q1'"),
        (None, r"verifier Says returned None"),
        (np.array([0.1, 0.2]), r"verifier Says returned array"),
        (Signal(0.5, {"n": math.inf}), r"verifier Says returned inf as note 'n'"),
        (Signal(0.5, {"n": "many"}), r"verifier Says returned 'many' as note 'n'"),
        (KeyError("usd"), r"verifier Says failed: KeyError"),
        (ValueError("so"), r"verifier Says: so"),
    ],
)
def test_what_is_no_signal_is_said_with_the_verifiers_name(value, message):
    with pytest.raises(VerifierError, match=message):
        run(judged(Says("a", value), case_of()))


def test_the_log_keeps_what_was_missing_and_a_router_gets_a_substitute_if_one_is_set():
    logged = np.array([[np.nan, 0.9, np.nan], [0.3, np.nan, np.nan]])
    score = np.array([[1.0, 0.0, 1.0], [1.0, np.nan, 0.0]])
    log = log_of(2, score=score, signals={"p_true": logged}, signal_costs={})
    np.testing.assert_array_equal(emitted(PTrue(), log)[..., 0], logged)
    found = emitted(PTrue(missing=0.5), log)[..., 0]
    # Nothing is said of what was never answered.
    np.testing.assert_array_equal(found, [[0.5, 0.9, 0.5], [0.3, np.nan, 0.5]])


# -- several ----------------------------------------------------------------------------------

A, B, C = Says("a", 0.1), Says("b", 0.2), Says("c", 0.3)


def test_a_combination_is_made_of_what_has_to_be_collected_for_it():
    deep = SideBySide(
        {
            "merge": CalibratedMerge({"a": A, "tokens": LoggedColumn()}),
            "chain": AffordableFirst(B, C),
            "again": A,
        }
    )
    assert live_parts(deep) == {"a": A, "b": B, "c": C}
    assert live_parts(A) == {"a": A}
    assert live_parts(LoggedColumn()) == {}
    with pytest.raises(ValueError, match="two verifiers are named 'agreement'"):
        live_parts(SideBySide({"x": Agreement(), "y": Agreement(kind="number")}))


def test_side_by_side_and_merge_buy_all_their_parts():
    for both in (SideBySide({"a": A, "b": B}), CalibratedMerge({"a": A, "b": B})):
        client = Scripted([])
        found = run(live_signals(both, case_of(client), MODELS))
        assert found == {"a": Signal(0.1), "b": Signal(0.2)}
        assert len(client.calls) == 2


def test_what_is_learned_on_the_log_serves_live_answers():
    """A live answer's signal is that of the same answer in a log."""
    log = log_of(400)
    costs = {"a": log.signal_costs["sharp"], "b": log.signal_costs["sharp"]}
    log = log_of(
        400, signals={"a": log.signals["dull"], "b": log.signals["sharp"]}, signal_costs=costs
    )
    chain = AffordableFirst(Says("a"), Says("b"), low=0.4, high=0.7)
    merge = CalibratedMerge({"a": Says("a"), "b": Says("b")})
    train, test = log.where("train"), log.where("test")
    for verifier in (fitted(chain, train), fitted(merge, train)):
        expected = emitted(verifier, test)[..., 0]
        bought_both = np.ones(test.score.shape, dtype=bool)
        if isinstance(verifier, AffordableFirst):
            bought_both = paid(verifier, test) > test.signal_costs["a"]
            assert 0.1 < bought_both.mean() < 0.9
        for row in range(25):
            for model in range(3):
                client = Scripted([])
                case = case_of(client, *["x"] * (model + 1))
                said = {name: test.signals[name][row, model] for name in ("a", "b")}
                found = run(live_signals(saying(verifier, said), case, MODELS))
                assert ("b" in found) == bought_both[row, model]
                assert len(client.calls) == 1 + bought_both[row, model]
                read = emitted(verifier, row_of(case, [found], MODELS))[0, model, 0]
                assert read == pytest.approx(expected[row, model], rel=1e-12)


def saying(verifier, said):
    """The same verifier whose parts say something else."""
    from dataclasses import replace

    parts = {name: Says(name, value) for name, value in said.items()}
    if isinstance(verifier, AffordableFirst):
        return replace(verifier, first=parts["a"], then=parts["b"])
    return replace(verifier, verifiers=parts)


def test_before_doubt_is_learned_a_collection_holds_both():
    client = Scripted([])
    found = run(live_signals(AffordableFirst(A, B), case_of(client), MODELS))
    assert set(found) == {"a", "b"}


def test_a_failing_part_is_named():
    both = SideBySide({"a": A, "bad": Says("bad", KeyError("usd"))})
    with pytest.raises(VerifierError, match="Says failed: KeyError"):
        run(live_signals(both, case_of(), MODELS))


def test_a_row_holds_what_is_known_of_every_answer_so_far():
    case = case_of(None, "x", "y")
    row = row_of(case, [{"a": Signal(0.1)}, {"a": Signal(0.2), "b": Signal(0.3)}], MODELS)
    np.testing.assert_array_equal(row.signals["a"], [[0.1, 0.2, np.nan]])
    np.testing.assert_array_equal(row.signals["b"], [[np.nan, 0.3, np.nan]])
    np.testing.assert_array_equal(row.tokens_out, [[2, 2, np.nan]])
    both = SideBySide({"a": Says("a"), "tokens": LoggedColumn()})
    np.testing.assert_array_equal(emitted(both, row)[0, :2], [[0.1, 2], [0.2, 2]])


def test_a_chain_can_be_of_shipped_verifiers():
    chain = AffordableFirst(Agreement(), SelfConsistency(samples=2))
    client = Scripted(["Rome", "Paris"])
    found = run(live_signals(chain, case_of(client), MODELS))
    assert {name: signal.value for name, signal in found.items()} == {
        "agreement": 0.5,
        "self_consistency": 0.5,
    }
