"""Blocks of images, decoded ahead of the computation in other processes.

The processes are plain interpreters that are told what to do through pipes. Python's own pools
import the caller's script again in every child, which starts a script without a `__main__` guard
once more and loads torch where only decoding is wanted.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pgmetrics.errors import PgmetricsError, SourceError, check_number
from pgmetrics.runtime.blocks import plan
from pgmetrics.runtime.files import dump_json

Progress = Callable[[int, int], None]  # images done, images in all

_LENGTH = struct.Struct("<Q")
_PIPE_BYTES = 1 << 20  # the kernel's default of 64 kB means a switch of processes per 64 kB
_MOST_WORKERS = 16  # unless more are asked for
MOST_WORKERS = 1024
"""Processes that may be asked for: more than any machine has cores for."""


class Source(Protocol):
    """What loading needs of an image source (`sources.base.ImageSource` has more)."""

    name: str
    in_workers: bool
    notes: Counter[str]

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width in pixels of every image."""

    def batch(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Images by index, uint8 [N, 3, H, W]."""

    def take_notes(self) -> Counter[str]:
        """The notes since they were last taken."""

    def take_digests(self) -> dict[int, bytes]:
        """Digests of the images that were read since they were last taken."""

    def learn_digests(self, digests: Mapping[int, bytes]) -> None:
        """Take over what another process was told by `take_digests`."""


def blocks(
    source: Source,
    indices: Sequence[int] | NDArray[np.int64],
    length: int,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Images of a sequence, block after block, the same bytes for any number of workers.

    At most workers + 1 blocks are decoded ahead. The workers end with the iterator, whether it is
    exhausted, closed or interrupted.

    Args:
        source: where the images come from.
        indices: the sequence, as places in the source.
        length: images in a block; the last one may be short.
        workers: processes that decode; 0 for none, None for one per usable core. Sources that
            gain nothing from them (`in_workers` False) are read in this process.
        progress: told after each block how many images have been given out, and of how many.

    Yields:
        (start, pixels): place of the block's first image in the sequence, uint8 [n, 3, H, W].

    Raises:
        SourceError: an image cannot be read, as the source says it; or a worker died.
        OptionError: workers are below 0 or beyond MOST_WORKERS.
    """
    cuts = plan(len(indices), length)
    for (_, stop), (start, pixels) in zip(cuts, pieces(source, indices, cuts, workers), strict=True):
        yield start, pixels
        if progress is not None:
            progress(stop, len(indices))


def pieces(
    source: Source,
    indices: Sequence[int] | NDArray[np.int64],
    cuts: Sequence[tuple[int, int]],
    workers: int | None = None,
) -> Generator[tuple[int, NDArray[np.uint8]]]:
    """As `blocks`, but the (start, stop) of each piece of the sequence are given."""
    if workers is not None:
        check_number("workers", workers, 0, MOST_WORKERS, whole=True)
    places = np.asarray(indices, np.int64)
    tasks = [places[start:stop].tolist() for start, stop in cuts]
    count = _useful_workers(source, workers, len(tasks))
    pickled = _pickled(source) if count else None
    loaded = _in_processes(source, pickled, tasks, count) if pickled else map(source.batch, tasks)
    for (start, _), pixels in zip(cuts, loaded, strict=True):
        yield start, pixels


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _useful_workers(source: Source, workers: int | None, tasks: int) -> int:
    if not source.in_workers or tasks < 2 or not sys.executable:
        return 0
    if workers is None:
        workers = min(usable_cores(), _MOST_WORKERS)
    return min(workers, tasks)


def _pickled(source: Source) -> bytes | None:
    source.resolution  # noqa: B018 - found once here rather than once in every worker
    try:
        pickled = pickle.dumps(source, pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise SourceError(
            f"{source.name} cannot be sent to other processes ({error}); workers=0 reads it in this one"
        ) from error
    # A class of the running script has no module that another process could import.
    return None if b"__main__" in pickled else pickled


def _in_processes(
    source: Source, pickled: bytes, tasks: list[list[int]], count: int
) -> Iterator[NDArray[np.uint8]]:
    crew = _Crew(source.name, pickled, count)
    pending: deque[Future[_Loaded]] = deque()
    todo = iter(tasks)
    try:
        for task in todo:
            pending.append(crew.submit(task))
            if len(pending) > count:
                break
        while pending:
            loaded = pending.popleft().result()
            for task in todo:
                pending.append(crew.submit(task))
                break
            source.notes.update(loaded.notes)
            source.learn_digests(loaded.digests)
            yield loaded.pixels
            del loaded  # or this block would be held while the next one is awaited
    finally:
        crew.dismiss()


class _Loaded(NamedTuple):
    pixels: NDArray[np.uint8]
    notes: Counter[str]
    digests: dict[int, bytes]


class _Crew:
    """A few threads, each talking to a decoding process of its own."""

    def __init__(self, name: str, pickled: bytes, count: int) -> None:
        self._name = name
        self._pickled = pickled
        self._dismissed = False
        self._processes: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._own = threading.local()
        self._threads = ThreadPoolExecutor(count, "pgmetrics-loading")

    def submit(self, indices: list[int]) -> Future[_Loaded]:
        return self._threads.submit(self._load, indices)

    def dismiss(self) -> None:
        """End every process at once, and wait for it; their work is read-only and may be cut short."""
        with self._lock:
            self._dismissed = True
            for process in self._processes:
                process.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for process in self._processes:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                _close(pipe)

    def _load(self, indices: list[int]) -> _Loaded:
        process = self._process()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _send(process.stdin, indices)
            kind, content = _receive(process.stdout)
            if kind == "images":
                shape, notes, digests = content
                pixels = np.empty(shape, np.uint8)
                _read_into(process.stdout, pixels.data.cast("B"))
                return _Loaded(pixels, notes, digests)
        except (EOFError, OSError) as error:
            raise SourceError(self._obituary(process)) from error
        if kind == "refused":
            raise content
        raise RuntimeError(f"reading {self._name} failed in another process:\n{content}")

    def _process(self) -> subprocess.Popen[bytes]:
        process: subprocess.Popen[bytes] | None = getattr(self._own, "process", None)
        if process is None:
            with self._lock:
                if self._dismissed:
                    raise SourceError(f"reading {self._name} was stopped")
                process = _start()
                self._processes.append(process)
            self._own.process = process
            assert process.stdin is not None
            try:
                _send_bytes(process.stdin, self._pickled)
            except OSError as error:
                raise SourceError(self._obituary(process)) from error
        return process

    def _obituary(self, process: subprocess.Popen[bytes]) -> str:
        code = process.wait()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        hint = "; the system may have run out of memory" if code == -9 else ""
        return f"a process that decodes {self._name} died ({how}){hint}; workers=0 reads it in this process"


def _start() -> subprocess.Popen[bytes]:
    # The module path goes along, so that the child finds pgmetrics as this process found it.
    program = (
        "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
        "from pgmetrics.sources.loading import serve; serve()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, dump_json(sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        # Decoding is no matrix product; the threads that BLAS keeps ready would only cost memory.
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    if sys.platform == "linux":
        import fcntl

        assert process.stdout is not None
        try:
            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        except (OSError, AttributeError):
            pass  # a limit of the system's; only slower
    return process


def serve() -> None:
    """What a decoding process does: read a source, then lists of indices, and answer with images."""
    # Ctrl-C reaches every process of a terminal; the parent decides what becomes of this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests = os.fdopen(os.dup(0), "rb", buffering=0)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    # Whatever a library prints must not get between the answers.
    os.dup2(2, 1)
    try:
        source: Source | None = None
        pickled = _receive_bytes(requests)
        while True:
            indices = _receive(requests)
            try:
                if source is None:
                    source = pickle.loads(pickled)
                pixels = np.ascontiguousarray(source.batch(indices))
                reply: Any = ("images", (pixels.shape, source.take_notes(), source.take_digests()))
            except PgmetricsError as error:
                reply, pixels = ("refused", error), None
            except Exception:  # a mistake in the program: its traceback is worth more than its name
                reply, pixels = ("failed", traceback.format_exc()), None
            _send(answers, reply)
            if pixels is not None:
                _write(answers, pixels.data.cast("B"))
    except (EOFError, OSError):
        return  # the parent is done, or gone


def _send(pipe: IO[bytes], message: object) -> None:
    _send_bytes(pipe, pickle.dumps(message, pickle.HIGHEST_PROTOCOL))


def _receive(pipe: IO[bytes]) -> Any:
    return pickle.loads(_receive_bytes(pipe))


def _send_bytes(pipe: IO[bytes], content: bytes) -> None:
    _write(pipe, memoryview(_LENGTH.pack(len(content)) + content))


def _receive_bytes(pipe: IO[bytes]) -> bytearray:
    header = bytearray(_LENGTH.size)
    _read_into(pipe, memoryview(header))
    content = bytearray(_LENGTH.unpack(header)[0])
    _read_into(pipe, memoryview(content))
    return content


def _write(pipe: IO[bytes], content: memoryview) -> None:
    while content:
        content = content[pipe.write(content) :]


def _read_into(pipe: IO[bytes], place: memoryview) -> None:
    while place:
        count = pipe.readinto(place)  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        place = place[count:]


def _close(pipe: IO[bytes] | None) -> None:
    if pipe is not None:
        try:
            pipe.close()
        except OSError:
            pass  # what was not yet sent to a process that is gone
