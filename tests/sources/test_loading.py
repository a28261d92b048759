"""Blocks are the same for any number of workers, and nothing is left behind whatever happens."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pgmetrics import sources
from pgmetrics.errors import SourceError
from pgmetrics.sources import loading
from pgmetrics.sources.base import ImageSource
from pgmetrics.sources.wrappers import Mirrored
from tests.helpers.image_files import encoded, pixels, write

ROOT = Path(__file__).parents[2]
posix = pytest.mark.skipif(os.name != "posix", reason="sends signals")


@pytest.fixture
def folder(tmp_path):
    images = pixels(23)
    opaque = [np.dstack([image, np.full((8, 8), 255, np.uint8)]) for image in images]
    return write(tmp_path / "set", {f"{i:02}.png": encoded(image) for i, image in enumerate(opaque)})


def children():
    """Processes started by this one that have not ended or not been waited for."""
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(os.getpid())], capture_output=True, text=True)
    return {int(pid) for pid in listed.stdout.split() if Path(f"/proc/{pid}").exists()}


@pytest.fixture
def no_orphans():
    before = children()
    yield
    assert children() <= before


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1, 2, 5])
def test_blocks_are_the_same_for_any_number_of_workers(folder, workers, no_orphans):
    # Catches blocks in the order in which they are done, and a last block that is lost or padded.
    source = Mirrored(sources.open_source(folder), 1)
    order = np.random.default_rng(0).permutation(23)
    got = list(loading.blocks(source, order, 4, workers))
    assert [start for start, _ in got] == [0, 4, 8, 12, 16, 20]
    assert [len(block) for _, block in got] == [4, 4, 4, 4, 4, 3]
    np.testing.assert_array_equal(np.concatenate([block for _, block in got]), source.batch(order))
    assert got[0][1].flags.writeable


@pytest.mark.parametrize("workers", [0, 2])
def test_notes_of_the_workers_arrive(folder, workers):
    source = sources.open_source(folder)
    list(loading.blocks(source, range(23), 4, workers))
    assert source.notes == {"opaque alpha dropped": 23}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_refusal_arrives_word_for_word(folder, workers, no_orphans):
    (folder / "17.png").write_bytes(b"broken")
    source = sources.open_source(folder)
    blocks = loading.blocks(source, range(23), 4, workers)
    assert [next(blocks)[0] for _ in range(4)] == [0, 4, 8, 12]
    with pytest.raises(SourceError) as refusal:
        next(blocks)
    with pytest.raises(SourceError) as direct:
        source.batch([17])
    assert str(refusal.value) == str(direct.value)


class Local(ImageSource):
    """A source that must not leave this process."""

    name = fingerprint = "local"

    def __len__(self):
        return 10

    @property
    def resolution(self):
        return 1, 1

    def _read(self, indices):
        return np.full((len(indices), 3, 1, 1), os.getpid() % 251, np.uint8)


def test_sources_without_use_for_workers_stay_in_this_process(no_orphans):
    blocks = loading.blocks(Local(), range(10), 2, workers=2)
    assert {int(block.max()) for _, block in blocks} == {os.getpid() % 251}


def test_what_cannot_be_sent_is_refused_with_the_way_out():
    class Hidden(Local):
        in_workers = True

    with pytest.raises(SourceError, match=r"local cannot be sent to other processes.*workers=0"):
        list(loading.blocks(Hidden(), range(10), 2, workers=2))


class Counting(Local):
    in_workers = True

    def __init__(self, log):
        super().__init__()
        self.log = log

    def _read(self, indices):
        with open(self.log, "a") as log:
            log.write(f"{os.getpid()}\n" * len(indices))
        return super()._read(indices)

    def __len__(self):
        return 1_000


def run_source(tmp_path, source_code, main, **options):
    """Run a script beside a module with sources of its own, as a user would."""
    (tmp_path / "mine.py").write_text(SOURCES + source_code)
    (tmp_path / "script.py").write_text(main)
    return subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        **options,
    )


SOURCES = """
import os, signal, sys, time
import numpy as np
from pgmetrics.sources.base import ImageSource

class Mine(ImageSource):
    name = fingerprint = "mine"
    in_workers = True
    resolution = (1, 1)
    def __len__(self):
        return 1000
    def _read(self, indices):
        self.look(indices)
        return np.full((len(indices), 3, 1, 1), os.getpid() % 251, np.uint8)
    def look(self, indices):
        pass
"""


@pytest.mark.slow
def test_look_ahead_is_bounded(tmp_path):
    # Catches a loader that decodes the whole set while the first block is being worked on.
    main = """
import os, time
from mine import Slow
from pgmetrics.sources.loading import blocks
it = blocks(Slow(), range(1000), 10, 2)
next(it)
time.sleep(0.5)
print(len(open("log").read().split()), os.getpid() in map(int, open("log").read().split()))
it.close()
"""
    code = """
class Slow(Mine):
    def look(self, indices):
        open("log", "a").write(f"{os.getpid()}\\n" * len(indices))
"""
    out, err = run_source(tmp_path, code, main).communicate(timeout=30)
    assert not err
    decoded, here = out.split()
    assert 10 <= int(decoded) <= 50
    assert here == "False"


@pytest.mark.slow
def test_a_script_without_a_main_guard_runs_once_and_workers_load_no_torch(tmp_path):
    # Python's own pools would import the script in every child, which starts it once more, and
    # torch with it. Whatever a source prints must not get between the answers, either.
    main = """
import torch
from mine import Curious
from pgmetrics.sources.loading import blocks
print("started")
print(sum(len(pixels) for _, pixels in blocks(Curious(), range(100), 10, 2)))
"""
    code = """
class Curious(Mine):
    def look(self, indices):
        assert "torch" not in sys.modules
        print("a print in a worker")
