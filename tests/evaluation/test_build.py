"""From config to objects: every error names its key."""

import pytest
from omegaconf import OmegaConf

from evaluation.build import build, check_prices
from solvers import Exact, Static


def test_a_config_becomes_its_target():
    config = OmegaConf.create({"_target_": "solvers.Static", "model": 1})
    assert build(config, "solver") == Static(model=1)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"_target_": "solvers.Exact", "max_histories": "many"}, "solver.max_histories is 'many'"),
        ({"_target_": "solvers.Static", "model": 1.5}, "solver.model is 1.5: expected a whole"),
        ({"_target_": "solvers.Nonesuch"}, "solver._target_ is 'solvers.Nonesuch'"),
        ({"_target_": "solvers.Exact", "max_histories": "???"}, "solver.max_histories is not set"),
        ({"_target_": "solvers.RandomMix", "share": 2}, "solver.share is 2"),
        ({"_target_": "solvers.Exact", "colour": "red"}, "solver: .*colour"),
    ],
)
def test_bad_values_are_refused_by_key(config, message):
    with pytest.raises(ValueError, match=message):
        build(OmegaConf.create(config), "solver")


@pytest.mark.parametrize(
    ("ratio", "verifier", "message"),
    [
        (0.5, "logged", "costs.ratio is 0.5: expected a number >= 1"),
        ("ten", "logged", "costs.ratio is 'ten': expected a number or null"),
        (10, "free", "costs.verifier is 'free': expected 'logged' or a share"),
        (10, -1, "costs.verifier is -1: a share must be >= 0"),
    ],
)
def test_bad_costs_are_refused_by_key(ratio, verifier, message):
    config = {"_target_": "envs.CostModel", "ratio": ratio, "verifier": verifier}
    with pytest.raises(ValueError, match=message):
        build(OmegaConf.create(config), "costs")


@pytest.mark.parametrize("prices", [[], [-0.1], [0, 0], ["cheap"], [float("inf")], [True]])
def test_bad_prices_are_refused(prices):
    with pytest.raises(ValueError, match=r"evaluation\.prices"):
        check_prices(prices)


def test_defaults_stand_where_the_config_is_silent():
    assert build(OmegaConf.create({"_target_": "solvers.Exact"}), "solver") == Exact()
