"""The budget is a hard limit by the server's own count, whatever is sent and whatever it counts."""

import json
import random

import pytest

from routing_pomdp.verifiers.collection import (
    BudgetExhaustedError,
    ConfigError,
    EndpointRefusedError,
)
from tests.support.collecting import PRICES, Votes, lines, run, specs
from tests.support.loopback import Loopback


def talkative(completion, request, head):
    """Generates as much as the request allows, in every copy."""
    limit = max(request.get(name, 0) for name in ("max_tokens", "max_completion_tokens"))
    return counting(completion, completion_tokens=(limit or 4000) * request.get("n", 1))


def counting(completion, **usage):
    return completion | {"usage": completion["usage"] | usage}


def charged(server):
    """USD, as the server counts."""
    return sum(
        tokens * (PRICES[model].tokens_in if kind == "in" else PRICES[model].tokens_out) / 1e6
        for (model, kind), tokens in server.seen.charged.items()
    )


SENT = [
    {},
    {"max_tokens": 8, "extra_body": {"max_tokens": 4000}},
    {"max_tokens": 8, "extra_body": {"max_completion_tokens": 400}},
    {"extra_body": {"n": 50}},
    {"omit": ("max_tokens",), "extra_body": {"max_completion_tokens": 40}},
    {"max_tokens_field": "max_completion_tokens"},
]


@pytest.mark.parametrize("options", SENT, ids=str)
def test_the_server_never_charges_more_than_the_budget_whatever_is_really_sent(options, tmp_path):
    with Loopback(shape=talkative) as server:
        (_, large) = specs(server.url, **options)
        one = 2 * 1e-6 * 100 * 4000  # more than any single call here can cost
        for budget in (0.02, 0.02, 0.02 + one):
            done = run(tmp_path, specs(server.url, **options), 60, [Votes()], usd=budget)
            assert charged(server) <= budget
        spent = sum(record["cost"] for record in lines(tmp_path))
        assert charged(server) == pytest.approx(spent)
        assert isinstance(done.stopped, BudgetExhaustedError) or charged(server) > 0.02
        assert large.price == PRICES["large"]


@pytest.mark.parametrize("kind", ["completion_tokens", "prompt_tokens"])
@pytest.mark.parametrize("budget", [{"usd": 5.0}, {"tokens": 100_000}, {}])
def test_a_server_that_counts_the_impossible_stops_the_run(kind, budget, tmp_path):
    def impossible(completion, request, head):
        return counting(completion, **{kind: 20_000})

    with Loopback(shape=impossible) as server:
        done = run(tmp_path, specs(server.url), 40, **budget)
        assert isinstance(done.stopped, EndpointRefusedError)
        what = {"completion_tokens": "generated", "prompt_tokens": "of the prompt"}[kind]
        assert f"counted 20,000 tokens {what} where the request allows at most" in str(done.stopped)
        if budget:
            assert server.seen.requests == 1  # it was sent alone
            # What it counted is known, and the next run does not try it again.
            assert done.ledger.budget.spent.tokens > 20_000
            with pytest.raises(ConfigError, match="counted more tokens than its request allows"):
                run(tmp_path, specs(server.url), 40, **budget)
            assert server.seen.requests == 1
    assert len(lines(tmp_path)) == server.seen.requests  # what was paid for is kept


def test_a_server_with_a_long_prompt_of_its_own_is_learned_from_one_call(tmp_path):
    rng = random.Random(0)

    def hidden(completion, request, head):
        return counting(completion, prompt_tokens=900 + rng.randrange(30))

    with Loopback(shape=hidden) as server:
        done = run(tmp_path, specs(server.url), 60, tokens=30_000)
        assert isinstance(done.stopped, BudgetExhaustedError)
        assert 20_000 < server.seen.tokens <= 30_000
        again = run(tmp_path, specs(server.url), 60, tokens=31_000)
        assert isinstance(again.stopped, BudgetExhaustedError)
        assert server.seen.tokens <= 31_000


def test_under_a_budget_a_models_first_call_is_sent_alone(tmp_path):
    at_once = []
    with Loopback(latency=0.05) as server:

        def shape(completion, request, head):
            at_once.append(server.seen.concurrent)
            return completion

        server.shape = shape
        run(tmp_path / "a", specs(server.url), 20, tokens=10**6)
        assert at_once[0] == 1
        assert max(at_once) > 1
        at_once.clear()
        run(tmp_path / "b", specs(server.url), 20)
        assert at_once[0] > 1


