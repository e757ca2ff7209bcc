"""Every solver keeps what `check_solver` asks, and it names what a broken one breaks."""

import importlib
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest

from routing_pomdp.envs import ESCALATE, STAY, Rules
from routing_pomdp.envs.plug_in_checks import CheckError
from routing_pomdp.evaluation.configuration.build import build
from routing_pomdp.evaluation.evaluate import evaluate, returns
from routing_pomdp.solvers import Oracle, QueryPolicy, Solver, Static, check_solver
from routing_pomdp.solvers.check_examples import Example
from routing_pomdp.solvers.checks import PRICES
from routing_pomdp.solvers.pre_query import PreQueryConditioned
from routing_pomdp.solvers.solver import SolverError, decided, for_queries, solved
from tests.support.checkout import CONF, DOCS
from tests.support.commands import composed
from tests.support.problems import covering_rules

CORE, FULL = Rules(3), Rules(3, skip=True, free_start=True, verify=True, answer="best")
NETWORK = ["hidden=4", "members=2", "resamples=1", "simulations=100", "pretraining=5", "steps=5"]
QUICK = {
    "automix_greedy": ["models=[0,2]"],
    "automix_pomdp": ["particles=40"],
    "automix_simple": ["models=[0,2]"],
    "automix_union": ["models=[0,2]"],
    "bayes": ["draws=4"],
    "belief_dqn": ["steps=2", "episodes=20", "hidden=4"],
    "belief_fqi": NETWORK,
    "c2mab_v": ["rounds=200"],
    "cascade_routing": ["draws=4"],
    "fitted_q": ["folds=2"],
    "frugalgpt": ["max_models=2"],
    "history_net": [*NETWORK, "belief_hidden=4"],
    "pessimist": ["draws=4", "candidates=2"],
    "pickllm": ["rounds=200"],
    "pomcp": ["simulations=10", "particles=20"],
    "pouct": ["simulations=10", "particles=20"],
    "rational_tuning": ["cells=4", "starts=0"],
}
# Slow ones are tried under two rule sets; those that read texts alone, under one: they play by
# rules of their own and see no signal.
TWO = {"belief_dqn", "belief_fqi", "c2mab_v", "cascade_routing", "fitted_q"}
TWO |= {"history_net", "pickllm", "pomcp", "pouct", "rational_tuning"}
ONE = {"belief_dqn", "cascade_routing", "rational_tuning"}  # the slowest: with every option
TEXTS = {"frugalgpt", "hybrid_llm", "pregeneration", "pregeneration_knn"}
# Confidences alone: they refuse ±∞ in words.
CONFIDENCES = {"automix_greedy", "automix_simple", "automix_union", "rational_tuning"}
CONFIDENCES |= {"self_consistency"}
# One that was trained before is held to this by its training; the oracle reads scores.
SOLVERS = {path.stem for path in (CONF / "solver").glob("*.yaml")} - {"checkpoint", "oracle"}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_a_solver_keeps_every_claim(name):
    config = composed("train", f"solver={name}")
    config.merge_with_dotlist([f"solver.{setting}" for setting in QUICK.get(name, ())])
    rules = [CORE] if name in TEXTS else [CORE, FULL] if name in TWO else covering_rules(3)
    rules = [FULL] if name in ONE else rules
    skip = ["missing", "infinite"] if name in TEXTS else ["infinite"] * (name in CONFIDENCES)
    skip += ["pre_query"] * (name in TWO)  # one more solution a symbol: see test_by_symbol.py
    check_solver(
        build(config.solver, "solver"),
        rules=rules,
        skip=skip,
        queries=60,
    )


# -- broken ones -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plain(Solver):
    """Stays with the first answer; the broken ones below differ from it in one thing."""

    def solve(self, problem, train):
        return Stays(problem, train)


@dataclass(frozen=True, eq=False)
class Stays:
    problem: object
    train: object = None

    def act(self, history):
        return np.where(history.stage < 0, ESCALATE, STAY)


