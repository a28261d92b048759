"""Time contestants fairly: they take turns after a warm-up, and the spread is reported.

The speed of a shared machine drifts by more than the contestants differ. Because they take turns, the drift
affects all of them; ratios are computed turn by turn, so a slow minute cancels out.
"""

from __future__ import annotations

import ctypes
import datetime
import os
import platform
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import TracebackType

import click


@dataclass(frozen=True)
class Timing:
    """Wall times of one contestant in seconds, in the order of the turns."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds of the median turn."""
        return statistics.median(self.seconds)

    @property
    def fastest(self) -> float:
        """Seconds of the fastest turn."""
        return min(self.seconds)

    @property
    def slowest(self) -> float:
        """Seconds of the slowest turn."""
        return max(self.seconds)

    def times_faster_than(self, other: Timing) -> float:
        """Return the median over the turns of the other's time divided by this one's in the same turn."""
        return statistics.median(b / a for a, b in zip(self.seconds, other.seconds, strict=True))


def take_turns(
    contestants: Mapping[str, Callable[[], object]], turns: int = 5, warm_up: int = 1
) -> dict[str, Timing]:
    """Time each contestant once per turn.

    The order is reversed in every second turn, so that no contestant always runs after the same one.

    Args:
        contestants: functions to run, by name.
        turns: timed runs of each contestant.
        warm_up: untimed runs of each contestant before the first turn.
    """
    for _ in range(warm_up):
        for run in contestants.values():
            run()
    synchronize()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(turns):
        order = list(contestants) if turn % 2 == 0 else list(contestants)[::-1]
        for name in order:
            start = time.perf_counter()
            contestants[name]()
            synchronize()
            seconds[name].append(time.perf_counter() - start)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def synchronize() -> None:
    """Wait for the GPU if one was used."""
    import torch

    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


OUT = click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Also write the table here."
)


def show(lines: Sequence[str], out: Path | None) -> None:
    """Print a table, and write it to a file if one is given."""
    text = "\n".join(lines) + "\n"
    click.echo(text, nl=False)
    if out is not None:
        out.write_text(text)


def machine() -> str:
    """Return one line about the conditions of the measurement: processor, cores, versions, date."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = [f"{name} {_version(name)}" for name in ("torch", "numpy", "scipy")]
    parts = [f"{cores} cores of {_processor()}", f"torch threads {torch.get_num_threads()}"]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    parts += [f"Python {platform.python_version()}", *versions, datetime.date.today().isoformat()]
    return ", ".join(parts)


def _processor() -> str:
    """Return the model of the processor if the system reports it, otherwise the architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


class PeakMemory:
    """Measure the peak anonymous memory of this process during a block, above that at its start.

    Anonymous memory is allocated memory, without mapped files, which the system can drop. It is sampled from
    /proc, which exists on Linux only; elsewhere `bytes` is None. Peaks shorter than the sampling interval can
    be missed.

        with PeakMemory() as peak:
            work()
        print(peak.bytes)
    """

    def __init__(self, interval: float = 0.005) -> None:
        self.bytes: int | None = None
        self._interval = interval
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        _return_free_memory()
        self._start = anonymous_memory()
        self._highest = self._start
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        if self._start is not None and self._highest is not None:
            self.bytes = self._highest - self._start

    def _watch(self) -> None:
        while True:
            now = anonymous_memory()
            if now is not None and self._highest is not None:
                self._highest = max(self._highest, now)
            if self._done.wait(self._interval):
                return


def anonymous_memory() -> int | None:
    """Return the anonymous memory of this process in bytes, or None if the system does not report it."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return None


def _return_free_memory() -> None:
    """Return freed memory to the system, since reusing it would hide what the block needs (glibc only)."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        pass
