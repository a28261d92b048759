import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch_fidelity.metric_prc import prc_features_to_metric

from pgmetrics.errors import SampleError
from pgmetrics.functional import neighbors
from pgmetrics.functional.neighbors import nearest, neighborhoods, shares, squared_radii
from tests.contracts.feature_contract import features
from tests.helpers.feature_rows import clusters, draws, normal, pieces


def integers(seed, n, d=6):
    """On a grid, so that distances tie by the hundred."""
    return np.random.default_rng(seed).integers(0, 4, (n, d)).astype(np.float32)


def slow(real, fake, k):
    """The definitions, all distances at once, by subtraction in float64."""
    x, y = real.astype(np.float64), fake.astype(np.float64)
    xx, yy, xy = cdist(x, x), cdist(y, y), cdist(x, y)
    np.fill_diagonal(xx, np.inf)
    np.fill_diagonal(yy, np.inf)
    around_x, around_y = np.sort(xx, axis=1)[:, k - 1], np.sort(yy, axis=1)[:, k - 1]
    inside = xy <= around_x[:, None]
    return inside.sum(axis=0), inside.any(axis=1), (xy <= around_y).any(axis=1)


REPEATED = normal(3, 150, 32)
SETS = {
    "random": (normal(1, 310, 64), normal(2, 200, 64), 3),
    "wide": (normal(1, 260, 1100), normal(2, 300, 1100), 5),
    "far from the origin": (normal(1, 210, 32) + 1000, normal(2, 150, 32) + 1000, 3),
    "loose clusters": (clusters(1, 400, 0.5), clusters(3, 330, 0.5), 3),
    "tight clusters": (clusters(1, 700, 1e-4), clusters(3, 500, 1e-4), 3),
    "tighter than the other side": (clusters(1, 700, 1e-2), clusters(3, 300, 1e-5), 2),
    "duplicates": (REPEATED[draws(1, 150, 300)], REPEATED[draws(2, 150, 200)], 3),
    "two images": (REPEATED, np.repeat(REPEATED[:2], [70, 60], axis=0), 5),
    "one image": (REPEATED, np.repeat(REPEATED[:1], 130, axis=0), 5),
    "ties": (integers(1, 400), integers(2, 310), 4),
    "equal": (np.ones((20, 5), np.float32), np.ones((31, 5), np.float32), 4),
    "as few as can be": (normal(1, 4, 3), normal(2, 4, 3), 3),
}


@pytest.mark.slow
@pytest.mark.parametrize("tile", [2048, 60])
@pytest.mark.parametrize("name", SETS)
def test_equals_the_definitions_in_float64(name, tile, monkeypatch):
    monkeypatch.setitem(neighbors.cuts.__globals__["_SLAB"], "cpu", tile)
    real, fake, k = SETS[name]
    found = neighborhoods(pieces(real), pieces(fake, 2), k)
    balls, covered, recalled = slow(real, fake, k)
    np.testing.assert_array_equal(found.real_balls, balls)
    np.testing.assert_array_equal(found.covered, covered)
    np.testing.assert_array_equal(found.recalled, recalled)


def test_open_decisions_go_through_the_product_in_float64(monkeypatch):
    monkeypatch.setattr(neighbors, "_AMBIGUOUS", 10)
    monkeypatch.setattr(neighbors, "_CROWD", 10)
    monkeypatch.setattr(neighbors, "_CHUNK", 3000)
    for name in ("tight clusters", "ties", "random", "duplicates"):
        real, fake, k = SETS[name]
        found = neighborhoods(pieces(real), pieces(fake), k)
        np.testing.assert_array_equal(found.real_balls, slow(real, fake, k)[0])
        np.testing.assert_array_equal(found.recalled, slow(real, fake, k)[2])


@pytest.mark.parametrize("name", ["random", "wide", "loose clusters", "duplicates", "two images"])
def test_equals_torch_fidelity_exactly(name):
    # On the other sets its distances, |x|^2 + |y|^2 - 2 x.y in float32 around the origin, are noise.
    real, fake, _ = SETS[name]
    found = neighborhoods(pieces(real), pieces(fake), 3)
    theirs = prc_features_to_metric(torch.from_numpy(fake), torch.from_numpy(real), verbose=False)
    assert round(theirs["precision"] * len(fake)) == (found.real_balls > 0).sum()
    assert round(theirs["recall"] * len(real)) == found.recalled.sum()


