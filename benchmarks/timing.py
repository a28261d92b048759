"""Fair timings: contestants take turns, after a warm-up, and the spread is reported.

On a shared machine the speed drifts by more than the contestants differ. Taking turns lets the
drift hit all of them; ratios are taken turn by turn, so a slow minute cancels.
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
        """Median over the turns of the other's time divided by ours in the same turn."""
        return statistics.median(b / a for a, b in zip(self.seconds, other.seconds, strict=True))


def take_turns(
    contestants: Mapping[str, Callable[[], object]], turns: int = 5, warm_up: int = 1
) -> dict[str, Timing]:
    """Time each contestant once per turn.

    The order is reversed in every second turn, so that nobody always runs after the same one.

    Args:
        contestants: what to run, by name.
        turns: measured runs of each.
        warm_up: runs of each before the first turn, not measured.
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
    """Wait for the GPU, if there is one that was used."""
    import torch

    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


OUT = click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Also write the table here."
)


def show(lines: Sequence[str], out: Path | None) -> None:
    """Print a table, and write it to --out if that was given."""
    text = "\n".join(lines) + "\n"
    click.echo(text, nl=False)
    if out is not None:
        out.write_text(text)


def machine() -> str:
    """One line that says what the numbers were measured on: cores, versions, day."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = [f"{name} {_version(name)}" for name in ("torch", "numpy", "scipy")]
    parts = [f"{cores} cores of {_processor()}", f"torch threads {torch.get_num_threads()}"]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    parts += [f"Python {platform.python_version()}", *versions, datetime.date.today().isoformat()]
    return ", ".join(parts)


def _processor() -> str:
    """The processor's model where the system tells, else its architecture."""
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
    """The highest anonymous memory of this process while the block runs, above its start.

    Anonymous memory is what was allocated; mapped files, which the system can drop, are not in it.
    It is sampled from /proc, so Linux only; `bytes` is None elsewhere. Peaks shorter than
    the interval can be missed.

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
    """Bytes of anonymous memory of this process, or None where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return None


def _return_free_memory() -> None:
    """Give freed memory back first, or its reuse would hide what the block needs (glibc only)."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        pass
