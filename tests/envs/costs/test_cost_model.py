"""Costs of calls and verifications, against arithmetic done by hand."""

import numpy as np
import pytest

from routing_pomdp.envs import CostModel, Costs, Rollouts

# Three queries on two models: means 2 and 20.
ANSWERS = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
# The last model's second answer was never verified: means 1 and (5 + 0 + 25)/3 = 10.
VERIFICATIONS = np.array([[0.5, 5.0], [1.0, np.nan], [1.5, 25.0]])


def _log(cost: np.ndarray | None = ANSWERS, models: tuple[str, ...] = ("small", "large")):
    n = 3
    return Rollouts(
        models=models,
        query_id=np.array(["a", "b", "c"]),
        score=np.ones((n, len(models))),
        cost=cost,
        signals={},
        split=np.full(n, "train"),
        dataset=np.full(n, "toy"),
    )


def _fit(model: CostModel, verification: np.ndarray | None = VERIFICATIONS, log=None) -> Costs:
    return model.fit(_log() if log is None else log, verification)


def _check(costs: Costs, call: list[float], verify: list[float]) -> None:
    np.testing.assert_allclose(costs.call, call, rtol=1e-15)
    np.testing.assert_allclose(costs.verify, verify, rtol=1e-15)
    assert costs.unit == costs.call[-1]


def test_logged_costs_are_means_of_the_log():
    _check(_fit(CostModel()), [2, 20], [1, 10])


def test_a_verification_that_was_never_made_was_never_charged():
    log = _log()
    call, verify = CostModel().apply(log, VERIFICATIONS, _fit(CostModel()))
    np.testing.assert_array_equal(call, ANSWERS)
    np.testing.assert_array_equal(verify, [[0.5, 5], [1, 0], [1.5, 25]])


def test_no_verification_costs_means_a_free_verifier():
    _check(_fit(CostModel(), None), [2, 20], [0, 0])
    _, verify = CostModel().apply(_log(), None, _fit(CostModel(), None))
    np.testing.assert_array_equal(verify, np.zeros((3, 2)))


def test_a_verifier_share_replaces_its_logged_costs_call_by_call():
    model = CostModel(verifier=0.25)
    _check(_fit(model), [2, 20], [0.5, 5])
    call, verify = model.apply(_log(), VERIFICATIONS, _fit(model))
    np.testing.assert_array_equal(call, ANSWERS)
    np.testing.assert_array_equal(verify, ANSWERS / 4)


def test_a_ladder_climbs_geometrically_from_one_to_the_ratio():
    _check(_fit(CostModel(ratio=50), None), [1, 50], [0, 0])
    three = _log(np.ones((3, 3)), ("a", "b", "c"))
    _check(_fit(CostModel(ratio=100), None, three), [1, 10, 100], [0, 0, 0])
    five = _log(np.ones((3, 5)), tuple("abcde"))
    _check(_fit(CostModel(ratio=16), None, five), [1, 2, 4, 8, 16], [0] * 5)
    _check(_fit(CostModel(ratio=1), None, three), [1, 1, 1], [0, 0, 0])


def test_a_ladder_keeps_the_logs_own_share_of_verification():
    # Means 1 of 2 and 10 of 20: half of the answer's cost for both.
    _check(_fit(CostModel(ratio=50)), [1, 50], [0.5, 25])
    cheap = VERIFICATIONS * [1, 0.1]
    _check(_fit(CostModel(ratio=50), cheap), [1, 50], [0.5, 2.5])


def test_a_verifier_share_under_a_ladder_is_of_its_rungs():
    _check(_fit(CostModel(ratio=50, verifier=2)), [1, 50], [2, 100])
    _check(_fit(CostModel(ratio=50, verifier=0)), [1, 50], [0, 0])


def test_a_ladder_charges_every_query_the_same():
    model = CostModel(ratio=50, verifier=0.1)
    call, verify = model.apply(_log(), VERIFICATIONS, _fit(model))
    np.testing.assert_allclose(call, np.tile([1.0, 50.0], (3, 1)))
    np.testing.assert_allclose(verify, np.tile([0.1, 5.0], (3, 1)))


def test_a_ladder_needs_no_logged_costs():
    _check(_fit(CostModel(ratio=10), VERIFICATIONS, _log(cost=None)), [1, 10], [0, 0])
    _check(_fit(CostModel(ratio=10, verifier=1.5), None, _log(cost=None)), [1, 10], [1.5, 15])


def test_a_free_model_has_no_share_of_verification_to_keep():
    free = _log(ANSWERS * [0, 1])
    _check(_fit(CostModel(ratio=50), VERIFICATIONS, free), [1, 50], [0, 25])


def test_the_means_charged_add_up_to_the_means_fitted():
    for model in (CostModel(), CostModel(verifier=0.3), CostModel(ratio=20)):
        fitted = _fit(model)
        call, verify = model.apply(_log(), VERIFICATIONS, fitted)
        np.testing.assert_allclose(call.mean(0), fitted.call)
        np.testing.assert_allclose(verify.mean(0), fitted.verify)


@pytest.mark.parametrize("ratio", [0.99, 0, -5, float("nan"), float("inf")])
def test_a_ratio_below_one_is_refused(ratio):
    with pytest.raises(ValueError, match=rf"costs\.ratio is {ratio}: expected a number from 1 to"):
        CostModel(ratio=ratio)


@pytest.mark.parametrize("share", [-0.1, float("nan"), float("inf")])
def test_a_negative_share_is_refused(share):
    with pytest.raises(
        ValueError, match=rf"costs\.verifier is {share}: expected 'logged' or a number from 0 to"
    ):
        CostModel(verifier=share)


def test_a_word_other_than_logged_is_refused():
    with pytest.raises(ValueError, match=r"costs\.verifier is 'free': expected 'logged'"):
        CostModel(verifier="free")


def test_logged_costs_of_a_log_without_any_are_refused():
    log, model = _log(cost=None), CostModel()
    for ask in (
        lambda: model.fit(log, None),
        lambda: model.apply(log, None, Costs(np.ones(2), np.zeros(2))),
    ):
        with pytest.raises(ValueError, match=r"no answer costs: .* set costs\.ratio"):
            ask()


def test_a_most_expensive_model_that_costs_nothing_is_refused_by_name():
    with pytest.raises(ValueError, match=r"'large' costs nothing.*set costs\.ratio"):
        _fit(CostModel(), None, _log(ANSWERS * [1, 0]))
