"""What verifiers are worth, as one table: for people, as CSV, and the values price by price."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tabulate import tabulate

from routing_pomdp.evaluation.signals.signal_quality import Estimate, Quality
from routing_pomdp.evaluation.signals.verifier_study import Appraisal, Judgement, LeftOut
from routing_pomdp.evaluation.signals.verifier_value import BOUGHT
from routing_pomdp.evaluation.sweeps.comparison import between, show

# In the column of models: the verifier on the whole chain.
CHAIN = "(all)"

HEADER = (
    "log", "verifier", "model", "score", "AUROC", "AUPRC", "Brier", "ECE",
    "bits: own", "bits: next", "cost", "if free", "value", "pays at λ", "if always",
    "pays if always", "noise", "on test",
)  # fmt: skip

LEGEND = """\
score: mean on held-out queries. AUROC with its interval, AUPRC of failures (in brackets what a
signal that says nothing gets), Brier score and expected calibration error, for the model's own
answers: the signal read as a probability (exp of a log-probability; – for a real number) → once
calibrated, by a logistic regression on training queries. bits: mutual information with the model's
own score and with the next model's, less that of shuffled signals; in brackets where shuffling does
as well in more than one of twenty. cost: of a verification, in answers of that model.
value: the most points of score that the exact policy gains in the fitted model, net of cost, and
the price λ where; then the prices at which it gains at all. Verification is bought by choice, or
("if always") of every answer; "if free" is what the signal would be worth at no cost. noise: what
the same fit promises, at that price, for shuffled signals. on test: what the policies got at that
price on held-out queries, with the verifier minus without. A model's row is the verifier on its
answers alone, (all) on those of the whole chain."""


def text_rows(judgements: Sequence[Judgement]) -> list[list[str]]:
    """The table's cells: of each verifier on each log the chain, then each model."""
    rows = []
    for judged in judgements:
        total = judged.costs.verify[:-1].sum() / judged.costs.call[:-1].sum()
        blank = ["–"] * 7
        rows.append([judged.log, judged.verifier, CHAIN, *blank, f"{total:.2f}",
                     *_value_cells(judged.chain)])  # fmt: skip
        for model, name in enumerate(judged.models):
            ratio = _share(judged.costs.verify[model], judged.costs.call[model])
            appraisal = judged.alone[model] if model < len(judged.alone) else None
            cells = [show(ratio, "{:.2f}"), *_value_cells(appraisal)]
            rows.append(["", "", name, *_quality_cells(judged.quality[model]), *cells])
    return rows


def verifier_table(judgements: Sequence[Judgement], style: str) -> str:
    """The table in a format of tabulate, such as "simple" or "github"."""
    return tabulate(text_rows(judgements), HEADER, tablefmt=style, disable_numparse=True)


def verifier_page(
    judgements: Sequence[Judgement], failed: Sequence[LeftOut], figures: Sequence[str]
) -> str:
    """A page in markdown: figures, the table, how to read it, and what was left out."""
    parts = ["# What the verifiers are worth", *(f"![{name}]({name})" for name in figures)]
    parts += [verifier_table(judgements, "github"), LEGEND, *left_out(failed)]
    return "\n\n".join(parts) + "\n"


def left_out(failed: Sequence[LeftOut]) -> list[str]:
    """A line for every verifier that failed."""
    return [f"left out: {f.verifier} on {f.log}: {f.reason}" for f in failed]


def verifier_csv(judgements: Sequence[Judgement]) -> str:
    """One row a verifier, log and model, and one a chain, in full precision."""
    rows = []
    for judged in judgements:
        place = {"log": judged.log, "verifier": judged.verifier, "read_as": judged.kind}
        for model, name in enumerate((*judged.models, CHAIN)):
            row: dict[str, Any] = {**place, "model": name}
            appraisal: Appraisal | None = judged.chain
            if name != CHAIN:
                appraisal = judged.alone[model] if model < len(judged.alone) else None
                row |= {
                    "call_cost": float(judged.costs.call[model]),
                    "verification_cost": float(judged.costs.verify[model]),
                    "cost_unit": judged.unit,
                }
                row |= _quality_values(judged.quality[model])
            rows.append(row | _summary(appraisal))
    return _csv(rows)


def value_rows(judgements: Sequence[Judgement]) -> list[dict[str, Any]]:
    """The values price by price, one row a verifier, log, model, way of buying and price."""
    rows = []
    for judged in judgements:
        for name, appraisal in _appraisals(judged):
            worth = appraisal.worth
            for bought in BOUGHT:
                gain = appraisal.gain.get(bought)
                for i, price in enumerate(worth.prices.tolist()):
                    row = {
                        "log": judged.log,
                        "verifier": judged.verifier,
                        "model": name,
                        "bought": bought,
                        "price": price,
                        "without": float(worth.without[i]),
                        "value": float(worth.value[bought][i]),
                        "spent": float(worth.spent[bought][i]),
                        "noise": float(appraisal.noise[i]) if bought == "choice" else None,
                    }
                    if gain is not None:
                        row |= {
                            "test": float(gain.mean[i]),
                            "test_low": float(gain.low[i]),
                            "test_high": float(gain.high[i]),
                            "train": float(appraisal.fit[bought].mean[i]),
                        }
                    rows.append(_defined(row))
    return rows


def value_csv(judgements: Sequence[Judgement]) -> str:
    return _csv(value_rows(judgements))


def summary(judgements: Sequence[Judgement]) -> dict[str, float | int | None]:
    """The figures of the chains by ``LOG/VERIFIER/NAME``, for a tracker."""
    return {
        f"{judged.log}/{judged.verifier}/{key}": value
        for judged in judgements
        for key, value in _summary(judged.chain).items()
        if isinstance(value, float)
    }


def ranges_text(ranges: Sequence[tuple[float, float]]) -> str:
    """Price ranges for people."""
    if not ranges:
        return "never"
    shown = [f"{low:.2g}–{'∞' if high == np.inf else f'{high:.2g}'}" for low, high in ranges]
    return ", ".join(shown if len(shown) < 3 else [shown[0], "…", shown[-1]])


def _appraisals(judged: Judgement) -> list[tuple[str, Appraisal]]:
    return [(CHAIN, judged.chain), *zip(judged.models[:-1], judged.alone, strict=True)]


def _quality_cells(quality: Quality | None) -> list[str]:
    if quality is None:
        return ["–"] * 7
    found = quality.estimates
    auroc, auprc = found["auroc"], found["auprc"]
    return [
        show(found["score"].value, "{:.3f}"),
        f"{show(auroc.value, '{:.2f}')} {between(auroc.low, auroc.high, '{:.2f}')}",
        f"{show(auprc.value, '{:.2f}')} ({auprc.chance:.2f})",
        *(
            "→".join(show(_value(found, key), "{:.2f}") for key in (name, f"{name}_calibrated"))
            for name in ("brier", "ece")
        ),
        _bits(found.get("mi_own")),
        _bits(found.get("mi_next")),
    ]


def _value_cells(appraisal: Appraisal | None) -> list[str]:
    if appraisal is None:
        return ["–"] * 7
    worth = appraisal.worth
    cells = []
    for bought in ("free", "choice", "always"):
        i = worth.best(bought)
        value = show(100 * float(worth.value[bought][i]), "{:+.2f}")
        ranges = worth.pays[bought]
        cells += [f"{value} @ {worth.prices[i]:g}" if ranges else value]
        cells += [ranges_text(ranges)] if bought != "free" else []
    i = worth.best("choice")
    if not worth.pays["choice"]:
        return [*cells, "–", "–"]
    gain = appraisal.gain["choice"]
    mean, low, high = (show(100 * float(x[i]), "{:+.2f}") for x in (gain.mean, gain.low, gain.high))
    return [*cells, show(100 * float(appraisal.noise[i]), "{:+.2f}"), f"{mean} [{low}, {high}]"]


def _quality_values(quality: Quality | None) -> dict[str, Any]:
    if quality is None:
        return {}
    row: dict[str, Any] = {"queries": quality.queries}
    for name, estimate in quality.estimates.items():
        row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        row |= {f"{name}_chance": estimate.chance, f"{name}_p": estimate.p}
    return _defined(row)


def _summary(appraisal: Appraisal | None) -> dict[str, Any]:
    if appraisal is None:
        return {}
    row: dict[str, Any] = {}
    for bought in BOUGHT:
        i = appraisal.worth.best(bought)
        row |= {
            f"value_{bought}": float(appraisal.worth.value[bought][i]),
            f"price_{bought}": float(appraisal.worth.prices[i]),
            f"spent_{bought}": float(appraisal.worth.spent[bought][i]),
            f"pays_{bought}": ranges_text(appraisal.worth.pays[bought]),
        }
        if bought == "choice":
            row["noise_choice"] = float(appraisal.noise[i])
        if bought in appraisal.gain:
            gain = appraisal.gain[bought]
            row |= {
                f"test_{bought}": float(gain.mean[i]),
                f"test_{bought}_low": float(gain.low[i]),
                f"test_{bought}_high": float(gain.high[i]),
                f"train_{bought}": float(appraisal.fit[bought].mean[i]),
            }
    return _defined(row)


def _value(found: Mapping[str, Estimate], name: str) -> float | None:
    return found[name].value if name in found else None


def _bits(estimate: Estimate | None) -> str:
    if estimate is None:
        return "–"
    shown = show(estimate.value, "{:.3f}")
    return f"({shown})" if estimate.p > 0.05 else shown


def _share(cost: float, of: float) -> float | None:
    return float(cost / of) if of > 0 else None


def _defined(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if value == value and value is not None}


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    fields = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
