"""The files that the bad inputs name."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

HEADER = "query_id,model,score,cost,signal_confidence,split"


def calls(n: int = 60, splits: tuple[str, ...] = ("train", "validation", "test")) -> list[str]:
    """Lines of a sound calls table of two models."""
    rng = random.Random(n)
    lines = []
    for i in range(n):
        for model, cost, skill in (("small", 0.001, 0.5), ("large", 0.03, 0.9)):
            right = int(rng.random() < skill)
            confidence = round(min(max(rng.gauss(0.4 + 0.3 * right, 0.2), 0), 1), 3)
            lines.append(f"q{i},{model},{right},{cost},{confidence},{splits[i % len(splits)]}")
    return lines


def changed(lines: list[str], row: int, column: int, value: str) -> list[str]:
    """The table with one field replaced; row 0 is the header."""
    fields = lines[row].split(",")
    fields[column] = value
    return [*lines[:row], ",".join(fields), *lines[row + 1 :]]


def write_files(folder: Path) -> None:
    good = [HEADER, *calls()]
    tables = {
        "good": good,
        "header_only": good[:1],
        "nan_cost": changed(good, 5, 3, "nan"),
        "inf_cost": changed(good, 5, 3, "inf"),
        "negative_cost": changed(good, 5, 3, "-1"),
        "text_cost": changed(good, 5, 3, "cheap"),
        "money_cost": changed(good, 5, 3, "$0.03"),
        "comma_score": changed(good, 5, 2, '"0,5"'),
        "score_two": changed(good, 5, 2, "2"),
        "score_text": changed(good, 5, 2, "correct"),
        "signal_text": changed(good, 5, 4, "high"),
        "split_unknown": changed(changed(good, 5, 5, "holdout"), 6, 5, "holdout"),
        "split_two": changed(good, 2, 5, "test"),
        "no_id": changed(good, 5, 0, ""),
        "no_model": changed(good, 5, 1, ""),
        "repeated": [*good, good[1]],
        "ragged": [*good[:5], good[5] + ",extra,extra", *good[6:]],
        "short_row": [*good[:5], "q2,small,1", *good[6:]],
        "unclosed": [*good[:5], '"q2,small,1,0.001,0.4,train', *good[6:]],
        "one_model": [line for line in good if ",large," not in line],
        "no_score": ["query_id,model,cost", *(f"q{i},m{i % 2},1" for i in range(40))],
        "no_model_column": ["query_id,score,cost", *(f"q{i},1,1" for i in range(40))],
        "double_column": [HEADER + ",score", *(line + ",1" for line in good[1:])],
        "all_missing_signal": [good[0], *(_set(line, 4, "") for line in good[1:])],
        "constant_signal": [good[0], *(_set(line, 4, "0.5") for line in good[1:])],
        "never_right": [good[0], *(_set(line, 2, "0") for line in good[1:])],
        "always_right": [good[0], *(_set(line, 2, "1") for line in good[1:])],
        "free": [good[0], *(_set(line, 3, "0") for line in good[1:])],
        "all_train": [good[0], *(_set(line, 5, "train") for line in good[1:])],
        "all_test": [good[0], *(_set(line, 5, "test") for line in good[1:])],
        "one_query": [HEADER.rsplit(",", 1)[0], "q1,small,0,0.001,0.3", "q1,large,1,0.03,0.9"],
        "four_queries": [HEADER.rsplit(",", 1)[0], *(x.rsplit(",", 1)[0] for x in calls(4))],
        "missing_signal": [good[0], *(_set(x, 4, "" if i % 7 == 0 else x.split(",")[4])
                                      for i, x in enumerate(good[1:]))],
        "minus_infinity": changed(changed(good, 5, 4, "-inf"), 9, 4, "-inf"),
        "plus_infinity": changed(good, 5, 4, "inf"),
        "dev_split": [HEADER, *calls(60, ("train", "dev", "test"))],
        "two_failed": [x for i, x in enumerate(good) if i not in (4, 17)],
        "no_prefix": [HEADER.replace("signal_", ""), *good[1:]],
        "booleans": [good[0], *(_set(x, 2, "True" if x.split(",")[2] == "1" else "False")
                                for x in good[1:])],
        "spaces": [HEADER.replace(",", ", "), *(x.replace(",", ", ") for x in good[1:])],
        "big_ids": [good[0], *(_set(x, 0, str(10**25 + int(x.split(",")[0][1:])))
                               for x in good[1:])],
        "renamed": [HEADER.replace("query_id", "qid").replace("score", "correct"), *good[1:]],
        "no_cost": [HEADER.replace(",cost", ""), *(",".join(_without(x, 3)) for x in good[1:])],
        "many_models": [good[0], *(f"q{i},m{j},{(i + j) % 2},{j + 1},0.{i % 10},"
                                   f"{('train', 'validation', 'test')[i % 3]}"
                                   for i in range(60) for j in range(33))],
    }  # fmt: skip
    for name, lines in tables.items():
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    text = "\n".join(good) + "\n"
    (folder / "bom.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (folder / "crlf.csv").write_bytes(text.replace("\n", "\r\n").encode())
    (folder / "utf16.csv").write_bytes(text.encode("utf-16"))
    (folder / "latin.csv").write_bytes(text.replace("q3,", "q\xe9,").encode("latin-1"))
    (folder / "nul.csv").write_bytes(text.replace("q3,", "q\0,").encode())
    (folder / "zipped.csv").write_bytes(gzip.compress(text.encode()))
    (folder / "good.csv.gz").write_bytes(gzip.compress(text.encode()))
    (folder / "cut.csv.gz").write_bytes(gzip.compress(text.encode())[:-20])
    (folder / "empty.csv").write_bytes(b"")
    (folder / "noise.parquet").write_bytes(random.Random(0).randbytes(5000))
    (folder / "text.parquet").write_text(text)
    (folder / "good.txt").write_text(text)
    (folder / "wide_header.csv").write_text(HEADER + "," + ",".join(f"x{i}" for i in range(10**6)))
    (folder / "long_id.csv").write_text(text.replace("q3,", "q" * 2_000_000 + ","))
    (folder / "deep.jsonl").write_text('{"query_id": ' + "[" * 100_000 + "]" * 100_000 + "}\n")
    (folder / "broken.jsonl").write_text('{"query_id": "q1", "model": "small"\n')
    (folder / "list.jsonl").write_text("[1, 2, 3]\n")
    rows = [dict(zip(HEADER.split(","), x.split(","), strict=True)) for x in good[1:]]
    for row in rows:
        row |= {"score": float(row["score"]), "cost": float(row["cost"]),
                "signal_confidence": float(row["signal_confidence"])}  # fmt: skip
    (folder / "good.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    mixed = [*rows[:4], rows[4] | {"score": "yes"}, *rows[5:]]
    (folder / "mixed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in mixed))
    (folder / "folder.csv").mkdir()
    _other_files(folder)


def _set(line: str, column: int, value: str) -> str:
    fields = line.split(",")
    fields[column] = value
    return ",".join(fields)


def _without(line: str, column: int) -> list[str]:
    fields = line.split(",")
    return fields[:column] + fields[column + 1 :]


TIGER = """discount: 0.95
values: reward
states: left right
actions: listen open-left open-right
observations: hear-left hear-right
T: listen
identity
T: open-left uniform
T: open-right uniform
O: listen
0.85 0.15
0.15 0.85
O: open-left uniform
O: open-right uniform
R: listen : * : * : * -1
R: open-left : left : * : * -100
R: open-left : right : * : * 10
R: open-right : left : * : * 10
R: open-right : right : * : * -100
"""


def _other_files(folder: Path) -> None:
    plug_ins = """from dataclasses import dataclass