def test_what_a_server_does_not_count_is_taken_at_the_most(tmp_path):
    with Loopback({"no_usage": 1.0}, shape=talkative) as server:
        done = run(tmp_path, specs(server.url), 60, tokens=4000)
        assert isinstance(done.stopped, BudgetExhaustedError)
        assert server.seen.tokens <= 4000
        at_most = done.ledger.budget.spent + done.ledger.budget.lost
        assert server.seen.tokens <= at_most.tokens <= 4000
        # The next run takes it at the same.
        again = run(tmp_path, specs(server.url), 60, tokens=4000)
        assert (again.ledger.budget.spent + again.ledger.budget.lost).tokens == at_most.tokens
        assert server.seen.tokens <= 4000


def test_what_a_model_cost_that_is_left_out_later_stays_spent(tmp_path):
    names = ("small", "medium", "large")
    with Loopback() as server:
        first = run(tmp_path, specs(server.url, names), 8, usd=1.0)
        spent = first.ledger.budget.spent
        again = run(tmp_path, specs(server.url, ("small", "medium")), 8, usd=spent.usd)
        assert again.ledger.budget.spent.usd == pytest.approx(spent.usd)
        assert again.ledger.budget.spent.tokens == spent.tokens
        # A corrected price is that of all its calls, also where the model is left out since.
        manifest = json.loads((tmp_path / "manifest.json").read_text())
        assert set(manifest["prices"]) == set(names)


def test_the_intent_is_on_the_disk_before_a_request_leaves(tmp_path):
    early = []

    def shape(completion, request, head):
        sent = [r for r in lines(tmp_path, "sent") if r["model"] == request["model"]]
        early.append(len(sent) > len([r for r in seen if r == request["model"]]))
        seen.append(request["model"])
        return completion

    seen = []
    with Loopback(shape=shape) as server:
        run(tmp_path, server, 6)
    assert len(early) == 12
    assert all(early)


@pytest.mark.parametrize("status", [408, 502, 504, 520, 524])
def test_what_a_gateway_lost_counts_as_perhaps_paid_for(status, tmp_path):
    with Loopback(refuse={"small": (status, {"message": "upstream"})}) as server:
        done = run(tmp_path, specs(server.url, attempts=2), 1)
    assert len(lines(tmp_path, "lost")) == 2
    assert done.ledger.budget.lost.tokens > 0


def test_what_a_gateway_lost_counts_so_too_where_it_asks_to_wait_for_too_long(tmp_path):
    def lost(connection, request):
        connection.reply(504, {"error": {"message": "upstream"}}, "Retry-After: 7200\r\n")

    with Loopback(script=[lost]) as server:
        done = run(tmp_path, specs(server.url, concurrency=1), 1)
    assert "it asks to wait 7,200 s" in str(done.stopped)
    assert len(lines(tmp_path, "lost")) == 1
    assert done.ledger.budget.lost.tokens > 0


def test_empty_answers_are_asked_again_within_the_budget(tmp_path):
    def empty(completion, request, head):
        (choice,) = completion["choices"]
        return completion | {"choices": [choice | {"message": {"content": ""}}]}

    with Loopback(shape=empty) as server:
        done = run(tmp_path, specs(server.url), 60, tokens=2000)
        assert isinstance(done.stopped, BudgetExhaustedError)
        assert server.seen.tokens == done.ledger.budget.spent.tokens <= 2000
        assert len(lines(tmp_path)) == server.seen.requests
        again = run(tmp_path, specs(server.url), 60, tokens=2000)
        assert again.ledger.budget.spent.tokens == server.seen.tokens <= 2000


def test_a_count_that_no_log_can_hold_counts_as_none(tmp_path):
    def absurd(completion, request, head):
        return counting(completion, completion_tokens=10**16)

    with Loopback(shape=absurd) as server:
        run(tmp_path, specs(server.url), 2)
        again = run(tmp_path, specs(server.url), 2)
    assert (again.ledger.made, again.ledger.found) == (0, 4)
    assert again.ledger.flags == {"usage_estimated": 4}


def test_thoughts_that_only_the_total_counts_are_charged(tmp_path):
    def thoughts(completion, request, head):
        return counting(completion, total_tokens=completion["usage"]["total_tokens"] + 100)

    with Loopback(shape=thoughts) as server:
        run(tmp_path, specs(server.url, max_tokens=4000), 2)
    for record in lines(tmp_path):
        assert record["tokens_out"] == 3 + 100
