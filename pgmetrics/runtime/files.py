"""Files that others made or will read: regular files alone, strict JSON, SHA-256, whole files, locks."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import math
import numbers
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from pgmetrics.errors import OptionError, PgmetricsError, printable_json

_PIECE = 2**20
_MOST_DIGITS = 40  # 128 bits; nothing that we write has more
_LONGEST_NAME = 120
_SUFFIX = ".part"  # of what is being written
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
_MOST_LEVELS = 64  # lists and objects within each other; ours have fewer than ten

_NO_NAME = "no file can have this name"
_KINDS = (
    (stat.S_ISLNK, "symbolic link"),
    (stat.S_ISDIR, "directory"),
    (stat.S_ISFIFO, "pipe"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISCHR, "device"),
    (stat.S_ISBLK, "device"),
)


def open_regular(path: str | os.PathLike[str], *, follow_links: bool = True) -> io.BufferedReader:
    """Open a regular file to read its bytes; a pipe, a device or a directory never blocks or is read.

    Args:
        path: of the file.
        follow_links: open what a symbolic link leads to; otherwise a link is refused, too.

    Raises:
        OSError: there is no such file, it cannot be read, or it is none; `strerror` says which.
    """
    # Looked at before, since opening a device can have effects, and after, since it may have been replaced.
    _refuse_others(_mode(path, follow_links=follow_links), path)
    # Without O_NONBLOCK, opening a pipe waits for a writer. Windows has none of these flags but O_BINARY.
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    if not follow_links:
        flags |= getattr(os, "O_NOFOLLOW", 0)
    handle = os.open(path, flags)
    try:
        _refuse_others(os.fstat(handle).st_mode, path)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def check_regular(path: str | os.PathLike[str]) -> None:
    """Refuse what `open_regular` refuses, before a library opens a file by its name.

    Raises:
        OSError: there is no such file, or it is none; `strerror` says which.
    """
    _refuse_others(_mode(path), path)


def kind_of(mode: int) -> str | None:
    """What a file of this `st_mode` is, such as "pipe" or "directory"; None for a regular file."""
    if stat.S_ISREG(mode):
        return None
    return next((kind for is_kind, kind in _KINDS if is_kind(mode)), "special file")


def _mode(path: str | os.PathLike[str], *, follow_links: bool = True) -> int:
    try:
        return (os.stat if follow_links else os.lstat)(path).st_mode
    except ValueError as error:  # a null character, or a surrogate that stands for no byte
        raise OSError(errno.EINVAL, _NO_NAME, os.fspath(path)) from error


def _refuse_others(mode: int, path: str | os.PathLike[str]) -> None:
    if kind := kind_of(mode):
        reason = f"it is a {kind}, and only regular files are opened"
        raise OSError(errno.EINVAL, reason, os.fspath(path))


def sha256(*parts: bytes | bytearray | memoryview | io.BufferedIOBase) -> hashlib._Hash:
    """SHA-256 of bytes and of what is left to read of open files, one after the other.

    Of a file a megabyte is in memory at a time. The digest can be read off or be gone on with.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, io.BufferedIOBase):
            piece = memoryview(bytearray(_PIECE))
            while count := part.readinto(piece):
                digest.update(piece[:count])
        else:
            digest.update(part)
    return digest


def dump_json(value: object, **layout: Any) -> str:
    """The JSON text of a value; Python's own writer would write NaN and Infinity, which is no JSON.

    Args:
        value: of JSON's own types, or with NumPy's numbers among them.
        layout: `indent`, `sort_keys`, `separators` or `ensure_ascii`, as of `json.dumps`.

    Raises:
        ValueError: a number is not finite.
    """
    # A surrogate, as of a file name that is no UTF-8, could not be encoded.
    return printable_json(json.dumps(value, allow_nan=False, default=_plain, **layout))


def _plain(value: object) -> int | float:
    """A number of NumPy's as one of Python's, for parameters that were given as such."""
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    raise TypeError(f"{type(value).__name__} is no type of JSON")


