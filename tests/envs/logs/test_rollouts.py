"""The record of a log: what it refuses, and its selections and splits."""

from dataclasses import replace

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from routing_pomdp.envs import Rollouts
from routing_pomdp.envs.logs.rollouts import (
    SPLIT_NAMES,
    RolloutsError,
    canonical_split,
    concatenate,
)

MODELS = ("small", "middle", "large")


def _log(n: int = 4, models: tuple[str, ...] = MODELS, **changed) -> Rollouts:
    shape = (n, len(models))
    cells = np.arange(n * len(models), dtype=float).reshape(shape)
    return Rollouts(
        **{
            "models": models,
            "query_id": np.array([f"q{i}" for i in range(n)]),
            "score": cells / cells.size,
            "cost": cells,
            "signals": {"logprob": -cells},
            "signal_costs": {"logprob": cells / 10},
            "split": np.array(["train", "test"] * (n // 2)),
            "dataset": np.full(n, "toy"),
            "answer": cells.astype(str).astype(object),
            "prompt": np.array([f"prompt {i}" for i in range(n)], dtype=object),
        }
        | changed
    )


def _with(array: np.ndarray, value: float, row: int = 2, column: int = 1) -> np.ndarray:
    array = array.astype(float)
    array[row, column] = value
    return array


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-0.01, 1.01, np.inf, -np.inf])
def test_a_score_outside_the_unit_interval_is_refused(value):
    with pytest.raises(RolloutsError, match=r"score of 'middle' on query 'q2' is .*\[0, 1\]"):
        _log(score=_with(_log().score, value))


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_a_cost_of_a_called_model_must_be_finite_and_not_negative(value):
    with pytest.raises(RolloutsError, match=r"^cost of 'middle' on query 'q2' is"):
        _log(cost=_with(_log().cost, value))


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_a_cost_of_an_emitted_signal_must_be_finite_and_not_negative(value):
    with pytest.raises(RolloutsError, match="cost of logprob of 'middle' on query 'q2' is"):
        _log(signal_costs={"logprob": _with(_log().cost, value)})


def test_what_was_never_called_or_emitted_needs_no_cost():
    log = _log()
    _log(score=_with(log.score, np.nan), cost=_with(log.cost, np.nan))
    _log(
        signals={"logprob": _with(log.signals["logprob"], np.nan)},
        signal_costs={"logprob": _with(log.cost, np.nan)},
    )


@pytest.mark.parametrize("value", [-np.inf, np.inf, np.nan, -1e300])
def test_a_signal_may_be_any_number_infinite_or_missing(value):
    logged = _with(_log().score, value)
    np.testing.assert_array_equal(_log(signals={"logprob": logged}).signals["logprob"], logged)


def test_a_query_or_a_model_that_is_there_twice_is_refused():
    with pytest.raises(RolloutsError, match="query 'q1' is there twice"):
        _log(query_id=np.array(["q0", "q1", "q1", "q3"]))
    with pytest.raises(RolloutsError, match="a model is named twice"):
        _log(models=("small", "large", "small"))


def test_a_log_needs_queries_and_two_models():
    with pytest.raises(RolloutsError, match="no queries"):
        _log(n=0)
    with pytest.raises(RolloutsError, match="at least 2 models"):
        _log(models=("small",))


@pytest.mark.parametrize("name", ["score", "cost", "answer", "split", "dataset", "prompt"])
def test_arrays_of_another_shape_are_refused_by_name(name):
    with pytest.raises(RolloutsError, match=f"{name} has shape .*, expected"):
        _log(**{name: getattr(_log(), name)[:-1]})


def test_a_signal_of_another_shape_is_refused_by_name():
    with pytest.raises(RolloutsError, match=r"signals.*logprob.* has shape"):
        _log(signals={"logprob": np.zeros((4, 3, 2))})


def test_an_empty_split_is_refused():
    with pytest.raises(RolloutsError, match="split of query 'q2' is empty"):
        _log(split=np.array(["train", "train", "", "test"]))


def test_a_split_of_an_unknown_name_is_refused():
    with pytest.raises(RolloutsError, match=r"split of query 'q2' is 'dev', expected train, valid"):
        _log(split=np.array(["train", "train", "dev", "test"]))


def test_splits_have_one_name_each():
    names = ["train", "validation", "val", "valid", "dev", "test"]
    found = [canonical_split(name) for name in names]
    assert found == ["train", *["validation"] * 4, "test"]
    assert set(SPLIT_NAMES) == set(names)
    for other in ("", "Val", "holdout"):
        with pytest.raises(RolloutsError, match=r"expected train, validation \(also val, valid or"):
            canonical_split(other)


