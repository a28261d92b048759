"""FIDInfinity: the contract, the line it fits, and that it removes what few images add."""

import numpy as np
import pytest
import torch

from pgmetrics.errors import OptionError, SampleError
from pgmetrics.functional.frechet import GaussianMoments, frechet_distance
from pgmetrics.metrics.fid_infinity import FIDInfinity, intercept
from pgmetrics.runtime.blocks import FeatureBlock
from tests.contracts.feature_contract import FeatureContract, features


class TestContract(FeatureContract):
    metric = FIDInfinity(points=4)
    same_bits = False  # the reals' moments follow the cut


def compute(real, fake, metric, seed=0):
    states = []
    for side, rows in (("real", real), ("fake", fake)):
        states.append(metric.new_state(side, resolution=(32, 32), seed=seed))
        states[-1].update(FeatureBlock(0, rows))
    (estimate,), notes = metric.compute(real=states[0], fake=states[1])
    return estimate, notes


def fid(real, fake):
    a, b = GaussianMoments.of(real), GaussianMoments.of(fake)
    return frechet_distance(a.mean, a.covariance(), b.mean, b.covariance())


def drawn(n, width, seed):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32))


def test_the_line_is_least_squares_and_is_read_at_zero():
    rng = np.random.default_rng(0)
    x, y = rng.random(15), rng.random(15)
    assert intercept(x, y) == pytest.approx(np.polyfit(x, y, 1)[1])
    assert intercept(x, 3 + 7 * x) == pytest.approx(3)


def test_sizes_are_those_of_the_paper_and_a_tenth_for_fewer():
    assert FIDInfinity().sizes(50_000) == [5000 + (45_000 * i) // 14 for i in range(15)]
    assert FIDInfinity(points=3).sizes(1000) == [100, 550, 1000]
    assert FIDInfinity(points=2, smallest=300).sizes(10_000) == [300, 10_000]
    assert len(set(FIDInfinity().sizes(FIDInfinity().least))) == 15


def test_two_points_are_a_line_through_a_subset_and_all():
    # So the intercept tells the subset's FID, which no draw of the first images would have.
    real, fake = features(1, 400, 5), features(2, 400, 5)
    estimate, notes = compute(real, fake, FIDInfinity(points=2))
    of_subset = fid(real, fake) + (fid(real, fake) - estimate.value) * (1 / 40 - 1 / 400) * 400
    assert of_subset > fid(real, fake)
    assert of_subset != pytest.approx(fid(real, fake[:40]), rel=1e-3)
    assert notes == []


def test_it_takes_away_what_few_fakes_add():
    # Both sets from one distribution and very many reals: FID of all fakes is their bias alone.
    real = drawn(40_000, 16, 1)
    pairs = []
    for seed in range(2, 8):
        fake = drawn(1500, 16, seed)
        pairs.append((fid(real, fake), compute(real, fake, FIDInfinity(), seed)[0].value))
    biased, extrapolated = np.mean(pairs, axis=0)
    assert abs(extrapolated) < 0.2 * biased


def test_it_is_keyed_by_the_seed_and_has_no_standard_error():
    real, fake = features(1, 300, 5), features(2, 300, 5)
    first, again, other = (compute(real, fake, FIDInfinity(), seed)[0] for seed in (0, 0, 1))
    assert first == again
    assert first.value != other.value
    assert (first.stderr, first.stderr_kind, first.n_real, first.n_fake) == (None, None, 300, 300)


def test_subsets_no_larger_than_the_dimension_are_noted():
    _, (note,) = compute(features(1, 100, 10), features(2, 100, 10), FIDInfinity())
    assert "subsets of 10 images in 10 dimensions" in note
    assert compute(features(1, 100, 10), features(2, 110, 10), FIDInfinity())[1] == []


def test_too_few_images_are_refused():
    with pytest.raises(SampleError, match=r"15 points needs at least 30 images .* fake side has 29"):
        compute(features(1, 30, 3), features(2, 29, 3), FIDInfinity())
    for wrong in ({"points": 1}, {"smallest": 1}):
        with pytest.raises(OptionError, match="at least 2, not 1"):
            FIDInfinity(**wrong)
