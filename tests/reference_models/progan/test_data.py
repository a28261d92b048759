"""Training images: which, how small, how mirrored, how faded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from pgmetrics.errors import SampleError, SourceError
from pgmetrics.sources.base import ImageSource
from reference_models.progan.config import ProGANConfig
from reference_models.progan.data import IndexStream, TrainingImages, prepare
from reference_models.progan.schedule import Stage, stage

CPU = torch.device("cpu")
CONFIG = ProGANConfig(
    resolution=16,
    fmap_base=32,
    fmap_max=8,
    latent_size=8,
    minibatch={4: 4},
    stabilise_images=100,
    fade_images=100,
    total_images=500,
)


class Noise(ImageSource):
    """Random bytes; image i has i in its corner."""

    def __init__(self, count: int = 10, side: int = 16, *, grey: bool = False, width: int = 0) -> None:
        super().__init__()
        self.name, self.fingerprint = "noise", f"noise {count} {side}"
        self._shape = (count, 3, side, width or side)
        self._pixels = np.random.default_rng(5).integers(0, 256, self._shape).astype(np.uint8)
        if grey:
            self._pixels[:] = self._pixels[:, :1]
        self._pixels[:, :, 0, 0] = np.arange(count)[:, None]
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self._pixels)

    @property
    def resolution(self) -> tuple[int, int]:
        return self._pixels.shape[2], self._pixels.shape[3]

    def _read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        self.read += indices
        return self._pixels[list(indices)]


def at(resolution: int, alpha: float = 1.0, minibatch: int = 4) -> Stage:
    lod = (CONFIG.resolution // resolution).bit_length() - 1 + 1 - alpha
    return Stage(resolution, alpha, lod, minibatch, 0.001)


def test_every_image_once_in_an_epoch():
    stream = IndexStream(7, seed=1)
    shown = np.concatenate([stream.take(n, 3) for n in range(0, 42, 3)])
    epochs = shown.reshape(6, 7)
    assert (np.sort(epochs, axis=1) == np.arange(7)).all()
    # and in another order each time
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 6


def test_the_order_can_be_entered_anywhere():
    # A sampler with a history would lose its place on resuming.
    whole = IndexStream(7, seed=1).take(0, 40)
    stream = IndexStream(7, seed=1)
    assert (stream.take(30, 10) == whole[30:]).all()
    assert (stream.take(5, 20) == whole[5:25]).all()
    assert (IndexStream(7, seed=2).take(0, 40) != whole).any()


def test_reals_are_box_means_with_a_level_s_rounding():
    # Bilinear or nearest shrinking, both seen in ports, give other pixels.
    pixels = torch.from_numpy(np.random.default_rng(3).integers(0, 256, (4, 3, 16, 16)).astype(np.uint8))
    level = F.avg_pool2d(pixels.double(), 4).round()
    assert torch.allclose(prepare(pixels, None, at(4)).double(), level / 127.5 - 1, atol=1e-6)
    out = prepare(
        torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1).expand(2, 3, 16, 16), None, at(16)
    )
    assert out.dtype == torch.float32
    assert out[:, 0, 0, 0].tolist() == [-1, 1]


def test_reals_are_faded_in_float():
    # Truncated to bytes, as one original did, the mean would fall by half a level.
    pixels = torch.from_numpy(np.random.default_rng(3).integers(0, 256, (4, 3, 16, 16)).astype(np.uint8))
    full, coarse = prepare(pixels, None, at(16)), F.avg_pool2d(prepare(pixels, None, at(16)), 2)
    coarse = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(prepare(pixels, None, at(16, alpha=0.0)), coarse)
    faded = prepare(pixels, None, at(16, alpha=0.25))
    assert torch.allclose(faded, 0.25 * full + 0.75 * coarse, atol=1e-6)
    assert float((faded - full).mean().abs()) < 1e-6


def test_half_of_the_images_are_mirrored_and_each_for_itself():
    config = ProGANConfig.from_json(CONFIG.to_json() | {"mirror": True, "minibatch": {"4": 400}})
    source = Noise(400)
    images = TrainingImages(source, config)
    out = images.minibatch(0, at(16, minibatch=400), CPU)
    plain = TrainingImages(source, CONFIG).minibatch(0, at(16, minibatch=400), CPU)
    same = (out == plain).all(dim=(1, 2, 3))
    flipped = (out == plain.flip(3)).all(dim=(1, 2, 3))
    assert bool((same ^ flipped).all())
    assert 150 < int(flipped.sum()) < 250
    # by place in the run, not by minibatch
    assert torch.equal(images.minibatch(100, at(16), CPU), out[100:104])


@pytest.mark.parametrize("max_bytes", [0, 1 << 30])
def test_minibatches_are_the_same_from_memory_and_from_the_source(max_bytes):
    source = Noise()
    images = TrainingImages(source, CONFIG, max_bytes=max_bytes)
    shown = [images.minibatch(n, at(16), CPU)[:, 0, 0, 0] for n in range(0, 40, 4)]
    numbers = ((torch.cat(shown) + 1) * 127.5).round().int().tolist()
    assert numbers == IndexStream(10, seed=0).take(0, 40).tolist()
    assert max(Counter(source.read).values()) == (1 if max_bytes else 4)


def test_grey_images_have_one_channel():
    config = ProGANConfig.from_json(CONFIG.to_json() | {"channels": 1})
    images = TrainingImages(Noise(grey=True), config)
    assert images.minibatch(0, stage(0, config), CPU).shape == (4, 1, 4, 4)
    with pytest.raises(SourceError, match="noise has images in colour"):
        TrainingImages(Noise(), config)


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(SourceError, match="8 x 8, smaller than the final resolution 16"):
        TrainingImages(Noise(side=8), CONFIG)
    with pytest.raises(SourceError, match="24 x 16; this training needs 16 x 16"):
        TrainingImages(Noise(width=24), CONFIG)
    with pytest.raises(SampleError, match="3 images, fewer than the largest minibatch, 4"):
        TrainingImages(Noise(count=3), CONFIG)