def test_a_cost_of_no_signal_is_refused():
    with pytest.raises(RolloutsError, match=r"'vote'.*the signals \['logprob'\]"):
        _log(signal_costs={"vote": _log().cost})


# -- selections -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("models", "message"),
    [([], "at least 2 models"), ("small", "rollouts.models is 'small': expected a list of names")],
)
def test_a_choice_of_no_models_is_refused(models, message):
    with pytest.raises(RolloutsError, match=message):
        _log().select(models)


def test_models_are_selected_by_name_in_the_order_given():
    log = _log()
    chosen = log.select(["large", "small"])
    assert chosen.models == ("large", "small")
    for name in ("score", "cost", "answer"):
        np.testing.assert_array_equal(getattr(chosen, name), getattr(log, name)[:, [2, 0]])
    for name in ("signals", "signal_costs"):
        np.testing.assert_array_equal(
            getattr(chosen, name)["logprob"], getattr(log, name)["logprob"][:, [2, 0]]
        )
    np.testing.assert_array_equal(chosen.prompt, log.prompt)
    assert log.select(None) is log


def test_an_unknown_model_is_refused_with_those_there_are():
    with pytest.raises(RolloutsError, match=r"'huge'.*\['small', 'middle', 'large'\]"):
        _log().select(["small", "huge"])


@pytest.mark.parametrize("rows", [np.array([2, 0]), np.array([True, False, True, False])])
def test_rows_are_taken_from_every_array(rows):
    log, taken = _log(), _log().take(rows)
    assert len(taken) == 2
    for name in ("query_id", "score", "cost", "split", "dataset", "answer", "prompt"):
        np.testing.assert_array_equal(getattr(taken, name), getattr(log, name)[rows])
    np.testing.assert_array_equal(taken.signals["logprob"], log.signals["logprob"][rows])


def test_a_split_is_chosen_by_name_and_an_unknown_one_is_refused():
    assert _log().where("test").query_id.tolist() == ["q1", "q3"]
    with pytest.raises(RolloutsError, match=r"no split 'validation'.*\['test', 'train'\]"):
        _log().where("validation")


def test_a_complete_log_is_returned_as_it_is():
    log = _log()
    assert log.require_complete() is log


@pytest.mark.parametrize("names", [MODELS, ("org/a-1:x", "b, c", "it's"), ("7b", "70b", "1e3")])
def test_models_with_gaps_are_named_with_the_override_that_leaves_them_out(names):
    log = _log(models=names, score=_with(_log().score, np.nan))
    with pytest.raises(RolloutsError) as refused:
        log.require_complete()
    message = str(refused.value)
    assert f"{names[1]} (1 of 4 queries without it)" in message
    override = message[message.index("rollouts.models=") :]
    chosen = OverridesParser.create().parse_override(override).value()
    assert [str(name) for name in chosen] == [names[0], names[2]]
    assert log.select([str(name) for name in chosen]).require_complete().n_models == 2


def test_a_log_without_two_complete_models_asks_for_the_missing_calls():
    score = np.full((4, 3), np.nan)
    score[:, 0] = 1
    with pytest.raises(RolloutsError, match="fewer than two models are complete"):
        _log(score=score).require_complete()


# -- splits ---------------------------------------------------------------------------------------


def _many(n: int = 4000, **changed) -> Rollouts:
    return _log(n, split=np.full(n, "train"), **changed)


def _moved(log: Rollouts, name: str = "validation", fraction: float = 0.25, seed: int = 0) -> set:
    return set(log.with_split(name, fraction, seed).where(name).query_id.tolist())


def test_a_split_takes_about_its_share_and_leaves_the_rest():
    log = _many()
    split = log.with_split("validation", 0.25, seed=0)
    counts = dict(zip(*np.unique(split.split, return_counts=True), strict=True))
    # Four standard deviations of a binomial.
    assert abs(counts["validation"] - 1000) < 4 * np.sqrt(4000 * 0.25 * 0.75)
    assert counts["validation"] + counts["train"] == 4000
    np.testing.assert_array_equal(split.query_id, log.query_id)
    assert (log.split == "train").all()


def test_a_split_depends_on_neither_the_order_nor_the_number_of_rows():
    log, rng = _many(), np.random.default_rng(0)
    assert _moved(log.take(rng.permutation(4000))) == _moved(log)
    some = log.take(np.arange(1000))
    assert _moved(some) == _moved(log) & set(some.query_id.tolist())


