"""Training images at any stage, from any image source."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pgmetrics.errors import SampleError, SourceError
from pgmetrics.runtime import images as byte_images
from pgmetrics.runtime import seeding
from pgmetrics.runtime.blocks import block_length
from pgmetrics.runtime.progress import Progress
from pgmetrics.runtime.seeding import Stream
from pgmetrics.sources import loading
from pgmetrics.sources.base import ImageSource
from reference_models.progan.data.prepared import PreparedSource
from reference_models.progan.data.pyramid_levels import center_square, levels, to_channels
from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.schedule import Stage

# Number of images per set of decoding processes.
_WINDOW = 1 << 18
_MOST_IMAGES = 10**9  # each epoch's permutation of them takes 8 GB


class IndexStream:
    """The order in which images are shown: every epoch is a new permutation.

    The n-th image of a run depends only on (seed, n), so that a run can resume anywhere.
    """

    def __init__(self, num_images: int, seed: int) -> None:
        self._num_images = num_images
        self._seed = seed
        self._epoch = -1
        self._order: NDArray[np.int64] = np.empty(0, np.int64)

    def take(self, start: int, count: int) -> NDArray[np.int64]:
        """Return the indices of images `start` to `start + count - 1` of the run."""
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
    """Minibatches of reals and their classes; reals are cropped, shrunk, mirrored, faded and in [-1, 1].

    The images of a prepared directory are read at the stage's level. Others are decoded once and stored as
    bytes at every level if these fit in `max_bytes`; otherwise they are decoded ahead each time they are
    shown, and shrunk on the device.

    Attributes:
        label_names: names of the classes; empty for an unconditional network.
        label_distribution: relative frequency of each class.

    Args:
        source: images at the final resolution, which may be any level of a prepared directory.
        config: configuration of the run.
        crop: take the center of images that are not square.
        max_bytes: maximum memory for decoded images.
        workers: decoding processes; None for one per core.
        report: called with (what, images decoded, images in total) during the initial decoding.

    Raises:
        SampleError: there are fewer images than a minibatch needs.
        SourceError: the images do not have the final resolution, are in color although channels is 1, or lack
            the network's classes.
    """

    def __init__(
        self,
        source: ImageSource,
        config: ProGANConfig,
        *,
        crop: bool = False,
        max_bytes: int = 2 << 30,
        workers: int | None = None,
        report: Progress | None = None,
    ) -> None:
        self._source = source
        self._config = config
        self._check(crop)
        self._check_labels()
        self._order = IndexStream(len(source), config.seed)
        shown = config.resolutions if config.growing else (config.resolution,)
        self._decoded: dict[int, NDArray[np.uint8]] | None = None
        self._ahead: _LevelAhead | _DecodedAhead
        if isinstance(source, PreparedSource):
            self._ahead = _LevelAhead(source, self._order)
        elif len(source) * config.channels * sum(r**2 for r in shown) <= max_bytes:
            self._decoded = self._decode(shown, workers, report)
        else:
            self._ahead = _DecodedAhead(source, self._order, workers)

    def __len__(self) -> int:
        return len(self._source)

    @cached_property
    def fingerprint(self) -> str:
        """Identity of the images as they are shown; this may read every image."""
        height, width = self._source.resolution
        return self._source.fingerprint + ("" if height == width else "+crop")

    def close(self) -> None:
        """Stop prefetching; a later `minibatch` restarts it."""
        if self._decoded is None:
            self._ahead.close()

    def _check(self, crop: bool) -> None:
        name, (height, width) = self._source.name, self._source.resolution
        if len(self._source) > _MOST_IMAGES:
            raise SampleError(
                f"{name} has {len(self._source):,} images; training takes at most {_MOST_IMAGES:,}, since "
                f"each epoch permutes all of them: {name}@0:1000000 takes the first million"
            )
        final = self._config.resolution
        if min(height, width) < final:
            raise SourceError(
                f"{name} has images of {width} x {height}, smaller than the final resolution {final}; "
                "take a preset of a lower resolution"
            )
        if (height, width) != (final, final) and not (crop and min(height, width) == final):
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

    def _check_labels(self) -> None:
        name, classes = self._source.name, self._config.label_size
        self.label_names: tuple[str, ...] = ()
        self.label_distribution: tuple[float, ...] = ()
        self._labels: NDArray[np.int64] | None = None
        if not classes:
            return
        self._labels = self._source.labels
        if self._labels is None:
            raise SourceError(
                f"{name} has no classes and label_size={classes} needs that many; "
                f"{_way_to_classes(self._source)}, or train with label_size=0"
            )
        self.label_names = tuple(self._source.label_names)
        if len(self.label_names) != classes:
            raise SourceError(
                f"{name} has {len(self.label_names)} classes and the network {classes}; train with "
                f"label_size={len(self.label_names)}, or with label_size=0 for none"
            )
        counts = np.bincount(self._labels, minlength=classes)
        self.label_distribution = tuple(float(count) for count in counts / len(self._labels))

    def _decode(
        self, resolutions: Sequence[int], workers: int | None, report: Progress | None
    ) -> dict[int, NDArray[np.uint8]]:
        total, channels = len(self._source), self._config.channels
        decoded = {r: np.empty((total, channels, r, r), np.uint8) for r in resolutions}
        length = block_length(self._config.resolution)
        for start, rgb in loading.blocks(self._source, range(total), length, workers):
            pixels = to_channels(center_square(rgb), channels, self._source.name)
            for resolution, level in levels(pixels):
                if resolution in decoded:
                    decoded[resolution][start : start + len(level)] = level
            if report is not None:
                report("decoding", start + len(rgb), total)
        return decoded

    def minibatch(
        self, images_shown: int, stage: Stage, device: torch.device, *, places: Sequence[int] | None = None
    ) -> Tensor:
        """Return the reals of the step that starts after `images_shown` images.

        They depend only on (seed, images_shown, stage).

        Args:
            images_shown: number of images shown so far.
            stage: stage of the step.
            device: device of the result.
            places: indices of the wanted images of the minibatch, for one rank of several; None for all.

        Returns:
            float32 [N, channels, r, r] in [-1, 1], r the stage's resolution.
        """
        which = tuple(range(stage.minibatch)) if places is None else tuple(places)
        if self._decoded is None:
            pixels = self._ahead.take(images_shown, stage.minibatch, which, stage.resolution)
            pixels = to_channels(pixels, self._config.channels, self._source.name)
        else:
            indices = self._order.take(images_shown, stage.minibatch)[list(which)]
            pixels = self._decoded[stage.resolution][indices]
        mirrored = None
        if self._config.mirror:
            coins = seeding.words(
                self._config.seed,
                Stream.TRAINING_MIRROR,
                start=images_shown,
                stop=images_shown + stage.minibatch,
                width=4,
            )[list(which)]
            mirrored = torch.from_numpy(coins[:, 0] >> np.uint64(63) == 1).to(device)
        return prepare(torch.from_numpy(pixels).to(device), mirrored, stage)

    def labels(self, images_shown: int, stage: Stage, device: torch.device) -> Tensor | None:
        """Return the classes of the images that `minibatch` returns for the same step.

        Returns:
            One-hot, float32 [N, label_size]; None for an unconditional network.
        """
        if self._labels is None:
            return None
        return self._one_hot(self._labels[self._order.take(images_shown, stage.minibatch)], device)

    def drawn_labels(self, images_shown: int, stage: Stage, device: torch.device) -> Tensor | None:
        """Draw classes with the frequencies of the images, for a generator step after `images_shown` images.

        They depend only on (seed, images_shown, minibatch).

        Returns:
            One-hot, float32 [N, label_size]; None for an unconditional network.

        Source: `get_random_labels_tf` in dataset.py of Karras et al. 2018.
        """
        if self._labels is None:
            return None
        draw = seeding.generator(self._config.seed, Stream.TRAINING_LABELS, images_shown)
        return self._one_hot(self._labels[draw.integers(0, len(self), stage.minibatch)], device)

    def _one_hot(self, labels: NDArray[np.int64], device: torch.device) -> Tensor:
        return F.one_hot(torch.from_numpy(labels), self._config.label_size).to(device, torch.float32)


class _LevelAhead:
    """A prepared directory's minibatches; a thread reads the next one during the current step."""

    def __init__(self, source: PreparedSource, order: IndexStream) -> None:
        self._source, self._order = source, order
        self._thread: ThreadPoolExecutor | None = None
        self._next: tuple[object, Future[NDArray[np.uint8]]] | None = None

    def take(self, start: int, minibatch: int, places: tuple[int, ...], resolution: int) -> NDArray[np.uint8]:
        """Return images of a minibatch: uint8 [len(places), C, r, r]."""
        key = start, minibatch, places, resolution
        if self._next is not None and self._next[0] == key:
            now = self._next[1]
        else:
            now = self._read(*key)
        following = start + minibatch, minibatch, places, resolution
        self._next = following, self._read(*following)
        return now.result()

    def _read(
        self, start: int, minibatch: int, places: tuple[int, ...], resolution: int
    ) -> Future[NDArray[np.uint8]]:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "progan-levels")
        indices = self._order.take(start, minibatch)[list(places)]
        return self._thread.submit(self._source.level, indices, resolution)

    def close(self) -> None:
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
        self._thread = self._next = None


