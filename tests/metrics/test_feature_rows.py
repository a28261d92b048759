"""Rows of features, kept for every image."""

from pgmetrics.metrics.frechet import FrechetDistance
from pgmetrics.metrics.kid import KernelInceptionDistance
from tests.contracts.feature_contract import features
from tests.helpers.moments import filled


def test_kept_rows_give_the_bits_of_moments_and_influences_besides():
    rows = {"real": features(1, 700, 5), "fake": features(2, 650, 5)}
    usual, keeping = FrechetDistance(), FrechetDistance(keep_rows=True)
    found = [
        metric.compute(**{side: filled(metric, side, given) for side, given in rows.items()})
        for metric in (usual, keeping)
    ]
    assert found[0] == found[1]
    assert found[0][0][0].stderr is not None
    states = {side: filled(keeping, side, given) for side, given in rows.items()}
    assert states["real"].key == filled(KernelInceptionDistance(network="custom"), "real", rows["real"]).key
    (influence,) = keeping.influences(**states)
    assert (len(influence.real), len(influence.fake)) == (700, 650)
    assert usual.influences(**{side: filled(usual, side, given) for side, given in rows.items()}) == []
