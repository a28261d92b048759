"""Influences on the Fréchet distance against finite differences."""

import numpy as np
import pytest

from pgmetrics.functional.frechet import frechet_distance
from pgmetrics.functional.frechet_influence import frechet_influence
from tests.contracts.feature_contract import features
from tests.helpers.influences import derivatives, weights


def weighted_frechet(a, b, ddof):
    def value(*weight):
        moments = []
        for rows, w in zip((a, b), weight, strict=True):
            mean = w @ rows
            covariance = (rows - mean).T @ ((rows - mean) * w[:, None])
            n = int((w > 0.2 / len(rows)).sum())
            moments += [mean, covariance * n / (n - ddof)]
        return frechet_distance(*moments)

    return value


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("fit", [None, slice(1, None, 2)])
def test_a_row_moves_the_frechet_distance_by_its_influence(fit, ddof):
    a, b = features(1, 60, 5).double(), features(2, 50, 5).double() * 1.3 + 0.2
    given = [weights(60, fit), weights(50, fit)]
    found = frechet_influence(a, b, ddof, fit)
    for side in (0, 1):
        expected = derivatives(weighted_frechet(a, b, ddof), given, side)
        np.testing.assert_allclose(found[side], expected, atol=1e-3 * expected.std())


def test_fewer_rows_than_features_have_the_influences_of_what_they_span():
    a, b = features(1, 12, 20).double(), features(2, 60, 20).double() + 0.3
    found = frechet_influence(a, b)[0]
    expected = derivatives(weighted_frechet(a, b, 1), [weights(12), weights(60)], 0)
    np.testing.assert_allclose(found, expected, atol=1e-3 * expected.std())
