"""The factored network of values, and the scale on which it sees signals."""

import numpy as np
import torch

from routing_pomdp.envs import Rules
from routing_pomdp.solvers.decision_points import DecisionPoints
from routing_pomdp.solvers.learned.value_net import NormalScores, ValueNet
from tests.support.problems import random_data


def test_frozen_at_some_action_costs_it_says_the_mean_of_its_members():
    torch.manual_seed(0)
    points = DecisionPoints.of(Rules(3, skip=True, verify=True))
    network = ValueNet(3, 4, 8, points).double()
    torch.nn.init.normal_(network.heads)
    x, action_costs = torch.randn(len(points), 20, 4).double(), torch.rand(2, 6).double()
    values = network(x, action_costs).mean(dim=0).detach().numpy()
    for at, told in enumerate(action_costs.numpy()):
        frozen = network.frozen(told)
        for point in range(len(points)):
            found = frozen(point, x[point].numpy())
            np.testing.assert_allclose(found, values[point, :, at], atol=1e-12)


def test_at_first_every_value_is_0():
    points = DecisionPoints.of(Rules(3))
    assert not ValueNet(2, 2, 8, points)(torch.randn(len(points), 5, 2), torch.rand(3, 6)).any()


def test_signals_of_any_scale_look_alike_and_missing_ones_like_ordinary_ones():
    data = random_data(100, 3, np.random.default_rng(0), signals=2)
    seen = NormalScores.of(data)(data.signal)
    stretched = data.signal**3 * 1e6
    columns = stretched[:, :-1].reshape(100, -1).T
    other = NormalScores(tuple(np.sort(c) for c in columns), np.zeros(len(columns), dtype=bool))
    np.testing.assert_allclose(other(stretched), seen)
    np.testing.assert_allclose(seen.mean(axis=0), 0, atol=1e-12)
    assert 2 < np.abs(seen).max() < 3
    beyond = np.full((1, 3, 2), [[1e9], [np.nan], [0.0]])
    found = NormalScores.of(data)(beyond)[0]
    assert (found[:2] > seen.max(axis=0)[:2]).all()
    assert (found[2:] == 0).all()
