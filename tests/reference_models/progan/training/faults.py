"""Kills, interrupts and full disks at any file-system call of a short run, each in a process of its own.

`python faults.py HOW,... FIRST STEP` strikes at calls FIRST, FIRST + STEP, ... and enters the run again as
the same command would. It prints one line for each that did not become the run that nothing happened to, and
last how many were tried. It is a program, since forks are for processes without threads: torch is imported
once, and each fork costs a tenth of a second.

HOW is kill (as by kill -9: no handler runs), torn (a kill in the midst of a write), disk (no space left),
interrupt (Ctrl-C) or twice (Ctrl-C, and again at the next call).
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pgmetrics.errors import PgmetricsError
from pgmetrics.sources.arrays import ArraySource
from reference_models.progan.training import run_directory
from reference_models.progan.training.train import train
from tests.helpers.configs import TO_8
from tests.helpers.forks import content_of_run, in_a_fork, warm_up

# 4 until 16, fading to 8 until 32, 8 until 48; a look is 8 images, so there are six.
CALLS = {
    "kill": ("open", "os.open", "replace", "unlink", "mkdir", "fsync", "access"),
    "torn": ("write",),
    "disk": ("open", "mkdir", "fsync", "replace", "write"),
}
CALLS["interrupt"] = CALLS["twice"] = CALLS["kill"]


class Fault:
    """Counts the calls of some functions that concern the run's directory, and strikes at one of them."""

    def __init__(self, how: str, at: int, run: Path) -> None:
        self.how, self.at, self.run, self.calls = how, at, str(run), 0

    def meets(self, name: str) -> bool:
        """Strike where it is time to; whether a write is to be torn."""
        if name not in CALLS[self.how]:
            return False
        self.calls += 1
        if self.how == "twice" and self.calls == self.at + 1:
            os.kill(os.getpid(), signal.SIGINT)
        if self.calls != self.at:
            return False
        if self.how == "kill":
            os._exit(137)
        if self.how == "disk" and name != "write":
            raise OSError(errno.ENOSPC, "No space left on device")
        if self.how in ("interrupt", "twice"):
            os.kill(os.getpid(), signal.SIGINT)
            return False
        return True

    def concerns(self, file: Any) -> bool:
        """Whether a file is the run's; an open one of whatever kind is."""
        return isinstance(file, int) or os.fspath(file).startswith(self.run)

    def tear(self) -> None:
        """What comes after half of a write."""
        if self.how == "torn":
            os._exit(137)
        raise OSError(errno.ENOSPC, "No space left on device")

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, which is counted."""

        def counted(*args: Any, **options: Any) -> Any:
            if self.concerns(args[0]):
                self.meets(name)
            return function(*args, **options)

        return counted

    def install(self) -> None:
        """Count every call from now on."""
        for name in ("replace", "unlink", "mkdir", "fsync", "access"):
            setattr(os, name, self.wrap(name, getattr(os, name)))
        os.open = self.wrap("os.open", os.open)
        opened = io.open

        def open_file(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            reads = mode in ("r", "rb")
            if not self.concerns(file):
                return opened(file, mode, *args, **options)
            if not reads or self.how != "disk":
                self.meets("open")
            made = opened(file, mode, *args, **options)
            return made if reads else Torn(made, self)

        io.open = builtins.open = open_file


class Torn:
    """A file whose writes are counted, and of which one may end half way."""

    def __init__(self, file: Any, fault: Fault) -> None:
        self._file, self._fault = file, fault

    def write(self, content: Any) -> int:
        """Write all, or the first half and no more."""
        if self._fault.meets("write"):
            self._file.write(content[: len(content) // 2])
            self._file.flush()
            self._fault.tear()
        return int(self._file.write(content))

    def writelines(self, parts: Any) -> None:
        """Write all parts, each a call."""
        for part in parts:
            self.write(part)

    def __enter__(self) -> Torn:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def once(run: Path, fault: Fault | None = None) -> int:
    """The run in a process of its own; its exit code as the command line would have it."""

    def work() -> int:
        pixels = np.random.default_rng(5).integers(0, 256, (8, 3, 8, 8)).astype(np.uint8)
        if fault is not None:
            fault.install()
        try:
            train(ArraySource(pixels), run, TO_8, workers=0, state_images=16)
            code = 0
        except PgmetricsError as error:
            # More than a line would be a traceback's, or another's message.
            code = 1 if len(str(error).splitlines()) == 1 else 71
        except KeyboardInterrupt:
            code = 130
        if fault is not None and fault.calls < fault.at:
            code = 99  # there is no such call
        return code

    return in_a_fork(work)


EXPECTED = {"kill": {137}, "torn": {137}, "disk": {0, 1}, "interrupt": {0, 130}, "twice": {0, 130}}


def main(ways: str, first: int, step: int) -> None:
    """Try all of them and tell of those that went wrong."""
    warm_up()
    run_directory._IMAGES_BETWEEN_STATS = 16  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as place:
        assert once(Path(place) / "straight") == 0
        wanted = content_of_run(Path(place) / "straight")
        print(sum(strike(how, first, step, Path(place) / "run", wanted) for how in ways.split(",")), "tried")


def strike(how: str, first: int, step: int, run: Path, wanted: dict[str, Any]) -> int:
    """Tell of the calls that went wrong when they were struck in this way; how many were struck."""
    tried = 0
    for at in range(first, 10**6, step):
        shutil.rmtree(run, ignore_errors=True)
        code = once(run, Fault(how, at, run))
        if code == 99:
            break
        tried += 1
        again = once(run)
        found = content_of_run(run)
        differing = sorted(name for name in set(found) | set(wanted) if found.get(name) != wanted.get(name))
        if code not in EXPECTED[how] or again or differing:
            print(f"{how} at call {at}: exit {code}, again {again}, differing {differing}")
        if code not in EXPECTED[how]:
            break  # or a mistake in here would be repeated for ever
    return tried


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
