"""The factored network of values, and the scale on which it sees signals."""

import numpy as np
import torch

from envs import Rules
from solvers.places import Places
from solvers.value_net import NormalScores, ValueNet
from tests.problems import random_replay


def test_frozen_at_some_tolls_it_says_the_mean_of_its_members():
    torch.manual_seed(0)
    places = Places.of(Rules(3, skip=True, verify=True))
    network = ValueNet(3, 4, 8, places).double()
    torch.nn.init.normal_(network.heads)
    x, tolls = torch.randn(len(places), 20, 4).double(), torch.rand(2, 6).double()
    values = network(x, tolls).mean(dim=0).detach().numpy()
    for at, told in enumerate(tolls.numpy()):
        frozen = network.frozen(told)
        for place in range(len(places)):
            found = frozen(place, x[place].numpy())
            np.testing.assert_allclose(found, values[place, :, at], atol=1e-12)


def test_at_first_every_value_is_0():
    places = Places.of(Rules(3))
    assert not ValueNet(2, 2, 8, places)(torch.randn(len(places), 5, 2), torch.rand(3, 6)).any()


def test_signals_of_any_scale_look_alike_and_missing_ones_like_ordinary_ones():
    replay = random_replay(100, 3, np.random.default_rng(0), signals=2)
    seen = NormalScores.of(replay)(replay.signal)
    stretched = replay.signal**3 * 1e6
    columns = stretched[:, :-1].reshape(100, -1).T
    other = NormalScores(tuple(np.sort(c) for c in columns), np.zeros(len(columns), dtype=bool))
    np.testing.assert_allclose(other(stretched), seen)
    np.testing.assert_allclose(seen.mean(axis=0), 0, atol=1e-12)
    assert 2 < np.abs(seen).max() < 3
    beyond = np.full((1, 3, 2), [[1e9], [np.nan], [0.0]])
    found = NormalScores.of(replay)(beyond)[0]
    assert (found[:2] > seen.max(axis=0)[:2]).all()
    assert (found[2:] == 0).all()
