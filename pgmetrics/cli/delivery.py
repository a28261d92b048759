"""Deliver results: print them, write them to a file, or rescue them to another place."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import click

from pgmetrics.cli.options import say
from pgmetrics.errors import PgmetricsError
from pgmetrics.runtime.streams import OutputError, ReaderGone

Save = Callable[[str], None]  # writes the results to the file of this name


def deliver(text: str, save: Save | None = None, out: str | None = None) -> None:
    """Print results and write them to --out; if one of the two fails, the other is still done.

    Args:
        text: the text to print; nothing is printed if it is empty.
        save: function that writes the results; required with `out`. Without it, only the text can be rescued.
        out: the requested file, or None.

    Raises:
        PgmetricsError: one of the two failed. The message says why, and where the results are now.
        ReaderGone: the reader of standard output has ended; the file is written.
    """
    problem, gone = None, None
    try:
        if text:
            say(text)
    except OutputError as error:
        problem = str(error)
    except ReaderGone as ended:
        gone = ended
    if out is not None:
        assert save is not None
        keep(save, out)
        if problem is not None:
            raise PgmetricsError(f"{problem}; the results are in {out}")
    elif problem is not None:
        _rescue(problem, save or _as_text(text), "results.json" if save else "results.txt", text)
    if gone is not None:
        raise gone


def keep(save: Save, out: str) -> None:
    """Write results that took long to compute to a file, or elsewhere if that fails.

    Args:
        save: function that writes the results.
        out: the requested file.

    Raises:
        PgmetricsError: the file cannot be written. The message says why, and where the results are now.
    """
    try:
        save(out)
    except PgmetricsError as error:
        _rescue(str(error), save, Path(out).name, "")


def _rescue(problem: str, save: Save, name: str, text: str) -> None:
    """Write the results to another file, or at least to standard error, and raise a PgmetricsError."""
    for find in (tempfile.gettempdir, os.getcwd):
        try:
            folder = tempfile.mkdtemp(prefix="pgmetrics-", dir=find())
        except OSError:
            continue
        place = os.path.join(folder, name)
        try:
            save(place)
        except (OSError, PgmetricsError):
            shutil.rmtree(folder, ignore_errors=True)
            continue
        raise PgmetricsError(f"{problem}; the results are in {place}")
    if text:
        click.echo(text, err=True)
    raise PgmetricsError(f"{problem}, nor could any file in the temporary or the current directory")


def _as_text(text: str) -> Save:
    def save(path: str) -> None:
        with open(path, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)

    return save
