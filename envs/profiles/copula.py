"""A Gaussian copula fitted to the pairwise correlations of a log (NORTA).

Every variable is ``X_a = h_a(Φ(Z_a))`` of one standard normal vector ``Z`` with correlation matrix
``R``. By Mehler's formula the correlation of two of them is a power series in their latent one,

    corr(X_a, X_b) = Σ_{k≥1} α_ak α_bk R_ab^k,    α_ak = E[h_a(Φ(Z)) He_k(Z)] / (√k! sd(X_a)),

increasing in ``R_ab``, so that each pair can be solved alone. The pairwise solutions need not form
a correlation matrix (with a few hundred queries and rare failures they seldom do), and many
matrices lie within the tolerances. The fit minimises the squared error of the correlations, in
units of their tolerances, minus a small multiple of the copula's entropy ``log det R``, which
prefers little dependence. It optimises unit-length factors ``R = L L'``, so that ``R`` is positive
definite.

Sources: Cario & Nelson, "Modeling and generating random vectors with arbitrary marginal
distributions and correlation matrix" (1997); Ghosh & Henderson, "Behavior of the NORTA method"
(2003), for the infeasible case; Jaynes (1957) for the entropy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.profiles.marginal import Marginal

_TERMS = 400
_CELLS = 2000
_LATENT_GRID = np.tanh(np.linspace(-5, 5, 801))
# Weight of log det R in squared tolerances: where the pairwise solutions form a correlation matrix,
# it moves no correlation of a real log by a tenth of its tolerance.
_ENTROPY_WEIGHT = 0.1


def uniforms(correlation: FloatArray, n: int, rng: np.random.Generator) -> FloatArray:
    """``(d, n)`` draws of the copula: each row is uniform on (0, 1), dependent on the others."""
    eigenvalues, eigenvectors = np.linalg.eigh(correlation)
    factor = eigenvectors * np.sqrt(np.clip(eigenvalues, 0, None))
    return ndtr(factor @ rng.standard_normal((n, len(correlation))).T)


def fit_correlation(
    marginals: Sequence[Marginal], target: FloatArray, tolerance: FloatArray
) -> FloatArray:
    """The latent correlation matrix that best reproduces measured correlations.

    Args:
        marginals: the ``d`` variables, as the functions ``h`` of a uniform level.
        target: ``(d, d)`` their Pearson correlations, symmetric; NaN where undefined (a constant).
        tolerance: ``(d, d)`` the unit of each correlation's residual.

    Returns:
        ``(d, d)`` correlation matrix, rounded to 4 decimals. A constant is uncorrelated with all.
    """
    d = len(marginals)
    row, column = np.triu_indices(d, k=1)
    defined = np.isfinite(target[row, column])
    row, column = row[defined], column[defined]
    alpha = np.stack([_hermite_coefficients(marginal) for marginal in marginals])
    series = alpha[row] * alpha[column]
    wanted, unit = target[row, column], tolerance[row, column]
    latent = np.eye(d)
    latent[row, column] = latent[column, row] = _solve_pairs(series, wanted)
    rounded = np.round(_nearest(latent, (row, column), series, wanted, unit), 4)
    np.fill_diagonal(rounded, 1.0)
    return rounded


def _hermite_coefficients(marginal: Marginal) -> FloatArray:
    """``(_TERMS,)`` the α_k of one standardised variable, k = 1 …; zeros for a constant.

    ``h`` is approximated by a step function on a fine grid that contains its knots, so that atoms
    are exact: a step of ``δ`` at ``t`` adds ``δ He_{k-1}(t) φ(t) / √k!``.
    """
    edges = np.union1d(marginal.levels, np.linspace(0, 1, _CELLS + 1))
    steps = marginal.quantile((edges[:-1] + edges[1:]) / 2)
    width = np.diff(edges)
    variance = width @ (steps - width @ steps) ** 2
    coefficients = np.zeros(_TERMS)
    if marginal.constant:
        return coefficients
    at, jump = ndtri(edges[1:-1]), np.diff(steps)
    before, now = np.zeros_like(at), np.exp(-(at**2) / 2) / np.sqrt(2 * np.pi)
    for k in range(1, _TERMS + 1):
        coefficients[k - 1] = jump @ now / np.sqrt(k)
        before, now = now, (at * now - np.sqrt(k - 1) * before) / np.sqrt(k)
    return coefficients / np.sqrt(variance)


def _correlations(series: FloatArray, latent: FloatArray) -> FloatArray:
    """``(p,)`` correlations of ``p`` pairs with series ``(p, _TERMS)`` at ``latent (p,)``."""
    return (series * latent[:, None] ** np.arange(1, _TERMS + 1)).sum(axis=1)


def _slopes(series: FloatArray, latent: FloatArray) -> FloatArray:
    """``(p,)`` derivatives of `_correlations` with respect to ``latent``."""
    k = np.arange(1, _TERMS + 1)
    return (series * k * latent[:, None] ** (k - 1)).sum(axis=1)


def _solve_pairs(series: FloatArray, wanted: FloatArray) -> FloatArray:
    """``(p,)`` latent correlation of each pair alone; the nearer end if it is out of reach."""
    powers = _LATENT_GRID[:, None] ** np.arange(1, _TERMS + 1)
    # Near ±1 the truncated series may decrease, where the full one increases.
    curves = np.maximum.accumulate(series @ powers.T, axis=1)
    pairs = zip(wanted, curves, strict=True)
    return np.array([np.interp(value, curve, _LATENT_GRID) for value, curve in pairs])


def _nearest(
    latent: FloatArray,
    pairs: tuple[NDArray[np.intp], NDArray[np.intp]],
    series: FloatArray,
    wanted: FloatArray,
    unit: FloatArray,
) -> FloatArray:
    """The correlation matrix that minimises the module's objective, started at ``latent``."""
    from scipy.optimize import minimize

    d = len(latent)

    def objective(flat: FloatArray) -> tuple[float, FloatArray]:
        length = np.linalg.norm(flat.reshape(d, d), axis=1, keepdims=True)
        factor = flat.reshape(d, d) / length
        inner = (factor @ factor.T)[pairs]
        residual = (_correlations(series, inner) - wanted) / unit
        slope = np.zeros((d, d))
        slope[pairs] = 2 * residual * _slopes(series, inner) / unit
        gradient = (slope + slope.T) @ factor - 2 * _ENTROPY_WEIGHT * np.linalg.inv(factor).T
        # Projected to the tangent of the unit sphere.
        gradient -= (gradient * factor).sum(axis=1, keepdims=True) * factor
        entropy = 2 * np.linalg.slogdet(factor)[1]
        return float(residual @ residual - _ENTROPY_WEIGHT * entropy), (gradient / length).ravel()

    eigenvalues, eigenvectors = np.linalg.eigh(latent)
    start = eigenvectors * np.sqrt(np.clip(eigenvalues, 0.05, None))
    options = {"maxiter": 2000, "maxfun": 4000}
    solved = minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", options=options)
    factor = solved.x.reshape(d, d)
    factor = factor / np.linalg.norm(factor, axis=1, keepdims=True)
    return factor @ factor.T
