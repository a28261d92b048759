"""Arrays that are kept beyond a bound of memory."""

import errno
import gc
import io
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from pgmetrics.errors import PgmetricsError
from pgmetrics.runtime import spill
from pgmetrics.runtime.spill import Storage


def keep(store, array):
    room = store.room(array.shape, array.dtype)
    room[...] = array
    return store.keep(room)


def test_memory_cut_from_one_slab_is_not_shared_between_arrays():
    store = Storage()
    kept = [keep(store, np.full((n, 3), n, np.float32)) for n in (1, 7, 50, 3)]
    assert [set(array.ravel().tolist()) for array in kept] == [{1}, {7}, {50}, {3}]
    assert store.in_memory == 4 * 3 * 61
    assert store.spilled == 0


def test_arrays_keep_their_values_on_either_side_of_the_bound():
    store = Storage(max_memory=1000)
    rng = np.random.default_rng(0)
    arrays = [
        rng.standard_normal((n, 3)).astype(dtype)
        for n, dtype in ((20, "f4"), (31, "f8"), (7, "f4"), (50, "u1"))
    ]
    kept = [keep(store, array) for array in arrays]
    assert 0 < store.in_memory <= 1000
    assert store.spilled > 0
    for array, copy in zip(arrays, kept, strict=True):
        assert copy.dtype == array.dtype
        assert np.array_equal(copy, array)


def test_many_arrays_share_few_file_descriptors(monkeypatch):
    # One map for each array would hit the limit of open files at about a thousand.
    monkeypatch.setattr(spill, "_SEGMENT", 4096)
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    store = Storage(0)
    kept = [keep(store, np.full(16, i, np.float32)) for i in range(200)]
    assert all((array == i).all() for i, array in enumerate(kept))
    if before:
        assert len(os.listdir("/proc/self/fd")) - before <= 2 * (200 * 64 // 4096 + 1)


def test_an_array_larger_than_a_segment_fits(monkeypatch):
    monkeypatch.setattr(spill, "_SEGMENT", 4096)
    large = np.arange(5000.0)
    assert np.array_equal(keep(Storage(0), large), large)


@pytest.mark.slow
def test_kept_arrays_outlive_the_store():
    kept = keep(Storage(0), np.arange(10))
    gc.collect()
    assert kept.tolist() == list(range(10))


class FullDisk(io.BytesIO):
    """A file whose disk holds 100 bytes."""

    def __init__(self, file):
        self._file = file

    def write(self, data):
        if self._file.tell() + len(data) > 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._file.write(data)

    def seek(self, *where):
        return self._file.seek(*where)


def test_a_full_disk_is_one_line_with_a_way_out():
    store = Storage(0)
    keep(store, np.zeros(4))
    store._segments[-1]._file = FullDisk(store._segments[-1]._file)
    with pytest.raises(PgmetricsError, match=r"cannot spill 800 bytes .*No space left on device.*TMPDIR"):
        keep(store, np.zeros(100))


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_nothing_is_left_behind_by_a_killed_process(tmp_path):
    code = (
        "import numpy as np, os, signal; from pgmetrics.runtime.spill import Storage; s = Storage(0);"
        "kept = s.keep(s.room((100000,), float)); assert s.spilled; os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(tmp_path)}, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []
