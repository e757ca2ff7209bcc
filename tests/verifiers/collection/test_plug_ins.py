"""Verifiers and scoring of a user's own: what they may ask, and that failures cost their column."""

import asyncio
from dataclasses import dataclass

import numpy as np

from routing_pomdp.envs.logs.calls_table import read_calls
from routing_pomdp.verifiers import LiveVerifier, Verifier
from tests.support.collecting import Broken, Length, Votes, lines, run, specs
from tests.support.loopback import Loopback


def test_a_verifier_that_fails_costs_only_its_own_column(tmp_path):
    bad = ([0.5], None, "0.7", {"value": 1})
    with Loopback() as server:
        done = run(tmp_path, server, 24, [Broken(), Broken("odd", bad), Votes(), Length()])
    assert not done.outcome.incomplete
    log = read_calls(tmp_path / "calls.parquet")
    missing = np.arange(24) % 3 == 0
    for name in ("broken", "odd"):
        assert (np.isnan(log.signals[name][:, 0]) == missing).all()
        assert done.outcome.verifiers[name].count == 8
    assert "my mistake" in done.outcome.verifiers["broken"].first
    assert "query 'q" in done.outcome.verifiers["broken"].first
    assert not np.isnan(log.signals["votes"][:, 0]).any()


def test_a_verifier_that_says_nothing_is_counted_and_is_no_failure(tmp_path):
    with Loopback() as server:
        done = run(tmp_path, server, 6, [Broken("shy", (float("nan"),))])
    assert done.outcome.silent == {"shy": 2}
    assert not done.outcome.verifiers


def test_a_verifier_that_never_speaks_has_an_empty_column(tmp_path):
    with Loopback() as server:
        nothing = AlwaysNothing()
        run(tmp_path, server, 3, [nothing])
    assert np.isnan(read_calls(tmp_path / "calls.parquet").signals["nothing"]).all()


@dataclass(frozen=True)
class AlwaysNothing(LiveVerifier):
    name: str = "nothing"

    async def verify(self, case):
        return float("nan")


@dataclass(frozen=True)
class Swallows(Votes):
    """Takes a failed call for a verdict."""

    name: str = "swallows"

    async def verify(self, case):
        try:
            return await super().verify(case)
        except Exception:
            return 0.0


def test_a_verifier_cannot_take_a_failed_call_for_a_signal(tmp_path):
    with Loopback(script=[""] + ["error"] * 4) as server:
        done = run(tmp_path, specs(server.url, attempts=2, concurrency=1), 1, [Swallows()])
    assert np.isnan(read_calls(tmp_path / "calls.parquet").signals["swallows"][0, 0])
    assert done.outcome.calls.count == 1
    assert not done.outcome.verifiers
    assert done.outcome.incomplete == {0}


class Brevity(Verifier):
    def signal(self, rollouts):
        return -rollouts.tokens_out


class Wrong(Verifier):
    def signal(self, rollouts):
        return np.zeros(3)


def test_verifiers_without_calls_are_computed_when_the_table_is_written(tmp_path):
    with Loopback() as server:
        done = run(tmp_path, server, 5, offline={"brevity": Brevity(), "wrong": Wrong()})
    log = read_calls(tmp_path / "calls.parquet")
    np.testing.assert_array_equal(log.signals["brevity"], -log.tokens_out)
    assert list(log.signals) == ["brevity"]
    assert list(done.failed) == ["wrong"]
    assert "shape (3,)" in done.failed["wrong"]


def test_an_answer_that_cannot_be_scored_costs_its_cell_alone(tmp_path):
    def fussy(answer, references, query):
        if query.query_id == "q1":
            raise KeyError("no")
        return 2.0 if query.query_id == "q2" else 1.0

    with Loopback() as server:
        done = run(tmp_path, server, 4, scoring=fussy)
        assert done.outcome.scoring.count == 4
        assert done.outcome.incomplete == {1, 2}
        assert read_calls(tmp_path / "calls.parquet").query_id.tolist() == ["q0", "q3"]
        assert run(tmp_path, server, 4).ledger.made == 0  # all answers were kept


def test_a_judge_behind_another_endpoint_is_charged_to_the_verification(tmp_path):
    with Loopback() as server, Loopback() as other:
        judge = specs(other.url, ("medium",))
        run(tmp_path, server, 4, [AsksJudge()], judges=judge)
        assert other.seen.requests == 4
        assert server.seen.requests == 8
    assert (read_calls(tmp_path / "calls.parquet").signal_costs["judged"][:, 0] > 0).all()


@dataclass(frozen=True)
class AsksJudge(LiveVerifier):
    name: str = "judged"

    async def verify(self, case):
        asked = [{"role": "user", "content": f"{case.query.prompt} Verdict {case.answer.text}"}]
        (said,) = await case.judges["medium"].complete(asked)
        return float(said.text == "Verdict: correct")


def test_equal_requests_are_different_samples_and_found_again_as_such(tmp_path):
    with Loopback() as server:
        run(tmp_path, server, 2, [AsksTwice()])
        first = read_calls(tmp_path / "calls.parquet").signals["twice"]
        assert run(tmp_path, server, 2, [AsksTwice()]).ledger.made == 0
    np.testing.assert_array_equal(read_calls(tmp_path / "calls.parquet").signals["twice"], first)
    samples = [r["sample"] for r in lines(tmp_path) if r["purpose"] != "answer"]
    assert sorted(samples) == [0, 0, 1, 1, 2, 2, 3, 3]


@dataclass(frozen=True)
class AsksTwice(LiveVerifier):
    name: str = "twice"

    async def verify(self, case):
        asked = [{"role": "user", "content": f"{case.query.prompt} Verdict {case.answer.text}"}]
        twice = [case.client.complete(asked, samples=2, temperature=1.0) for _ in range(2)]
        verdicts = [said for both in await asyncio.gather(*twice) for said in both]
        return sum(said.text == "Verdict: correct" for said in verdicts) / len(verdicts)


def test_votes_are_counted_for_the_answer_and_not_for_what_stands_around_it(tmp_path):
    from routing_pomdp.verifiers import SelfConsistency

    with Loopback() as server:  # says "Answer: 7", always the same
        run(tmp_path, server, 3, [SelfConsistency(samples=2)])
    assert (read_calls(tmp_path / "calls.parquet").signals["self_consistency"][:, 0] == 1).all()
