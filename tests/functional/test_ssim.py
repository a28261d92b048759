"""MS-SSIM against the published scores, the plain recipe, and closed forms.

The mistakes named in comments were made in the code, and the tests seen to fail on them.
"""

import numpy as np
import pytest
import torch

from benchmarks import plain_recipe
from pgmetrics.errors import SampleError
from pgmetrics.functional.ssim import ms_ssim_scores, ms_ssim_terms
from pgmetrics.runtime import seeding
from tests.parity import formula


def related_pairs(n, height, width, seed=0):
    """Blotches that mostly persist from 1 px to a quarter of the image, and a noisy, brighter copy."""
    rng = seeding.generator(seed, seeding.Stream.SYNTHETIC)
    image = np.zeros((n, 3, height, width))
    for factor in (1, 4, min(height, width) // 4):
        coarse = rng.normal(0, 25, (n, 3, -(-height // factor), -(-width // factor)))
        image += coarse.repeat(factor, 2).repeat(factor, 3)[:, :, :height, :width]
    other = 0.8 * image + rng.normal(0, 20, image.shape) + 10
    return tuple(
        torch.from_numpy(np.clip(np.rint(values + 110), 0, 255).astype(np.uint8)) for values in (image, other)
    )


SIZES = [(16, 16), (32, 32), (48, 48), (64, 64), (96, 96), (160, 160), (256, 256), (16, 32), (144, 48)]


@pytest.mark.parametrize("name", formula.golden()["ms_ssim"])
def test_meets_the_published_scores(name):
    # The published scores carry up to 1.8e-6 of their own Fourier noise.
    first, second = (torch.from_numpy(images) for images in formula.sets(name))
    scores = ms_ssim_scores(first, second)
    assert scores.dtype == torch.float32
    expected = np.array(formula.golden()["ms_ssim"][name])
    np.testing.assert_allclose(scores, expected, rtol=0, atol=2e-6)
    assert (scores[torch.from_numpy(expected == 0)] == 0).all()


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_terms_equal_the_plain_recipe_in_float64(height, width):
    # Term by term, since a power or a clip would hide a mistake at one scale.
    # Catches: zero padding, a window that does not shrink, sigma not shrinking with it, taps at
    # whole offsets for even windows, subsampling for the 2x2 mean, SSIM at every scale, contrast
    # only at the last, c1 and c2 exchanged, a lost pixel between tiles, height and width exchanged.
    first, second = related_pairs(3, height, width)
    terms = ms_ssim_terms(first.double(), second.double())
    assert terms.dtype == torch.float64
    expected = plain_recipe.ms_ssim_terms(first.numpy(), second.numpy(), np.float64)
    np.testing.assert_allclose(terms, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_float32_scores_stay_within_a_millionth_of_float64(height, width):
    first, second = related_pairs(3, height, width)
    exact = ms_ssim_scores(first.double(), second.double())
    assert exact.min() > 0.01
    np.testing.assert_allclose(ms_ssim_scores(first, second), exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize("level", [0, 3, 128, 255])
def test_flat_images_differ_in_luminance_alone(level):
    # A closed form, and hard for float32: catches maps that are not centered pair by pair (8e-6),
    # and a luminance without the mean that was taken away.
    first = torch.full((1, 3, 32, 32), level, dtype=torch.uint8)
    second = torch.full((1, 3, 32, 32), 200, dtype=torch.uint8)
    c1 = (0.01 * 255) ** 2
    luminance = (2 * level * 200 + c1) / (level**2 + 200**2 + c1)
    terms = ms_ssim_terms(first, second)
    np.testing.assert_allclose(terms, [[1, 1, 1, 1, luminance]], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("n", "height", "width"), [(67, 16, 16), (67, 32, 32), (35, 48, 80), (9, 96, 80), (5, 144, 128)]
)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64])
def test_a_pair_scores_the_same_bits_in_any_batch(n, height, width, dtype):
    # Catches: products over as many rows as there happen to be, a last chunk that is not filled up.
    first, second = (images.to(dtype) for images in related_pairs(n, height, width))
    together = ms_ssim_scores(first, second)
    for start, stop in [(0, 1), (1, 2), (2, 5), (n - 1, n), (3, n), (0, n - 1)]:
        part = ms_ssim_scores(first[start:stop], second[start:stop])
        assert torch.equal(part, together[start:stop])
    backwards = ms_ssim_scores(first.flip(0), second.flip(0)).flip(0)
    assert torch.equal(backwards, together)


def test_channels_are_averaged_before_the_clip():
    # Red and green agree and blue is inverted. Averaged first, every contrast term is positive;
    # clipped or multiplied per channel, blue contributes 0 and the score is about 2/3.
    first, _ = related_pairs(1, 64, 64)
    second = first.clone()
    second[:, 2] = 255 - second[:, 2]
    scores = ms_ssim_scores(first, second)
    expected = plain_recipe.ms_ssim_scores(first.numpy(), second.numpy(), np.float64)
    assert 0.2 < expected.item() < 0.4
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_one_negative_scale_makes_the_score_exactly_zero():
    # Catches: clipping after the product (NaN here), taking magnitudes, a clip above 0.
    first, _ = related_pairs(2, 32, 32)
    scores = ms_ssim_scores(first, 255 - first)
    assert (ms_ssim_terms(first, 255 - first)[:, :4] < 0).all()
    assert scores.tolist() == [0.0, 0.0]


def test_black_against_white_areas_err_no_more_than_the_published_code_does():
    # The hardest known: flat areas 200 levels apart in a pair whose means are alike.
    # Catches: a float32 window whose sum is not exactly 1 (3e-4).
    first = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    first[..., :32] = 200
    second = 200 - first
    exact = plain_recipe.ms_ssim_terms(first.numpy(), second.numpy(), np.float64)
    np.testing.assert_allclose(ms_ssim_terms(first, second), exact, rtol=0, atol=1.5e-4)


def test_identical_images_score_one_and_order_within_a_pair_does_not_matter():
    first, second = related_pairs(2, 48, 32)
    np.testing.assert_allclose(ms_ssim_scores(first, first), 1, atol=1e-6)
    assert torch.equal(ms_ssim_scores(first, second), ms_ssim_scores(second, first))


def test_inputs_keep_their_values():
    first, second = (images.float() for images in related_pairs(2, 32, 32))
    copies = first.clone(), second.clone()
    ms_ssim_scores(first, second)
    assert torch.equal(first, copies[0])
    assert torch.equal(second, copies[1])


def test_half_precision_surroundings_do_not_reach_the_score():
    first, second = related_pairs(2, 32, 32)
    expected = ms_ssim_scores(first, second)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(ms_ssim_scores(first, second), expected)
    assert not ms_ssim_scores(first.float().requires_grad_(), second.float()).requires_grad


def test_torch_keeps_its_number_of_threads_and_bits_do_not_depend_on_it():
    # Catches: a setting that is not put back.
    first, second = related_pairs(17, 128, 128)
    before = torch.get_num_threads()
    scores = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            scores.append(ms_ssim_scores(first, second))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(scores[0], scores[1])
    assert torch.equal(scores[0], scores[2])


def test_no_pairs_give_no_scores():
    assert ms_ssim_scores(*(torch.zeros(0, 3, 32, 32, dtype=torch.uint8),) * 2).shape == (0,)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (20, 20), (24, 24), (100, 112), (112, 100), (0, 16)])
def test_sides_not_divisible_by_16_are_refused(height, width):
    images = torch.zeros(1, 3, height, width, dtype=torch.uint8)
    with pytest.raises(SampleError, match=f"{width} x {height} pixels"):
        ms_ssim_scores(images, images)


def test_unlike_images_are_refused():
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    with pytest.raises(SampleError, match=r"\[2, 3, 32, 32\].*\[1, 3, 32, 32\]"):
        ms_ssim_scores(images, images[:1])
    with pytest.raises(SampleError, match=r"uint8.*float32"):
        ms_ssim_scores(images, images.float())
    with pytest.raises(SampleError, match=r"\[2, 1, 32, 32\]"):
        ms_ssim_scores(images[:, :1], images[:, :1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("height", "width"), [(16, 32), (160, 160)])
def test_a_gpu_gives_the_same_scores(height, width):
    first, second = related_pairs(5, height, width)
    on_gpu = ms_ssim_scores(first.cuda(), second.cuda())
    assert on_gpu.is_cuda
    np.testing.assert_allclose(on_gpu.cpu(), ms_ssim_scores(first, second), rtol=0, atol=1e-6)
