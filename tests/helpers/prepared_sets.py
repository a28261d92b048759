"""Sources to prepare, one of which dies, and what stands in a directory of levels."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pgmetrics.sources.base import IDENTITY, ImageSource, listed


class Noise(ImageSource):
    """Random bytes; image i has i in its corner."""

    def __init__(self, count: int = 10, side: int = 16, *, grey: bool = False, width: int = 0) -> None:
        super().__init__()
        self.name = "noise"
        self._shape = (count, 3, side, width or side)
        self._pixels = np.random.default_rng(5).integers(0, 256, self._shape).astype(np.uint8)
        if grey:
            self._pixels[:] = self._pixels[:, :1]
        self._pixels[:, :, 0, 0] = (np.arange(count) % 256)[:, None]
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self._pixels)

    @property
    def resolution(self) -> tuple[int, int]:
        return self._pixels.shape[2], self._pixels.shape[3]

    def identity(self, indices: Sequence[int]) -> str:
        return f"{IDENTITY}noise of {self._shape[2:]},images={listed(indices)}"

    def _read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        self.read += indices
        return self._pixels[list(indices)]


N = 20


class Labeled(Noise):
    label_names = ("cat", "dog", "eel")
    labels = np.arange(N) % 3


class Dying(Labeled):
    """Dies without a word, as by kill -9 or a lack of memory, when a late image is read."""

    def _read(self, indices):
        if max(indices) >= 13:
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._read(indices)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def unfinish(directory: Path, done: int) -> None:
    """As if the work had been interrupted when so many images were marked."""
    begun = json.loads((directory / "levels.json").read_text())
    for key in ("format", "format_version", "sha256"):
        del begun[key]
    (directory / "unfinished-levels.json").write_text(json.dumps(begun | {"done": done}))
    (directory / "levels.json").unlink()
