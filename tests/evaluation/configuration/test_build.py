"""From config to objects: every error names its key."""

import sys

import pytest
from omegaconf import OmegaConf

from routing_pomdp import solvers
from routing_pomdp.envs.model.observation import Observation
from routing_pomdp.evaluation.configuration.build import build
from routing_pomdp.solvers import Exact, Solver, Static
from routing_pomdp.verifiers import Verifier
from routing_pomdp.verifiers.collection.scoring import Scoring


def test_a_config_becomes_its_target():
    config = OmegaConf.create({"_target_": "routing_pomdp.solvers.Static", "model": 1})
    assert build(config, "solver") == Static(model=1)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"_target_": "routing_pomdp.solvers.Exact", "max_histories": "many"},
            "solver.max_histories is 'many'",
        ),
        (
            {"_target_": "routing_pomdp.solvers.Static", "model": 1.5},
            "solver.model is 1.5: expected a whole",
        ),
        (
            {"_target_": "routing_pomdp.solvers.Nonesuch"},
            "solver._target_ is 'routing_pomdp.solvers.Nonesuch'",
        ),
        (
            {"_target_": "routing_pomdp.solvers.Exact", "max_histories": "???"},
            "solver.max_histories is not set",
        ),
        ({"_target_": "routing_pomdp.solvers.RandomMix", "share": 2}, "solver.share is 2"),
        (
            {"_target_": "routing_pomdp.solvers.Exact", "colour": "red"},
            "solver.colour is no setting of routing_pomdp.solvers",
        ),
    ],
)
def test_bad_values_are_refused_by_key(config, message):
    with pytest.raises(ValueError, match=message):
        build(OmegaConf.create(config), "solver")


@pytest.mark.parametrize(
    ("ratio", "verifier", "message"),
    [
        (0.5, "logged", "costs.ratio is 0.5: expected a number from 1"),
        ("ten", "logged", "costs.ratio is 'ten': expected a number from 1 to .* or null"),
        (10, "free", "costs.verifier is 'free': expected 'logged' or a number"),
        (10, -1, "costs.verifier is -1: expected 'logged' or a number from 0"),
    ],
)
def test_bad_costs_are_refused_by_key(ratio, verifier, message):
    config = {"_target_": "routing_pomdp.envs.CostModel", "ratio": ratio, "verifier": verifier}
    with pytest.raises(ValueError, match=message):
        build(OmegaConf.create(config), "costs")


@pytest.mark.parametrize(
    ("target", "role", "message"),
    [
        (
            "builtins.dict",
            Solver,
            "which is no Solver: expected a class derived",
        ),
        ("routing_pomdp.verifiers.Histogram", Verifier, "which is no Verifier"),
        (
            "routing_pomdp.verifiers.NoSignal",
            Observation,
            "which is no Observation: .* with n_symbols, fit",
        ),
        ("os.system", Solver, "which is a builtin function"),
        ("routing_pomdp.envs.profiles.source.profile", Solver, "which gives a Rollouts"),
        ("routing_pomdp.envs.__name__", Solver, "which is a str"),
        (
            "routing_pomdp.solvers.search.pomcp.POMC",
            Solver,
            r"has no 'POMC' \(did you mean POMCP\?\)",
        ),
        (
            "routing_pomdp.solvers.search.pomcq.POMCP",
            Solver,
            r"has no 'pomcq' \(did you mean pomcp\?\)",
        ),
        ("Static", Solver, "expected MODULE.CLASS"),
        ("my_module_of_no_name.Mine", Solver, "there is no module 'my_module_of_no_name'"),
    ],
)
def test_a_target_of_another_role_is_refused_before_it_is_called(target, role, message):
    with pytest.raises(ValueError, match=f"group._target_ is '{target}'.*{message}"):
        build(OmegaConf.create({"_target_": target}), "group", role)


def test_a_module_that_cannot_be_imported_is_named_with_its_own_error(tmp_path, monkeypatch):
    (tmp_path / "broken_plug_in.py").write_text("1 / 0\n")
    (tmp_path / "needy_plug_in.py").write_text("import a_package_of_no_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    for module, message in (
        ("broken_plug_in", "importing broken_plug_in fails: ZeroDivisionError: division by zero"),
        ("needy_plug_in", "needy_plug_in needs a_package_of_no_name, which is not installed"),
    ):
        with pytest.raises(ValueError, match=message):
            build(OmegaConf.create({"_target_": f"{module}.Mine"}), "solver", Solver)


def test_a_public_name_whose_module_needs_what_is_missing_is_no_unknown_name(monkeypatch):
    monkeypatch.delitem(vars(solvers), "BeliefFQI", raising=False)
    monkeypatch.setitem(sys.modules, "routing_pomdp.solvers.learned.belief_fqi", None)
    with pytest.raises(
        ValueError, match=r"BeliefFQI needs routing_pomdp.solvers.learned.belief_fqi, which is not"
    ):
        build(OmegaConf.create({"_target_": "routing_pomdp.solvers.BeliefFQI"}), "solver", Solver)


def test_a_function_may_give_the_object_or_be_the_scoring():
    config = OmegaConf.create(
        {"_target_": "tests.evaluation.configuration.test_build.always_cheapest"}
    )
    assert build(config, "solver", Solver) == Static(model=0)
    config = OmegaConf.create({"_target_": "tests.evaluation.configuration.test_build.length"})
    assert build(config, "scoring", Scoring)("four", (), None) == 4
    config = OmegaConf.create({"_target_": "tests.evaluation.configuration.test_build.nothing"})
    with pytest.raises(ValueError, match="which gives a dict: expected a class derived"):
        build(config, "solver", Solver)


def always_cheapest() -> Static:
    return Static(model=0)


def nothing():
    return {}


def length(answer, references, query):
    return len(answer)


def test_defaults_stand_where_the_config_is_silent():
    assert build(OmegaConf.create({"_target_": "routing_pomdp.solvers.Exact"}), "solver") == Exact()
