"""Tokens × prices, milliseconds and both as costs, against arithmetic done by hand."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing_pomdp.envs import CostModel, RoutingPOMDP, Rules
from routing_pomdp.envs.costs.objectives import LatencyCosts, MixedCosts, TokenCosts
from routing_pomdp.envs.costs.price_table import Price, read_prices
from routing_pomdp.envs.logs import sources
from routing_pomdp.envs.logs.rollouts import Rollouts, RolloutsError
from routing_pomdp.envs.profiles import fit_profile, simulate
from routing_pomdp.envs.profiles.source import profile
from routing_pomdp.evaluation.evaluate import evaluate
from routing_pomdp.solvers import Exact
from routing_pomdp.verifiers import (
    AffordableFirst,
    Histogram,
    LoggedColumn,
    LoggedSignal,
    SideBySide,
    VerifierError,
    charged,
    make_routing_data,
    seen_before,
)
from tests.support.logs import log_of

PRICES = {"small": {"in": 1, "out": 10}, "large": {"in": 10, "out": 100}}
TOKENS_IN = np.array([[100.0, 100], [200, 200], [300, 300]])
TOKENS_OUT = np.array([[10.0, 20], [20, 40], [30, 60]])
# Millionths of USD: 100·1 + 10·10 = 200 and 100·10 + 20·100 = 3,000 for the first query.
USD = np.array([[200.0, 3000], [400, 6000], [600, 9000]]) / 1e6
MS = np.array([[100.0, 1000], [150, 900], [80, 1400]])
# The second query was never verified; 50·1 + 1·10 = 60, 70·1 + 2·10 = 90 millionths.
NAN = np.nan
SIGNAL = np.array([[0.2, NAN], [NAN, NAN], [0.9, NAN]])
VERIFY_IN = np.array([[50.0, NAN], [NAN, NAN], [70, NAN]])
VERIFY_OUT = np.array([[1.0, NAN], [NAN, NAN], [2, NAN]])
VERIFY_USD = np.array([[60.0, 0], [0, 0], [90, 0]]) / 1e6
VERIFY_MS = np.array([[40.0, NAN], [NAN, NAN], [60, NAN]])


def log(**changed) -> Rollouts:
    arrays = {
        "models": ("small", "large"),
        "query_id": np.array(["a", "b", "c"]),
        "score": np.array([[0.0, 1], [1, 1], [0, 0]]),
        "cost": np.array([[0.001, 0.01], [0.001, 0.01], [0.002, 0.02]]),
        "signals": {"sure": SIGNAL, "length": np.ones((3, 2))},
        "signal_costs": {"sure": np.where(np.isnan(SIGNAL), NAN, 0.0005)},
        "split": np.full(3, "train"),
        "dataset": np.full(3, "toy"),
        "latency": MS,
        "tokens_in": TOKENS_IN,
        "tokens_out": TOKENS_OUT,
        "signal_latency": {"sure": VERIFY_MS},
        "signal_tokens_in": {"sure": VERIFY_IN},
        "signal_tokens_out": {"sure": VERIFY_OUT},
    }
    return Rollouts(**(arrays | changed))


def costs_of(model, rollouts=None, verifier=None):
    """What each call and each verification is charged, and the fitted means."""
    rollouts = log() if rollouts is None else rollouts
    verification = charged(verifier or LoggedSignal("sure"), rollouts, model)
    fitted = model.fit(rollouts, verification)
    return *model.apply(rollouts, verification, fitted), fitted


def check(model, call, verify, rollouts=None, verifier=None):
    found_call, found_verify, fitted = costs_of(model, rollouts, verifier)
    np.testing.assert_allclose(found_call, call, rtol=1e-12)
    np.testing.assert_allclose(found_verify, verify, rtol=1e-12)
    np.testing.assert_allclose(fitted.call, np.mean(call, axis=0), rtol=1e-12)
    np.testing.assert_allclose(fitted.verify, np.mean(verify, axis=0), rtol=1e-12)


# -- by hand --------------------------------------------------------------------------------------


def test_tokens_are_charged_at_their_price():
    check(TokenCosts(prices=PRICES), USD, VERIFY_USD)


def test_a_price_table_may_be_a_file(tmp_path):
    path = tmp_path / "prices.yaml"
    path.write_text("small: {in: 1, out: 10}\nlarge: {in: 10, out: 100}\nother: null\n")
    assert read_prices(path) == {"small": Price(1, 10), "large": Price(10, 100), "other": None}
    check(TokenCosts(prices=str(path)), USD, VERIFY_USD)


def test_verifications_are_charged_at_the_price_of_the_judge_that_is_named():
    check(TokenCosts(prices=PRICES, judges={"sure": "large"}), USD, 10 * VERIFY_USD)


def test_milliseconds_are_the_cost_of_answers_and_verifications():
    check(LatencyCosts(), MS, np.nan_to_num(VERIFY_MS))


def test_money_and_time_add_up():
    second = 0.02
    time, verify_time = second * MS / 1000, second * np.nan_to_num(VERIFY_MS) / 1000
    model = MixedCosts(per_second=second, prices=PRICES)
    check(model, USD + time, VERIFY_USD + verify_time)
    logged = log()
    paid = np.nan_to_num(logged.signal_costs["sure"])
    check(MixedCosts(per_second=second), logged.cost + time, paid + verify_time)


def test_a_verifier_share_is_of_the_answers_own_cost():
    for model, call in (
        (TokenCosts(prices=PRICES, verifier=0.5), USD),
        (LatencyCosts(verifier=0.5), MS),
        (MixedCosts(per_second=0.0, verifier=0.5), log().cost),
    ):
        check(model, call, call / 2, log(signal_latency={}, signal_tokens_in={}))


def test_verifiers_made_of_verifiers_are_charged_in_the_same_unit():
    both = SideBySide({"one": LoggedSignal("sure"), "two": LoggedSignal("length")})
    check(LatencyCosts(), MS, np.nan_to_num(VERIFY_MS), verifier=both)
    rollouts = log_of(200, latency=None, signal_latency={})
    time = 30 * rollouts.cost
    rollouts = replace(rollouts, latency=time, signal_latency={"sharp": 0.5 * time})
    verifier = AffordableFirst(LoggedSignal("dull"), LoggedSignal("sharp")).fit(rollouts)
    money = costs_of(CostModel(), rollouts, verifier)
    _, verify, _ = costs_of(LatencyCosts(), rollouts, verifier)
    np.testing.assert_allclose(verify, 30 * money[1])
    assert (verify == 0).any()
    assert (verify > 0).any()


def test_a_pre_query_signal_is_charged_in_the_same_unit():
    asked = np.array([[0.1, NAN], [0.5, NAN], [0.3, NAN]])
    rollouts = log(
        signals={"ease": asked}, signal_costs={}, signal_latency={"ease": np.full((3, 2), 25.0)},
        signal_tokens_in={}, signal_tokens_out={},
    )  # fmt: skip
    model = LatencyCosts()
    costs = model.fit(rollouts)
    data = make_routing_data(rollouts, LoggedColumn("tokens_out"), model, costs)
    seen = seen_before(data, LoggedSignal("ease"), 1.0, model)
    assert seen.pre_cost.tolist() == [25, 25, 25]


def test_models_say_what_they_are_and_their_unit():
    said = [
        (model.label, model.unit_name)
        for model in (
            CostModel(),
            CostModel(ratio=50),
            TokenCosts(prices=PRICES),
            LatencyCosts(),
            MixedCosts(per_second=1.0),
        )
    ]
    assert said == [
        ("logged", "cost unit of the log"),
        ("50", "calls of the cheapest model"),
        ("tokens", "USD"),
        ("latency", "ms"),
        ("mixed", "USD"),
    ]


# -- what a log does not tell ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "changed", "message"),
    [
        (TokenCosts(prices=PRICES), {"tokens_out": None}, "the log has no column 'tokens_out'"),
        (TokenCosts(prices=PRICES), {"tokens_in": None}, "the log has no column 'tokens_in'"),
        (LatencyCosts(), {"latency": None}, "costs=latency: the log has no column 'latency_ms'"),
        (MixedCosts(per_second=1.0), {"latency": None}, "costs=mixed: .* no column 'latency_ms'"),
        (MixedCosts(per_second=1.0), {"cost": None}, "costs=mixed: .* no column 'cost'"),
        (
            TokenCosts(prices=PRICES),
            {"tokens_in": np.array([[1.0, 1], [1, NAN], [1, 1]])},
            "tokens_in of 'large' on query 'b' is nan: expected a finite number >= 0",
        ),
        (
            LatencyCosts(),
            {"latency": MS * [-1, 1]},
            "latency_ms of 'small' on query 'a' is -100: expected a finite number >= 0",
        ),
        (
            TokenCosts(prices={"small": PRICES["small"], "large": None}),
            {},
            r"no price for model 'large' in costs\.prices, which has one for \['small'\]",
        ),
        (
            TokenCosts(prices=PRICES, judges={"sur": "large"}),
            {},
            r"costs\.judges names 'sur': the log has the signals \['length', 'sure'\]",
        ),
        (
            LatencyCosts(),
            {"latency": MS[:, ::-1]},
            r"costs=latency: the last model 'large' costs 110 ms .* 'small' 1100: "
            r".*rollouts\.models=\[large,small\]",
        ),
        (LatencyCosts(), {"latency": np.ones((3, 2))}, "choose models that differ"),
    ],
)
def test_what_the_log_does_not_tell_is_named(model, changed, message):
    with pytest.raises(ValueError, match=message):
        model.fit(log(**changed))


def test_a_missing_price_names_the_file(tmp_path):
    path = tmp_path / "prices.yaml"
    path.write_text("vendor/small: {in: 1, out: 10}\n")
    with pytest.raises(ValueError, match=r"'small' in .*prices\.yaml, which .*\['vendor/small'\]"):
        TokenCosts(prices=str(path)).fit(log())
    for text, message in (
        ("small: {in: 1}\n", r"prices\.yaml: small is .* expected \{in: USD, out: USD\}"),
        ("- small\n", r"prices\.yaml: expected a mapping MODEL"),
        ("small: {in: 1\n", r"prices\.yaml is not YAML"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            TokenCosts(prices=str(path))
    with pytest.raises(ValueError, match=r"nowhere\.yaml cannot be read"):
        TokenCosts(prices=str(tmp_path / "nowhere.yaml"))


@pytest.mark.parametrize(
    ("model", "changed", "column"),
    [
        (TokenCosts(prices=PRICES), {"signal_tokens_in": {}}, "verify_sure_tokens_in"),
        (LatencyCosts(), {"signal_latency": {}}, "verify_sure_latency_ms"),
        (
            LatencyCosts(),
            {"signal_latency": {}, "signal_tokens_in": {}, "signal_tokens_out": {}},
            "verify_sure_latency_ms",
        ),
        (MixedCosts(per_second=1.0), {"signal_latency": {}}, "verify_sure_latency_ms"),
    ],
)
def test_a_paid_signal_without_its_column_is_refused_where_it_is_bought(model, changed, column):
    rollouts = log(**changed)
    with pytest.raises(VerifierError, match=rf"no column '{column}'; .*costs\.verifier"):
        charged(LoggedSignal("sure"), rollouts, model)
    # Another signal may be bought, and this one at a share of the answer's cost.
    assert charged(LoggedSignal("length"), rollouts, model) is None
    assert charged(LoggedSignal("sure"), rollouts, replace_verifier(model, 0.1)) is None


def replace_verifier(model, share):
    given = {f.name: getattr(model, f.name) for f in fields(model) if f.init}
    return type(model)(**(given | {"verifier": share}))


def test_a_signal_that_took_nothing_is_free_in_every_unit():
    free = log(
        signal_costs={"sure": np.zeros((3, 2))},
        signal_latency={}, signal_tokens_in={}, signal_tokens_out={},
    )  # fmt: skip
    for model in (TokenCosts(prices=PRICES), LatencyCosts(), MixedCosts(per_second=1.0)):
        assert charged(LoggedSignal("sure"), free, model) is None
        _, verify, _ = costs_of(model, free)
        assert not verify.any()


def test_amounts_of_a_signal_that_is_not_there_are_refused():
    with pytest.raises(RolloutsError, match="signal_latency names 'sur': the log has"):
        log(signal_latency={"sur": VERIFY_MS})


# -- properties -----------------------------------------------------------------------------------

GENERIC = log_of(
    240, split=(0.6, 0.0, 0.4), tokens_in=np.random.default_rng(1).integers(50, 900, (240, 3)) * 1.0
)
GENERIC = replace(
    GENERIC,
    latency=100 * GENERIC.cost,
    signal_latency={"sharp": 50 * GENERIC.cost},
    signal_tokens_in={"sharp": GENERIC.tokens_in},
    signal_tokens_out={"sharp": np.ones(GENERIC.score.shape)},
)


def prices(scale=1.0):
    return {f"m{i}": {"in": scale * 4.0**i, "out": scale * 4.0 ** (i + 1)} for i in range(3)}


def played(model, rollouts=GENERIC, price=0.2):
    """What an exact policy does on test at a price under a cost model."""
    verifier = LoggedSignal("sharp")
    train, test = rollouts.where("train"), rollouts.where("test")
    costs = model.fit(train, charged(verifier, train, model))
    data = make_routing_data(train, verifier, model, costs)
    rules = Rules(3, skip=True, free_start=True, verify=True)
    problem = RoutingPOMDP.fit(data, Histogram(bins=4), costs, rules).at(price)
    return evaluate(Exact().solve(problem, data), make_routing_data(test, verifier, model, costs))


@settings(max_examples=15)
@given(power=st.integers(-12, 12), price=st.sampled_from([0.02, 0.2, 0.7]))
def test_scaling_all_prices_scales_no_decision(power, price):
    # By powers of two, which round nothing: ties stay ties.
    one = played(TokenCosts(prices=prices()), price=price)
    other = played(TokenCosts(prices=prices(2.0**power)), price=price)
    np.testing.assert_array_equal(other.calls, one.calls)
    np.testing.assert_array_equal(other.verifications, one.verifications)
    np.testing.assert_array_equal(other.score, one.score)
    np.testing.assert_allclose(other.cost, 2.0**power * one.cost, rtol=1e-12)


def test_what_is_worth_nothing_adds_nothing():
    """Mixed costs with seconds that are worth nothing are money, to the bit."""
    for prices_, money in ((None, CostModel()), (prices(), TokenCosts(prices=prices()))):
        mixed = MixedCosts(per_second=0.0, prices=prices_)
        for rollouts in (GENERIC, replace(GENERIC, latency=None, signal_latency={})):
            for one, other in zip(
                costs_of(mixed, rollouts, LoggedSignal("sharp"))[:2],
                costs_of(money, rollouts, LoggedSignal("sharp"))[:2],
                strict=True,
            ):
                np.testing.assert_array_equal(one, other)


def test_latency_is_logged_costs_where_these_are_the_latency():
    logged = replace(
        GENERIC, cost=GENERIC.latency, signal_costs={"sharp": GENERIC.signal_latency["sharp"]}
    )
    one, other = played(CostModel(), logged), played(LatencyCosts())
    for name in ("score", "cost", "calls", "verifications"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_the_logs_own_costs_are_left_as_they_are():
    for model in (CostModel(), CostModel(ratio=50), CostModel(verifier=0.2)):
        assert model.priced(GENERIC) is GENERIC
        assert GENERIC.signal_costs["sharp"] is model.priced(GENERIC).signal_costs["sharp"]


def test_published_costs_are_their_token_counts_times_their_list_prices(shared_logs):
    for name in ("mmlu", "gsm8k"):
        rollouts = sources.rational_cascades(str(shared_logs), name).where("train")
        listed = dict(zip(rollouts.models, (0.1, 0.1, 0.2, 0.9, 3.0), strict=True))
        model = TokenCosts(prices={name: {"in": p, "out": p} for name, p in listed.items()})
        np.testing.assert_allclose(model.priced(rollouts).cost, rollouts.cost, rtol=1e-12)


# -- profiles -------------------------------------------------------------------------------------


def test_a_profile_carries_what_objectives_count_as_means():
    rollouts = replace(GENERIC, signals={"sharp": GENERIC.signals["sharp"]})
    drawn = simulate(fit_profile(rollouts, "sharp", "toy"), {"train": 50}, seed=0)
    for model in (
        TokenCosts(prices=prices()),
        LatencyCosts(),
        MixedCosts(per_second=0.1, prices=prices()),
    ):
        _, _, one = costs_of(model, rollouts, LoggedSignal("sharp"))
        _, _, other = costs_of(model, drawn, LoggedSignal("sharp"))
        np.testing.assert_allclose(other.call, one.call, rtol=1e-5)
        np.testing.assert_allclose(other.verify, one.verify, rtol=1e-5)


def test_what_a_shipped_profile_carries_decides_which_objectives_it_has():
    drawn = profile("mmlu", {"train": 5}, seed=0)
    assert LatencyCosts().fit(drawn).call[0] == pytest.approx(138.715)
    with pytest.raises(ValueError, match="costs=tokens: the log has no column 'tokens_in'"):
        TokenCosts(prices={}).fit(drawn)
    # There a second call verified, and its time was not logged apart.
    asked = profile("truthfulqa", {"train": 5}, seed=0)
    with pytest.raises(VerifierError, match="no column 'verify_confidence_logprob_latency_ms'"):
        charged(LoggedSignal(), asked, LatencyCosts())
    assert charged(LoggedSignal(), asked, LatencyCosts(verifier=0)) is None