@pytest.mark.parametrize("rows", [normal(1, 90, 64), clusters(1, 90, 1e-4), normal(1, 90, 64) + 1e3])
def test_equal_sets_score_one(rows):
    found = neighborhoods(pieces(rows), pieces(rows[::-1].copy()), 5)
    assert (found.real_balls > 0).all()
    assert found.covered.all()
    assert found.recalled.all()
    # In how many balls: its own, and as many as there are points of which it is among the five nearest.
    assert found.real_balls.mean() == 6


def test_the_border_belongs_to_the_ball_and_the_point_itself_is_no_neighbor():
    real = np.array([[0.0], [1.0], [3.0], [7.0]], np.float32)  # nearest others at 1, 1, 2, 4
    fake = np.array([[5.0], [-1.0], [-1.1], [11.0]], np.float32)  # nearest others at 6, 0.1, 0.1, 6
    found = neighborhoods(pieces(real), pieces(fake), 1)
    assert found.real_balls.tolist() == [2, 1, 0, 1]
    assert found.covered.tolist() == [True, False, True, True]
    assert found.recalled.tolist() == [True, True, True, True]
    assert neighborhoods(pieces(real), pieces(fake), 1, fake_balls=False).recalled is None


@pytest.mark.parametrize("name", ["random", "tight clusters", "duplicates", "ties"])
@pytest.mark.parametrize("k", [1, 4])
def test_radii_are_those_of_float64(name, k):
    rows = SETS[name][0]
    distances = cdist(rows.astype(np.float64), rows.astype(np.float64))
    np.fill_diagonal(distances, np.inf)
    found = squared_radii(pieces(rows), k)
    np.testing.assert_allclose(np.sqrt(found), np.sort(distances, axis=1)[:, k - 1], rtol=1e-12)


@pytest.mark.parametrize("name", ["random", "tight clusters", "duplicates", "ties", "one image"])
@pytest.mark.parametrize("tile", [2048, 60])
def test_the_nearest_point_and_of_several_the_first(name, tile, monkeypatch):
    monkeypatch.setitem(neighbors.cuts.__globals__["_SLAB"], "cpu", tile)
    points, queries, _ = SETS[name]
    distances = cdist(queries.astype(np.float64), points.astype(np.float64))
    squared, place = nearest(pieces(queries), pieces(points))
    np.testing.assert_allclose(np.sqrt(squared), distances.min(axis=1), rtol=1e-12)
    np.testing.assert_array_equal(place, distances.argmin(axis=1))


def test_pieces_and_what_is_kept_change_no_bit(monkeypatch):
    real, fake, k = SETS["wide"]
    radii = squared_radii(pieces(real, 1), k)
    whole = neighborhoods(pieces(real, 1), pieces(fake, 1), k)
    monkeypatch.setattr("pgmetrics.functional.tiles._KEPT", 0)
    np.testing.assert_array_equal(squared_radii(pieces(real, 50), k), radii)
    found = neighborhoods(pieces(real, 50), pieces(fake, 7), k)
    np.testing.assert_array_equal(found.real_balls, whole.real_balls)


def test_too_few_rows_and_too_large_features_are_refused():
    with pytest.raises(SampleError, match="at least 4 rows; there are 3"):
        neighborhoods(pieces(normal(1, 3, 2)), pieces(normal(2, 9, 2)), 3)
    with pytest.raises(SampleError, match="at least 4 rows; there are 3"):
        neighborhoods(pieces(normal(1, 9, 2)), pieces(normal(2, 3, 2)), 3)
    with pytest.raises(SampleError, match="scale them down"):
        squared_radii(pieces(normal(1, 9, 2, 1e19)), 3)
    with pytest.raises(SampleError, match="no features"):
        nearest(pieces(normal(1, 9, 2)), [])


def test_shares_are_those_of_all_pairs_of_distances():
    real, fake = features(1, 40, 3), features(2, 50, 3) * 1.2
    fake[7] = fake[8]  # copies share what one would have alone
    k = 3
    apart = torch.cdist(real.double(), fake.double())
    # 0 is the row itself.
    radii = torch.cdist(real.double(), real.double()).sort(1).values[:, k]
    fake_radii = torch.cdist(fake.double(), fake.double()).sort(1).values[:, k]
    held, balls = (apart <= radii[:, None]).double(), (apart <= fake_radii).double()
    found = shares([real], [fake], k)
    np.testing.assert_allclose(found.covering, (held / held.sum(1, keepdim=True).clamp(min=1)).sum(0))
    np.testing.assert_allclose(found.recalling, (balls / balls.sum(1, keepdim=True).clamp(min=1)).sum(0))
    numbers = neighborhoods([real], [fake], k)
    assert found.covering.sum() == pytest.approx(numbers.covered.sum())
    assert numbers.recalled is not None
    assert found.recalling.sum() == pytest.approx(numbers.recalled.sum())
