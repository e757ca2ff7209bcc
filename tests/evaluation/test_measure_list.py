"""The list of measures: complete, and shown alike everywhere."""

import re

import pytest

from routing_pomdp.evaluation.measure_list import MEASURES, info
from routing_pomdp.evaluation.measures import SAVING_POINTS, measure
from routing_pomdp.evaluation.runs.run_guarantee import CERTIFIED
from tests.support.outcomes import family_of


def test_every_measure_of_a_family_is_on_the_list():
    found = measure(family_of(), family_of(seed=1)).as_dict()
    shown = {name for name in found if not re.match(r"index_|reference$|delta_ibc_region", name)}
    listed = {
        name.replace("{e}", f"{epsilon:g}")
        for name in MEASURES
        for epsilon in (SAVING_POINTS if "{e}" in name else (0,))
    }
    assert shown <= listed
    assert listed - shown == {*CERTIFIED, "router_arena", "model_regret"}


def test_a_tolerance_stands_in_every_text_of_its_measure():
    found = info("saving_vs_best_at_2")
    assert found.title == "Saving against the best single model at 2 points"
    assert "at most 2 points" in found.note
    assert (found.short, found.better) == ("saving@2", "up")
    with pytest.raises(KeyError):
        info("elegance")


@pytest.mark.parametrize("name", MEASURES)
def test_every_entry_formats_a_number_and_has_a_note(name):
    assert re.fullmatch(r"[+-]?\d\.\d+", MEASURES[name].form.format(0.5))
    assert MEASURES[name].note.endswith(".")
