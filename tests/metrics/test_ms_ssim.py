"""MultiScaleSSIM: the contract, the pairing and its degenerate end."""

import numpy as np
import pytest
import torch

from pgmetrics.errors import OptionError, SampleError, StateError
from pgmetrics.functional.ssim import ms_ssim_scores
from pgmetrics.metrics.ms_ssim import MultiScaleSSIM
from pgmetrics.runtime.blocks import Block
from tests.contracts.metric_contract import MetricContract, images
from tests.parity import formula


class TestContract(MetricContract):
    metric = MultiScaleSSIM()


def state_of(pixels, side="fake"):
    state = MultiScaleSSIM().new_state(side, resolution=tuple(pixels.shape[2:]))
    state.update(Block(0, pixels))
    return state


@pytest.mark.parametrize("name", [n for n in formula.golden()["ms_ssim"] if n.startswith("smooth")])
def test_the_mean_over_pairs_is_the_published_mean(name):
    first, second = map(torch.from_numpy, formula.sets(name))
    pixels = torch.stack((first, second), dim=1).flatten(0, 1)  # pairs are neighbors: (0, 1), (2, 3), ...
    (estimate,), _ = MultiScaleSSIM().compute(real=None, fake=state_of(pixels))
    scores = np.array(formula.golden()["ms_ssim"][name])
    assert estimate.value == pytest.approx(scores.mean(), abs=1e-5)
    assert estimate.stderr == pytest.approx(scores.std(ddof=1) / 2, abs=1e-5)
    assert (estimate.n_fake, estimate.n_real, estimate.stderr_kind) == (8, None, "pairs")


def test_neighbors_are_paired_and_the_last_odd_image_is_left_out():
    pixels = images(1, 7)
    expected = ms_ssim_scores(pixels[[0, 2, 4]], pixels[[1, 3, 5]])
    np.testing.assert_array_equal(state_of(pixels).scores(), expected.double().numpy())


def test_a_block_that_would_tear_a_pair_is_refused():
    state = MultiScaleSSIM().new_state("fake", resolution=(32, 32))
    with pytest.raises(StateError, match="even index, not 3"):
        state.update(Block(3, images(1)[3:8]))


def test_clipped_pairs_are_counted_in_a_warning():
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (40, 3, 32, 32), dtype=np.uint8))
    _, (note,) = MultiScaleSSIM().compute(real=None, fake=state_of(noise))
    clipped = int((state_of(noise).scores() == 0).sum())
    assert f"{clipped:,} of 20 pairs of fake images" in note
    assert "32x32" in note
    alike = images(1, 1).expand(8, -1, -1, -1).contiguous()
    (same,), notes = MultiScaleSSIM().compute(real=None, fake=state_of(alike))
    assert same.value == pytest.approx(1, abs=1e-6)
    assert notes == []


def test_both_sides_are_scored_by_themselves():
    estimates, _ = MultiScaleSSIM().compute(real=state_of(images(1), "real"), fake=state_of(images(2)))
    assert [e.subject for e in estimates] == ["real", "fake"]
    (alone,), _ = MultiScaleSSIM().compute(real=None, fake=state_of(images(2)))
    assert estimates[1] == alone


def test_a_single_pair_is_refused_since_it_has_no_error():
    with pytest.raises(SampleError, match="at least 2 pairs"):
        MultiScaleSSIM().compute(real=None, fake=state_of(images(1, 2)))
    with pytest.raises(OptionError, match="at least 2"):
        MultiScaleSSIM(num_pairs=1)
