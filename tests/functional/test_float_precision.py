"""Whatever precision the caller has set, ours is float32, and his comes back."""

import threading

import pytest
import torch

from pgmetrics.functional.float_precision import exact_float32
from pgmetrics.functional.frechet import GaussianMoments
from pgmetrics.functional.inception_score import inception_score
from pgmetrics.functional.pyramid import laplacian_pyramid
from pgmetrics.functional.ssim import ms_ssim_scores
from pgmetrics.metrics.frechet import FrechetDistance
from pgmetrics.runtime.blocks import FeatureBlock


def settings():
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


@pytest.fixture
def _low_precision():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.usefixtures("_low_precision")
def test_threads_that_overlap_give_the_callers_settings_back():
    # Saved and restored by each thread alone, the last to leave would restore what another had set.
    found = settings()
    first_is_in, second_is_in = threading.Event(), threading.Event()

    def first():
        with exact_float32():
            first_is_in.set()
            second_is_in.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    first_is_in.wait(10)
    with exact_float32():
        second_is_in.set()
        thread.join()
        assert torch.get_float32_matmul_precision() == "highest"
        assert not torch.backends.cudnn.allow_tf32
    assert settings() == found


@pytest.mark.usefixtures("_low_precision")
def test_errors_give_the_settings_back():
    found = settings()
    with pytest.raises(ZeroDivisionError), exact_float32():
        raise ZeroDivisionError
    assert settings() == found


def test_low_precision_of_the_caller_changes_no_bit():
    images = torch.arange(2 * 3 * 32 * 32).view(2, 3, 32, 32).mul(37).remainder(256).to(torch.uint8)
    expected = laplacian_pyramid(images, 2), ms_ssim_scores(images[:1], images[1:])
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        found = laplacian_pyramid(images, 2), ms_ssim_scores(images[:1], images[1:])
    finally:
        torch.set_float32_matmul_precision(before)
    assert all(map(torch.equal, expected[0], found[0]))
    assert torch.equal(expected[1], found[1])


class WithoutFloat64(torch.Tensor):
    """Rows that say they are on an Apple GPU, and refuse float64 there as it does."""

    device = torch.device("mps")

    def cpu(self):
        return self.as_subclass(torch.Tensor)

    def double(self):
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")


def test_where_there_is_no_float64_rows_move_to_the_cpu_first():
    # Wrong: converted where they are, which MPS refuses; or moved after float32 sums.
    rows = 1000 + torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    there = rows.as_subclass(WithoutFloat64)
    found, expected = GaussianMoments.of(there), GaussianMoments.of(rows)
    assert found.scatter.dtype == torch.float64
    torch.testing.assert_close(found.scatter, expected.scatter, rtol=0, atol=0)
    assert inception_score(there) == inception_score(rows)
    state = FrechetDistance().new_state("fake", resolution=(32, 32))
    state.update(FeatureBlock(0, there))
    torch.testing.assert_close(state.moments().scatter, expected.scatter, rtol=1e-12, atol=0)
