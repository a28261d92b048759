"""One pool of worker processes, for decoding and for scoring.

The processes are plain interpreters that get their work through pipes. Python's own pools import the
caller's script again in every child, which starts a script without a `__main__` guard once more and
loads torch where only decoding is wanted.

The arrays of an answer travel beside its pickle (PEP 574): the bytes of images are copied into a pipe
and out of it, and pass through no pickle.
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
"""Processes that may be asked for: more than any machine has cores for."""

_HEADER = struct.Struct("<QQ")  # bytes of a pickle, and how many arrays come with it
_PIPE_BYTES = 1 << 20  # the kernel's default of 64 kB means a switch of processes per 64 kB
# The module path goes along, so that the child finds pgmetrics as this process found it.
_PROGRAM = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from pgmetrics.runtime.workers import serve; serve()"
)


class NotSendable(Exception):
    """Another process could not open the object.

    Attributes:
        defined_in_script: the name of a class or function of it that is defined in the running script, which
            no other process can import; None where the reason is another one.
    """

    def __init__(self, reason: str, defined_in_script: str | None = None) -> None:
        super().__init__(reason)
        self.defined_in_script = defined_in_script


class WorkerDied(Exception):
    """A worker process ended while its answer was awaited; the message is how, such as "signal 9"."""


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def sendable(thing: object) -> bytes:
    """The pickle of an object, for another process.

    Raises:
        NotSendable: it has none, or only the running script can open it.
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
    """Notes the classes and functions that a child would look for in a `__main__` of its own."""

    defined_in_script: str | None = None

    def reducer_override(self, thing: Any) -> Any:
        kind = thing if isinstance(thing, (type, FunctionType)) else type(thing)
        if kind.__module__ == "__main__":
            self.defined_in_script = kind.__qualname__
        return NotImplemented


class Pool:
    """Processes that each answer requests one after the other, as long as the pool is entered.

    They are started as they are needed. When this process is gone, killed or not, they end at once.

    Args:
        answering: for each process the pickle (see `sendable`) of a callable, which opens there and is called
            with every request.
        doing: what the processes do, for a mistake's message, such as "reading photos.zip".
        environment: variables of the processes in addition to this one's.
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
        # Each thread talks to a process of its own.
        self._of_thread = threading.local()
        self._threads = ThreadPoolExecutor(len(answering), "pgmetrics-workers")

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        """End every process at once, and wait for it; what is under way is lost."""
        with self._lock:
            self._closed = True
            for process in self._processes:
                process.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for process in self._processes:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):  # what was not yet sent to a process that is gone
                    if pipe is not None:
                        pipe.close()

    def answers(self, requests: Iterable[Any], ahead: int) -> Iterator[Any]:
        """The answer to each request, in their order.

        Args:
            requests: sent as they are pickled.
            ahead: how many more than the one that is awaited are under way, at most.

        Raises:
            WorkerDied: a process ended without an answer.
            PgmetricsError: what a process refused, as it was raised there.
            RuntimeError: a process failed in another way; the message holds its traceback.
        """
        todo = iter(requests)
        pending: deque[Future[Any]] = deque(self._submit(request) for request in islice(todo, ahead + 1))
        while pending:
            answer = pending.popleft().result()
            pending.extend(self._submit(request) for request in islice(todo, 1))
            yield answer
            del answer  # or it would be held while the next one is awaited

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
            # A process that is gone already is found when it is asked.
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
        # A limit of the system's; only slower.
        with suppress(OSError, AttributeError):
            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return process


def serve() -> None:
    """What a worker process does: open a callable, and answer each request with what it returns."""
    # Ctrl-C reaches every process of a terminal; the parent decides what becomes of this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe = os.fdopen(os.dup(1), "wb", buffering=0)
    # Whatever a library prints must not get between the answers.
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
        except Exception:  # a mistake in the program: its traceback is worth more than its name
            reply = _Message.of(("failed", traceback.format_exc()))
        try:
            reply.write_to(pipe)
        except OSError:
            return  # the parent is gone
        del reply  # or it would be held while the next request is awaited


def _listen(requests: queue.SimpleQueue[_Message]) -> None:
    """Pass on what is asked. When nobody can ask any more, the work under way is for nobody."""
    pipe = os.fdopen(os.dup(0), "rb", buffering=0)
    try:
        while True:
            requests.put(_Message.read_from(pipe))
    except (EOFError, OSError):
        os._exit(1)


class _Message(NamedTuple):
    """An object for the way: its pickle, and its arrays as they lie in memory."""

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
        # In one piece, since each write may wake the reader.
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
    # A bytearray would be filled with zeros first.
    content = np.empty(length, np.uint8).data
    place = content
    while place:
        count = pipe.readinto(place)  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        place = place[count:]
    return content
