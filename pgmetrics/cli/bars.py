"""Show progress on standard error: a bar on a terminal, or occasional lines in a file or a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from pgmetrics.errors import printable
from pgmetrics.runtime.progress import Progress

_PAUSE = 30.0  # least number of seconds between two lines
_SHARE = 0.1  # least share of the work between two lines
_SILENCE = 1800.0  # seconds after which a line is written even if less was done

_now: Callable[[], float] = time.monotonic


def on_terminal() -> bool:
    """Return whether standard error is a terminal, where a bar can be redrawn."""
    return sys.stderr.isatty()


@contextmanager
def progress_bar(unit: str = "it", *, scale: bool = False) -> Iterator[Progress]:
    """Show how much of each reported piece of work is done.

    Args:
        unit: unit of the numbers on a terminal.
        scale: print the numbers with prefixes such as M.
    """
    if not on_terminal():
        yield ProgressLines().report
        return
    from tqdm import tqdm

    bar: Any = None
    shown = ("", 0)

    def report(what: str, done: int, total: int) -> None:
        nonlocal bar, shown
        if shown != (what, total):
            shown = (what, total)
            if bar is not None:
                bar.close()
            bar = tqdm(
                desc=printable(what), total=total, unit=unit, unit_scale=scale, file=sys.stderr, leave=False
            )
        bar.update(done - bar.n)

    try:
        yield report
    finally:
        if bar is not None:
            bar.close()


@contextmanager
def items_bar(doing: str) -> Iterator[Progress]:
    """Show how many items are done, the time left, and the progress of the current item.

    Args:
        doing: description of the whole work, shown in a file or a pipe.
    """
    if not on_terminal():
        lines = ProgressLines()
        yield lambda what, done, total: lines.report(doing, done, total, what)
        return
    from tqdm import tqdm

    with tqdm(
        total=0,
        file=sys.stderr,
        delay=0.1,  # so that an immediate refusal prints only its line
        leave=False,
        bar_format="{percentage:3.0f}% {bar} {n_fmt}/{total_fmt} {elapsed}, {remaining} left{postfix}",
    ) as bar:

        def report(what: str, done: int, total: int) -> None:
            bar.total = total
            bar.set_postfix_str(printable(what), refresh=False)
            bar.update(done - bar.n)

        yield report


class ProgressLines:
    """Writes lines in place of a bar: about ten, but at most one every 30 seconds, so none for short work.

    Work that takes days gets a line every half hour.
    """

    def __init__(self) -> None:
        self._line_at = _now()
        self._what = ""
        self._begun = (0.0, 0.0)
        self._told = 0.0

    def report(self, what: str, done: float, total: float, note: str = "") -> None:
        """Write a line if one is due.

        Args:
            what: name of the work; another name restarts the measurement.
            done, total: amount done and total amount, in any unit.
            note: additional text for the line.
        """
        now, share = _now(), min(done / total, 1.0) if total else 0.0
        if what != self._what or share < self._told:
            self._what, self._begun, self._told = what, (now, share), share
        silent = now - self._line_at
        if silent < _PAUSE or (share - self._told < _SHARE and silent < _SILENCE):
            return
        self._line_at, self._told = now, share
        (start, before), text = self._begun, f"{what}: {share:.0%}"
        if share > before:
            elapsed = now - start
            left = elapsed * (1 - share) / (share - before)
            text += f", {_clock(elapsed)} elapsed, {_clock(left)} left"
        click.echo(printable(text + (f" ({note})" if note else "")), err=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
