"""Tests that a mean over queries is at most a limit, valid at every number of queries.

Two tests, by what the values are:

- **Binary scores.** A paired loss ``d = s_reference − s_policy`` is −1, 0 or 1. The exact
  unconditional test of non-inferiority for paired binary outcomes (Hsueh, Liu & Chen, Biometrics
  2001): the probability of what was seen or more, at the least favourable share of discordant
  queries within its Clopper–Pearson interval (Berger & Boos, JASA 1994).
- **Anything bounded.** The capital of a bettor against the null hypothesis (Waudby-Smith & Ramdas,
  JRSS B 2024, arXiv 2010.09686, §3 and the predictable plug-in bets of their eq. 15), whose
  inverse is a p-value by Ville's inequality. It adapts to the variance, as most losses are 0.

Both assume queries drawn independently from the population that the statement is about.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from routing_pomdp.envs.arrays import FloatArray, IntArray

# The share of the level that Berger & Boos's interval of the nuisance parameter may take.
_NUISANCE = 0.05
# Least favourable shares are looked for on a grid a seventh of a standard deviation fine.
_GRID = 41
# Largest bet, as a share of the one that a single query could ruin.
_LARGEST_BET = 0.75
# More queries than this are "very many".
_MOST = 100_000


def loss_p_value(loss: ArrayLike, epsilon: float, level: float, binary: bool) -> float:
    """A p-value of the null hypothesis that the mean of paired losses exceeds ``epsilon``.

    Args:
        loss: ``(n,)`` in [−1, 1], or −1, 0 and 1 alone where scores are binary.
        epsilon: the limit, in [0, 1).
        level: that the p-value will be compared with; it is valid at every level, and tuned for
            this one.
        binary: whether all scores are 0 or 1.
    """
    loss = np.asarray(loss, dtype=np.float64)
    if binary:
        worse, better = int((loss == 1).sum()), int((loss == -1).sum())
        return exact_p_value(worse, better, len(loss), epsilon, level)
    return betting_p_value(loss, epsilon, level, -1.0, 1.0)


@lru_cache(maxsize=1 << 16)
def exact_p_value(worse: int, better: int, n: int, epsilon: float, level: float) -> float:
    """The exact test of ``loss_p_value`` for binary scores.

    Outcomes are ordered by ``(S − n ε) / sqrt(max(m, n ε))`` with ``S = worse − better`` and
    ``m = worse + better``: what lies further below the limit than was seen contains, with every
    outcome, those of fewer losses or more wins. So the least favourable mean is ``ε`` itself, and
    what is left is the share ``q`` of discordant queries.

    Args:
        worse: queries that the reference answers right and the policy wrong.
        better: the other way round.
        n: queries in all.
        epsilon: the limit.
        level: see `loss_p_value`.
    """
    discordant, least = worse + better, n * epsilon
    if n == 0 or worse - better >= least:
        return 1.0
    gamma = _NUISANCE * level
    low, high = _clopper_pearson(discordant, n, gamma / 2)
    q = np.linspace(min(max(low, epsilon), high), high, _GRID)
    q = q[(q >= epsilon) & (q > 0)]  # a mean of ε needs a share of ε
    if len(q) == 0:
        return gamma
    spread = 9 * np.sqrt(n * q * (1 - q)) + 9
    m = np.arange(max(0, int((n * q - spread).min())), min(n, int((n * q + spread).max())) + 1)
    seen = (worse - better - least) / np.sqrt(max(discordant, least))
    # At m discordant queries: how many may be losses, for the outcome to count.
    most = np.floor((seen * np.sqrt(np.maximum(m, least)) + least + m) / 2 + 1e-9)
    share = np.minimum((1 + epsilon / q) / 2, 1.0)[:, None]
    inside = np.clip(most, 0, m)
    tail = np.where(most < 0, 0.0, special.bdtr(inside, m, share))
    tail = np.where(most >= m, 1.0, tail)
    return float(min(1.0, gamma + (_binomial(m, n, q[:, None]) * tail).sum(axis=1).max()))


def betting_p_value(
    values: ArrayLike, limit: float, level: float, low: float, high: float, seed: int = 0
) -> float:
    """A p-value of the null hypothesis that the mean of bounded values exceeds a limit.

    Bets follow one another, so the queries are shuffled first: a log may be sorted by domain.

    Args:
        values: ``(n,)`` in [low, high].
        limit: of the mean.
        level: see `loss_p_value`.
        low: no value is below.
        high: no value is above.
        seed: of the order.
    """
    values = np.asarray(values, dtype=np.float64)
    if len(values) and not (low <= values.min() and values.max() <= high):
        raise ValueError(
            f"values from {values.min():g} to {values.max():g}: expected all in [{low:g}, {high:g}]"
        )
    if limit >= high:
        return 0.0
    if limit <= low or len(values) == 0 or values.mean() >= limit:
        return 1.0  # the last: a lucky beginning convinces nobody of what the whole denies
    x = (np.random.default_rng(seed).permutation(values) - low) / (high - low)
    m, step = (limit - low) / (high - low), np.arange(1, len(x) + 1)
    mean = (0.5 + np.cumsum(x)) / (step + 1)
    variance = (0.25 + np.cumsum((x - mean) ** 2)) / (step + 1)
    before = np.concatenate([[0.25], variance[:-1]])  # a bet knows only earlier queries
    bet = np.minimum(np.sqrt(2 * np.log(1 / level) / (len(x) * before)), _LARGEST_BET / (1 - m))
    capital = np.cumsum(np.log1p(-bet * (x - m)))
    return float(min(1.0, np.exp(-capital.max())))


def queries_needed(
    loss: ArrayLike, epsilon: float, level: float, binary: bool, most: int = _MOST
) -> int | None:
    """About how many queries would certify a limit, if they went on like these; None for more
    than ``most``, or where the mean itself exceeds the limit.

    Args:
        loss: ``(n,)`` as for `loss_p_value`, n >= 1.
        epsilon: the limit.
        level: of the test.
        binary: whether all scores are 0 or 1.
        most: where to stop looking.
    """
    loss = np.random.default_rng(0).permutation(np.asarray(loss, dtype=np.float64))

    def enough(n: int) -> bool:
        if binary:
            worse, better = (round(n * float((loss == sign).mean())) for sign in (1, -1))
            return exact_p_value(worse, better, n, epsilon, level) <= level
        more = np.resize(loss, n)  # bets depend on the order: the middle one of five
        p = [betting_p_value(more, epsilon, level, -1.0, 1.0, seed) for seed in range(5)]
        return float(np.median(p)) <= level

    if loss.mean() >= epsilon:
        return None
    low, high = 0, 1
    while not enough(high):
        if high == most:
            return None
        low, high = high, min(2 * high, most)
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _clopper_pearson(successes: int, n: int, tail: float) -> tuple[float, float]:
    """The interval of a share that misses it with probability ``tail`` on each side."""
    low = special.betaincinv(successes, n - successes + 1, tail) if successes else 0.0
    high = special.betaincinv(successes + 1, n - successes, 1 - tail) if successes < n else 1.0
    return float(low), float(high)


def _binomial(k: IntArray, n: int, p: FloatArray) -> FloatArray:
    """Probabilities of ``k`` successes among ``n``."""
    ways = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    found: FloatArray = np.exp(ways + special.xlogy(k, p) + special.xlog1py(n - k, -p))
    return found
