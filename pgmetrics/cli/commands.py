"""Behavior shared by all command lines of the project: checks of options, and reports of errors."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from pgmetrics.errors import PgmetricsError, one_line, printable
from pgmetrics.runtime.openmp import sleep_while_waiting
from pgmetrics.runtime.streams import guarded_streams

INTERRUPTED = 130
"""Exit code after Ctrl-C, as in shells."""


class Commands(click.Group):
    """A group whose commands report a `PgmetricsError` as one line and refuse repeated options."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, and refuse options that are given twice."""
        _refuse_no_text(args, ctx)
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None:
            _refuse_repeated(command, name, rest, ctx)
        return name, command, rest

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run the program; a standard stream that cannot be written leads to a refusal, not a traceback."""
        sleep_while_waiting()
        with guarded_streams():
            return super().main(*arguments, **options)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command and report its errors as one line."""
        with _one_line():
            return super().invoke(ctx)


def log_to_stderr() -> None:
    """Show the library's log as lines on standard error; this replaces earlier handlers."""
    logger = logging.getLogger("pgmetrics")
    logger.handlers = [_OnStandardError()]
    logger.setLevel(logging.INFO)


def _refuse_repeated(command: click.Command, name: str | None, args: list[str], above: click.Context) -> None:
    """Refuse options that are given twice, of which click would silently take the last."""
    ctx = command.context_class(command, info_name=name, parent=above, **command.context_settings)
    _, _, given = command.make_parser(ctx).parse_args(list(args))
    for param, count in Counter(given).items():
        if count > 1 and isinstance(param, click.Option) and not (param.multiple or param.count):
            if param.is_eager:
                continue  # --help
            raise click.UsageError(f"{param.opts[0]} is given {_times(count)}; give it once", ctx)


def _refuse_no_text(args: list[str], ctx: click.Context) -> None:
    """Refuse text that the system cannot encode. Shells never pass it, but Python code can."""
    for text in args:
        try:
            os.fsencode(text)
            reason = "a null character" if "\0" in text else None
        except UnicodeEncodeError:
            reason = "half of a surrogate pair"
        if reason:
            raise click.UsageError(f"{text!r} has {reason}, which is in no file's name", ctx)


def _times(count: int) -> str:
    return "twice" if count == 2 else f"{count} times"


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except PgmetricsError as error:
        raise click.ClickException(str(error)) from error
    except MemoryError as error:
        # NumPy's message says how much memory was requested.
        reason = printable(str(error)) or "an allocation failed"
        raise click.ClickException(
            f"there is not enough memory: {reason}; ask for fewer or smaller images"
        ) from error
    except KeyboardInterrupt:
        # Click would exit with 1, the code of a refusal.
        click.echo("Interrupted.", err=True)
        raise SystemExit(INTERRUPTED) from None
    except click.ClickException as error:
        # A shell's pattern may have put any file's name into the arguments.
        error.message = one_line(error.message)  # type: ignore[misc]
        raise


class _OnStandardError(logging.Handler):
    """Prints log records as lines that do not break a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        with tqdm.external_write_mode():
            click.echo(f"{record.levelname.capitalize()}: {printable(record.getMessage())}", err=True)