def finite_or_none(value: Any) -> Any:
    """A value of JSON's own types with None in place of each number that is not finite."""
    if isinstance(value, dict):
        return {name: finite_or_none(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite_or_none(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def parse_json(text: str | bytes, *, gaps: bool = False) -> Any:
    """The value of a JSON text as RFC 8259 has it, which Python's own reader is too lenient for.

    Args:
        text: of the value.
        gaps: give None for NaN and infinities, which earlier versions wrote into some files.

    Raises:
        ValueError: it is no JSON, names a key twice, holds NaN, an infinity (1e999 is one), an integer of
            more than 40 digits or more than 64 levels. Python parses a thousand of them, which is more than
            a function can follow that descends into the value.
    """
    try:
        value = json.loads(
            text,
            parse_constant=_none if gaps else _refuse_constant,
            parse_float=_finite_or_none if gaps else _finite,
            parse_int=_short,
            object_pairs_hook=_unique,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    # Counting is quick, and enough for nearly all texts; brackets within strings do no harm.
    brackets = ("[", "{") if isinstance(text, str) else (b"[", b"{")
    if sum(map(text.count, brackets)) > _MOST_LEVELS and _levels(value) > _MOST_LEVELS:  # type: ignore[arg-type]
        raise ValueError("it is nested too deeply")
    return value


def _levels(value: Any) -> int:
    found, level = 0, [value]
    while level := [each for each in level if isinstance(each, (dict, list))]:
        found += 1
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:_MOST_DIGITS]} is beyond a double's range")
    return value


def _none(name: str) -> None:
    return None


def _finite_or_none(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _short(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"an integer has {len(text):,} digits")
    return int(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the key {name!r} is there twice")
        found[name] = value
    return found


def check_writable(path: str | os.PathLike[str], inputs: Iterable[object] = ()) -> None:
    """Refuse a place where a file could not be written, before its content is computed.

    Raises:
        PgmetricsError: its directory is missing or cannot be written to, something else than a file is
            there, or it is one of the inputs.
    """
    target = resolved(path)
    try:
        kind = kind_of(os.lstat(target).st_mode)
    except FileNotFoundError:
        kind = None
    except OSError as error:  # such as a name that is too long
        raise unwritable(path, error.strerror or str(error)) from error
    if kind is not None:
        raise unwritable(path, f"it is a {kind}")
    if not target.parent.is_dir():
        raise unwritable(path, f"there is no directory {target.parent}")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise unwritable(path, f"no permission to write to {target.parent}")
    for each in inputs:
        if isinstance(each, (str, os.PathLike)) and os.path.realpath(each) == os.fspath(target):
            raise unwritable(path, "it is one of the inputs, which would be lost; name another file")


def resolved(path: str | os.PathLike[str]) -> Path:
    """Return the path to write to, with symbolic links followed.

    Raises:
        PgmetricsError: no file can have such a name, as one that is too long or has a null character.
    """
    try:
        target = Path(os.path.realpath(path))
        os.lstat(target)
    except ValueError as error:
        raise unwritable(path, _NO_NAME) from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise unwritable(path, error.strerror or str(error)) from error
    return target


def unwritable(path: str | os.PathLike[str], reason: str) -> PgmetricsError:
    """The refusal of a file that cannot be written."""
    return PgmetricsError(f"{os.fspath(path)} cannot be written: {reason}")


def safe_name(text: str) -> str:
    """A name for a file that every file system takes, that leads nowhere, and that no other text gets."""
    safe = re.sub(r"[^\w.\[\]-]+", "_", text, flags=re.ASCII)
    if safe == text and len(text) <= _LONGEST_NAME and text.strip("."):
        return text
    digest = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{safe[:_LONGEST_NAME]}-{digest[:8]}"


@contextmanager
def refusing_unwritable(path: str | os.PathLike[str]) -> Iterator[None]:
    """Tell in one line that a file cannot be written, and why.

    Raises:
        PgmetricsError: in place of what the system raised.
    """
    try:
        yield
    except OSError as error:
        raise unwritable(path, error.strerror or str(error)) from error


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file that the user named, complete or not at all; where that is a link, what it leads to.

    Raises:
        PgmetricsError: it cannot be written; the message says why.
    """
    with refusing_unwritable(path), written_atomically(resolved(path)) as aside:
        aside.write_bytes(content)


@contextmanager
def written_atomically(target: Path, *, directory: bool = False) -> Iterator[Path]:
    """A new file or directory beside the target, which takes its place once it is filled.

    Until then the target is as it was before. A file's bytes are on the disk before it is renamed, so that a
    full disk is noticed while the old file is still there. Where the body fails, what it wrote is removed.

    What is being filled is locked, and the kernel takes the lock back however the process ends. So what is
    found of earlier writers of the target, and is not locked, was left by a process that was killed; the next
    writer removes it.

    Args:
        target: a file, or a directory; the one that it lies in exists.
        directory: make a directory.

    Raises:
        PgmetricsError: it cannot be written, as on a full disk.
    """
    with refusing_unwritable(target):
        # Not tempfile: its files are private to the user, and the renamed one would stay so.
        stem = f".{target.name[:40]}."
        if os.name == "posix":
            for name in os.listdir(target.parent):
                if re.fullmatch(rf"{re.escape(stem)}[0-9a-f]+{re.escape(_SUFFIX)}", name):
                    _remove_unlocked(target.parent / name)
        aside, lock = _made_and_locked(target, stem, directory)
        try:
            yield aside
            if directory:
                _put_in_place(aside, target)
            else:
                with aside.open("r+b") as file:  # Windows flushes only what is open for writing
                    os.fsync(file.fileno())
                os.replace(aside, target)
        finally:
            _remove(aside)
            if lock is not None:
                os.close(lock)


def _put_in_place(aside: Path, target: Path) -> None:
    """Give a directory its name; two renames replace another one, so that there is never half of either."""
    if not target.exists():
        os.replace(aside, target)
        return
    old = target.with_name(f".{target.name[:40]}.{secrets.token_hex(4)}{_SUFFIX}")
    os.replace(target, old)
    os.replace(aside, target)
    shutil.rmtree(old)


def _made_and_locked(target: Path, stem: str, directory: bool) -> tuple[Path, int | None]:
    while True:
        aside = target.with_name(f"{stem}{secrets.token_hex(4)}{_SUFFIX}")
        if directory:
            aside.mkdir()
        else:
            open(aside, "xb").close()
        if os.name != "posix":
            return aside, None  # where an open file cannot be renamed
        from filelock import lock_descriptor

        try:
            lock = os.open(aside, os.O_RDONLY)
        except FileNotFoundError:
            continue  # somebody took it for a leftover before it was locked
        try:
            with suppress(OSError):  # a file system without locks, where nothing is ever removed either
                lock_descriptor(lock)
            if os.path.lexists(aside):
                return aside, lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)


def _remove_unlocked(leftover: Path) -> None:
    from filelock import lock_descriptor

    with suppress(OSError):
        lock = os.open(leftover, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if lock_descriptor(lock, blocking=False):
                _remove(leftover)
        finally:
            os.close(lock)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def locked(place: Path, busy: str) -> Iterator[None]:
    """Hold the lock file for this process alone; in the end it is removed.

    The operating system takes the lock back however this process ends: a file that is left is no
    lock. On a file system without locks nobody is kept out.

    Args:
        place: of the file; its directory exists.
        busy: the refusal where another process holds it.

    Raises:
        OptionError: one does.
        PgmetricsError: the file cannot be made, or is something else than a file.
    """
    # Loading it takes as long as a third of `--help`.
    from filelock import FileLock, Timeout

    lock = FileLock(place)
    try:
        if os.path.lexists(place):
            _refuse_others(os.lstat(place).st_mode, place)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise OptionError(busy) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise unwritable(place, error.strerror or str(error)) from error
    try:
        yield
    finally:
        # Before it is released: whoever had opened the file meanwhile must not lock one that has no name.
        with suppress(OSError):  # Windows removes no open file
            place.unlink()
        lock.release()
