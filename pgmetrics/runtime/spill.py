"""Keep large arrays in memory up to a limit, and beyond it in an unnamed temporary file.

The file is unlinked as soon as it is created, so that nothing remains however the process ends.
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
"""Default number of bytes of memory that an evaluation may use."""

WORKING_MEMORY = 2**30
"""The part of it reserved for projections, pyramids and blocks in progress; measurements stayed below."""

_SLAB = 2**26
_SEGMENT = 2**28


def cache_directory() -> Path:
    """Return the directory PGMETRICS_CACHE, or by default `pgmetrics` in the user's cache directory."""
    if given := os.environ.get("PGMETRICS_CACHE"):
        return Path(given)
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "pgmetrics"


class Storage:
    """Keeps arrays that will be read again but never changed.

    Values read from an array do not depend on where it is kept.
    """

    def __init__(self, max_memory: int = DEFAULT_MAX_MEMORY) -> None:
        """Create a storage that holds at most `max_memory` bytes in anonymous memory."""
        self.max_memory = max_memory
        self.in_memory = 0
        self._slab: NDArray[np.uint8] = np.empty(0, np.uint8)
        self._segments: list[_Segment] = []

    def room(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an uninitialized array, to be filled and then given to `keep`.

        Within the limit it is cut from a slab: the system backs large allocations with large pages, which
        it provides many times faster than the small pages of a separate array for each block.
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
        """Return the array itself if it was cut from a slab, else a view of the spill file with its values.

        Neither may be written to afterwards, since states share arrays.

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
        """The number of bytes on disk."""
        return sum(segment.used for segment in self._segments)


class _Segment:
    """An unlinked file that is mapped once; a map per array would use up the file descriptors."""

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
        # Write through the file and read through the map: on a full disk, writing through the map would
        # end in a bus error instead of an exception.
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
    """Round up to whole cache lines, so that the next array is aligned like any array in memory."""
    return -(-nbytes // 64) * 64
