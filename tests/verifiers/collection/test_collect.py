"""Whole collections over real HTTP: faults, resumption, missing cells, the table."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from routing_pomdp.envs.logs.calls_table import read_calls
from routing_pomdp.verifiers.collection import (
    AskBelow,
    AskSome,
    ConfigError,
)
from tests.support.collecting import Length, Votes, lines, run, specs, sums
from tests.support.loopback import Loopback

FAULTS = {
    "malformed": 0.01,
    "rate_limit": 0.01,
    "error": 0.01,
    "reset": 0.01,
    "reset_after": 0.01,
    "truncated": 0.01,
    "truncated_stream": 0.01,
    "no_choices": 0.01,
    "no_usage": 0.007,
    "hang": 0.003,
    "unavailable": 0.005,
    "error_in_body": 0.005,
}


@pytest.mark.slow
def test_of_two_thousand_calls_with_a_tenth_of_faults_every_cell_is_there_once(tmp_path):
    assert sum(FAULTS.values()) == pytest.approx(0.1)
    with Loopback(FAULTS, hang=4.0, seed=1) as server:
        models = specs(server.url, ("small", "medium", "large"), timeout=3.0, attempts=20)
        done = run(tmp_path, models, 300, [Votes(samples=2)], at_once=64)
    assert not done.outcome.incomplete
    assert done.ledger.made == 300 * (3 + 2 * 2) == 2100
    log = read_calls(tmp_path / "calls.parquet")
    assert log.score.shape == (300, 3)
    assert not np.isnan(log.score).any()
    assert not np.isnan(log.signals["votes"][:, :2]).any()
    keys = Counter(
        (r["query"], r["model"], r["purpose"], r["sample"], r["request"]) for r in lines(tmp_path)
    )
    assert len(keys) == 2100
    assert max(keys.values()) == 1
    # Nothing is paid twice but what was lost on the wire, and that is known.
    seen = server.seen
    assert all(seen.faults[kind] for kind in FAULTS), seen.faults
    # A connection that is reset before the server answers looks the same from here.
    late = len(lines(tmp_path, "lost")) - seen.lost - seen.faults["reset"]
    assert seen.delivered == 2100 + late
    assert 0 <= late < 20  # on a busy machine, what was delivered may come after its timeout
    assert done.ledger.flags["usage_estimated"] == seen.faults["no_usage"]


@pytest.mark.parametrize("kind", [*FAULTS, "no_logprobs"])
def test_each_fault_alone_is_got_over(kind, tmp_path):
    with Loopback(script=[kind, kind], hang=1.0) as server:
        done = run(tmp_path, specs(server.url, timeout=0.3), n=3, top_logprobs=2)
    assert not done.outcome.incomplete
    assert len(lines(tmp_path)) == 6
    flagged = {"no_usage": "usage_estimated", "no_logprobs": "no_logprobs"}.get(kind)
    assert done.ledger.flags == ({flagged: 2} if flagged else {})
    assert done.ledger.retried == (0 if flagged else 2)
    assert server.seen.delivered == 6


def test_what_is_finished_is_not_asked_again(tmp_path):
    with Loopback() as server:
        first = run(tmp_path, server, 20, [Votes()])
        table = (tmp_path / "calls.parquet").read_bytes()
        again = run(tmp_path, server, 20, [Votes()])
        assert (first.ledger.made, again.ledger.made, again.ledger.found) == (80, 0, 80)
        assert (tmp_path / "calls.parquet").read_bytes() == table
        more = run(tmp_path, server, 25, [Votes(samples=3), Length()])
        assert more.ledger.made == 5 * 5 + 20  # five queries, and one verdict more for the others
        assert server.seen.requests == 80 + 45
    assert set(read_calls(tmp_path / "calls.parquet").signals) == {"votes", "length"}


def test_the_table_says_what_was_paid_for_answers_and_for_verification(tmp_path):
    with Loopback() as server:
        run(tmp_path, server, 5, [Votes(samples=3)])
    log = read_calls(tmp_path / "calls.parquet")
    assert log.models == ("small", "large")
    assert list(log.signals) == ["votes"]  # notes are no signals
    for query in range(5):
        for model, (price_in, price_out) in enumerate(((1, 4), (25, 100))):
            paid = log.tokens_in[query, model] * price_in + log.tokens_out[query, model] * price_out
            assert log.cost[query, model] == pytest.approx(paid / 1e6)
    made = lines(tmp_path)
    verdicts = [r for r in made if r["query"] == "q0" and r["purpose"] == "verify:votes:small"]
    assert [r["sample"] for r in sorted(verdicts, key=lambda r: r["sample"])] == [0, 1, 2]
    assert log.signal_costs["votes"][0, 0] == pytest.approx(sum(r["cost"] for r in verdicts))
    import pyarrow.parquet

    row = pyarrow.parquet.read_table(tmp_path / "calls.parquet").to_pylist()[0]
    assert row["note_votes_verdicts"] == row["verify_votes_calls"] == 3
    assert row["verify_votes_tokens_in"] == sum(r["tokens_in"] for r in verdicts)
    # Samples of one request are sent at once.
    assert row["verify_votes_latency_ms"] == pytest.approx(max(r["latency_ms"] for r in verdicts))
    assert row["answer"].isdigit()
    assert row["prompt"].startswith("What is")
    assert row["dataset"] == "sums"


def test_the_last_model_is_verified_only_where_it_is_asked_for_and_may_be_later(tmp_path):
    with Loopback() as server:
        run(tmp_path, server, 4, [Votes()])
        signal = read_calls(tmp_path / "calls.parquet").signals["votes"]
        assert np.isnan(signal[:, 1]).all()
        done = run(tmp_path, server, 4, [Votes()], verify_last=True)
    assert done.ledger.made == 8
    assert not np.isnan(read_calls(tmp_path / "calls.parquet").signals["votes"]).any()


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_the_table_is_read_back_in_every_format(suffix, tmp_path):
    with Loopback() as server:
        run(tmp_path, server, 4, [Length()], table=f"calls.{suffix}")
    log = read_calls(tmp_path / f"calls.{suffix}")
    assert log.query_id.tolist() == ["q0", "q1", "q2", "q3"]


def test_splits_and_missing_prices_are_kept_as_they_are(tmp_path):
    questions = [replace(q, split="test" if i % 2 else "train") for i, q in enumerate(sums(6))]
    with Loopback() as server:
        models = [replace(spec, price=None) for spec in specs(server.url)]
        run(tmp_path, models, questions=questions, verifiers=[Votes()], tokens=10**6)
    log = read_calls(tmp_path / "calls.parquet")
    assert log.cost is None
    assert log.signal_costs == {}
    assert log.split.tolist() == ["train", "test"] * 3


def test_a_new_price_corrects_the_whole_table_and_costs_nothing(tmp_path):
    with Loopback() as server:
        run(tmp_path, server, 3)
        before = read_calls(tmp_path / "calls.parquet").cost
        from routing_pomdp.verifiers.collection import Price

        dearer = [replace(spec, price=Price(2.0, 8.0)) for spec in specs(server.url)]
        assert run(tmp_path, dearer, 3).ledger.made == 0
    after = read_calls(tmp_path / "calls.parquet").cost
    np.testing.assert_allclose(after[:, 0], 2 * before[:, 0])


def test_a_sampled_policy_leaves_cells_missing_and_the_same_ones_every_time(tmp_path):
    tables = []
    with Loopback() as server:
        for name in ("one", "two"):
            run(tmp_path / name, server, 40, policy=AskSome(0.5, seed=3))
            tables.append(read_calls(tmp_path / name / "calls.parquet").score)
    np.testing.assert_array_equal(*tables)
    assert not np.isnan(tables[0][:, 0]).any()
    assert 10 < np.isnan(tables[0][:, 1]).sum() < 30


def test_a_threshold_policy_asks_the_next_model_where_the_signal_is_low(tmp_path):
    with Loopback() as server:
        policy = AskBelow("votes", 0.5, explore=0.0)
        done = run(tmp_path, server, 30, [Votes()], policy=policy)
    log = read_calls(tmp_path / "calls.parquet")
    assert not done.outcome.incomplete
    assert (np.isnan(log.score[:, 1]) == (log.signals["votes"][:, 0] >= 0.5)).all()


def test_models_on_one_endpoint_share_its_bound(tmp_path):
    with Loopback(latency=0.01) as server:
        models = [
            replace(spec, concurrency=bound)
            for spec, bound in zip(specs(server.url), (5, 9), strict=True)
        ]
        run(tmp_path, models, 40, [Votes(samples=4)])
    assert server.seen.most_concurrent == 5


def test_another_setting_that_changes_answers_is_refused_by_name(tmp_path):
    with Loopback() as server:
        run(tmp_path, server, 2)
        warmer = [replace(spec, temperature=0.7) for spec in specs(server.url)]
        with pytest.raises(ConfigError, match=r"models\.small\.temperature 0\.0.*now it is 0\.7"):
            run(tmp_path, warmer, 2)
        with pytest.raises(ConfigError, match="top_logprobs None"):
            run(tmp_path, server, 2, top_logprobs=5)
        done = run(tmp_path, specs(server.url, ("small", "medium", "large")), 2)
    assert done.ledger.made == 2  # the further model alone
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert [each["status"] for each in manifest["runs"]] == ["complete", "complete"]
    assert manifest["versions"]["openai"]