@dataclass(frozen=True, eq=False)
class Nearest(Stays):
    """Written from a page that does not say that signals are NaN until VERIFY is played."""

    def act(self, history):
        row, stage = np.arange(len(history)), history.stage
        far = abs(history.signal[row, stage, :] - self.train.signal[:, stage, 0].T)
        near = far.argsort(axis=1)[:, :20]
        gain = self.train.score[near, stage[:, None] + 1] - self.train.score[near, stage[:, None]]
        goes = gain.mean(axis=1) > self.problem.call_price[stage + 1]
        return np.where(goes | (stage < 0), ESCALATE, STAY)


class Ordinary(Stays):
    def act(self, history):
        return np.full(len(history), STAY)


class Floats(Stays):
    def act(self, history):
        return super().act(history).astype(float)


class OfTheBatch(Stays):
    def act(self, history):
        mean = np.nanmean(history.query)
        return np.where((history.stage < 0) | (history.query > mean), ESCALATE, STAY)


class Draws(Stays):
    def act(self, history):
        np.random.random()  # noqa: NPY002
        return super().act(history)


class Writes(Stays):
    def act(self, history):
        history.signal[...] = np.nan_to_num(history.signal)
        return super().act(history)


class Spends(Stays):
    def act(self, history):
        goes = (history.stage < 0) | (self.problem.price > 1)
        return np.where(goes, ESCALATE, STAY)


class Refuses(Stays):
    """As scikit-learn does."""

    def act(self, history):
        seen = history.signal[history.verified]
        if not np.isfinite(seen).all():
            raise ValueError(f"Input X contains {'NaN' if np.isnan(seen).any() else 'infinity'}")
        return super().act(history)


class RefusesInfinity(Refuses):
    def act(self, history):
        return super().act(replace(history, signal=np.where(np.isnan(history.signal), 0.0,
                                                            history.signal)))  # fmt: skip


class Holds(Stays):
    def __init__(self, problem, train):
        object.__setattr__(self, "problem", problem)
        object.__setattr__(self, "never", lambda: train)


@dataclass(frozen=True, eq=False)
class Reader(QueryPolicy):
    """Escalates from the first model by something of the data."""

    problem: object
    reads: str

    def for_queries(self, data):
        log = data.rollouts
        column = {
            "score": data.score[:, 0],
            "prompt": log.prompt,
            "others": log.prompt[::-1],
            "answer": log.answer[:, 0],
            "ahead": log.answer[:, 1],
        }[self.reads]
        return Read(self.problem, [str(value) for value in column])


@dataclass(frozen=True, eq=False)
class Read(Stays):
    train: list

    def act(self, history):
        told = np.array(
            [self.train[query][:5] in ("perha", "prove", "1.0") for query in history.query]
        )
        return np.where((history.stage < 0) | (told & (history.stage == 0)), ESCALATE, STAY)


@cache
def solver_of(policy_class):
    """The one solver whose policies are of that class; at module level for pickle's sake."""
    made: type = type(f"Solves{policy_class.__name__}", (Plain,), {"__module__": __name__})
    made.solve = lambda self, problem, train: policy_class(problem, train)
    globals()[made.__name__] = made
    return made()


@dataclass(frozen=True)
class Reads(Solver):
    what: str

    def solve(self, problem, train):
        return Reader(problem, self.what)


@dataclass(frozen=True)
class Nothing(Solver):
    def solve(self, problem, train):
        Stays(problem)


@dataclass(frozen=True)
class Sorts(Plain):
    def solve(self, problem, train):
        train.score.sort(axis=0)
        return Stays(problem)


class Keeps(Plain):
    def __init__(self, width=3):
        object.__setattr__(self, "width", width)


