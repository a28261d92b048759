"""Digests that are remembered between processes: of unchanged files alone, never at a result's cost."""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from pgmetrics import sources
from pgmetrics.sources import digests
from tests.helpers.image_files import encoded, pixels, write, write_zip

IMAGES = pixels(5, seed=4)
SETTLED = digests._SETTLED
CONTENTS = {f"{i}.png": encoded(image) for i, image in enumerate(IMAGES)}


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    """Where the digests are remembered; files count as settled at once."""
    monkeypatch.setenv("PGMETRICS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "_SETTLED", -(10**12))
    return digests._path()


@pytest.fixture
def read(monkeypatch):
    """Counts how often a file is digested."""
    counted = []
    digested = digests._digested
    monkeypatch.setattr(digests, "_digested", lambda i, r: counted.append(len(i)) or digested(i, r))
    return counted


def identify(path):
    return sources.open_source(path).fingerprint


@pytest.mark.parametrize("kind", ["directory", "zip"])
def test_an_unchanged_file_is_digested_once(tmp_path, read, kind):
    path = (
        write(tmp_path / "set", CONTENTS) if kind == "directory" else write_zip(tmp_path / "s.zip", CONTENTS)
    )
    first = identify(path)
    assert identify(path) == first
    assert read == [5, 0]


@pytest.mark.parametrize("change", ["content", "size", "touch", "inode"])
def test_a_changed_file_is_digested_again(tmp_path, read, change):
    path = write(tmp_path / "set", CONTENTS)
    before = identify(path)
    file = path / "3.png"
    old, data = file.stat(), file.read_bytes()
    if change == "content":  # of equal size, the time set back: only the inode's own change shows it
        time.sleep(0.01)
        file.write_bytes(data[:-1] + b"!")
        os.utime(file, ns=(old.st_atime_ns, old.st_mtime_ns))
    elif change == "size":
        file.write_bytes(data + b"!")
    elif change == "touch":
        os.utime(file, ns=(1, 1))
    else:
        shutil.copy2(file, tmp_path / "other")
        os.replace(tmp_path / "other", file)
    assert (identify(path) == before) == (change in ("touch", "inode"))
    assert read == [5, 1]


def test_a_file_that_was_just_written_is_not_remembered(tmp_path, monkeypatch, read):
    # Within a tick of the clock, another content of equal size would have the same stamp.
    monkeypatch.setattr(digests, "_SETTLED", SETTLED)
    path = write(tmp_path / "set", CONTENTS)
    assert identify(path) == identify(path)
    assert read == [5, 5]


def status(device=1, seconds=0):
    """What os.stat gives, of a file that was written so many seconds after 1970 on a device."""
    times = {"st_mtime_ns": seconds * 10**9, "st_ctime_ns": seconds * 10**9}
    return SimpleNamespace(st_dev=device, st_ino=7, st_size=99, **times)


def test_another_file_system_at_the_same_place_shows():
    # Catches a disk that is mounted in place of another: images of disks have equal inodes and times.
    assert digests.Stamp.of(status(device=1)) != digests.Stamp.of(status(device=2))
    assert digests.Stamp.of(status(device=1)) == digests.Stamp.of(status(device=1))
    assert digests.Stamp.of(status(device=2**64 + 1))  # as Windows may number them


def test_a_file_settles_once_writes_through_a_memory_map_must_show(monkeypatch):
    # Linux writes pages back after 30 s and up to 5 s more; until then, a second write moves no time.
    monkeypatch.setattr(digests, "_SETTLED", SETTLED)
    stamp = digests.Stamp.of(status(seconds=1000))
    assert not stamp.is_settled(1060 * 10**9)
    assert stamp.is_settled(1200 * 10**9)


@pytest.mark.parametrize("damage", ["text", "cut", "directory", "read-only", "pipe"])
def test_a_store_that_fails_costs_time_alone(tmp_path, store, read, damage):
    path = write(tmp_path / "set", CONTENTS)
    expected = identify(path)
    whole = store.read_bytes()
    store.unlink()
    if damage == "text":
        store.write_text("no data base " * 1000)
    elif damage == "cut":
        store.write_bytes(whole[: len(whole) // 2])
    elif damage == "directory":
        store.mkdir()
    elif damage == "pipe":
        os.mkfifo(store)
    else:
        store.parent.chmod(0o500)
    try:
        assert [identify(path) for _ in range(3)] == [expected] * 3
    finally:
        store.parent.chmod(0o700)
    if damage in ("text", "cut"):  # made anew
        assert read == [5, 5, 0, 0] or read == [5, 5, 5, 0]


def test_a_flipped_bit_in_the_store_makes_no_other_set(tmp_path, store, read):
    path = write(tmp_path / "set", CONTENTS)
    expected = identify(path)
    with sqlite3.connect(store) as opened:
        for key, checked in opened.execute("SELECT key, digest FROM digests").fetchall():
            flipped = bytes([checked[0] ^ 1]) + checked[1:]
            opened.execute("UPDATE digests SET digest = ? WHERE key = ?", (flipped, key))
    assert identify(path) == expected
    assert read == [5, 5]


@pytest.mark.slow
def test_processes_may_remember_at_once(tmp_path, read):
    paths = [write(tmp_path / f"set{i}", CONTENTS) for i in range(4)]
    program = (
        "import sys; from pgmetrics import sources; from pgmetrics.sources import digests; "
        "digests._SETTLED = -10**12; print(sources.open_source(sys.argv[1]).fingerprint)"
    )
    # Each path by two processes.
    running = [
        subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True)
        for path in paths * 2
    ]
    found = {process.communicate()[0].strip() for process in running}
    assert [process.returncode for process in running] == [0] * 8
    assert found == {identify(paths[0])}
    assert read == [0]


def test_many_files_are_digested_in_threads_and_keep_their_digests(tmp_path):
    images = pixels(200, 2, 2)
    contents = {f"{i}.png": encoded(image) for i, image in enumerate(images)}
    source = sources.open_source(write(tmp_path / "set", contents))
    alone = [sources.open_source(tmp_path / "set").identity([i]) for i in (0, 63, 64, 199)]
    source.identity(range(200))
    assert [source.identity([i]) for i in (0, 63, 64, 199)] == alone
    assert len(set(alone)) == 4
