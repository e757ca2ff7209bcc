"""The table of verifiers, as text and CSV, and their values at each price."""

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

# In the column of models: the verifier for all models.
CHAIN = "(all)"

HEADER = (
    "log", "verifier", "model", "score", "AUROC", "AUPRC", "Brier score", "ECE",
    "MI own", "MI next", "cost", "value if free", "value", "pays at λ", "value if always",
    "pays if always", "value of noise", "on test",
)  # fmt: skip

LEGEND = """\
A model's row is for the verification of that model's answers only, (all) for all models.
score: mean score on held-out queries.
AUROC: area under the ROC curve, with its interval.
AUPRC: area under the precision-recall curve for failures; in brackets, that of a random signal.
Brier score and ECE (expected calibration error): of the signal as a probability (exp of a
log-probability; – for a real number) → after logistic calibration on training queries.
MI: mutual information in bits with the model's own score and with the next model's, minus that of
shuffled signals; in brackets if not significant (permutation test, p > 0.05).
cost: of a verification, as a share of a call of that model.
value: the largest gain of the exact policy in the fitted model, in points of score net of cost, and
the price λ of that gain. Verification is bought by choice; "if always": after every call; "if
free": at no cost.
pays: the prices at which the value is positive.
value of noise: the value, at the same price, of a fit to shuffled signals.
on test: the gain at that price on held-out queries, with its interval."""


def text_rows(judgements: Sequence[Judgement]) -> list[list[str]]:
    """The table's cells: for each verifier and log, all models, then each model."""
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
    """A page in markdown: figures, the table, its legend, and the verifiers left out."""
    parts = ["# Value of the verifiers", *(f"![{name}]({name})" for name in figures)]
    parts += [verifier_table(judgements, "github"), LEGEND, *left_out(failed)]
    return "\n\n".join(parts) + "\n"


def left_out(failed: Sequence[LeftOut]) -> list[str]:
    """A line for every verifier that failed."""
    return [f"left out: {f.verifier} on {f.log}: {f.reason}" for f in failed]


def verifier_csv(judgements: Sequence[Judgement]) -> str:
    """One row for each verifier, log and model, and one for all models, in full precision."""
    rows = []
    for judged in judgements:
        keys = {"log": judged.log, "verifier": judged.verifier, "read_as": judged.kind}
        for model, name in enumerate((*judged.models, CHAIN)):
            row: dict[str, Any] = {**keys, "model": name}
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
    """The values at each price, one row for each verifier, log, model, way of buying and price."""
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
    """The values for all models, by ``LOG/VERIFIER/NAME``, for a tracker."""
    return {
        f"{judged.log}/{judged.verifier}/{key}": value
        for judged in judgements
        for key, value in _summary(judged.chain).items()
        if isinstance(value, float)
    }


def ranges_text(ranges: Sequence[tuple[float, float]]) -> str:
    """Price ranges as text."""
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
