"""What every observation model promises: `envs.model.observation.Observation`."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from routing_pomdp.verifiers import Beta, GaussianMixture, Histogram, KernelDensity, Merged, Product

VECTORS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
LOGPROBS = st.one_of(st.floats(-1e4, 0, allow_subnormal=False), st.sampled_from([0.0, -1e4]))

ONE = {
    f"{family.__name__}-{binning}-{conditioning}": (
        lambda family=family, b=binning, c=conditioning: family(bins=4, binning=b, conditioning=c)
    )
    for family in (Histogram, KernelDensity, Beta, GaussianMixture)
    for binning in ("quantile", "uniform", "supervised")
    for conditioning in ("own", "joint")
}
SEVERAL = {
    f"{kind}-of-{name}": (
        lambda kind=kind, make=make: Product(make(), keep=6) if kind == "Product" else
        Merged(make(), kind="isotonic" if kind == "Merged-isotonic" else "logistic")
    )
    for kind in ("Product", "Merged", "Merged-isotonic")
    for name, make in ONE.items()
    if name.startswith(("Histogram-quantile", "Beta-supervised"))
}  # fmt: skip
EVERY = {**{name: (make, 1) for name, make in ONE.items()},
         **{name: (make, 2) for name, make in SEVERAL.items()}}  # fmt: skip


@given(st.sampled_from(sorted(EVERY)), st.data(), st.integers(0, 2**32 - 1))
def test_likelihoods_sum_to_one_for_any_log_probabilities_and_no_signal_is_refused(
    name, data, seed
):
    make, width = EVERY[name]
    n = data.draw(st.integers(1, 25))
    signal = data.draw(arrays.arrays(float, (n, 1, width), elements=LOGPROBS))
    level = np.random.default_rng(seed).integers(2, size=(n, 2))
    model = make().fit(signal, level, VECTORS)
    assert model.likelihood.shape == (1, 4, model.n_symbols)
    assert (model.likelihood >= 0).all()
    np.testing.assert_allclose(model.likelihood.sum(axis=-1), 1)
    # Those of training can come under every score; new ones, however far out, become one of them.
    seen = model.symbols(0, signal[:, 0])
    assert (model.likelihood[0][:, seen] > 0).all()
    extreme = np.repeat([[0.0], [-0.0], [-1e-300], [-1e4], [-1e300]], width, axis=1)
    symbol = model.symbols(0, extreme)
    assert ((symbol >= 0) & (symbol < model.n_symbols)).all()
    assert np.isfinite(model.representative).all()


def drawn(n, seed, width):
    """Levels, and log-probabilities that tell the first model's."""
    rng = np.random.default_rng(seed)
    level = rng.integers(2, size=(n, 2))
    right = level[:, :1] == 1
    confidence = rng.beta(np.where(right, 4.0, 2.0), np.where(right, 1.5, 3.0), (n, width))
    return level, np.log(confidence)[:, None]


@pytest.mark.parametrize("name", [
    "Histogram-quantile-own", "KernelDensity-quantile-own", "Beta-quantile-own",
    "GaussianMixture-quantile-own", "Product-of-Histogram-quantile-own",
    "Merged-of-Histogram-quantile-own", "Merged-of-Histogram-quantile-joint",
])  # fmt: skip
def test_with_more_data_likelihoods_become_the_shares_of_symbols_among_new_queries(name):
    make, width = EVERY[name]
    level, fresh = drawn(100_000, 99, width)
    row = level @ [2, 1]
    errors = []
    for n in (60, 6000):
        trained, signal = drawn(n, 0, width)
        model = make().fit(signal, trained, VECTORS)
        symbol = model.symbols(0, fresh[:, 0])
        share = np.zeros((4, model.n_symbols))
        np.add.at(share, (row, symbol), 1)
        share /= share.sum(axis=1, keepdims=True)
        errors.append(np.abs(model.likelihood[0] - share).max())
    assert errors[1] < 0.03
    assert errors[1] < errors[0] / 2
