"""A file that shows other processes that training in a directory is still running.

`heartbeat.json` holds the host and process ID, the time when the process started, the time of the last write
and the number of images shown. It is rewritten every few seconds, so that any process that sees the
directory, on any operating system or machine, can see it change. A killed process leaves the file behind.
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
    """Write the heartbeat of this process to the directory, and remove it at the end.

    A thread writes it, since a step may take minutes, and decoding before the first step may take hours. If
    the file cannot be written, the work continues without a heartbeat.
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
    """Detects in another process whether the heartbeat in a directory has stopped.

    It watches the file for changes and measures time by its own clock, since the clock of the machine that
    writes the file may be wrong.
    """

    def __init__(self, directory: Path) -> None:
        self._place = directory / FILE_NAME
        self._last: object = None
        self._since = _now()
        self._heard = False

    def has_stopped(self) -> bool:
        """Return whether a heartbeat was seen and has then been missing or unchanged for `GRACE` seconds.

        Hours may pass between two calls; a file that is the same in both did not change in between.
        """
        beat = self._read()
        if beat != self._last:
            self._last, self._since = beat, _now()
        self._heard = self._heard or beat is not None
        return self._heard and _now() - self._since > GRACE

    def _read(self) -> object:
        # Open the file instead of calling stat, so that a network file system asks its server for changes.
        try:
            with open_regular(self._place) as file:
                return os.fstat(file.fileno()).st_mtime_ns, file.read(_LONGEST)
        except OSError:
            return None


def _time() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
