"""Prepared sets: images decoded once, at every resolution of growth.

A prepared directory holds `level-0004.npy` … `level-1024.npy`, each uint8 [N, C, r, r]; with classes also
`labels.npy`, int64 [N]; and `levels.json`, which is written last and marks a complete set. Equal images and
settings give equal files, regardless of interruptions.

Source: dataset_tool.py of Karras et al. 2018, which stores the same levels in other files.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgmetrics.errors import OptionError, SourceError
from pgmetrics.runtime.files import open_regular
from pgmetrics.runtime.npy_headers import read_npy_header
from pgmetrics.sources.base import ImageSource
from pgmetrics.sources.resolve import open_source
from reference_models.progan.data.level_files import (
    LABELS,
    MANIFEST,
    UNFINISHED,
    level_name,
    level_resolutions,
    read_manifest,
)
from reference_models.progan.data.pyramid_levels import to_channels


class PreparedSource(ImageSource):
    """The images of a prepared directory at all levels.

    They are the images of the original source in its order, with its fingerprint and classes: training on
    either is the same run. A part of them is identified by its pixels.

    Attributes:
        channels: 1 or 3, as stored.
        mirror: whether training should flip half of them, or None if that was not set.

    Args:
        directory: a directory that `prepare` wrote.
        resolution: one of the levels; None for the largest.

    Raises:
        SourceError: the directory is incomplete or damaged, or has no such level.
    """

    def __init__(self, directory: Path, resolution: int | None = None) -> None:
        super().__init__()
        self.name = str(directory)
        settings, _ = read_manifest(directory)
        largest = settings.resolution
        side = largest if resolution is None else resolution
        if side not in level_resolutions(largest):
            raise SourceError(
                f"{directory} was prepared at {largest} x {largest} and has no level of {side} x {side}; "
                f"`progan data` with --resolution {side} makes one"
            )
        self._fingerprint = settings.fingerprint + ("" if side == largest else f"+level={side}")
        self.shuffled = settings.shuffled
        self.channels = settings.channels
        self.mirror = settings.mirror
        self._side = side
        self._length = settings.num_images
        self._label_names = list(settings.label_names)
        self._levels = {
            r: _mapped(directory / level_name(r), settings.shape(r), np.dtype(np.uint8))
            for r in level_resolutions(largest)
            if r <= side
        }
        self._labels: NDArray[np.int64] | None = None
        if settings.labels_digest is not None:
            self._labels = np.array(_mapped(directory / LABELS, (self._length,), np.dtype(np.int64)))

    def __len__(self) -> int:
        return self._length

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width in pixels of every image."""
        return self._side, self._side

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the original source."""
        return self._fingerprint

    def identity(self, indices: Sequence[int] | NDArray[np.int64]) -> str:
        """Return the fingerprint for all images in order; for other indices a digest of the pixels."""
        whole = np.array_equal(np.asarray(indices, np.int64), np.arange(len(self)))
        return self.fingerprint if whole else super().identity(indices)

    @property
    def label_names(self) -> list[str]:
        """Names of the classes; empty if there are none."""
        return list(self._label_names)

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """The class of each image as an index into `label_names`, or None if there are no classes."""
        return self._labels

    def level(self, indices: Sequence[int] | NDArray[np.int64], resolution: int) -> NDArray[np.uint8]:
        """Return images by index at one of the levels: uint8 [N, channels, r, r]."""
        taken: NDArray[np.uint8] = np.take(self._levels[resolution], np.asarray(indices, np.int64), axis=0)
        return taken

    def _read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        return to_channels(self.level(indices, self._side), 3, self.name)


def is_prepared(directory: Path) -> bool:
    """Whether a directory was made by `prepare`, complete or not."""
    return any(os.path.isfile(directory / name) for name in (MANIFEST, UNFINISHED))


def open_training_source(data: str, resolution: int, *, resize: str | None = None) -> ImageSource:
    """Open the images for training at a resolution.

    Args:
        data: a prepared directory, or any source of `pgmetrics`.
        resolution: final side in pixels; for a prepared directory any of its levels.
        resize: the policy for images of other sizes; None for a prepared directory.

    Raises:
        SourceError: there are no images, or a prepared set is incomplete or too small.
        OptionError: `resize` is given for a prepared directory.
    """
    if is_prepared(Path(data)):
        if resize is not None:
            raise OptionError(
                f"{data} is prepared, so its images cannot be resized; leave --resize out, or give it to "
                "`progan data`"
            )
        return PreparedSource(Path(data), resolution)
    # A procedural set can be of any resolution; files are what they are, unless told otherwise.
    follows = resize is not None or data.startswith("synthetic:")
    return open_source(data, resolution=resolution if follows else None, resize=resize)


def _mapped(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    try:
        with open_regular(path) as file:
            found, fortran_order, found_dtype = read_npy_header(file)
            if (found, fortran_order, found_dtype) == (shape, False, dtype):
                return np.asarray(np.memmap(file, dtype, "r", file.tell(), shape))
    except (OSError, ValueError) as error:
        reason = (
            error.strerror if isinstance(error, OSError) and error.strerror else "it was cut short or damaged"
        )
        raise SourceError(f"{path} cannot be read: {reason}; prepare the set again") from error
    raise SourceError(
        f"{path} holds {found_dtype} {list(found)} where {dtype} {list(shape)} belongs; prepare the set again"
    )
