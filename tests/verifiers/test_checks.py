"""Every verifier keeps what `check_verifier` asks, and it names what a broken one breaks."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from routing_pomdp.envs.logs.rollouts import RolloutsError
from routing_pomdp.envs.plug_in_checks import CheckError, example_log
from routing_pomdp.evaluation.configuration.build import build
from routing_pomdp.verifiers import LiveVerifier, LoggedSignal, PromptEase, Verifier, check_verifier
from tests.support.checkout import CONF
from tests.support.commands import composed


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "verifier").glob("*.yaml")))
def test_a_verifier_keeps_every_claim(name):
    check_verifier(build(composed("train", f"verifier={name}").verifier, "verifier"))


def test_those_that_are_seen_before_the_first_call_keep_them_too():
    check_verifier(PromptEase(folds=2))
    check_verifier(LoggedSignal("mine", transform="exp"))


@dataclass(frozen=True)
class Long(Verifier):
    """The broken ones below differ from it in one thing."""

    def signal(self, rollouts):
        return rollouts.require("tokens_out")


class Flat(Long):
    def signal(self, rollouts):
        return super().signal(rollouts)[:, 0]


class Texts(Long):
    def signal(self, rollouts):
        return super().signal(rollouts).astype(str)


class Owed(Long):
    def cost(self, rollouts):
        return np.full(rollouts.score.shape, -1.0)


class Writes(Long):
    def signal(self, rollouts):
        rollouts.tokens_out[np.isnan(rollouts.score) | (rollouts.score > 0)] *= 2
        return super().signal(rollouts)


class Draws(Long):
    def signal(self, rollouts):
        return super().signal(rollouts) + np.random.random()  # noqa: NPY002


class Ranks(Long):
    def signal(self, rollouts):
        return super().signal(rollouts).argsort(axis=0).argsort(axis=0).astype(float)


class Peeks(Long):
    def signal(self, rollouts):
        return super().signal(rollouts) * rollouts.score


class Next(Long):
    """Reads the answer of the next model, which was not called."""

    def signal(self, rollouts):
        found = super().signal(rollouts)
        return np.column_stack([found[:, 1:], found[:, -1]])


class Before(Long):
    """Reads the answer of the model before, which may have been skipped, and does not tell."""

    def signal(self, rollouts):
        return np.maximum.accumulate(super().signal(rollouts), axis=1)


class Assumes(Long):
    def signal(self, rollouts):
        if np.isnan(found := super().signal(rollouts)).any():
            raise ValueError("Input X contains NaN")
        return found


class AdHoc(Long):
    def signal(self, rollouts):
        return -rollouts.tokens_out / 20.0


class Forgets(Long):
    def fit(self, train):
        super().fit(train)


@dataclass(frozen=True)
class InPlace(Long):
    mean: float = 0.0

    def fit(self, train):
        object.__setattr__(self, "mean", float(np.nanmean(train.score)))
        return self


@dataclass(frozen=True)
class Holds(Long):
    call_: object = None

    def fit(self, train):
        return replace(self, call_=lambda signal: signal)


@dataclass(frozen=True)
class Infinite(LoggedSignal):
    def signal(self, rollouts):
        found = super().signal(rollouts)
        if np.isinf(found).any():
            raise OverflowError("infinity")
        return found


@dataclass(frozen=True)
class Other(LiveVerifier):
    """Says the length of an answer live, and its words' number of the log."""

    name: str = "other"
    seen: list = field(default_factory=list, repr=False, compare=False)

    async def verify(self, case):
        return float(len(case.answer.text))

    def signal(self, rollouts):
        if rollouts.answer is None:
            return super().signal(rollouts)
        words = [[np.nan if a is None else len(a.split()) for a in row] for row in rollouts.answer]
        return np.array(words, dtype=float)


@pytest.mark.parametrize(
    ("verifier", "claim", "message"),
    [
        (Flat(), "signal", r"returned signals of shape \(20,\), expected \(20, 3\)"),
        (Texts(), "signal", r"its signals are of type <U\d+: expected numbers"),
        (Owed(), "cost", r"charges -1 for 'small' on query 'q1'"),
        (Writes(), "pure", r"it changes test\.tokens_out"),
        (Draws(), "seed", r"draws from numpy\.random"),
        (Ranks(), "rows", r"its signal of '\w+' on query 'q\d+' is .* in a log of \d+ queries"),
        (Peeks(), "score", r"with other scores"),
        (Next(), "answers", r"its signal of 'small' .* depends on the answer of 'medium'"),
        (Before(), "answers", r"its signal of 'medium' .* depends on the answer of 'small'"),
        (Assumes(), "missing", r"Input X contains NaN \[where calls are missing\]"),
        (AdHoc(), "columns", r"TypeError.*rollouts\.require\(NAME\).*\[a log without tokens_out"),
        (Forgets(), "fit", r"fit returned None: expected the fitted verifier"),
        (InPlace(), "pure", r"it changes verifier\.mean"),
        (Holds(), "pickle", r"pickle"),
        (Infinite("mine"), "infinite", r"OverflowError: infinity \[with signals of -∞\]"),
        (Other(), "live", r"of 'small' on query 'q1' is \d+ live and 2 computed of the log"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Verifier) else None,
)  # fmt: skip
def test_what_is_broken_is_named_with_its_case(verifier, claim, message):
    with pytest.raises(CheckError, match=message) as error:
        check_verifier(verifier)
    assert error.value.claim == claim
    assert "\n" not in str(error.value)


def test_a_claim_may_be_left_out_and_a_log_may_be_given():
    check_verifier(Assumes(), skip=["missing"])
    check_verifier(Long(), log=example_log(30, seed=3, signals=["a", "b"]))


def test_a_column_that_is_needed_is_named_with_those_that_are_there():
    log = replace(example_log(4), tokens_out=None, latency=None)
    assert log.require("tokens_in") is log.tokens_in
    with pytest.raises(
        RolloutsError,
        match=r"the log has no tokens_out: log a column 'tokens_out', of its optional columns it "
        r"has cost, answer, tokens_in, prompt$",
    ):
        log.require("tokens_out")
    with pytest.raises(RolloutsError, match=r"no log has a column 'tokens': expected one of"):
        log.require("tokens")
