"""Every key of every group has a type and a range, and what is out of either is named."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_origin, get_type_hints

import hydra
import pytest
from omegaconf import DictConfig, OmegaConf

from routing_pomdp.envs.settings.checks import declared
from routing_pomdp.evaluation.configuration.build import plain
from routing_pomdp.evaluation.configuration.schema import Collect, Group, Study, Train, check
from tests.support.checkout import CONF
from tests.support.commands import by_hydra, composed

SCHEMAS = {"train": Train, "value_verifiers": Study, "collect": Collect}


# Each group with the configuration that it belongs to.
GROUPS = {
    path.name: "collect" if path.name in ("scoring", "policy") else "train"
    for path in sorted(CONF.iterdir())
    if path.is_dir() and path.name not in ("hydra", "experiment")
}
OPTIONS = [
    (name, group, path.stem)
    for group, name in GROUPS.items()
    for path in sorted((CONF / group).glob("*.yaml"))
]
EXPERIMENTS = [path.stem for path in sorted((CONF / "experiment").glob("*.yaml"))]
NEEDED = {
    "questions": "q.jsonl",
    "models": "m.yaml",
    "rollouts.path": "log.csv",
    "solver.path": "policy.pt",
    "policy.signal": "p_true",
    "costs.prices": {"small": {"in": 0.05, "out": 0.1}},
    "costs.per_second": 0.01,
}


def with_needed(config: DictConfig) -> DictConfig:
    for key, value in NEEDED.items():
        group, _, name = key.rpartition(".")
        node = OmegaConf.select(config, group) if group else config
        if node is not None and OmegaConf.is_missing(node, name):
            node[name] = value
    return config


@functools.cache
def base(name: str, *options: str) -> dict[Any, Any]:
    return plain(with_needed(composed(name, *options)))


@pytest.mark.parametrize(("name", "group", "option"), OPTIONS)
def test_every_option_passes_and_every_key_of_it_is_declared(name, group, option):
    values = base(name, f"{group}={option}")
    check(values, SCHEMAS[name])
    assert list(undeclared(values, SCHEMAS[name], "")) == []


def test_every_key_of_the_other_configurations_is_declared():
    values = plain(with_needed(composed("collect", "+verifier@verifiers.p_true=p_true")))
    check(values, Collect)
    assert list(undeclared(values, Collect, "")) == []
    values = plain(composed("value_verifiers", "+verifier@verifiers.length=column"))
    check(values, Study)
    # It hands dataset over to those readers that take one.
    assert list(undeclared(values, Study, "")) == ["rollouts.dataset"]
    several = changed(values, "rollouts.profile", ["mmlu", "gsm8k"])
    check(several, Study)
    assert "rollouts.profile is 3: " in refused(
        changed(values, "rollouts.profile", ["mmlu", 3]), Study
    )


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_passes(experiment):
    check(with_needed(composed("train", f"experiment={experiment}")), Train)


def undeclared(values: Mapping[str, Any], schema: Any, prefix: str) -> Iterator[str]:
    """Keys whose annotation says nothing."""
    if "_target_" in values:
        kinds = declared(hydra.utils.get_object(values["_target_"])).kinds
    else:
        kinds = get_type_hints(schema, include_extras=True)
    for key, value in values.items():
        if key == "_target_":
            continue
        kind = kinds.get(key, Any)
        plainest = {bool, int, float, str}
        # A bare number or text has no range: every one of them needs its bounds.
        if kind is Any or (kind in plainest and kind is not bool):
            yield prefix + key
        elif isinstance(kind, type) and issubclass(kind, Group):
            yield from undeclared(value, kind, f"{prefix}{key}.")
        elif isinstance(value, Mapping) and "_target_" in value:
            yield from undeclared(value, None, f"{prefix}{key}.")
        elif isinstance(value, Mapping) and get_origin(kind) is not None:
            for name, entry in value.items():
                if isinstance(entry, Mapping) and "_target_" in entry:
                    yield from undeclared(entry, None, f"{prefix}{key}.{name}.")


# Group options, then bad values of their keys; "key=" alone repeats the key of the line before.
BAD = """
train: threads=abc threads=0 threads=1.5 threads=null threads=true threads=100000
train: seed=-1 seed=1.5 seed=x seed=null seed=4294967296 seed=1e3
train: force=abc force=1 force=null sweep=null sweep=3 sweep=../x sweep=/x sweep='' sweep=a//b
train: out=null out='' out=3 out=[a]
train: evaluation.prices=3 evaluation.prices=[] evaluation.prices=[-0.1] evaluation.prices=[0,0]
train: evaluation.prices=[cheap] evaluation.prices=[inf] evaluation.prices=[nan]
train: evaluation.prices=[true] evaluation.prices=null evaluation.prices=[[1]]
train: evaluation.resplit=maybe evaluation.resplit=0 evaluation.validation=1
train: evaluation.validation=0 evaluation.validation=x evaluation.test=abc evaluation.test=1.0
train: evaluation.test=-0.5 evaluation.test=nan evaluation.split_seed=x evaluation.split_seed=-1
train: evaluation.train_seed=1.5 evaluation.train_seed=-3 evaluation.train_size=0
train: evaluation.train_size=many evaluation.resamples=1.5 evaluation.resamples=0
train: evaluation.resamples=1e9 evaluation.resamples=1000000000 evaluation.level=x
train: evaluation.level=1 evaluation.level=0 evaluation.level=95
train: figures=maybe figures=null evaluation.regret=maybe evaluation.regret=null
train: evaluation.budgets=3 evaluation.budgets=[nan]
train: evaluation.budgets=[0] evaluation.budgets=[0.5,0.5] evaluation.floors=null
train: evaluation.floors=[-1] evaluation.floors=[101] evaluation.floors=[x] evaluation=3
train: evaluation.guarantee=null evaluation.guarantee.epsilon=-0.01 evaluation.guarantee.epsilon=1
train: evaluation.guarantee.delta=0 evaluation.guarantee.delta=1 evaluation.guarantee.delta=null
train: evaluation.guarantee.by_dataset=maybe evaluation.guarantee.epsilon=x
train: env.skip=1 env.skip=maybe env.free_start=2 env.verify=null env.answer=first
train: env.answer=1 env.levels=abc env.levels=1 env.levels=2.5 env=3
train: costs.ratio=0.5 costs.ratio=ten costs.ratio=nan costs.ratio=inf costs.ratio=[10]
train: costs.verifier=free costs.verifier=-1 costs.verifier=null costs.verifier=true
train costs=latency: costs.verifier=free costs.verifier=-1
train costs=tokens: costs.prices=3 costs.prices=[a.yaml] costs.prices=null costs.prices=''
train costs=tokens: costs.prices={small:3} costs.prices={small:{in:-1,out:2}} costs.judges=3
train costs=tokens: costs.prices={small:{input:1}} costs.judges={sharp:3} costs.verifier=x
train costs=mixed: costs.per_second=-1 costs.per_second=null costs.prices=3 costs.per_second=nan
train: rollouts.profile=3 rollouts.profile=null rollouts.queries=3 rollouts.queries.train=0
train: rollouts.queries.test=1.5 rollouts.queries.test=1e9 rollouts.seed=-1 rollouts.seed=x
train: rollouts.models=small rollouts.models=[] rollouts.models=[a,a] rollouts.models=[1]
train: rollouts.train_on=3 rollouts.train_on=''
train rollouts=calls_table: rollouts.path=3 rollouts.path='' rollouts.signals=x
train rollouts=calls_table: rollouts.signals=[a] rollouts.signals={a:3} rollouts.models={a:1}
train rollouts=automix: rollouts.small=1 rollouts.large=null rollouts.confidence=null
train rollouts=automix: rollouts.small_score=3 rollouts.large_score='' rollouts.dataset=3
train rollouts=rational_cascades: rollouts.dataset=null rollouts.chain=null rollouts.train_on=1
train rollouts=votes: rollouts.column=null rollouts.column=3
train: verifier.name=3 verifier.name='' verifier.transform=log verifier.transform=1
train verifier=column: verifier.column=words verifier.column=null
train verifier=merge: verifier.kind=linear verifier.seed=-1 verifier.verifiers=3
train verifier=merge: verifier.verifiers.logged=3 verifier.verifiers.logged.transform=log
train verifier=affordable_first: verifier.low=-1 verifier.high=2 verifier.low=x verifier.then=3
train verifier=affordable_first: verifier.first.column=words verifier.kind=x verifier.seed=x
train verifier=p_true: verifier.alternatives=0 verifier.max_tokens=x verifier.missing=nan
train verifier=p_true: verifier.alternatives=x verifier.max_tokens=0 verifier.prompt=3
train verifier=p_true: verifier.name=null
train verifier=self_consistency: verifier.samples=0 verifier.samples=x verifier.temperature=-1
train verifier=self_consistency: verifier.temperature=hot verifier.max_tokens=0 verifier.kind=x
train verifier=entailment: verifier.judge=null verifier.judge=3 verifier.samples=1e9
train verifier=pre_query: verifier.judge=3 verifier.missing=x verifier.temperature=1000
train verifier=agreement: verifier.kind=words verifier.name=''
train verifier=answer_logprob: verifier.reduction=max verifier.span=all verifier.missing=inf
train verifier=margin: verifier.reduction=sum verifier.span=null verifier.missing=x
train: observation.bins=0 observation.bins=1.5 observation.bins=1000000 observation.binning=even
train: observation.conditioning=both observation.smoothing=0 observation.smoothing=x
train: observation.shrinkage=-1 observation.shrinkage=inf
train observation=beta: observation.strength=0 observation.scale=odds observation.bins=x
train observation=kernel: observation.bandwidth=0 observation.bandwidth=wide
train observation=mixture: observation.components=0 observation.iterations=x
train observation=mixture: observation.tolerance=-1 observation.strength=nan
train observation=merged: observation.folds=1 observation.seed=x observation.kind=x
train observation=merged: observation.of.bins=0 observation.of.binning=even
train observation=product: observation.keep=0 observation.keep=x observation.of.smoothing=0
train pre_query=prompt: pre_query.verifier.target=max pre_query.verifier.folds=1
train pre_query=prompt: pre_query.verifier.seed=x pre_query.observation.bins=0 pre_query=3
train: solver.max_histories=many solver.max_histories=0 solver.max_histories=1.5
train solver=alpha_vectors: solver.region=all solver.max_vectors=0 solver.max_histories=x
train solver=automix_greedy: solver.bins=10 solver.bins=x solver.models=[2,1] solver.models=3
train solver=automix_greedy: solver.models=[0,0] solver.models=[0] solver.regions=0
train solver=automix_greedy: solver.regions=x solver.models=[-1,2]
train solver=automix_pomdp: solver.particles=0 solver.conditioning=x solver.bandwidth=0
train solver=automix_pomdp: solver.particles=x solver.bandwidth=x solver.seed=-1 solver.seed=x
train solver=automix_pomdp: solver.max_histories=0
train solver=bayes: solver.draws=0 solver.draws=x solver.strength=0 solver.strength=nan
train solver=pessimist: solver.quantile=2 solver.quantile=x solver.candidates=-1
train solver=belief_dqn: solver.hidden=0 solver.hidden=x solver.episodes=0 solver.episodes=x
train solver=belief_dqn: solver.steps=0 solver.batch=0 solver.batch=x solver.learning_rate=0
train solver=belief_dqn: solver.learning_rate=2 solver.learning_rate=fast solver.target_rate=0
train solver=belief_dqn: solver.price_range=[1,0] solver.price_range=[1] solver.price_range=[-1,1]
train solver=belief_dqn: solver.price_range=3 solver.cost_ratios=[0.5,2] solver.cost_ratios=[9,2]
train solver=belief_dqn: solver.patience=0 solver.patience=x solver.device=tpu solver.device=3
train solver=belief_fqi: solver.members=0 solver.simulations=-1 solver.resamples=-1
train solver=belief_fqi: solver.pretraining=-1 solver.steps=x solver.action_costs=0
train solver=belief_fqi: solver.action_costs=x
train solver=belief_fqi: solver.tuning_rate=0 solver.weight_decay=-1 solver.weight_decay=x
train solver=history_net: solver.belief_hidden=0 solver.belief_weight=0 solver.belief_weight=x
train solver=c2mab_v: solver.size=0 solver.budget=0 solver.budget=x solver.satisfied=2
train solver=c2mab_v: solver.confidence=-1 solver.confidence=inf solver.rounds=0
train solver=cascade_routing: solver.budget=-1 solver.draws=0 solver.draws=x
train solver=checkpoint: solver.path=3 solver.path=''
train solver=fitted_q: solver.knots=1 solver.knots=x solver.folds=1
train solver=frugalgpt: solver.max_models=0 solver.signal=1 solver.features=words
train solver=frugalgpt: solver.embedding_model=3 solver.budget=nan
train solver=hybrid_llm: solver.estimator=x solver.hybrid_tolerance=2 solver.models=[1,0]
train solver=margin: solver.thresholds=0 solver.thresholds=x
train solver=pickllm: solver.variant=x solver.rounds=x solver.learning_rate=0 solver.epsilon=2
train solver=point_based: solver.gap=0 solver.gap=x solver.max_trials=0
train solver=pomcp: solver.simulations=0 solver.simulations=x solver.particles=0
train solver=pomcp: solver.max_depth=0 solver.exploration=-1 solver.exploration=nan
train solver=pomcp: solver.prior_visits=-1 solver.rollout=x solver.tree=oak solver.decide=x
train solver=pomcp: solver.reuse=1
train solver=random_mix: solver.share=2 solver.share=x
train solver=rational_tuning: solver.two_sided=1 solver.cells=3 solver.starts=-1
train solver=self_consistency: solver.threshold=2 solver.threshold=x
train solver=static: solver.model=-1 solver.model=1.5 solver.model=small
train solver=threshold: solver.sweeps=0 solver.sweeps=x
train tracker=wandb: tracker.mode=loud tracker.project='' tracker.project=a/b tracker.project=3
train tracker=wandb: tracker.entity=3 tracker.entity=''
value_verifiers: bins=0 bins=x shuffles=-1 shuffles=x likelihoods=maybe verifiers=3 out=3
value_verifiers: sweep=null evaluation.level=x
collect: questions=3 models=null models=3 judges=3 prices=3 limit=0 limit=x out=3 out=null
collect: table=calls.txt table=../x.csv table=a/b.csv table=null only_complete=maybe prompt=3
collect: verify_last=maybe top_logprobs=-1 top_logprobs=x budget.usd=-1 budget.usd=x
collect: budget.usd=nan budget.tokens=-1 budget.tokens=1.5 budget=3 at_once=0 at_once=1e9
collect: at_once=x progress=maybe progress=1 seed=-1 seed=x verifiers=3
collect scoring=number: scoring.tolerance=-1 scoring.tolerance=x
collect policy=ask_some: policy.probability=2 policy.probability=x policy.seed=-1
collect policy=ask_below: policy.signal=3 policy.threshold=nan policy.explore=2 policy.seed=x
"""
CASES = [
    (head.split(), argument)
    for line in BAD.strip().splitlines()
    for head, _, arguments in [line.partition(": ")]
    for argument in arguments.split()
]


def refused(config: Mapping[str, Any], schema: type[Group]) -> str:
    with pytest.raises(ValueError, match=r"expected|is no setting") as error:
        check(config, schema)
    return str(error.value)


def changed(config: dict[Any, Any], key: str, value: Any) -> dict[Any, Any]:
    """A copy with another value under a dotted key."""
    first, _, rest = key.partition(".")
    return config | {first: changed(config[first], rest, value) if rest else value}


def parsed(argument: str) -> tuple[str, Any]:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (override,) = OverridesParser.create().parse_overrides([argument])
    value = override.value()
    return override.key_or_group, getattr(value, "text", value)


@pytest.mark.parametrize(("head", "argument"), CASES, ids=[f"{h[-1]}-{a}" for h, a in CASES])
def test_a_bad_value_is_named_with_its_key_and_what_is_expected(head, argument):
    name, *options = head
    key, value = parsed(argument)
    said = refused(changed(base(name, *options), key, value), SCHEMAS[name])
    # rollouts.seed and others are references to seed.
    place = rf"(a name in )?(\w+\.)?{re.escape(key)}(\[\d+\]|\.\w+)*"
    assert re.match(rf"{place} is .*: expected ", said), said
    assert "\n" not in said


def test_every_key_has_a_wrong_type_and_a_value_out_of_range_in_the_table():
    tried: dict[str, int] = {}
    for _, argument in CASES:
        tried[argument.partition("=")[0]] = tried.get(argument.partition("=")[0], 0) + 1
    assert len(CASES) >= 120
    for schema in SCHEMAS.values():
        for key, kind in get_type_hints(schema, include_extras=True).items():
            if isinstance(kind, type) and not issubclass(kind, Group | bool | str):
                continue  # its class's keys are tried below it
            assert any(one == key or one.startswith(f"{key}.") for one in tried), key


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("sed", 1, r"sed is no setting: expected .* \(did you mean seed\?\)"),
        ("evaluation.resample", 9, r"evaluation.resample is no setting.*did you mean resamples\?"),
        (
            "solver.max_history",
            9,
            r"solver.max_history is no setting .*histories\?",
        ),
        ("rollouts.queries.tran", 9, r"a name in rollouts.queries is 'tran'.*did you mean train\?"),
        ("solver.training", 9, r"solver.training is no setting"),
    ],
)
def test_an_unknown_key_is_named_with_what_may_be_meant(key, value, message):
    with pytest.raises(ValueError, match=message):
        check(changed(base("train"), key, value), Train)


def test_what_is_not_set_is_asked_for():
    with pytest.raises(ValueError, match=r"rollouts\.path is not set: give rollouts\.path=VALUE"):
        check(composed("train", "rollouts=calls_table"), Train)
    with pytest.raises(ValueError, match="models is not set: give models=VALUE"):
        check(composed("collect", "questions=q.jsonl"), Collect)
    config = composed("train")
    with pytest.raises(ValueError, match="solver is not set: give solver=VALUE"):
        check(DictConfig({key: config[key] for key in config if key != "solver"}), Train)
    with pytest.raises(ValueError, match="seed: Interpolation key 'nope' not found"):
        check(composed("train", "seed=${nope}"), Train)


def test_a_value_that_may_be_a_secret_is_not_shown():
    config = changed(base("train"), "solver.api_key", "LEAKED")
    config = changed(config, "tracker", {"api_key": "LEAKED"})
    assert "LEAKED" not in refused(config, Train)


def test_an_output_folder_that_is_a_file_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match=r"out is .*: expected a folder, or the path of one"):
            check(changed(base("train"), "out", str(out)), Train)
    check(changed(base("train"), "out", str(tmp_path / "new" / "deep")), Train)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("train", ["env=full", "solver=pouct", "observation=kernel", "solver.simulations=3"]),
        ("train", ["rollouts=calls_table", "rollouts.path=a/b.csv", "rollouts.models=[a,b]"]),
        ("train", ["costs=tokens", "costs.prices={a: {in: 1, out: 2.5}}", "sweep=one two"]),
        ("train", ["evaluation.prices=[0, 0.1]", "seed=3", "evaluation.train_size=null"]),
        ("value_verifiers", ["rollouts=rational_cascades", "rollouts.path=a", "bins=3"]),
        ("collect", ["questions=q.jsonl", "policy=ask_some", "policy.probability=0.5"]),
    ],
)
def test_the_quick_composition_of_the_tests_is_hydras(name, overrides):
    assert plain(with_needed(composed(name, *overrides))) == plain(
        with_needed(by_hydra(name, *overrides)[0])
    )
