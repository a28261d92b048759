"""Mean and covariance of features, summed image by image or given."""

import numpy as np
import pytest
import torch

from pgmetrics.errors import StateError
from pgmetrics.functional.frechet import GaussianMoments
from pgmetrics.metrics.frechet import FrechetDistance, FrechetInceptionDistance
from pgmetrics.metrics.moments import MomentsState
from pgmetrics.runtime.blocks import FeatureBlock
from tests.contracts.feature_contract import features
from tests.helpers.moments import filled, given, state_of


def test_features_are_summed_in_float64():
    # Mean 1000 and variance 9: sums of squares in float32 lose the variance.
    rng = np.random.default_rng(0)
    rows = torch.from_numpy((1000 + 3 * rng.standard_normal((300, 4))).astype(np.float32))
    moments = state_of(rows).moments()
    assert moments.scatter.dtype == torch.float64
    np.testing.assert_allclose(moments.covariance(), np.cov(rows.double().numpy(), rowvar=False), rtol=1e-11)
    np.testing.assert_allclose(moments.mean, rows.double().numpy().mean(axis=0), rtol=1e-14)


def test_images_are_dealt_to_groups_by_their_place_alone():
    rows = features(1, 450, 3)
    state = FrechetDistance(groups=3).new_state("fake", resolution=(32, 32))
    for start, stop in ((300, 450), (0, 1), (1, 300)):
        state.update(FeatureBlock(start, rows[start:stop]))
    for number, group in enumerate(state.groups):
        mine = rows[torch.arange(450) // 64 % 3 == number]
        assert group.count == len(mine)
        np.testing.assert_allclose(group.mean, mine.double().mean(dim=0), rtol=1e-12)
    # Only the last chunk is not complete, so nothing but its 2 rows waits.
    assert state.arrays()["waiting_rows"].shape == (2, 3)


def test_a_group_is_updated_once_a_chunk_whatever_the_blocks(monkeypatch):
    # At 1024 px a block has 8 images; a pass over a matrix of 34 MB for each would cost more than they do.
    passes = []
    with_rows = GaussianMoments.with_rows
    monkeypatch.setattr(
        GaussianMoments, "with_rows", lambda self, rows: passes.append(len(rows)) or with_rows(self, rows)
    )
    state = FrechetDistance().new_state("fake", resolution=(32, 32))
    for start in range(0, 256, 8):
        state.update(FeatureBlock(start, features(1, 256, 3)[start : start + 8]))
    assert passes == [64] * 4


def test_what_was_handed_out_is_not_written_into():
    # The state writes new chunks into its own scatters; a copy, a merge and `groups` share them.
    rows = features(1, 5 * 64, 3)

    def grow(state, chunk):
        state.update(FeatureBlock(64 * chunk, rows[64 * chunk : 64 * chunk + 64]))

    metric = FrechetDistance(groups=1)
    for hand_out in (
        lambda state: state.groups[0],
        lambda state: state.merge(metric.new_state("fake", resolution=(32, 32))).groups[0],
        lambda state: metric.new_state("fake", resolution=(32, 32)).merge(state).groups[0],
        lambda state: state.moments(),
    ):
        state = metric.new_state("fake", resolution=(32, 32))
        grow(state, 0)
        grow(state, 1)
        held = hand_out(state)
        before = held.scatter.clone()
        grow(state, 2)
        grow(state, 3)
        assert torch.equal(held.scatter, before)
    empty = metric.new_state("fake", resolution=(32, 32))
    both = empty.merge(state)
    grow(both, 4)
    np.testing.assert_allclose(
        state.moments().covariance(), np.cov(rows[:256].double().numpy(), rowvar=False), rtol=1e-11
    )


def test_float64_features_that_wait_are_not_the_callers_memory():
    rows = features(1, 40, 3).double()
    state = FrechetDistance().new_state("fake", resolution=(32, 32))
    state.update(FeatureBlock(0, rows))
    before = state.moments().mean
    rows.zero_()
    assert torch.equal(state.moments().mean, before)


def test_a_statistics_file_takes_no_images_and_merges_with_none():
    state = given(features(1, 30, 4))
    with pytest.raises(StateError, match="cannot be added to"):
        state.update(FeatureBlock(0, features(1, 8, 4)))
    for first, second in (
        (state, state_of(features(1, 8, 4), "real")),
        (state_of(features(1, 8, 4), "real"), state),
    ):
        with pytest.raises(StateError, match="cannot be added to"):
            first.merge(second)
    with pytest.raises(StateError, match="no images"):
        state.moments()


def test_what_is_no_covariance_is_refused():
    key = FrechetInceptionDistance().new_state("real", resolution=(32, 32)).key
    mean, fine = np.zeros(3), np.eye(3)
    crooked, negative, unknown = np.eye(3), np.diag([1.0, 1.0, -0.01]), np.eye(3)
    crooked[0, 2] = 0.5
    unknown[1, 1] = np.nan
    for matrix, fact in (
        (crooked, r"not symmetric.*0\.5"),
        (negative, r"negative eigenvalue, -0\.01"),
        (unknown, "covariance has 1 values that are not finite"),
        (np.eye(4), r"\[3\] and \[4, 4\]"),
    ):
        with pytest.raises(StateError, match=fact):
            MomentsState.from_moments(mean, matrix, key)
    with pytest.raises(StateError, match="mean has 3 values"):
        MomentsState.from_moments(mean + np.inf, fine, key)
    # Rounding to float32 leaves eigenvalues of about -1e-8, and that is no reason to refuse.
    low = np.random.default_rng(0).standard_normal((3, 40))
    MomentsState.from_moments(np.zeros(40), np.cov(low, rowvar=False).astype(np.float32), key)


def test_moments_are_not_renumbered():
    state = filled(FrechetDistance(), "fake", features(1, 80, 5))
    with pytest.raises(StateError, match="moments cannot be renumbered"):
        state.shifted(80, "elsewhere")
