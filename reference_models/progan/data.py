"""Training images at any stage, from any image source."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pgmetrics import images as byte_images
from pgmetrics import loading, seeding
from pgmetrics.errors import SampleError, SourceError
from pgmetrics.seeding import Stream
from pgmetrics.sources.base import ImageSource
from reference_models.progan.config import ProGANConfig
from reference_models.progan.schedule import Stage

_DECODED_AT_ONCE = 256


class IndexStream:
    """Which image is shown when: every epoch is a new permutation of all of them.

    The n-th image of a run depends on (seed, n) alone, so that a run can be entered anywhere.
    """

    def __init__(self, num_images: int, seed: int) -> None:
        self._num_images = num_images
        self._seed = seed
        self._epoch = -1
        self._order: NDArray[np.int64] = np.empty(0, np.int64)

    def take(self, start: int, count: int) -> NDArray[np.int64]:
        """The indices of images `start` to `start + count - 1` of the run."""
        indices = np.empty(count, np.int64)
        done = 0
        while done < count:
            epoch, place = divmod(start + done, self._num_images)
            part = self._permutation(epoch)[place : place + count - done]
            indices[done : done + len(part)] = part
            done += len(part)
        return indices

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        if epoch != self._epoch:
            generator = seeding.generator(self._seed, Stream.TRAINING_ORDER, epoch)
            self._epoch, self._order = epoch, generator.permutation(self._num_images)
        return self._order


class TrainingImages:
    """Minibatches of reals: shrunk to the stage, mirrored, faded and in [-1, 1].

    Images are decoded once and kept as bytes at the final resolution where they fit in
    `max_bytes`, and read from the source each time otherwise.

    Args:
        source: of images at the final resolution.
        config: of the run.
        max_bytes: of decoded images to keep in memory.
        workers: processes that decode; None for one per core.
        report: called with (images decoded, images in all) while they are decoded.

    Raises:
        SampleError: there are fewer images than a minibatch needs.
        SourceError: the images are of another size than the final resolution, or in colour where
            channels is 1.
    """

    def __init__(
        self,
        source: ImageSource,
        config: ProGANConfig,
        *,
        max_bytes: int = 2 << 30,
        workers: int | None = None,
        report: Callable[[int, int], None] | None = None,
    ) -> None:
        self._source = source
        self._config = config
        self._check()
        self._order = IndexStream(len(source), config.seed)
        self._decoded: NDArray[np.uint8] | None = None
        if len(source) * config.channels * config.resolution**2 <= max_bytes:
            self._decoded = self._decode(workers, report)

    def __len__(self) -> int:
        return len(self._source)

    def _check(self) -> None:
        name, (height, width) = self._source.name, self._source.resolution
        final = self._config.resolution
        if min(height, width) < final:
            raise SourceError(
                f"{name} has images of {width} x {height}, smaller than the final resolution {final}; "
                "take a preset of a lower resolution"
            )
        if (height, width) != (final, final):
            raise SourceError(
                f"{name} has images of {width} x {height}; this training needs {final} x {final}. "
                "--resize crop-box (or box, lanczos, bicubic …) makes them so"
            )
        needed = max(self._config.minibatch_at(r) for r in self._config.resolutions)
        if len(self._source) < needed:
            raise SampleError(
                f"{name} has {len(self._source):,} images, fewer than the largest minibatch, {needed}; "
                "take more images or smaller minibatches"
            )

    def _decode(self, workers: int | None, report: Callable[[int, int], None] | None) -> NDArray[np.uint8]:
        total, side = len(self._source), self._config.resolution
        decoded = np.empty((total, self._config.channels, side, side), np.uint8)
        for start, rgb in loading.blocks(self._source, range(total), _DECODED_AT_ONCE, workers, report):
            decoded[start : start + len(rgb)] = self._to_channels(rgb)
        return decoded

    def _to_channels(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self._config.channels == 3:
            return rgb
        if (rgb != rgb[:, :1]).any():
            raise SourceError(f"{self._source.name} has images in colour; channels=1 needs grey ones")
        return rgb[:, :1]

    def minibatch(self, images_shown: int, stage: Stage, device: torch.device) -> Tensor:
        """The reals of the step that starts after `images_shown` images.

        Depends on (seed, images_shown, stage) alone.

        Returns:
            float32 [N, channels, r, r] in [-1, 1], r the stage's resolution.
        """
        indices = self._order.take(images_shown, stage.minibatch)
        if self._decoded is None:
            pixels = self._to_channels(self._source.batch(indices.tolist()))
        else:
            pixels = self._decoded[indices]
        mirrored = None
        if self._config.mirror:
            coins = seeding.words(
                self._config.seed,
                Stream.TRAINING_MIRROR,
                start=images_shown,
                stop=images_shown + stage.minibatch,
                width=4,
            )
            mirrored = torch.from_numpy(coins[:, 0] >> np.uint64(63) == 1).to(device)
        return prepare(torch.from_numpy(pixels).to(device), mirrored, stage)


def prepare(pixels: Tensor, mirrored: Tensor | None, stage: Stage) -> Tensor:
    """Images as a stage of training sees them.

    Args:
        pixels: uint8 [N, C, R, R] at the final resolution R.
        mirrored: bool [N], which of them to flip left to right; None for none.
        stage: its resolution r and alpha.

    Returns:
        float32 [N, C, r, r] in [-1, 1].

    Source: `process_reals` in train.py of Karras et al. 2018.
    """
    x = pixels.to(torch.float32)
    factor = pixels.shape[-1] // stage.resolution
    if factor > 1:
        # The original stores every level as bytes, so a level has their rounding.
        x = byte_images.box_downscale(x, factor).round()
    if mirrored is not None:
        x = torch.where(mirrored.reshape(-1, 1, 1, 1), x.flip(3), x)
    x = x / 127.5 - 1
    if stage.alpha < 1:
        # The discriminator must not be told reals from fakes by detail that the fakes cannot have yet.
        coarse = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2.0, mode="nearest")
        x = coarse.lerp(x, stage.alpha)
    return x