def test_a_split_is_the_same_on_every_machine():
    # `printf "test/0/prompt 0" | b2sum -l 64` and so on: those below 8000... are in the lower half.
    chosen = _log(8, split=np.full(8, "train")).with_split("test", 0.5, seed=0)
    assert chosen.where("test").query_id.tolist() == ["q0", "q2", "q4", "q5", "q7"]


def test_another_seed_or_name_gives_an_unrelated_split():
    log = _many()
    first = _moved(log)
    for other in (_moved(log, seed=1), _moved(log, name="test")):
        # Independent quarters share a sixteenth: 250 of 4000, give or take 15.
        assert 190 < len(first & other) < 310


def test_a_prompt_that_occurs_twice_is_never_on_both_sides():
    prompt = np.array([f"prompt {i // 2}" for i in range(4000)], dtype=object)
    split = _many(prompt=prompt).with_split("validation", 0.5, seed=0).split
    np.testing.assert_array_equal(split[::2], split[1::2])
    assert len(set(split)) == 2


def test_queries_without_a_prompt_are_split_by_their_id():
    log = _many(prompt=None)
    empty = _many(prompt=np.full(4000, "", dtype=object))
    assert 800 < len(_moved(log)) < 1200
    assert _moved(empty) == _moved(log)


def test_only_training_queries_move_and_a_split_that_is_there_stays():
    log = _log(4000)
    split = log.with_split("validation", 0.5, seed=0)
    np.testing.assert_array_equal(split.split == "test", log.split == "test")
    assert log.with_split("test", 0.5, seed=0) is log


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 25, np.nan])
def test_a_share_outside_zero_to_one_is_refused(fraction):
    with pytest.raises(RolloutsError, match=r"evaluation.validation is .*\(0, 1\)"):
        _log().with_split("validation", fraction, seed=0)


def test_a_log_without_training_queries_cannot_be_split():
    with pytest.raises(RolloutsError, match="no split 'train'"):
        _log(split=np.full(4, "test")).with_split("validation", 0.5, seed=0)


# -- joining --------------------------------------------------------------------------------------


def test_the_parts_of_a_log_join_to_the_log():
    log = _log()
    joined = concatenate([log.take(np.arange(1)), log.take(np.arange(1, 4))])
    for name in ("query_id", "score", "cost", "split", "dataset", "answer", "prompt"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(log, name))
    for name in ("signals", "signal_costs"):
        np.testing.assert_array_equal(
            getattr(joined, name)["logprob"], getattr(log, name)["logprob"]
        )
    assert joined.models == log.models


def test_logs_that_differ_or_overlap_do_not_join():
    log = _log()
    with pytest.raises(RolloutsError, match="differ in models"):
        concatenate([log, log.select(["large", "small"])])
    with pytest.raises(RolloutsError, match="'prompt' is in one and missing in another"):
        concatenate([log, replace(log, prompt=None)])
    with pytest.raises(RolloutsError, match="'q0' is there twice"):
        concatenate([log, log])


# -- fewer training queries ------------------------------------------------------------------------


def test_a_smaller_training_set_lies_within_a_larger_one():
    log = _many()
    kept = [set(log.thinned("train", n, seed=0).where("train").query_id) for n in (10, 30, 31)]
    assert [len(ids) for ids in kept] == [10, 30, 31]
    assert kept[0] < kept[1] < kept[2]
    assert kept[0] != set(log.thinned("train", 10, seed=1).where("train").query_id)


def test_thinning_leaves_the_other_splits_alone():
    log = _many().with_split("validation", 0.5, seed=0)
    thinned = log.thinned("train", 5, seed=0)
    validation = log.where("validation").query_id.tolist()
    assert thinned.where("validation").query_id.tolist() == validation
    assert log.thinned("train", None, seed=0) is log


@pytest.mark.parametrize("queries", [0, -1, 10**6])
def test_more_training_queries_than_there_are_are_refused(queries):
    with pytest.raises(RolloutsError, match=rf"evaluation\.train_size is {queries}: expected 1 …"):
        _many().thinned("train", queries, seed=0)


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("seed", range(5))
def test_a_short_log_is_split_with_one_query_at_least_on_each_side(n, seed):
    log = _log(4, split=np.full(4, "train")).take(np.arange(n)).with_split("test", 0.5, seed)
    assert 0 < (log.split == "test").sum() < n


@pytest.mark.parametrize(("rows", "message"), [([0], "1 query is"), ([0, 1], "2 queries of one")])
def test_what_is_too_few_to_split_is_refused(rows, message):
    log = _log(4, split=np.full(4, "train"), prompt=np.full(4, "same", dtype=object))
    with pytest.raises(RolloutsError, match=f"^{message}.* too few to split"):
        log.take(np.array(rows)).with_split("test", 0.5, 0)
