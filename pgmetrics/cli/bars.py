"""Progress on standard error: a bar on a terminal; in a file or a pipe, a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from pgmetrics.errors import printable
from pgmetrics.runtime.progress import Progress

_PAUSE = 30.0  # seconds between two lines, at least
_SHARE = 0.1  # of the work that is done between two lines, at least
_SILENCE = 1800.0  # seconds after which there is a line though less was done

_now: Callable[[], float] = time.monotonic


def on_terminal() -> bool:
    """Whether standard error is one, where a bar can be drawn again and again."""
    return sys.stderr.isatty()


@contextmanager
def progress_bar(unit: str = "it", *, scale: bool = False) -> Iterator[Progress]:
    """Show how much is done of each thing that is reported.

    Args:
        unit: of the numbers, on a terminal.
        scale: write them with prefixes such as M.
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
    """Show how many items of one kind are done, the time left, and what is done with the item under way.

    Args:
        doing: what is done with all of them, for a file or a pipe.
    """
    if not on_terminal():
        lines = ProgressLines()
        yield lambda what, done, total: lines.report(doing, done, total, what)
        return
    from tqdm import tqdm

    with tqdm(
        total=0,
        file=sys.stderr,
        delay=0.1,  # a refusal is one line
        leave=False,
        bar_format="{percentage:3.0f}% {bar} {n_fmt}/{total_fmt} {elapsed}, {remaining} left{postfix}",
    ) as bar:

        def report(what: str, done: int, total: int) -> None:
            bar.total = total
            bar.set_postfix_str(printable(what), refresh=False)
            bar.update(done - bar.n)

        yield report


class ProgressLines:
    """Lines in place of a bar: about ten of long work, one every 30 seconds of shorter, none below.

    What takes days is mentioned every half an hour.
    """

    def __init__(self) -> None:
        self._line_at = _now()
        self._what = ""
        self._begun = (0.0, 0.0)
        self._told = 0.0

    def report(self, what: str, done: float, total: float, note: str = "") -> None:
        """Write a line, where it is time for one.

        Args:
            what: is being done; another thing begins anew.
            done, total: how much of it, in whatever unit.
            note: what the line says besides.
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