"""
    out, err = run_source(tmp_path, code, main).communicate(timeout=60)
    assert out.split() == ["started", "100"]
    # Two processes may write a line and its end in turns.
    assert err.count("a print in a worker") == 10
    assert not err.replace("a print in a worker", "").strip()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_source_of_the_script_itself_is_read_in_its_process_and_a_line_says_so(tmp_path, workers):
    # A training opens the workers again and again, and hears of it once.
    main = f"""
import os
from mine import Mine
from pgmetrics.sources.loading import blocks
class Here(Mine):
    pass
for _ in range(2):
    seen = {{int(pixels.max()) for _, pixels in blocks(Here(), range(100), 10, {workers})}}
    print(seen == {{os.getpid() % 251}})
"""
    out, err = run_source(tmp_path, "", main).communicate(timeout=30)
    assert out.split() == ["True", "True"]
    warned = err.splitlines()
    assert len(warned) == (1 if workers else 0)
    assert all(
        "mine is read by this process alone: Here is defined in the running script" in line for line in warned
    )


def test_a_path_that_is_called_like_the_script_is_no_reason_to_stay_in_its_process(tmp_path):
    # Wrong: looking for "__main__" among the bytes of the pickle.
    main = """
import os
from mine import Noting
from pgmetrics.sources.loading import blocks
noting = Noting()
noting.directory = "photos/__main__"
list(blocks(noting, range(100), 10, 2))
print(str(os.getpid()) in open("log").read().split())
"""
    code = """
class Noting(Mine):
    def look(self, indices):
        open("log", "a").write(f"{os.getpid()}\\n")
"""
    out, err = run_source(tmp_path, code, main).communicate(timeout=30)
    assert (out.strip(), err) == ("False", "")


@posix
def test_a_killed_worker_is_told_in_one_line(tmp_path):
    # What the system does to a process when memory runs out. Catches waiting for ever.
    main = """
from mine import Doomed
from pgmetrics.sources.loading import blocks
from pgmetrics.errors import SourceError
try:
    list(blocks(Doomed(), range(100), 10, 2))
except SourceError as error:
    print(error)
"""
    code = """
class Doomed(Mine):
    def look(self, indices):
        if 50 in indices:
            os.kill(os.getpid(), signal.SIGKILL)
"""
    out, err = run_source(tmp_path, code, main).communicate(timeout=30)
    assert not err
    assert "a process that decodes mine died (signal 9); the system may have run out of memory" in out
    assert len(out.splitlines()) == 1


def test_a_mistake_in_a_source_keeps_its_traceback(tmp_path):
    main = """
from mine import Wrong
from pgmetrics.sources.loading import blocks
list(blocks(Wrong(), range(100), 10, 2))
"""
    code = """
class Wrong(Mine):
    def look(self, indices):
        {}["key"]
"""
    _, err = run_source(tmp_path, code, main).communicate(timeout=30)
    assert "mine.py" in err
    assert "KeyError: 'key'" in err


SLEEPY = """
class Sleepy(Mine):
    def look(self, indices):
        open("log", "a").write(f"{os.getpid()}\\n")
        time.sleep(60)
"""
SLEEPY_MAIN = """
from mine import Sleepy
from pgmetrics.sources.loading import blocks
for _ in blocks(Sleepy(), range(100), 10, 2):
    pass
"""


def wait_for_workers(log, count):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if log.exists() and len(pids := set(map(int, log.read_text().split()))) == count:
            return pids
        time.sleep(0.02)
    raise AssertionError("the workers did not start")


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    # Where nobody collects orphans, as in some containers, the dead stay listed.
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


@posix
@pytest.mark.parametrize("group", [True, False])
def test_ctrl_c_ends_everything_at_once(tmp_path, group):
    # A terminal sends it to the whole group; a supervisor to the parent alone.
    # What a background job of a shell inherits is to ignore it.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    process = run_source(tmp_path, SLEEPY, heed + SLEEPY_MAIN, start_new_session=True)
    pids = wait_for_workers(tmp_path / "log", 2)
    before = time.monotonic()
    (os.killpg if group else os.kill)(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert time.monotonic() - before < 10
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert err.count("Traceback") == 1  # of the parent; none of the workers
    assert not any(map(is_running, pids))


@posix
def test_a_terminals_ctrl_c_is_the_parents_to_answer(tmp_path):
    # Workers that answered it themselves would print a traceback each, or be reported as dead.
    main = """
from mine import Interrupted
from pgmetrics.sources.loading import blocks
print(sum(len(pixels) for _, pixels in blocks(Interrupted(), range(100), 10, 2)))
"""
    code = """
class Interrupted(Mine):
    def look(self, indices):
        os.kill(os.getpid(), signal.SIGINT)
"""
    out, err = run_source(tmp_path, code, main).communicate(timeout=30)
    assert (out.strip(), err) == ("100", "")


@posix
def test_workers_end_when_their_parent_is_killed(tmp_path):
    # In the midst of an image, too: nobody waits for it.
    process = run_source(tmp_path, SLEEPY, SLEEPY_MAIN)
    pids = wait_for_workers(tmp_path / "log", 2)
    process.kill()
    process.communicate(timeout=20)
    deadline = time.monotonic() + 10
    while any(map(is_running, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, pids))


def test_closing_early_ends_the_workers(folder, no_orphans):
    blocks = loading.blocks(sources.open_source(folder), range(23), 2, 2)
    next(blocks)
    blocks.close()


def test_a_single_block_starts_no_process(tmp_path, no_orphans):
    log = tmp_path / "log"
    list(loading.blocks(Counting(str(log)), range(10), 10, 4))
    assert Counter(log.read_text().split()) == {str(os.getpid()): 10}
