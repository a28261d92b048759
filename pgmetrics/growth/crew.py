"""Items scored in other processes, a fixed number at a time, the results in order.

As for decoding, the processes are plain interpreters that are told what to do through pipes. When
whoever asked is gone, killed or not, they end at once.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import IO, Any

from pgmetrics.errors import OptionError, PgmetricsError
from pgmetrics.growth.scoring import Scored, Scorer, Task
from pgmetrics.runtime.files import dump_json


class Crew:
    """Processes that score; each has a scorer of its own.

    Args:
        scorer: to be copied into them.
        jobs: how many.
        devices: that they take in turns.

    Raises:
        OptionError: what the scorer holds cannot be sent to another process.
    """

    def __init__(self, scorer: Scorer, jobs: int, devices: Sequence[str]) -> None:
        try:
            self._scorers = [
                pickle.dumps(
                    replace(scorer, options=replace(scorer.options, device=devices[i % len(devices)]))
                )
                for i in range(jobs)
            ]
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise OptionError(
                f"jobs={jobs} needs images, metrics and networks that other processes can open ({error}); "
                "name files, or take jobs=1"
            ) from error
        self._dismissed = False
        self._lock = threading.Lock()
        self._own = threading.local()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._threads = ThreadPoolExecutor(jobs, "pgmetrics-growth")

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        """End every process at once; what was under way is lost."""
        with self._lock:
            self._dismissed = True
            for process in self._processes:
                process.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for process in self._processes:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def score(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Scored | PgmetricsError]]:
        """Each task with what came of it, in their order.

        The first is done before the others begin: it leaves the reals prepared for them.
        """
        pending: list[Future[Scored | PgmetricsError]] = []
        for place, task in enumerate(tasks):
            if place == 1:
                pending += [self._threads.submit(self._score, each) for each in tasks[1:]]
            future = pending[place - 1] if place else self._threads.submit(self._score, task)
            yield task, future.result()

    def _score(self, task: Task) -> Scored | PgmetricsError:
        process = self._process()
        try:
            _send(process.stdin, task)
            kind, content = _receive(process.stdout)
        except (EOFError, OSError) as error:
            code = process.wait()
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise PgmetricsError(
                f"a process that scored {task.label} died ({how}); the system may have run out of memory: "
                "take fewer jobs or images"
            ) from error
        if kind == "failed":
            raise RuntimeError(f"scoring {task.label} failed in another process:\n{content}")
        outcome: Scored | PgmetricsError = content
        return outcome

    def _process(self) -> subprocess.Popen[bytes]:
        process: subprocess.Popen[bytes] | None = getattr(self._own, "process", None)
        if process is None:
            with self._lock:
                if self._dismissed:
                    raise PgmetricsError("scoring was stopped")
                process = _start()
                scorer = self._scorers[len(self._processes)]
                self._processes.append(process)
            self._own.process = process
            torch = sys.modules.get("torch")
            # Libraries may round differently for another number of threads.
            _send(process.stdin, None if torch is None else torch.get_num_threads())
            assert process.stdin is not None
            process.stdin.write(scorer)
            process.stdin.flush()
        return process


def _start() -> subprocess.Popen[bytes]:
    # The module path goes along, so that the child finds pgmetrics as this process found it.
    program = (
        "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
        "from pgmetrics.growth.crew import serve; serve()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, dump_json(sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def serve() -> None:
    """What a scoring process does: take a scorer, then tasks, and answer with what came of each."""
    # Ctrl-C reaches every process of a terminal; the parent decides what becomes of this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    # Whatever a library prints must not get between the answers.
    os.dup2(2, 1)
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    threads, scorer = requests.get(), requests.get()
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    while True:
        task = requests.get()
        try:
            reply: Any = ("done", scorer.score(task))
        except PgmetricsError as error:
            reply = ("done", error)
        except Exception:  # a mistake in the program: its traceback is worth more than its name
            reply = ("failed", traceback.format_exc())
        _send(answers, reply)


def _listen(requests: queue.SimpleQueue[Any]) -> None:
    """Pass on what is asked; when nobody can ask any more, the work under way is for nobody."""
    pipe = os.fdopen(os.dup(0), "rb")
    try:
        while True:
            requests.put(_receive(pipe))
    except Exception:  # the pipe's end, or a scorer that cannot be opened here
        if sys.exc_info()[0] is not EOFError:
            traceback.print_exc()
        os._exit(1)


def _send(pipe: IO[bytes] | None, message: object) -> None:
    assert pipe is not None
    pickle.dump(message, pipe, pickle.HIGHEST_PROTOCOL)
    pipe.flush()


def _receive(pipe: IO[bytes] | None) -> Any:
    assert pipe is not None
    return pickle.load(pipe)
