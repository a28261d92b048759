"""Whether somebody trains in a run's directory."""

from __future__ import annotations

import os
import time
from pathlib import Path

FINISHED = "finished.json"
"""A file of this name in a run's directory says that training is over."""

GRACE = 60.0
"""Seconds for which a trainer may be away, to be started again, before it counts as gone."""

_now = time.monotonic


class TrainerWatch:
    """What can be told from outside of who trains in the directory.

    A trainer that was killed leaves no `finished.json`. One that holds a lock (flock) on the directory, as
    `progan train` does, is missed when the lock is gone; of others nothing is known but the file.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._seen = False
        self._missed_since: float | None = None

    def is_gone(self) -> bool:
        """Whether it was seen to train, and was missed at every look since `GRACE` seconds ago."""
        if _is_held(self._run):
            self._seen, self._missed_since = True, None
        elif self._seen and self._missed_since is None:
            # From this look on, not from the last that saw it: scoring may have taken long in between.
            self._missed_since = _now()
        return self._missed_since is not None and _now() - self._missed_since > GRACE

    def has_finished(self) -> bool:
        """Whether it said so."""
        return (self._run / FINISHED).exists()


def _is_held(directory: Path) -> bool:
    # From the kernel's list: a lock of our own would turn away a trainer that starts at that moment.
    try:
        status = directory.stat()
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return False
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    return any("FLOCK" in line and place in line.split() for line in lines)
