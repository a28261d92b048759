"""Where large arrays are kept: in memory up to a bound, beyond it in a file without a name.

The file is unlinked as soon as it is made, so that nothing is left of it whatever ends the process.
"""

from __future__ import annotations

import math
import mmap
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pgmetrics.errors import PgmetricsError

DEFAULT_MAX_MEMORY = 3 * 2**30
"""Bytes of memory that an evaluation may take when nothing else is said."""

WORKING_MEMORY = 2**30
"""Bytes of it that are set aside for projections, pyramids and blocks under way; less was measured."""

_SLAB = 2**26
_SEGMENT = 2**28


def cache_directory() -> Path:
    """PGMETRICS_CACHE, else `pgmetrics` in the user's cache directory."""
    if given := os.environ.get("PGMETRICS_CACHE"):
        return Path(given)
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "pgmetrics"


class Storage:
    """Keeps arrays that will be read again but never changed.

    Where an array lies never changes a value read from it.
    """

    def __init__(self, max_memory: int = DEFAULT_MAX_MEMORY) -> None:
        """A store that holds at most `max_memory` bytes in anonymous memory."""
        self.max_memory = max_memory
        self.in_memory = 0
        self._slab: NDArray[np.uint8] = np.empty(0, np.uint8)
        self._segments: list[_Segment] = []

    def room(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array of whatever values, to be filled and then given to `keep`.

        Within the bound it is cut from a slab: the system backs large allocations by large pages,
        which are there many times sooner than the small ones of an array for each block.
        """
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        if self.in_memory + nbytes > self.max_memory:
            return np.empty(shape, dtype)
        if self._slab.nbytes < nbytes:
            self._slab = np.empty(max(_SLAB, nbytes), np.uint8)
        cut, self._slab = self._slab[:nbytes], self._slab[_aligned(nbytes) :]
        self.in_memory += nbytes
        return cut.view(dtype).reshape(shape)

    def keep(self, array: NDArray[Any]) -> NDArray[Any]:
        """The same values: the array itself if it was cut from memory, or a view of the spill file.

        Neither may be written afterwards; states share what they keep.

        Raises:
            PgmetricsError: the disk that holds temporary files is full.
        """
        if array.base is not None:
            return array
        if not self._segments or not self._segments[-1].has_room(array.nbytes):
            self._segments.append(_Segment(max(_SEGMENT, array.nbytes)))
        return self._segments[-1].append(array)

    @property
    def spilled(self) -> int:
        """Bytes that lie on disk."""
        return sum(segment.used for segment in self._segments)


class _Segment:
    """One unlinked file, mapped once: a map for each array would run out of file descriptors."""

    def __init__(self, size: int) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="pgmetrics-", buffering=0)
        weakref.finalize(self, self._file.close)
        self._file.truncate(size)
        self._map = mmap.mmap(self._file.fileno(), size, access=mmap.ACCESS_WRITE)
        self._size = size
        self.used = 0

    def has_room(self, nbytes: int) -> bool:
        return self.used + nbytes <= self._size

    def append(self, array: NDArray[Any]) -> NDArray[Any]:
        # Written through the file, read through the map: writing through the map would end in a
        # bus error, not an exception, on a full disk.
        try:
            self._file.seek(self.used)
            view = array.data.cast("B")
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            free = shutil.disk_usage(tempfile.gettempdir()).free
            raise PgmetricsError(
                f"cannot spill {array.nbytes:,} bytes of descriptors to {tempfile.gettempdir()} "
                f"({error.strerror}; {free:,} bytes free). Set TMPDIR to a roomier disk, raise "
                "--max-memory, or score fewer images"
            ) from error
        kept = np.frombuffer(self._map, array.dtype, array.size, offset=self.used).reshape(array.shape)
        self.used += _aligned(array.nbytes)
        return kept


def _aligned(nbytes: int) -> int:
    """So many bytes that the next array starts on a cache line of its own, as one in memory would."""
    return -(-nbytes // 64) * 64