from routing_pomdp.solvers import Solver
from routing_pomdp.verifiers import Verifier

class Raises(Solver):
    def solve(self, problem, train):
        raise RuntimeError("my own mistake")

class Nothing(Solver):
    def solve(self, problem, train):
        return None

@dataclass(frozen=True)
class Wrong(Verifier):
    name: str | None = None
    transform: str | None = None

    def signal(self, rollouts):
        return [1, 2, 3]

@dataclass(frozen=True)
class Fails(Verifier):
    name: str | None = None
    transform: str | None = None

    def signal(self, rollouts):
        return rollouts.no_such_thing

def number():
    return 3
"""
    question = {"query_id": "q1", "prompt": "What is 3 + 4?", "reference": "7"}
    model = {"name": "small", "base_url": "http://127.0.0.1:9/v1", "price": {"in": 1, "out": 4}}
    large = model | {"name": "large"}
    texts = {
        "my_plugins.py": plug_ins,
        "broken_module.py": "def (:\n",
        "tiger.pomdp": TIGER,
        "no_discount.pomdp": TIGER.replace("discount: 0.95\n", ""),
        "bad_sum.pomdp": TIGER.replace("0.85 0.15", "0.85 0.25"),
        "huge.pomdp": TIGER.replace("states: left right", "states: 400000"),
        "cut.pomdp": TIGER[:-20],
        "bom.pomdp": "\ufeff" + TIGER,
        "three.alpha": "0\n1 2 3\n",
        "odd.alpha": "0\n1 2\n1\n",
        "text.alpha": "0\none two\n",
        "evil.pickle": "cos\nsystem\n(S'touch ran'\ntR.",
        "fortran.pickle": "cnumpy.f2py.__main__\nmain\n(tR.",
        "bomb.pickle": "cbuiltins\nbytearray\n(I99999999999\ntR.",
        "questions.jsonl": json.dumps(question) + "\n",
        "no_prompt.jsonl": '{"query_id": "q1", "reference": "7"}\n',
        "no_reference.jsonl": '{"query_id": "q1", "prompt": "What is 3 + 4?"}\n',
        "two_prompts.jsonl": json.dumps(question) + "\n"
        + json.dumps(question | {"prompt": "What is 4 + 4?"}) + "\n",
        "holdout.jsonl": json.dumps(question | {"split": "holdout"}) + "\n",
        "models.yaml": json.dumps([model, large]),
        "unpriced.yaml": json.dumps([model, {**large, "price": None}]),
        "same_name.yaml": json.dumps([model, model]),
        "no_url.yaml": json.dumps([{"name": "small"}, large]),
        "bad_url.yaml": json.dumps([model | {"base_url": "ftp://x"}, large]),
        "unknown_key.yaml": json.dumps([model | {"colour": 3}, large]),
        "concurrency.yaml": json.dumps([model | {"concurrency": 10**9}, large]),
        "negative_price.yaml": json.dumps([model | {"price": {"in": -1, "out": 1}}, large]),
        "nan_timeout.yaml": "- {name: a, base_url: http://127.0.0.1:9/v1, timeout: .nan}\n",
        "key_in_env.yaml": json.dumps([model | {"api_key_env": "sk-SECRETSECRET1234567890"}]),
        "key_in_price.yaml": json.dumps([model | {"price": "sk-SECRETSECRET1234567890"}, large]),
        "unbounded.yaml": json.dumps([model | {"omit": ["max_tokens"]}, large]),
        "broken.yaml": "- name: small\n  api_key: sk-SECRETSECRET1234567890\n bad: [\n",
        "twice.yaml": "- {name: a, name: b, base_url: http://127.0.0.1:9/v1}\n",
        "code.yaml": "!!python/object/apply:os.system ['touch ran']\n",
        "profile_inf.yaml": "name: x\n",
        "not_metrics/metrics.json": "{}",
        "damaged/run/metrics.json": '{"about": {',
    }  # fmt: skip
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    profile = (Path(__file__).parents[2] / "envs/profiles/gsm8k.yaml").read_text(encoding="utf-8")
    edits = {
        "profile_inf.yaml": ("answer_cost: 3.48583e-05", "answer_cost: .inf"),
        "profile_nan.yaml": ("answer_cost: 3.48583e-05", "answer_cost: .nan"),
        "profile_text.yaml": ("answer_cost: 3.48583e-05", "answer_cost: cheap"),
        "profile_twice.yaml": ("name: gsm8k", "name: gsm8k\nname: again"),
        "profile_key.yaml": ("name: gsm8k", "name: gsm8k\ncolour: 3"),
        "profile_levels.yaml": ("levels: [0.0, 0.41, 0.41, 1.0]", "levels: [0.0, 0.9, 0.41, 1.0]"),
        "profile_short.yaml": ("values: [0.0, 0.0, 1.0, 1.0]", "values: [0.0, 0.0, 1.0]"),
    }
    for name, (old, new) in edits.items():
        assert old in profile
        (folder / name).write_text(profile.replace(old, new, 1), encoding="utf-8")
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "noise.pt").write_bytes(random.Random(1).randbytes(400))
    (checkpoint / "empty.pt").write_bytes(b"")
    (checkpoint / "pickle.pt").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
