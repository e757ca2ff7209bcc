"""The small problems on which `check_solver` tests a solver."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs import Costs, RoutingData, RoutingPOMDP, Rules
from routing_pomdp.envs.model.observation import Observation
from routing_pomdp.envs.plug_in_checks import example_log


@dataclass(frozen=True, eq=False)
class Example:
    """A small problem with training and test queries.

    Attributes:
        problem: fitted on ``train``.
        train: training queries.
        test: test queries.
        about: the call that makes this example again.
    """

    problem: RoutingPOMDP
    train: RoutingData
    test: RoutingData
    about: str

    @classmethod
    def make(
        cls,
        rules: Rules,
        observation: Observation | None = None,
        signals: str = "plain",
        queries: int = 120,
    ) -> Example:
        """The example for these rules.

        Args:
            rules: for three models.
            observation: unfitted; None for `Bins`.
            signals: "plain" for confidences in [0, 1]; "missing" adds NaN, "infinite" adds ±∞.
            queries: number of queries; half of them are training queries.
        """
        log = example_log(queries)
        (logged,) = log.signals.values()
        confidence = np.exp(logged)
        odd = np.random.default_rng(1).random(confidence.shape)
        if signals == "missing":
            confidence[odd < 0.25] = np.nan
        if signals == "infinite":
            confidence[(odd < 0.2) & (confidence < 0.5)] = -np.inf
            confidence[(odd < 0.2) & (confidence >= 0.5)] = np.inf
        log = replace(log, signals={"confidence": confidence})
        assert log.cost is not None
        verify = log.signal_costs["confidence"]
        data = RoutingData(log.score, log.cost, verify, confidence[..., None], log)
        if rules.pre_query:
            assert log.prompt is not None
            hard = np.array([text.startswith("prove") for text in log.prompt])
            data = replace(data, pre_signal=hard[:, None].astype(float))
        train, test = (data.take(log.split == name) for name in ("train", "test"))
        problem = RoutingPOMDP.fit(
            train,
            observation or Bins(),
            Costs(train.call_cost.mean(axis=0), train.verify_cost.mean(axis=0)),
            rules,
            pre=Bins(2) if rules.pre_query else None,
        )
        settings = "" if signals == "plain" else f", signals={signals!r}"
        settings += "" if queries == 120 else f", queries={queries}"
        return cls(
            problem,
            train,
            test,
            f"routing_pomdp.solvers.check_examples.Example.make({rules}{settings})",
        )

    def __str__(self) -> str:
        return self.about


@dataclass(frozen=True)
class Bins:
    """An observation model for examples: quantile bins of a signal's first component, and one
    symbol for missing signals.

    Attributes:
        bins: number of bins.
        edges_: fitted, ``(N - 1, bins - 1)``.
        likelihood_: fitted.
        representative_: fitted.
    """

    bins: int = 4
    edges_: NDArray[np.float64] | None = None
    likelihood_: NDArray[np.float64] | None = None
    representative_: NDArray[np.float64] | None = None

    @property
    def n_symbols(self) -> int:
        return self.bins + 1

    @property
    def likelihood(self) -> NDArray[np.float64]:
        assert self.likelihood_ is not None
        return self.likelihood_

    @property
    def representative(self) -> NDArray[np.float64]:
        assert self.representative_ is not None
        return self.representative_

    def fit(
        self,
        signal: NDArray[np.float64],
        level: NDArray[np.int64],
        score_vectors: NDArray[np.int64],
    ) -> Bins:
        shown = np.where(np.isinf(signal[..., 0]), np.sign(signal[..., 0]) * 9, signal[..., 0])
        levels = np.linspace(0, 1, self.bins + 1)[1:-1]
        edges = np.nanquantile(shown, levels, axis=0).T
        cut = replace(self, edges_=edges)
        likelihood = np.empty((len(edges), len(score_vectors), self.n_symbols))
        middle = np.full((len(edges), self.n_symbols, signal.shape[2]), np.nan)
        for model in range(len(edges)):
            symbol = cut.symbols(model, signal[:, model])
            for value in np.unique(score_vectors[:, model]):
                alike = symbol[level[:, model] == value]
                count = np.bincount(alike, minlength=self.n_symbols) + 0.5
                likelihood[model, score_vectors[:, model] == value] = count / count.sum()
            inner = np.concatenate([[edges[model, 0] - 0.1], edges[model]])
            middle[model, : self.bins] = inner[:, None] + 1e-9
        return replace(cut, likelihood_=likelihood, representative_=middle)

    def symbols(self, model: int, signal: NDArray[np.float64]) -> NDArray[np.int64]:
        assert self.edges_ is not None
        value = signal[:, 0]
        found = np.searchsorted(self.edges_[model], value, side="right")
        return np.where(np.isnan(value), self.bins, found)
