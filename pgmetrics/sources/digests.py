"""A cache of file digests on this machine, valid while the files do not change.

As in git's index, a file is not read again while its path, device, inode, size and times equal those of its
last digest, and a file that changed within the last two minutes is not cached. A change that moves none of
these goes undetected: a write through a memory map that the system flushes later than that (Linux flushes
after 30 to 35 s), or never, as on a file system in memory.

The cache is one SQLite file in the cache directory. It may be deleted at any time; if it cannot be read or
written, digests are computed again.
"""

from __future__ import annotations

import logging
import os
import platform
import sqlite3
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Protocol

from pgmetrics.runtime.files import sha256
from pgmetrics.runtime.spill import cache_directory

logger = logging.getLogger("pgmetrics")

_THREADS = 4
_PIECE = 64  # files per task of a thread
_SETTLED = 120 * 10**9
"""Nanoseconds. File systems store times to 2 s or finer, but a write through a memory map may update them
only when it is flushed: on Linux after 30 s and up to 5 s until the flusher's next turn."""
_STAMP = struct.Struct("<QQQqq")
_CHECK = 8  # bytes of a digest's own digest


class Stamp(bytes):
    """Device, inode, size, modification time and inode-change time of the file that holds an image."""

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """Return the stamp of a file."""
        where = (status.st_dev % 2**64, status.st_ino % 2**64)  # longer on Windows
        return cls(_STAMP.pack(*where, status.st_size, status.st_mtime_ns, status.st_ctime_ns))

    def is_settled(self, now: int) -> bool:
        """Whether any change after `now`, in nanoseconds, would show in the stamp."""
        *_, modified, changed = _STAMP.unpack(self)
        latest: int = max(modified, changed)
        return latest < now - _SETTLED


class Files(Protocol):
    """The interface of a directory or archive of image files."""

    def stamps(self, indices: Sequence[int]) -> list[Stamp | None]:
        """Return the stamp of the file that holds each image; None if there is no such file."""

    def places(self, indices: Sequence[int]) -> list[str]:
        """Return the location of each image on this machine."""


def digests(files: Files, indices: Sequence[int], read: Callable[[int], bytes]) -> dict[int, bytes]:
    """Return the SHA-256 of the encoded bytes of images, by index; for unchanged files from the cache.

    Args:
        files: the files that hold the images.
        indices: which images.
        read: returns an image's encoded bytes; called from several threads.

    Raises:
        SourceError: raised by `read` if an image cannot be read.
    """
    # Taken before anything is read, so that every later change shows in the stamps.
    now = time.time_ns()
    stamps = dict(zip(indices, files.stamps(indices), strict=True))
    keys = {index: _key(place) for index, place in zip(indices, files.places(indices), strict=True)}
    known = _recall({keys[index]: stamp for index, stamp in stamps.items() if stamp is not None})
    cached = {index: known[key] for index, key in keys.items() if key in known}
    made = _digested([index for index in indices if index not in cached], read)
    settled = {
        keys[index]: (stamp, digest)
        for index, digest in made.items()
        # Like git's "racily clean" files: a change within the same clock tick would not show.
        if (stamp := stamps[index]) is not None and stamp.is_settled(now)
    }
    _remember(settled)
    return cached | made


def _digested(indices: Sequence[int], read: Callable[[int], bytes]) -> dict[int, bytes]:
    pieces = [indices[start : start + _PIECE] for start in range(0, len(indices), _PIECE)]

    def digest(piece: Sequence[int]) -> list[bytes]:
        return [sha256(read(index)).digest() for index in piece]

    if len(pieces) < 2:
        return {index: value for piece in pieces for index, value in zip(piece, digest(piece), strict=True)}
    with ThreadPoolExecutor(_THREADS, "pgmetrics-digests") as threads:
        digested = threads.map(digest, pieces)
        return {
            index: value
            for piece, values in zip(pieces, digested, strict=True)
            for index, value in zip(piece, values, strict=True)
        }


def _recall(stamps: Mapping[bytes, Stamp]) -> dict[bytes, bytes]:
    """Return the cached digests of the files that have these stamps."""
    cached: dict[bytes, bytes] = {}

    def look_up(store: sqlite3.Connection) -> None:
        for key, stamp in stamps.items():
            for old, checked in store.execute("SELECT stamp, digest FROM digests WHERE key = ?", (key,)):
                digest = checked[:-_CHECK]
                # A bit flipped on disk must not change the identity of a set.
                if old == stamp and checked == _checked(key, stamp, digest):
                    cached[key] = digest

    if stamps and _path().exists():
        _in_store("BEGIN", look_up)
    return cached


def _remember(digests: Mapping[bytes, tuple[Stamp, bytes]]) -> None:
    def write(store: sqlite3.Connection) -> None:
        rows = ((key, stamp, _checked(key, stamp, digest)) for key, (stamp, digest) in digests.items())
        store.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?)", rows)

    if digests:
        _in_store("BEGIN IMMEDIATE", write)


def _in_store(begin: str, work: Callable[[sqlite3.Connection], None]) -> None:
    """Run some work in one transaction of the cache; if the cache fails, skip the work.

    Without a transaction each of 50,000 look-ups would lock the file separately.
    """
    path = _path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            raise OSError("it is not a regular file")
        # Several processes may read and write at once; each holds SQLite's lock briefly.
        with closing(sqlite3.connect(path, timeout=5)) as store, store:
            store.execute(begin)
            store.execute(
                "CREATE TABLE IF NOT EXISTS digests "
                "(key BLOB PRIMARY KEY, stamp BLOB NOT NULL, digest BLOB NOT NULL) WITHOUT ROWID"
            )
            work(store)
    except (OSError, sqlite3.OperationalError) as error:  # locked, read-only, a full disk
        logger.debug(f"digests of files are not remembered in {path}: {error}")
    except sqlite3.Error as error:
        logger.debug(f"{path}, which remembers digests of files, is damaged and made anew: {error}")
        with suppress(OSError):
            path.unlink()


def _path() -> Path:
    # Another machine may share the directory, but paths, inodes and times do not carry over.
    machine = sha256(platform.node().encode()).hexdigest()[:12]
    return cache_directory() / f"digests-{machine}.sqlite"


def _key(place: str) -> bytes:
    return sha256(place.encode("utf-8", "surrogatepass")).digest()[:16]


def _checked(key: bytes, stamp: bytes, digest: bytes) -> bytes:
    return digest + sha256(key + stamp + digest).digest()[:_CHECK]
