"""Costs of calls and verifications: as logged, from a cost ratio, from token prices, or times."""

from typing import TYPE_CHECKING

from routing_pomdp.envs.lazy import lazy_face

if TYPE_CHECKING:
    from routing_pomdp.envs.costs.cost_model import CostModel, Costs, ladder
    from routing_pomdp.envs.costs.objectives import LatencyCosts, MixedCosts, Objective, TokenCosts
    from routing_pomdp.envs.costs.price_table import Price, price_of, read_prices
else:
    __getattr__, __dir__, __all__ = lazy_face(__name__)