class _DecodedAhead:
    """Minibatches of a source whose images do not fit in memory, at its own resolution.

    They are decoded ahead in other processes while minibatches are requested in order.
    """

    def __init__(self, source: ImageSource, order: IndexStream, workers: int | None) -> None:
        self._source, self._order, self._workers = source, order, workers
        self._expected: object = None
        self._stream: Generator[NDArray[np.uint8], None, None] | None = None

    def take(self, start: int, minibatch: int, places: tuple[int, ...], resolution: int) -> NDArray[np.uint8]:
        """Return images of a minibatch: uint8 [len(places), 3, H, W]; `resolution` is not used."""
        pixels = None
        if self._stream is not None and self._expected == (start, minibatch, places):
            pixels = next(self._stream, None)
        if pixels is None:
            self.close()
            self._stream = self._from(start, minibatch, places)
            pixels = next(self._stream)
        self._expected = start + minibatch, minibatch, places
        return pixels

    def _from(
        self, start: int, minibatch: int, places: tuple[int, ...]
    ) -> Generator[NDArray[np.uint8], None, None]:
        # Limited, since a window of many epochs would need many permutations.
        images = min(_WINDOW, 16 * len(self._source))
        window = self._order.take(start, max(images // minibatch, 1) * minibatch)
        indices = window.reshape(-1, minibatch)[:, list(places)].ravel()
        for _, pixels in loading.blocks(self._source, indices, len(places), self._workers):
            yield pixels

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream = None


def fitted(config: ProGANConfig, source: ImageSource, *, conditional: bool = False) -> ProGANConfig:
    """Return the configuration with the settings that depend on the data.

    A prepared directory may set mirroring; a conditional network gets the number of classes of the images.

    Raises:
        SourceError: `conditional` is set and there are no classes.
    """
    if isinstance(source, PreparedSource) and source.mirror is not None:
        config = replace(config, mirror=source.mirror)
    if not conditional:
        return config
    if not source.label_names:
        raise SourceError(f"{source.name} has no classes to condition on; {_way_to_classes(source)}")
    return replace(config, label_size=len(source.label_names))


def _way_to_classes(source: ImageSource) -> str:
    return source.unlabeled or (
        "put its images into one folder per class or name their classes in dataset.json"
    )


def prepare(pixels: Tensor, mirrored: Tensor | None, stage: Stage) -> Tensor:
    """Convert images to the input of a training stage.

    Args:
        pixels: uint8 [N, C, H, W]; their center square has the final resolution, the stage's, or one between.
        mirrored: bool [N], which images to flip left to right; None for none.
        stage: the stage, with its resolution r and alpha.

    Returns:
        float32 [N, C, r, r] in [-1, 1].

    Source: `process_reals` in train.py of Karras et al. 2018.
    """
    x = center_square(pixels).to(torch.float32)
    factor = x.shape[-1] // stage.resolution
    if factor > 1:
        # The original stores every level as bytes, so levels are rounded.
        x = byte_images.box_downscale(x, factor).round()
    if mirrored is not None:
        x = torch.where(mirrored.reshape(-1, 1, 1, 1), x.flip(3), x)
    x = x / 127.5 - 1
    if stage.alpha < 1:
        # The discriminator must not distinguish reals by detail that fakes cannot have yet.
        coarse = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2.0, mode="nearest")
        x = coarse.lerp(x, stage.alpha)
    return x
