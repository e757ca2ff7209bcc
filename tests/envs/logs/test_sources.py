"""Readers of known logs, on the published ones where they are here and on small copies of form."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from routing_pomdp.envs import Rollouts
from routing_pomdp.envs.logs.rollouts import RolloutsError
from routing_pomdp.envs.logs.sources import automix, calls_table, rational_cascades
from routing_pomdp.envs.profiles.source import profile
from tests.support.checkout import ROOT

# -- calls tables ---------------------------------------------------------------------------------


def test_a_calls_table_is_read_with_the_models_and_signals_chosen(tmp_path):
    path = tmp_path / "mine.csv"
    rows = [f"{q},{m},{s},{s}" for q in "ab" for m, s in zip("xyz", (0.1, 0.2, 0.3), strict=True)]
    path.write_text("\n".join(["query_id,model,score,margin", *rows]))
    log = calls_table(str(path), models=["z", "x"], signals={"margin": None})
    assert log.models == ("z", "x")
    np.testing.assert_array_equal(log.signals["margin"], [[0.3, 0.1]] * 2)
    with pytest.raises(RolloutsError, match=r"'w'.*\['x', 'y', 'z'\]"):
        calls_table(str(path), models=["x", "w"])


# -- rational cascades: the published logs --------------------------------------------------------

LLAMA = ("llama3.2-1b", "llama3.2-3b", "llama3.1-8b", "llama3.1-70b", "llama3.1-405b")
# Split whose accuracies these are, queries in train and test, accuracies by rank.
PUBLISHED = {
    "medmcqa": ("test", 300, 1000, (0.345, 0.531, 0.518, 0.726, 0.757)),
    "mmlu": ("test", 285, 1531, (0.425, 0.572, 0.634, 0.815, 0.852)),
    "truthfulqa": ("test", 300, 517, (0.358, 0.433, 0.503, 0.594, 0.692)),
    "triviaqa": ("train", 300, 0, (0.323, 0.620, 0.803, 0.943, 0.970)),
    "gsm8k": ("train", 300, 0, (0.590, 0.897, 0.893, 0.977, 0.973)),
}


@pytest.mark.parametrize("dataset", PUBLISHED)
def test_the_published_accuracies_and_counts_are_reproduced(shared_logs, dataset):
    split, train, test, accuracy = PUBLISHED[dataset]
    log = rational_cascades(str(shared_logs), dataset)
    assert log.models == LLAMA
    assert (log.split == "train").sum() == train
    assert (log.split == "test").sum() == test
    assert len(log) == train + test
    # Half a unit of the last decimal printed, and nothing for the other half of a tie.
    np.testing.assert_allclose(log.where(split).score.mean(axis=0), accuracy, atol=0.5001e-3)


@pytest.mark.parametrize("dataset", PUBLISHED)
def test_the_published_logs_are_complete_with_signals_costs_and_prompts(shared_logs, dataset):
    log = rational_cascades(str(shared_logs), dataset)
    assert log.require_complete() is log
    assert set(log.dataset) == {dataset}
    assert set(log.signals) == set(log.signal_costs) == {"confidence_logprob"}
    # The natural log of a probability.
    assert np.nanmax(log.signals["confidence_logprob"]) <= 0
    # A second call is paid for where it was made; the answer's own probability comes with it.
    verified = dataset in ("gsm8k", "triviaqa", "truthfulqa")
    assert (log.signal_costs["confidence_logprob"] > 0).all() == verified
    assert (log.cost > 0).all()
    assert all(log.prompt)
    for logged in (log.latency, log.tokens_in, log.tokens_out):
        assert np.isfinite(logged).all()


def test_the_published_costs_are_tokens_times_price(shared_logs):
    log = rational_cascades(str(shared_logs), "mmlu")
    usd_per_million = np.array([0.1, 0.1, 0.2, 0.9, 3.0])
    expected = (log.tokens_in + log.tokens_out) * usd_per_million / 1e6
    np.testing.assert_allclose(log.cost, expected, rtol=1e-9)


# -- rational cascades: the layout ----------------------------------------------------------------


def _chain(
    folder: Path,
    split: str,
    queries: int = 2,
    prompts: bool = True,
    dataset: str = "toy",
    **changed,
) -> None:
    """One split of a chain of three models that is called "own"."""
    ids = [f"{split}-{i}" for i in range(queries)]
    n = 3 * queries
    columns = {
        "query_id": np.repeat(ids, 3).tolist(),
        "model": ["s", "m", "l"] * queries,
        "model_rank": [0, 1, 2] * queries,
        "correct": [False, True, True] * queries,
        "confidence_logprob": [-1e6, -0.5, 0.0] * queries,
        "answer_cost_usd": np.arange(1.0, n + 1).tolist(),
        "verifier_cost_usd": [0.5] * n,
    }
    calls = pa.table(columns | changed)
    pyarrow.parquet.write_table(calls, folder / f"{dataset}.own.{split}.calls.parquet")
    if prompts:
        # In another order than the calls.
        table = pa.table({"query_id": ids[::-1], "prompt": [f"ask {i}" for i in ids[::-1]]})
        pyarrow.parquet.write_table(table, folder / f"{dataset}.own.{split}.queries.parquet")


def test_another_chain_in_the_layout_is_read(tmp_path):
    for split in ("train", "validation", "test"):
        _chain(tmp_path, split)
    log = rational_cascades(str(tmp_path), "toy", chain="own")
    assert log.models == ("s", "m", "l")
    assert log.split.tolist() == ["train"] * 2 + ["validation"] * 2 + ["test"] * 2
    np.testing.assert_array_equal(log.score, [[0, 1, 1]] * 6)
    np.testing.assert_array_equal(log.cost[:2], [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(log.signals["confidence_logprob"], [[-1e6, -0.5, 0]] * 6)
    np.testing.assert_array_equal(log.signal_costs["confidence_logprob"], np.full((6, 3), 0.5))
    assert log.prompt.tolist() == [f"ask {query}" for query in log.query_id]
    chosen = rational_cascades(str(tmp_path), "toy", chain="own", models=["l", "s"])
    assert chosen.models == ("l", "s")


def test_training_out_of_domain_takes_nothing_else_from_the_other_log(tmp_path):
    for split in ("train", "validation", "test"):
        _chain(tmp_path, split)
    for split in ("train", "test"):
        _chain(tmp_path, split, queries=3, dataset="other")
    log = rational_cascades(str(tmp_path), "toy", chain="own", train_on="other")
    assert log.split.tolist() == ["train"] * 3 + ["test"] * 2
    assert log.query_id.tolist() == [
        "other/train-0", "other/train-1", "other/train-2", "toy/test-0", "toy/test-1",
    ]  # fmt: skip
    assert log.title == "other→toy"
    same = rational_cascades(str(tmp_path), "toy", chain="own", train_on="toy")
    assert same.title == "toy"
    assert len(same) == 6


def test_a_log_without_a_test_split_is_all_test_out_of_domain(tmp_path):
    _chain(tmp_path, "train")
    _chain(tmp_path, "train", queries=3, dataset="other")
    log = rational_cascades(str(tmp_path), "other", chain="own", train_on="toy")
    assert log.split.tolist() == ["train"] * 2 + ["test"] * 3


def test_a_profile_is_tested_on_queries_of_its_own_and_trained_on_those_of_another():
    queries = {"train": 30, "validation": 20, "test": 40}
    log = profile("mmlu", queries, seed=0, train_on="gsm8k")
    own, other = (profile(name, queries, seed=0) for name in ("mmlu", "gsm8k"))
    assert log.title == "gsm8k→mmlu"
    np.testing.assert_array_equal(log.where("test").score, own.where("test").score)
    np.testing.assert_array_equal(log.where("train").score, other.where("train").score)
    np.testing.assert_array_equal(log.where("validation").score, other.where("validation").score)


def test_prompts_may_be_absent(tmp_path):
    _chain(tmp_path, "train", prompts=False)
    log = rational_cascades(str(tmp_path), "toy", chain="own")
    assert log.prompt is None
    assert set(log.split) == {"train"}
    _chain(tmp_path, "test", prompts=True)
    with pytest.raises(RolloutsError, match=r"toy\.own.*'prompt' is in one and missing in another"):
        rational_cascades(str(tmp_path), "toy", chain="own")


def test_a_query_without_its_prompt_is_named(tmp_path):
    _chain(tmp_path, "train")
    queries = tmp_path / "toy.own.train.queries.parquet"
    table = pa.table({"query_id": ["train-0"], "prompt": ["ask"]})
    pyarrow.parquet.write_table(table, queries)
    with pytest.raises(RolloutsError, match=r"queries\.parquet has no prompt for query 'train-1'"):
        rational_cascades(str(tmp_path), "toy", chain="own")


def test_an_unknown_log_or_folder_is_refused_with_what_there_is(tmp_path):
    _chain(tmp_path, "train")
    for dataset, chain in (("toy", "llama"), ("mmlu", "own")):
        with pytest.raises(RolloutsError, match=rf"no {dataset}\.{chain}\..*\['toy\.own'\]"):
            rational_cascades(str(tmp_path), dataset, chain=chain)
    with pytest.raises(RolloutsError, match=r"no toy\.llama\..*: no such folder"):
        rational_cascades(str(tmp_path / "elsewhere"), "toy")


def test_errors_name_the_columns_of_the_layout(tmp_path):
    _chain(tmp_path, "train", answer_cost_usd=[1.0, 2.0, -3.0, 1.0, 2.0, 3.0])
    with pytest.raises(RolloutsError, match=r"calls\.parquet: column 'answer_cost_usd' is -3.0 in"):
        rational_cascades(str(tmp_path), "toy", chain="own")


def test_a_query_in_two_splits_is_refused(tmp_path):
    _chain(tmp_path, "train")
    _chain(tmp_path, "test", query_id=["train-0"] * 3 + ["test-1"] * 3, prompts=False)
    (tmp_path / "toy.own.train.queries.parquet").unlink()
    with pytest.raises(RolloutsError, match=r"toy\.own: query 'train-0' is there twice"):
        rational_cascades(str(tmp_path), "toy", chain="own")


# -- automix --------------------------------------------------------------------------------------

# The columns of the release (github.com/automix-llm/automix, README and Step 3).
LINES = [
    {
        "id": f"id-{i}",
        "pid": f"id-{i}_0",
        "base_ctx": f"story {i}",
        "question": "Who is it about?",
        "output": "a person",
        "dataset": "quality" if i < 4 else "cnli",
        "split": "val" if i % 2 else "train",
        "llama13b_pred_ans": f"small {i}",
        "llama70b_pred_ans": f"large {i}",
        "llama13b_ver": ["The AI generated answer is Correct."] * 2,
        "p_ver_13b": i / 8,
        "llama13b_f1": i / 10,
        "llama70b_f1": 1 - i / 10,
    }
    for i in range(6)
]


def _release(folder: Path, lines: list[dict] = LINES, drop: tuple[str, ...] = (), **changed) -> str:
    path = folder / "release.jsonl"
    kept = [{k: v for k, v in (line | changed).items() if k not in drop} for line in lines]
    path.write_text("".join(json.dumps(line) + "\n" for line in kept))
    return str(path)


def test_the_release_is_read_with_a_signal_of_the_small_model_alone(tmp_path):
    log = automix(_release(tmp_path))
    i = np.arange(6)
    assert log.models == ("llama13b", "llama70b")
    assert log.query_id.tolist() == [f"id-{k}" for k in i]
    np.testing.assert_array_equal(log.score, np.column_stack([i / 10, 1 - i / 10]))
    np.testing.assert_array_equal(
        log.signals["confidence"], np.column_stack([i / 8, np.full(6, np.nan)])
    )
    assert log.cost is None
    assert log.signal_costs == {}
    assert log.answer[1].tolist() == ["small 1", "large 1"]
    assert log.dataset.tolist() == ["quality"] * 4 + ["cnli"] * 2


def test_val_is_the_test_split_where_there_is_no_other(tmp_path):
    assert automix(_release(tmp_path)).split.tolist() == ["train", "test"] * 3
    lines = [*LINES, LINES[0] | {"id": "new", "pid": "new", "split": "test"}]
    split = automix(_release(tmp_path, lines)).split.tolist()
    assert split == ["train", "validation"] * 3 + ["test"]


def test_one_question_of_many_contexts_is_many_prompts(tmp_path):
    log = automix(_release(tmp_path))
    assert log.prompt[0] == "story 0\n\nWho is it about?"
    assert len(set(log.prompt)) == 6
    assert automix(_release(tmp_path, drop=("base_ctx",))).prompt[0] == "Who is it about?"
    assert automix(_release(tmp_path, drop=("base_ctx", "question"), q="Why?")).prompt[0] == "Why?"
    assert automix(_release(tmp_path, drop=("base_ctx", "question"))).prompt is None


def test_queries_are_named_by_the_identifier_that_is_unique(tmp_path):
    assert automix(_release(tmp_path, id="same")).query_id[1] == "id-1_0"
    assert automix(_release(tmp_path, id="same", pid=None)).query_id[1] == "row-2"
    assert automix(_release(tmp_path, drop=("id", "pid"))).query_id[1] == "row-2"


def test_only_scores_and_confidence_are_needed(tmp_path):
    needed = {"llama13b_f1", "llama70b_f1", "p_ver_13b"}
    log = automix(_release(tmp_path, drop=tuple(LINES[0].keys() - needed)))
    assert set(log.split) == {"train"}
    assert set(log.dataset) == {"release"}
    assert log.answer is log.prompt is None


def test_any_two_models_are_read_by_their_columns(tmp_path):
    lines = [{"tiny_f1": 0.25, "grade": 0.75, "sure": 1, "huge_pred_ans": "x"}]
    path = _release(tmp_path, lines)
    log = automix(path, small="tiny", large="huge", confidence="sure", large_score="grade")
    assert log.models == ("tiny", "huge")
    np.testing.assert_array_equal(log.score, [[0.25, 0.75]])
    np.testing.assert_array_equal(log.signals["confidence"], [[1, np.nan]])
    log = automix(path, "tiny", "huge", "sure", small_score="grade", large_score="tiny_f1")
    np.testing.assert_array_equal(log.score, [[0.75, 0.25]])


def test_one_data_set_of_the_release_is_chosen_by_name(tmp_path):
    log = automix(_release(tmp_path), dataset="cnli")
    assert log.query_id.tolist() == ["id-4", "id-5"]
    with pytest.raises(RolloutsError, match=r"rollouts\.dataset is 'coqa'.*\['cnli', 'quality'\]"):
        automix(_release(tmp_path), dataset="coqa")


def test_models_of_the_release_are_selected(tmp_path):
    log = automix(_release(tmp_path), models=["llama70b", "llama13b"])
    np.testing.assert_array_equal(log.score[1], [0.9, 0.1])


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("llama70b_f1", 45.0, r"column 'llama70b_f1' is 45.0 in row 5, expected in \[0, 1\]"),
        ("split", "", "the split of query 'id-4' is empty"),
    ],
)
def test_errors_name_the_file_the_column_and_the_row_of_the_release(
    tmp_path, column, value, expected
):
    lines = [line | {column: value} if i == 4 else line for i, line in enumerate(LINES)]
    path = _release(tmp_path, lines)
    with pytest.raises(RolloutsError, match=expected) as refused:
        automix(path, dataset="cnli")
    assert str(refused.value).startswith(path)


def test_a_column_that_the_release_lacks_is_named(tmp_path):
    with pytest.raises(RolloutsError, match="no column 'gpt4_f1'"):
        automix(_release(tmp_path), large="gpt4")
    with pytest.raises(RolloutsError, match="no column 'p_ver_7b'"):
        automix(_release(tmp_path), confidence="p_ver_7b")


def test_a_missing_confidence_is_a_signal_that_was_not_emitted(tmp_path):
    lines = [LINES[0] | {"p_ver_13b": None}, *LINES[1:]]
    log: Rollouts = automix(_release(tmp_path, lines))
    assert np.isnan(log.signals["confidence"][0]).all()


def test_a_profile_that_cannot_be_simulated_from_is_named(tmp_path):
    shipped = (ROOT / "envs/profiles/gsm8k.yaml").read_text()
    path = tmp_path / "free.yaml"
    path.write_text(shipped.replace("answer_cost: 3.48583e-05", "answer_cost: .nan"))
    with pytest.raises(RolloutsError, match=rf"profile {path}: cost of 'llama3.2-1b' .* is nan"):
        profile(str(path), {"train": 3}, 0)