@pytest.mark.parametrize(
    ("solver", "claim", "message"),
    [
        (Keeps(), "settings", r"its argument 'width' is no dataclass field"),
        (Nothing(), "solves", r"solver Nothing returned None: expected a policy.*return\?"),
        (Sorts(), "pure", r"it changes train\.score"),
        (solver_of(Writes), "pure", r"act changes history\.signal"),
        (solver_of(Ordinary), "legal", r"it plays STAY at query 0, stage -1,.* where ESCALATE,"),
        (solver_of(Floats), "legal", r"Floats\.act returned float64 of shape \(60,\): expected"),
        (solver_of(OfTheBatch), "batch", r"it plays . among \d+ histories and . among \d"),
        (Reads("others"), "batch", r"other queries' texts decide"),
        (Reads("score"), "batch", r"other queries"),
        (Reads("ahead"), "paid", r"answers that were not bought decide at query \d+, stage 0"),
        (Oracle(), "batch", r"other queries"),
        (solver_of(Holds), "pickle", r"pickle"),
        (solver_of(Draws), "seed", r"draws from numpy\.random, the global random state"),
        (solver_of(Spends), "prices", r"its mean cost is .* at price 0 and .* at price 3"),
        (solver_of(Nearest), "verify", r"signal is NaN until VERIFY is played.*can_verify"),
        (solver_of(Refuses), "missing", r"Input X contains NaN .*signals='missing'"),
        (solver_of(RefusesInfinity), "infinite", r"contains infinity .*signals='infinite'"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Solver) else None,
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_is_broken_is_named_with_its_case(solver, claim, message):
    with pytest.raises(CheckError, match=message) as error:
        check_solver(solver)
    assert error.value.claim == claim
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("what", ["prompt", "answer"])
def test_prompts_and_called_answers_may_be_read(what):
    check_solver(Reads(what), rules=[CORE, FULL])


def test_a_claim_or_a_rule_set_may_be_left_out_by_name():
    check_solver(solver_of(Refuses), skip=["missing", "infinite"], rules=[CORE])
    check_solver(solver_of(Nearest), rules=[CORE], skip=["missing", "infinite", "pre_query"])
    with pytest.raises(ValueError, match="skip names 'mising': expected some of settings"):
        check_solver(Static(), skip=["mising"])


def test_the_pages_solver_loses_nothing_where_signals_are_bought(monkeypatch):
    monkeypatch.syspath_prepend(DOCS / "examples")
    neighbours = importlib.import_module("my_solvers").Neighbours()

    def mean_return(solver, rules):
        example = Example.make(rules, queries=800)
        problem = example.problem.at(0.3)
        return returns(evaluate(solver.solve(problem, example.train), example.test), problem).mean()

    verify = replace(CORE, verify=True)
    assert mean_return(neighbours, verify) == pytest.approx(mean_return(neighbours, CORE))
    naive = solver_of(Nearest)
    assert mean_return(naive, CORE) == pytest.approx(mean_return(neighbours, CORE), abs=0.02)
    assert mean_return(naive, verify) < mean_return(naive, CORE) - 0.05


# -- the same in a run -----------------------------------------------------------------------------


@pytest.mark.parametrize("pre_query", [False, True])
def test_a_solver_or_policy_that_returns_nothing_is_named(pre_query):
    example = Example.make(replace(CORE, pre_query=pre_query))
    with pytest.raises(SolverError, match="solver Nothing returned None: expected a policy"):
        solved(PreQueryConditioned(Nothing()), example.problem, PRICES, example.train)
    policies = solved(PreQueryConditioned(solver_of(Floats)), example.problem, [0.3], example.train)
    with pytest.raises(SolverError, match=r"Floats\.act returned float64 of shape"):
        evaluate(policies[0], example.test)


def test_policies_are_one_a_price_and_bind_gives_one(monkeypatch):
    example = Example.make(CORE)
    monkeypatch.setattr(Plain, "solve_frontier", lambda *_: [Stays(example.problem)])
    with pytest.raises(SolverError, match="solver Plain returned 1 policies for 3 prices"):
        solved(Plain(), example.problem, PRICES, example.train)
    monkeypatch.setattr(Plain, "solve_frontier", lambda *_: None)
    with pytest.raises(SolverError, match="solver Plain returned None from solve_frontier"):
        solved(Plain(), example.problem, PRICES, example.train)
    monkeypatch.setattr(Reader, "for_queries", lambda *_: None)
    with pytest.raises(SolverError, match=r"Reader\.for_queries returned None: expected an object"):
        for_queries(Reader(example.problem, "score"), example.test)
    monkeypatch.setattr(Stays, "act", lambda *_: None)
    with pytest.raises(SolverError, match=r"Stays\.act returned None: expected an array of 0"):
        decided(Stays(example.problem), [])
