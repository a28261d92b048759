"""Guard a command's standard streams, which may be closed, on a full disk, or a pipe without a reader."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from pgmetrics.errors import PgmetricsError

READER_GONE = 128 + 13
"""Exit code if the reader of standard output, such as `head`, has ended: a shell's code for SIGPIPE."""


class OutputError(PgmetricsError):
    """Standard output cannot be written."""


class ReaderGone(SystemExit):
    """The reader of standard output has ended; the program ends silently, as is usual."""

    def __init__(self) -> None:
        super().__init__(READER_GONE)


@contextmanager
def guarded_streams() -> Iterator[None]:
    """Within the context, writing to standard error never fails, and to standard output raises a refusal.

    A progress bar on a full disk must not end the work, and a command must not report success if its
    result could not be written. Characters that standard output cannot encode are escaped. If one of the
    three streams is closed, its file descriptor is opened on the null device. Otherwise the next file to be
    opened would get that descriptor, and whatever a library prints would go into that file.

    Raises:
        SystemExit: with code 1 if standard output cannot be written and this was not yet reported.
        ReaderGone: the reader of standard output has ended.
    """
    _open_closed_ones()
    output, error = sys.stdout, sys.stderr
    guarded = _Output(output)
    sys.stdout, sys.stderr = guarded, _Error(error)
    try:
        try:
            yield
        finally:
            guarded.flush()
    except OutputError as problem:
        sys.stderr.write(f"Error: {problem}\n")
        sys.exit(1)
    finally:
        sys.stdout, sys.stderr = output, error


def _open_closed_ones() -> None:
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)


class _Stream:
    """A text stream that wraps another one and passes all other attributes on to it."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            # As in click: without a locale, the terminal probably shows UTF-8.
            ascii_only = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(encoding="utf-8" if ascii_only else None, errors="backslashreplace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream if self._stream is not None else sys.__stdin__, name)

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def _abandon(self, number: int) -> None:
        """Discard what is still buffered; writing it would fail again when the interpreter ends."""
        with suppress(OSError, ValueError, AttributeError):
            if self._stream is not None and self._stream.fileno() == number:
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, number)
                os.close(null)


class _Output(_Stream):
    def __init__(self, stream: TextIO | None) -> None:
        super().__init__(stream)
        self._failure: OutputError | ReaderGone | None = None
        if stream is None:
            self._failure = OutputError("standard output cannot be written: it is closed")

    def write(self, text: str) -> int:
        if text == "":
            return 0
        with self._failing():
            assert self._stream is not None
            return self._stream.write(text)

    def flush(self) -> None:
        # Libraries flush the stream without having written anything, which is no reason to refuse.
        if self._failure is None and self._stream is not None:
            with self._failing():
                self._stream.flush()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        # Raise at every write, since click first tries a stream and ignores the errors of that.
        if self._failure is not None:
            raise self._failure
        try:
            yield
        except BrokenPipeError as error:
            self._abandon(1)
            self._failure = ReaderGone()
            raise self._failure from error
        except OSError as error:
            self._abandon(1)
            self._failure = OutputError(f"standard output cannot be written: {error.strerror or error}")
            raise self._failure from error


class _Error(_Stream):
    def write(self, text: str) -> int:
        try:
            if self._stream is not None:
                self._stream.write(text)
        except (OSError, ValueError):
            self._give_up()
        return len(text)

    def flush(self) -> None:
        try:
            if self._stream is not None:
                self._stream.flush()
        except (OSError, ValueError):
            self._give_up()

    def _give_up(self) -> None:
        self._abandon(2)
