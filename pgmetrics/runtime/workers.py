"""One pool of worker processes, for decoding and for scoring.

The processes are plain interpreters that get their work through pipes. Python's own pools import the
caller's script again in every child. That would run a script without a `__main__` guard once more, and
load torch in processes that only decode.

The arrays of an answer are sent beside its pickle (PEP 574): the bytes of images are copied into a pipe
and out of it, but never pickled.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from itertools import islice
from types import FunctionType
from typing import IO, Any, NamedTuple

import numpy as np

from pgmetrics.errors import PgmetricsError
from pgmetrics.runtime.files import dump_json

MOST_WORKERS = 1024
"""The largest number of processes that may be requested, more than any machine has cores."""

_HEADER = struct.Struct("<QQ")  # length of the pickle in bytes, and the number of arrays that follow it
_PIPE_BYTES = 1 << 20  # with the default of 64 kB, the kernel switches processes every 64 kB
# The child gets this process's module path, so that it imports the same pgmetrics.
_PROGRAM = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from pgmetrics.runtime.workers import serve; serve()"
)


class NotSendable(Exception):
    """The object cannot be sent to another process.

    Attributes:
        defined_in_script: the name of a class or function that the object needs and that is defined in the
            running script, which other processes cannot import; None if the reason is another one.
    """

    def __init__(self, reason: str, defined_in_script: str | None = None) -> None:
        super().__init__(reason)
        self.defined_in_script = defined_in_script


class WorkerDied(Exception):
    """A worker process ended before it answered; the message says how, such as "signal 9"."""


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def sendable(thing: object) -> bytes:
    """Return the pickle of an object for another process.

    Raises:
        NotSendable: the object cannot be pickled, or needs definitions of the running script.
    """
    file = BytesIO()
    pickler = _Pickler(file, pickle.HIGHEST_PROTOCOL)
    try:
        pickler.dump(thing)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise NotSendable(str(error)) from error
    if pickler.defined_in_script is not None:
        name = pickler.defined_in_script
        raise NotSendable(f"{name} is defined in the running script, which they cannot import", name)
    return file.getvalue()


class _Pickler(pickle.Pickler):
    """Records a class or function of `__main__`, which a child process could not find."""

    defined_in_script: str | None = None

    def reducer_override(self, thing: Any) -> Any:
        kind = thing if isinstance(thing, (type, FunctionType)) else type(thing)
        if kind.__module__ == "__main__":
            self.defined_in_script = kind.__qualname__
        return NotImplemented


class Pool:
    """A pool of processes that each answer requests one after the other while the pool is entered.

    Each process is started when it is first needed. If this process ends or is killed, they end at once.

    Args:
        answering: for each process, the pickle (see `sendable`) of a callable, which is loaded there and
            called with every request.
        doing: what the processes do, for error messages, such as "reading photos.zip".
        environment: environment variables of the processes in addition to those of this one.
    """

    def __init__(
        self, answering: Sequence[bytes], doing: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self._answering = answering
        self._doing = doing
        self._environment = {**os.environ, **(environment or {})}
        self._closed = False
        self._lock = threading.Lock()
        self._processes: list[subprocess.Popen[bytes]] = []
        # Each thread communicates with its own process.
        self._of_thread = threading.local()
        self._threads = ThreadPoolExecutor(len(answering), "pgmetrics-workers")

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        """End every process at once and wait for it; unfinished work is lost."""
        with self._lock:
            self._closed = True
            for process in self._processes:
                process.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for process in self._processes:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):  # the pipe may hold data for a process that has ended
                    if pipe is not None:
                        pipe.close()

    def answers(self, requests: Iterable[Any], ahead: int) -> Iterator[Any]:
        """Yield the answer to each request in the order of the requests.

        Args:
            requests: objects that can be pickled.
            ahead: the largest number of requests in progress besides the one whose answer is awaited.

        Raises:
            WorkerDied: a process ended before it answered.
            PgmetricsError: a process raised this error.
            RuntimeError: a process failed in another way; the message holds its traceback.
        """
        todo = iter(requests)
        pending: deque[Future[Any]] = deque(self._submit(request) for request in islice(todo, ahead + 1))
        while pending:
            answer = pending.popleft().result()
            pending.extend(self._submit(request) for request in islice(todo, 1))
            yield answer
            del answer  # otherwise it would stay in memory while the next one is awaited

    def _submit(self, request: Any) -> Future[Any]:
        return self._threads.submit(self._ask, request)

    def _ask(self, request: Any) -> Any:
        process = self._process()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _Message.of(request).write_to(process.stdin)
            kind, content = _Message.read_from(process.stdout).opened()
        except (EOFError, OSError) as error:
            code = process.wait()
            raise WorkerDied(f"signal {-code}" if code < 0 else f"exit code {code}") from error
        if kind == "refused":
            raise content
        if kind == "failed":
            raise RuntimeError(f"{self._doing} failed in another process:\n{content}")
        return content

    def _process(self) -> subprocess.Popen[bytes]:
        process: subprocess.Popen[bytes] | None = getattr(self._of_thread, "process", None)
        if process is None:
            with self._lock:
                if self._closed:
                    raise PgmetricsError(f"{self._doing} was stopped")
                answering = self._answering[len(self._processes)]
                process = _start(self._environment)
                self._processes.append(process)
            self._of_thread.process = process
            assert process.stdin is not None
            # If the process has already ended, the first request reports it.
            with suppress(OSError):
                _Message(answering).write_to(process.stdin)
        return process


def _start(environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, dump_json(sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        env=environment,
    )
    if sys.platform == "linux":
        import fcntl

        assert process.stdout is not None
        # The system may limit the size; a smaller pipe is only slower.
        with suppress(OSError, AttributeError):
            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return process


def serve() -> None:
    """Run a worker process: load a callable and answer each request with what it returns."""
    # Ctrl-C reaches every process of a terminal; the parent decides when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe = os.fdopen(os.dup(1), "wb", buffering=0)
    # Text that a library prints must not mix with the answers.
    os.dup2(2, 1)
    requests: queue.SimpleQueue[_Message] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    pickled, answer = requests.get(), None
    while True:
        request = requests.get()
        try:
            answer = answer or pickled.opened()
            reply = _Message.of(("done", answer(request.opened())))
        except PgmetricsError as error:
            reply = _Message.of(("refused", error))
        except Exception:  # a bug: send its traceback
            reply = _Message.of(("failed", traceback.format_exc()))
        try:
            reply.write_to(pipe)
        except OSError:
            return  # the parent has ended
        del reply  # otherwise it would stay in memory while the next request is awaited


def _listen(requests: queue.SimpleQueue[_Message]) -> None:
    """Queue the requests. When the parent has ended, end at once, since nobody needs the answers."""
    pipe = os.fdopen(os.dup(0), "rb", buffering=0)
    try:
        while True:
            requests.put(_Message.read_from(pipe))
    except (EOFError, OSError):
        os._exit(1)


class _Message(NamedTuple):
    """An object as it is sent: its pickle, and the memory of its arrays."""

    pickled: bytes | memoryview
    arrays: Sequence[memoryview] = ()

    @classmethod
    def of(cls, thing: object) -> _Message:
        buffers: list[pickle.PickleBuffer] = []
        pickled = pickle.dumps(thing, pickle.HIGHEST_PROTOCOL, buffer_callback=buffers.append)
        return cls(pickled, [buffer.raw() for buffer in buffers])

    def opened(self) -> Any:
        return pickle.loads(self.pickled, buffers=self.arrays)

    def write_to(self, pipe: IO[bytes]) -> None:
        header = _HEADER.pack(len(self.pickled), len(self.arrays))
        lengths = struct.pack(f"<{len(self.arrays)}Q", *map(len, self.arrays))
        # Write them at once, since each write may wake the reader.
        _write(pipe, memoryview(b"".join((header, lengths, self.pickled))))
        for array in self.arrays:
            _write(pipe, array)

    @classmethod
    def read_from(cls, pipe: IO[bytes]) -> _Message:
        length, count = _HEADER.unpack(_read(pipe, _HEADER.size))
        content = _read(pipe, 8 * count + length)
        lengths = struct.unpack_from(f"<{count}Q", content)
        return cls(content[8 * count :], [_read(pipe, each) for each in lengths])


def _write(pipe: IO[bytes], content: memoryview) -> None:
    while content:
        content = content[pipe.write(content) :]


def _read(pipe: IO[bytes], length: int) -> memoryview:
    # np.empty does not fill the memory with zeros first, as a bytearray would.
    content = np.empty(length, np.uint8).data
    place = content
    while place:
        count = pipe.readinto(place)  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        place = place[count:]
    return content
