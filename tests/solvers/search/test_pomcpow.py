"""POMCPOW, against exact solutions of continuous problems: plateaus, normals, fine cells."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.stats import norm

from routing_pomdp.envs import STAY, CostModel, Costs, History, RoutingPOMDP, Rules
from routing_pomdp.envs.model.routing_pomdp import Observation
from routing_pomdp.envs.profiles import load_profile, simulate
from routing_pomdp.evaluation.evaluate import evaluate, model_value
from routing_pomdp.solvers import Exact
from routing_pomdp.solvers.search.continuous import ContinuousPOMDP
from routing_pomdp.solvers.search.pomcpow import POMCPOW, Search, hashed
from routing_pomdp.solvers.search.signal_cells import Cells, discretised
from routing_pomdp.verifiers import (
    Histogram,
    KernelDensity,
    LoggedSignal,
    Product,
    make_routing_data,
)
from tests.support.problems import Bands, every_rules, name_of, random_problem, score_vectors

EVERYTHING = Rules(3, skip=True, free_start=True, verify=True)


@dataclass(frozen=True)
class Plateaus(Bands):
    """Bands with a density that is constant within each: what a band says is all there is."""

    def density(self, model: int, signal: np.ndarray) -> np.ndarray:
        return self.likelihood[model][:, self.symbols(model, signal)].T * self.n_symbols

    def sample(self, model: int, vector: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        rows = self.likelihood[model][vector]
        below = np.concatenate([np.zeros((len(rows), 1)), rows.cumsum(axis=1)], axis=1)
        share = uniform * below[:, -1:]
        band = np.minimum((below[:, 1:] <= share).sum(axis=1), self.n_symbols - 1)
        at = np.arange(len(rows)), band
        inside = (share[:, 0] - below[at]) / rows[at]
        return ((band + np.minimum(inside, 0.999)) / self.n_symbols)[:, None]


@dataclass(frozen=True)
class Normal:
    """The cheaper of two models is right or wrong: its signal is N(±1, 1)."""

    n_symbols: int = 1

    @property
    def likelihood(self) -> np.ndarray:
        return np.ones((1, 4, 1))

    @property
    def representative(self) -> np.ndarray:
        return np.zeros((1, 1, 1))

    def symbols(self, model: int, signal: np.ndarray) -> np.ndarray:
        return np.zeros(len(signal), dtype=np.int64)

    def density(self, model: int, signal: np.ndarray) -> np.ndarray:
        return norm.pdf(signal, loc=np.array([-1.0, -1.0, 1.0, 1.0]))

    def sample(self, model: int, vector: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        return norm.ppf(uniform) + np.array([-1.0, -1.0, 1.0, 1.0])[vector][:, None]


def _normal(price: float, **rules: bool) -> RoutingPOMDP:
    prior = np.array([0.1, 0.35, 0.05, 0.5])  # of (wrong, wrong), (wrong, right), …
    observation = Normal()
    return RoutingPOMDP(
        score_vectors(np.tile([0.0, 1.0], (2, 1))),
        prior,
        observation.likelihood,
        Costs(np.array([1.0, 10.0]), np.array([0.5, 0.0])),
        price,
        Rules(2, **rules),
        observation,
    )


def _hard(rules: Rules, seed: int = 0, symbols: int = 4) -> RoutingPOMDP:
    """A random problem whose bounds leave much to a search."""
    n, rng = rules.n_models, np.random.default_rng(seed)
    score = score_vectors(np.tile([0.0, 1.0], (n, 1)))
    likelihood = rng.dirichlet(np.ones(symbols), size=(n - 1, len(score)))
    call = 3.0 ** np.arange(n)
    prior = rng.dirichlet(np.ones(len(score)))
    return RoutingPOMDP(
        score, prior, likelihood, Costs(call, call / 10), 0.1, rules, Plateaus(symbols, likelihood)
    )


def _fitted(observation: Observation, models: int = 3, **rules: bool) -> RoutingPOMDP:
    log = simulate(load_profile("mmlu"), 300, seed=0)
    log = log.select([log.models[i] for i in (0, 2, 4)[:models]])
    cost_model = CostModel(ratio=50.0)
    costs = cost_model.fit(log, None)
    train = make_routing_data(log, LoggedSignal(), cost_model, costs)
    return RoutingPOMDP.fit(train, observation, costs, Rules(models, **rules), price=0.1)


def _seen(signal: np.ndarray, n_models: int) -> History:
    """Queries whose first model answered and gave these signals."""
    n = len(signal)
    history = History.start(np.arange(n), n_models, signal.shape[1])
    called = history.called.copy()
    called[:, 0] = True
    shown = history.signal.copy()
    shown[:, 0] = signal
    return History(history.query, np.zeros(n, dtype=np.int64), called, called.copy(), shown)


# -- against what is known in closed form ------------------------------------------------------


@pytest.mark.parametrize("price", [0.02, 0.1, 0.4])
def test_of_two_models_the_first_is_returned_above_the_threshold_of_the_posterior(price):
    problem = _normal(price)
    signal = np.linspace(-4, 4, 201)[:, None]
    action = POMCPOW().solve(problem).act(_seen(signal, 2))
    # P(right | o) / P(wrong | o) = 0.55 / 0.45 · exp(2 o); the second model is right in 0.35 / 0.45
    # of the queries in which the first is wrong, and in 0.5 / 0.55 of the others.
    odds = 0.55 / 0.45 * np.exp(2 * signal[:, 0])
    right = odds / (1 + odds)
    escalated = right * 0.5 / 0.55 + (1 - right) * 0.35 / 0.45 - price
    assert 0 < (action == STAY).sum() < len(action) or price == 0.4
    np.testing.assert_array_equal(action == STAY, right >= escalated)


def _verification_is_worth(problem: RoutingPOMDP) -> float:
    """What looking at the signal gains over not looking, by quadrature."""
    signal = np.linspace(-9, 9, 4001)
    wrong, right = 0.45 * norm.pdf(signal, -1), 0.55 * norm.pdf(signal, 1)
    stay, go = right, right * 0.5 / 0.55 + wrong * 0.35 / 0.45
    go = go - problem.call_price[1] * (right + wrong)
    looked = np.trapezoid(np.maximum(stay, go), signal) - problem.verify_price[0]
    return looked - max(0.55, 0.85 - problem.call_price[1])


@pytest.mark.parametrize("price", [0.05, 0.1, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5])
def test_verification_is_bought_where_its_integral_says_so(price):
    problem = _normal(price, verify=True)
    history = History.start(np.arange(1), 2, 1)
    history = replace(history, stage=np.zeros(1, dtype=np.int64))
    history.called[:, 0] = True
    gain = _verification_is_worth(problem)
    assert abs(gain) > 1e-3
    bought = POMCPOW().solve(problem).act(history)[0] == problem.rules.verify_action
    assert bought == (gain > 0)


def _regret(problem: RoutingPOMDP, **settings) -> float:
    policy = POMCPOW(**settings).solve(problem)
    return Exact().solve(problem).value - model_value(policy, problem)


def test_regret_falls_towards_zero_as_simulations_grow():
    problem = _hard(EVERYTHING, seed=1)
    regret = [
        np.mean([_regret(problem, simulations=n, seed=seed) for seed in range(2)])
        for n in (30, 100, 500)
    ]
    assert regret[0] > 5e-3
    assert regret[0] >= regret[1] >= regret[2]
    assert regret[2] < 1e-3


@pytest.mark.parametrize("rules", every_rules(3)[::3], ids=name_of)
def test_on_plateaus_it_comes_within_five_thousandths_of_exact(rules):
    assert -1e-9 < _regret(_hard(rules, seed=1), simulations=1000) < 5e-3


@pytest.mark.parametrize(
    "change", [{"decide": "mean"}, {"particles": 500}, {"widening_power": 1.0}]
)
def test_every_variant_comes_near_to_exact(change):
    assert -1e-9 < _regret(_hard(EVERYTHING), simulations=300, **change) < 1e-2


def test_a_fitted_kernel_density_is_played_as_well_as_in_sixty_four_cells():
    problem = _fitted(KernelDensity(), skip=True, free_start=True, verify=True)
    fine = discretised(ContinuousPOMDP.of(problem), 64)
    exact, policy = Exact().solve(fine), POMCPOW().solve(problem)
    assert -1e-9 < exact.value - model_value(policy, fine) < 1e-3
    assert policy.searched


# -- what it plans in --------------------------------------------------------------------------


def test_beliefs_are_prior_times_densities():
    problem = ContinuousPOMDP.of(_normal(0.1))
    signal = np.array([[-0.3], [2.0]])
    found = problem.posterior(_seen(signal, 2))
    joint = problem.prior * norm.pdf(signal, [[-1, -1, 1, 1]])
    np.testing.assert_allclose(found, joint / joint.sum(axis=1, keepdims=True), atol=1e-12)


def test_a_sample_of_the_model_has_its_means():
    problem = ContinuousPOMDP.of(_normal(0.1))
    data = problem.sample(20_000, np.random.default_rng(0))
    for score, mean in ((0.0, -1.0), (1.0, 1.0)):
        rows = data.score[:, 0] == score
        assert data.signal[rows, 0].mean() == pytest.approx(mean, abs=0.04)
        assert data.signal[rows, 0].std() == pytest.approx(1.0, abs=0.03)


def test_the_best_answer_is_told_from_raw_signals():
    problem = ContinuousPOMDP.of(_normal(0.0, skip=True))
    problem = replace(problem, rules=Rules(2, answer="best"))
    history = _seen(np.array([[-3.0], [3.0]]), 2)
    history.called[:, 1] = True
    np.testing.assert_array_equal(problem.best_answer(history), [1, 0])


def test_cells_of_a_problem_lose_little_and_less_the_more_there_are():
    problem = ContinuousPOMDP.of(_fitted(KernelDensity(), skip=True))
    values = [Exact().solve(discretised(problem, k)).value for k in (1, 4, 16, 40)]
    assert values[0] < values[1] < values[3] + 1e-4
    assert values[3] - values[2] < 1e-3
    cells = Cells.of(problem, 16)
    np.testing.assert_allclose(cells.likelihood.sum(axis=2), 1, atol=1e-12)
    for model in range(2):
        found = cells.symbols(model, cells.representative[model])
        assert (found == np.arange(16)).mean() > 0.9


def test_two_signals_at_once_are_planned_on_without_merging():
    rng = np.random.default_rng(0)
    train = random_problem(Rules(2), rng).sample(200, rng)
    signal = (rng.random((200, 2, 2)) + train.score[..., None]) / 2
    data = replace(train, signal=signal)
    product = Product(KernelDensity())
    problem = RoutingPOMDP.fit(data, product, train_costs(2), Rules(2, verify=True), levels=2)
    raw = signal[:5, 0]
    apart = [product.parts_[d].density(0, raw[:, [d]]) for d in range(2)]
    np.testing.assert_allclose(product.density(0, raw), apart[0] * apart[1])
    assert evaluate(POMCPOW(simulations=30).solve(problem), data).decisions >= 200


def train_costs(n_models: int) -> Costs:
    return Costs(3.0 ** np.arange(n_models), np.full(n_models, 0.1))


@pytest.mark.parametrize("observation", [None, Histogram(), Product(Histogram())])
def test_an_observation_without_densities_is_refused(observation):
    problem = random_problem(Rules(2), np.random.default_rng(0))
    if observation is not None:
        problem = _fitted(observation, 2)
    with pytest.raises(ValueError, match="density"):
        POMCPOW().solve(problem)
    if isinstance(observation, Histogram):
        with pytest.raises(ValueError, match=r"observation=kernel, .*beta or .*mixture"):
            POMCPOW().solve(problem)


# -- the search --------------------------------------------------------------------------------


def _search(problem: RoutingPOMDP, **settings) -> Search:
    policy = POMCPOW(**settings).solve(problem)
    history = History.start(np.arange(1), problem.n_models, 1)
    key = hashed(history.to_array(), policy.solver.seed)
    point = policy.tables.graph.index(history)
    return Search(policy, point, policy.problem.posterior(history), None, key)


@pytest.mark.parametrize(("widening", "power"), [(1.0, 0.5), (3.0, 0.25)])
def test_an_action_has_no_more_signals_than_widening_allows(widening, power):
    search = _search(
        _hard(replace(EVERYTHING, verify=False)), widening=widening, widening_power=power
    )
    visits = search.count - search.solver.prior_visits
    allowed = np.maximum(np.ceil(widening * np.maximum(visits, 0) ** power), visits > 0)
    assert (search.children <= allowed).all()
    assert search.children.max() > 3
    assert search.size[0] == 1 + search.children.sum()


def test_the_mean_belief_of_the_nodes_after_an_action_is_the_belief_before_it():
    search = _search(_hard(Rules(3, free_start=True)), simulations=800, widening_power=1.0)
    for choice in np.flatnonzero(search.children[0, 0] > 100):
        after = (search.parent[0] == 0) & (search.choice[0] == choice)
        after[0] = after[search.size[0] :] = False
        mean = search.weight[0][after].mean(axis=0)
        np.testing.assert_allclose(mean, search.weight[0, 0], atol=0.01)


def test_decisions_depend_on_neither_order_nor_batch_nor_what_was_asked_before():
    problem = _hard(EVERYTHING)
    data = ContinuousPOMDP.of(problem).sample(60, np.random.default_rng(0))
    history = _seen(data.signal[:, 0], 3)
    together = POMCPOW(simulations=40).solve(problem)
    action = together.act(history)
    assert len(together.searched) > 5
    alone, reverse = POMCPOW(simulations=40).solve(problem), np.arange(60)[::-1]
    for i in reverse.tolist():
        assert alone.act(history.take(np.array([i])))[0] == action[i]
    np.testing.assert_array_equal(together.act(history.take(reverse)), action[::-1])


def test_the_seed_decides_everything():
    problem = _hard(EVERYTHING)
    worth = [_search(problem, simulations=50, seed=seed).worth() for seed in (0, 0, 1)]
    np.testing.assert_array_equal(worth[0], worth[1])
    assert (worth[0] != worth[2]).any()


def test_each_distinct_history_is_planned_once():
    problem = _hard(EVERYTHING)
    data = ContinuousPOMDP.of(problem).sample(50, np.random.default_rng(0))
    policy = POMCPOW(simulations=20).solve(problem)
    first = evaluate(policy, data)
    plans = policy.plans
    again = evaluate(policy, data)
    assert policy.plans == plans <= first.decisions
    np.testing.assert_array_equal(first.cost, again.cost)


@pytest.mark.parametrize("rules", every_rules(3)[::5], ids=name_of)
def test_every_decision_is_legal(rules):
    problem = random_problem(rules, np.random.default_rng(3), sparse=True)
    problem = replace(problem, observation=Plateaus(problem.n_symbols, problem.likelihood))
    data = problem.sample(100, np.random.default_rng(0))
    for settings in ({"simulations": 5}, {"simulations": 5, "particles": 1}):
        evaluate(POMCPOW(**settings).solve(problem), data)  # refuses what is not legal


def test_a_signal_without_density_is_planned_for_from_the_prior():
    problem = _normal(0.1, verify=True)
    policy = POMCPOW(simulations=20).solve(problem)
    far = _seen(np.array([[1e6]]), 2)
    belief, impossible = policy.problem.evidence(far)
    np.testing.assert_array_equal(belief, problem.prior[None])
    assert impossible.all()
    assert policy.act(far)[0] == 1  # the second model is the better one before any signal


def test_all_prices_share_their_signals():
    problem = _hard(EVERYTHING)
    prices = [0.0, 0.1, 1.0]
    together = POMCPOW(simulations=10).solve_frontier(problem, prices)
    assert together[0].pool is together[2].pool
    for policy, price in zip(together, prices, strict=True):
        alone = POMCPOW(simulations=10).solve(problem.at(price))
        assert model_value(policy, problem.at(price)) == model_value(alone, problem.at(price))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("simulations", 0),
        ("widening", 0.0),
        ("widening", float("nan")),
        ("widening_power", 0.0),
        ("widening_power", 1.5),
        ("particles", 0),
        ("exploration", -1.0),
        ("prior_visits", 0),
        ("decide", "vote"),
        ("seed", -1),
    ],
)
def test_bad_settings_are_refused_by_name(key, value):
    with pytest.raises(ValueError, match=f"solver.{key} is"):
        POMCPOW(**{key: value})


@pytest.mark.parametrize("seed", range(5))
def test_the_value_lies_between_the_bounds_of_the_root(seed):
    problem = _hard(Rules(3, skip=True, free_start=True, verify=seed % 2 == 0), seed)
    tables = POMCPOW().solve(problem).tables
    high, low = tables.bounds(np.zeros(1, dtype=np.int64), problem.prior[None], None)
    assert low[0] - 1e-9 <= Exact().solve(problem).value <= high.max() + 1e-3
