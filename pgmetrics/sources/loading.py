"""Read blocks of images, decoded by other processes ahead of the computation."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pgmetrics.errors import SourceError, check_number
from pgmetrics.runtime.blocks import plan
from pgmetrics.runtime.workers import MOST_WORKERS, NotSendable, Pool, WorkerDied, sendable, usable_cores

_MOST_WORKERS = 16  # by default
# Decoding needs no matrix products, so the idle threads of BLAS would only cost memory.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

logger = logging.getLogger("pgmetrics")


class Source(Protocol):
    """The part of an image source (`sources.base.ImageSource`) that loading uses."""

    name: str
    in_workers: bool
    notes: Counter[str]

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width in pixels of every image."""

    def batch(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Return images by index, uint8 [N, 3, H, W]."""

    def take_notes(self) -> Counter[str]:
        """Return the notes made since the last call."""

    def take_digests(self) -> dict[int, bytes]:
        """Return the digests of the images read since the last call."""

    def learn_digests(self, digests: Mapping[int, bytes]) -> None:
        """Add the digests that `take_digests` returned in another process."""


def blocks(
    source: Source,
    indices: Sequence[int] | NDArray[np.int64],
    length: int,
    workers: int | None = None,
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield the images of a sequence block by block; the bytes do not depend on the number of workers.

    At most workers + 1 blocks are decoded ahead. The workers end with the iterator, whether it is
    exhausted, closed or interrupted.

    Args:
        source: the source of the images.
        indices: indices in the source of the images of the sequence.
        length: number of images in a block; the last block may be shorter.
        workers: number of decoding processes; 0 for none, None for one per usable core, at most 16. Sources
            that do not gain from processes (`in_workers` False) are read in this process, and so are, with
            a warning, sources whose class is defined in the running script.

    Yields:
        (start, pixels): position of the block's first image in the sequence, uint8 [n, 3, H, W].

    Raises:
        SourceError: an image cannot be read, or a worker died.
        OptionError: workers is below 0 or above MOST_WORKERS.
    """
    yield from pieces(source, indices, plan(len(indices), length), workers)


def pieces(
    source: Source,
    indices: Sequence[int] | NDArray[np.int64],
    cuts: Sequence[tuple[int, int]],
    workers: int | None = None,
) -> Generator[tuple[int, NDArray[np.uint8]]]:
    """Like `blocks`, but with the given (start, stop) of each piece of the sequence."""
    if workers is not None:
        check_number("workers", workers, 0, MOST_WORKERS, whole=True)
    tasks = [np.asarray(indices[start:stop], np.int64).tolist() for start, stop in cuts]
    count = _useful_workers(source, workers, len(tasks))
    pickled = _pickled(source) if count else None
    loaded = _in_processes(source, pickled, tasks, count) if pickled else map(source.batch, tasks)
    for (start, _), pixels in zip(cuts, loaded, strict=True):
        yield start, pixels


def _useful_workers(source: Source, workers: int | None, tasks: int) -> int:
    if not source.in_workers or tasks < 2 or not sys.executable:
        return 0
    if workers is None:
        workers = min(usable_cores(), _MOST_WORKERS)
    return min(workers, tasks)


def _pickled(source: Source) -> bytes | None:
    """Return what a worker needs; None, with a warning, if only this process can read the source."""
    source.resolution  # noqa: B018 - determine it once here, not in every worker
    try:
        return sendable(_Reading(source))
    except NotSendable as error:
        if error.defined_in_script is None:
            raise SourceError(
                f"{source.name} cannot be sent to other processes ({error}); workers=0 reads it in this one"
            ) from error
        _warn_of_script(source.name, error.defined_in_script)
        return None


def _warn_of_script(name: str, defined: str) -> None:
    # Warn only once, since training starts the workers many times.
    if defined not in _warned:
        _warned.add(defined)
        logger.warning(
            f"{name} is read by this process alone: {defined} is defined in the running script, which other "
            "processes cannot import; move it into a module, or pass workers=0"
        )


_warned: set[str] = set()


class _Loaded(NamedTuple):
    pixels: NDArray[np.uint8]
    notes: Counter[str]
    digests: dict[int, bytes]


@dataclass
class _Reading:
    """The function that a worker process applies to lists of indices."""

    source: Source

    def __call__(self, indices: list[int]) -> _Loaded:
        pixels = np.ascontiguousarray(self.source.batch(indices))
        return _Loaded(pixels, self.source.take_notes(), self.source.take_digests())


def _in_processes(
    source: Source, pickled: bytes, tasks: list[list[int]], count: int
) -> Iterator[NDArray[np.uint8]]:
    with Pool([pickled] * count, f"reading {source.name}", _ONE_THREAD) as pool:
        try:
            for loaded in pool.answers(tasks, ahead=count):
                source.notes.update(loaded.notes)
                source.learn_digests(loaded.digests)
                yield loaded.pixels
                del loaded  # otherwise this block would stay in memory while the next one is awaited
        except WorkerDied as error:
            hint = "; the system may have run out of memory" if str(error) == "signal 9" else ""
            raise SourceError(
                f"a process that decodes {source.name} died ({error}){hint}; "
                "workers=0 reads it in this process"
            ) from error
