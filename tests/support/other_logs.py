"""Lines of the logs of other tools, after their published schemas."""

from __future__ import annotations

import csv
import json


def sample(i, **changed):
    """A line that the harness writes for a generated answer."""
    return {
        "doc_id": i,
        "doc": {"question": f"What is {i} + {i}?", "answer": f"#### {2 * i}"},
        "target": f"#### {2 * i}",
        "arguments": {"gen_args_0": {"arg_0": f"Question: {i}", "arg_1": {"until": ["Question:"]}}},
        "resps": [[f" It is {2 * i}. #### {2 * i}"]],
        "filtered_resps": [str(2 * i)],
        "filter": "strict-match",
        "metrics": ["exact_match"],
        "doc_hash": f"d{i}",
        "prompt_hash": f"p{i}",
        "target_hash": f"t{i}",
        "exact_match": 1.0,
    } | changed


def choice(i, likely, **changed):
    """The same for multiple choice: log-likelihood and greediness of each choice, as texts."""
    pairs = [[str(log), "False"] for log in likely]
    return sample(i, filtered_resps=pairs, resps=[[p] for p in pairs], filter="none",
                  metrics=["acc"], acc=0.0) | changed  # fmt: skip


def harness(folder, model="org__small", task="gsm8k", lines=(), name=None):
    path = folder / model / (name or f"samples_{task}_2024-08-10T12-31-05.123456.jsonl")
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def spend(i, group="gpt-small", **changed):
    return {
        "request_id": f"chatcmpl-{group}-{i}",
        "call_type": "acompletion",
        "api_key": "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b",
        "spend": 0.0015,
        "total_tokens": 30,
        "prompt_tokens": 20,
        "completion_tokens": 10,
        "startTime": "2025-01-14T18:27:20.703000+00:00",
        "endTime": "2025-01-14T18:27:21.203000+00:00",
        "request_duration_ms": None,
        "model": f"openai/{group}-2024",
        "model_group": group,
        "metadata": {"status": "success", "spend_logs_metadata": {"case": f"c{i}", "ok": i % 2}},
        "cache_hit": "False",
        "messages": [{"role": "system", "content": "Be brief."},
                     {"role": "user", "content": f"Question {i}?"}],
        "response": {"choices": [{"message": {"role": "assistant", "content": f"Answer {i}"}}]},
        "status": "success",
    } | changed  # fmt: skip


def spend_file(folder, rows, name="spend.jsonl"):
    path = folder / name
    if path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, rows[0])
            table.writeheader()
            for row in rows:
                table.writerow(
                    {k: json.dumps(v) if isinstance(v, dict | list) else v for k, v in row.items()}
                )
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def observation(i, model="small", **changed):
    return {
        "id": f"o-{model}-{i}",
        "trace_id": f"t-{model}-{i}",
        "project_id": "p",
        "environment": "default",
        "type": "GENERATION",
        "parent_observation_id": "",
        "start_time": "2024-05-29 13:46:19.963000",
        "end_time": "2024-05-29 13:46:20.213000",
        "name": "answer",
        "metadata": {"case": f"c{i}", "right": str(i % 2)},
        "level": "DEFAULT",
        "status_message": "",
        "input": json.dumps([{"role": "user", "content": f"Question {i}?"}]),
        "output": json.dumps({"role": "assistant", "content": f"Answer {i}"}),
        "provided_model_name": model,
        "usage_details": {"input": 12, "output": 5, "total": 17},
        "cost_details": {"input": 0.001, "output": 0.002, "total": 0.003},
        "total_cost": 0.003,
        "latency": 0.25,
    } | changed


def judgement(i, model="small", **changed):
    return {
        "id": f"s-{model}-{i}",
        "timestamp": "2024-05-29 13:47:00.000000",
        "trace_id": f"t-{model}-{i}",
        "observation_id": f"o-{model}-{i}",
        "name": "accuracy",
        "value": float(i % 2),
        "source": "EVAL",
        "data_type": "NUMERIC",
        "string_value": None,
    } | changed


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
