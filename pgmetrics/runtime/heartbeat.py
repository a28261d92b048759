"""The file by which a process that trains in a directory shows that it is alive.

`heartbeat.json` holds the host and the number of the process, when it started, when it last wrote the file
and how many images it has shown. It is written anew every few seconds, so that any other process that sees
the directory, on whatever operating system or machine, finds it changed. A process that is killed leaves
the file as it was.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from pgmetrics.errors import PgmetricsError
from pgmetrics.runtime.files import dump_json, open_regular, write_whole

FILE_NAME = "heartbeat.json"
SECONDS_BETWEEN = 5.0
GRACE = 60.0
"""Seconds without a heartbeat after which a trainer counts as gone; until then it may be started again."""

_LONGEST = 4096  # bytes of the file that are compared

_now = time.monotonic


@contextmanager
def beating(directory: Path, images_shown: Callable[[], int]) -> Iterator[None]:
    """Keep the heartbeat of this process in the directory, and remove it in the end.

    A thread writes it, since a step may take minutes, and decoding before the first step hours. Where the
    disk refuses, there is no heartbeat, and the work goes on.
    """
    place, started, ended = directory / FILE_NAME, _time(), threading.Event()

    def beat() -> None:
        content = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": started,
            "time": _time(),
            "images_shown": images_shown(),
        }
        with suppress(PgmetricsError):
            write_whole(place, dump_json(content).encode() + b"\n")

    def keep_beating() -> None:
        while not ended.wait(SECONDS_BETWEEN):
            beat()

    thread = threading.Thread(target=keep_beating, name="heartbeat", daemon=True)
    try:
        beat()
        thread.start()
        yield
    finally:
        ended.set()
        if thread.is_alive():
            thread.join()
        with suppress(OSError):
            place.unlink(missing_ok=True)


class Listener:
    """Tells from outside whether the heartbeat in a directory has stopped.

    It looks for changes of the file, and measures time by this process's clock: that of the machine that
    writes the file may be wrong.
    """

    def __init__(self, directory: Path) -> None:
        self._place = directory / FILE_NAME
        self._last: object = None
        self._since = _now()
        self._heard = False

    def has_stopped(self) -> bool:
        """Whether there was a heartbeat, and for `GRACE` seconds the file has been missing or unchanged.

        Hours may pass between two calls: a file that is the same at both has not changed in between.
        """
        beat = self._read()
        if beat != self._last:
            self._last, self._since = beat, _now()
        self._heard = self._heard or beat is not None
        return self._heard and _now() - self._since > GRACE

    def _read(self) -> object:
        # Opened rather than looked up: then a network file system asks its server for what is new.
        try:
            with open_regular(self._place) as file:
                return os.fstat(file.fileno()).st_mtime_ns, file.read(_LONGEST)
        except OSError:
            return None


def _time() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
