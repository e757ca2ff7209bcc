"""docs/tutorial.py runs, opens as a notebook, and says what it says of what it found."""

import re
import runpy

import matplotlib
import numpy as np
import pytest

from routing_pomdp.evaluation.evaluate import evaluate
from tests.support.checkout import DOCS

TUTORIAL = DOCS / "tutorial.py"


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The tutorial's names after its last cell, and the folder it ran in."""
    folder = tmp_path_factory.mktemp("tutorial")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        backend = matplotlib.get_backend()
        matplotlib.use("Agg")
        try:
            return runpy.run_path(str(TUTORIAL)), folder
        finally:
            matplotlib.use(backend)


def test_the_tutorial_ends_with_a_router_that_saves(ran):
    names, _ = ran
    low, _ = names["reports"]["exact"].intervals["gap_closed"]
    assert low > 0
    assert names["point"]["cost_relative"] < 0.6
    assert names["lost"] < 2


def test_its_choice_looks_at_validation_alone(ran):
    names, _ = ran
    played = evaluate(names["policy"], names["validation"])
    assert played.score.mean() >= names["floor"]
    cheapest = min(point for point, *_ in names["kept"])
    assert played.cost.mean() == pytest.approx(cheapest)


def test_its_router_decides_live_as_on_the_log(ran):
    names, _ = ran
    log, test = names["log"].where("test"), names["test"]
    played = evaluate(names["router"], test)
    for query in range(50):
        _, called = names["route"](
            names["router"],
            call=lambda model: None,
            verify=lambda model, answer, row=query: log.signals["confidence"][row, model],
        )
        assert called[-1] == log.models[played.answer[query]]
        assert len(called) == played.calls[query]


def test_its_log_is_a_calls_table_of_noisy_costs(ran):
    names, folder = ran
    lines = (folder / "calls.csv").read_text().splitlines()
    assert lines[0] == "query_id,model,score,cost,signal_confidence"
    assert len(lines) == 1 + len(names["drawn"]) * len(names["models"])
    assert np.all(names["log"].cost.std(axis=0) > 0.1 * names["log"].cost.mean(axis=0))


def test_it_opens_as_a_notebook():
    head, *cells = re.split(r"(?m)^# %%", TUTORIAL.read_text())
    assert "format_name: percent" in head
    kinds = [cell.split("\n", 1)[0].strip() for cell in cells]
    assert set(kinds) == {"", "[markdown]"}
    for kind, cell in zip(kinds, cells, strict=True):
        body = cell.split("\n", 1)[1]
        if kind:  # of a cell of prose, what is not a comment would be lost
            assert all(line.startswith("#") for line in body.split("\n") if line)
        else:
            compile(body, "cell", "exec")
