"""Each resizer against the code whose name it bears."""

import numpy as np
import pytest
import torch
from PIL import Image

from pgmetrics.features.preprocess import RESIZERS, VALUE_MAPS

SIZES = [(32, 32), (48, 33), (299, 299), (299, 100), (320, 700), (1, 5)]
LEVELS = 1e-4  # of 255: a few roundings of float32


def noise(height, width, n=2):
    rng = np.random.default_rng(height * 1000 + width)
    return torch.from_numpy(rng.integers(0, 256, (n, 3, height, width), dtype=np.uint8))


def tf1(pixels, side):
    compat = pytest.importorskip("torch_fidelity.interpolate_compat_tensorflow")
    return compat.interpolate_bilinear_2d_like_tensorflow1x(
        pixels.float(), size=(side, side), align_corners=False
    )


def torch_bilinear(pixels, side):
    # pytorch_fid.inception: InceptionV3.forward, on the float of 0 ... 1 that it is given
    unit = torch.nn.functional.interpolate(pixels / 255, (side, side), mode="bilinear", align_corners=False)
    return 255 * unit


def torch_antialias(pixels, side):
    # torchmetrics.image.fid: NoTrainInceptionV3._torch_fidelity_forward
    return torch.nn.functional.interpolate(
        pixels.float(), size=(side, side), mode="bilinear", align_corners=False, antialias=True
    )


def pillow(pixels, side):
    planes = [
        [np.asarray(Image.fromarray(c.astype(np.float32), mode="F").resize((side, side), Image.BICUBIC))]
        for image in pixels.numpy()
        for c in image
    ]
    return torch.from_numpy(np.array(planes).clip(0, 255).reshape(len(pixels), 3, side, side))


PEERS = {
    "tf1-bilinear": tf1,
    "torch-bilinear": torch_bilinear,
    "torch-bilinear-antialias": torch_antialias,
    "pil-bicubic": pillow,
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", RESIZERS)
@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
def test_every_resizer_is_its_namesakes_map(name, size):
    pixels = noise(*size)
    for side in (299, 64):
        made = RESIZERS[name](pixels, side)
        assert (made.dtype, tuple(made.shape)) == (torch.float32, (2, 3, side, side))
        assert made.min() >= 0
        assert made.max() <= 255
        torch.testing.assert_close(made, PEERS[name](pixels, side), rtol=0, atol=LEVELS)


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
def test_pil_bicubic_is_what_clean_fid_calls_clean():
    resize = pytest.importorskip("cleanfid.resize").build_resizer("clean")
    pixels = noise(50, 410)
    expected = np.stack([resize(image.permute(1, 2, 0).numpy()) for image in pixels])
    made = RESIZERS["pil-bicubic"](pixels, 299).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(made, expected, rtol=0, atol=LEVELS)


@pytest.mark.parametrize("name", RESIZERS)
def test_many_large_images_are_resized_as_each_alone(name):
    # More input than is made float at once, and many bands.
    pixels = noise(640, 1300, n=3)
    together = RESIZERS[name](pixels, 299)
    alone = torch.cat([RESIZERS[name](image[None], 299) for image in pixels])
    assert torch.equal(together, alone)


@pytest.mark.parametrize("name", RESIZERS)
def test_the_input_keeps_its_values_and_channels_last_does_not_matter(name):
    pixels = noise(40, 30)
    before = pixels.clone()
    made = RESIZERS[name](pixels, 64)
    torch.testing.assert_close(
        RESIZERS[name](pixels.contiguous(memory_format=torch.channels_last), 64), made, rtol=0, atol=LEVELS
    )
    made.zero_()
    assert torch.equal(pixels, before)


def test_value_maps_reach_the_ends():
    ends = torch.tensor([0.0, 128.0, 255.0])
    assert VALUE_MAPS["(x-128)/128"](ends).tolist() == [-1, 0, 127 / 128]
    assert VALUE_MAPS["2x/255-1"](ends)[[0, 2]].tolist() == [-1, 1]
