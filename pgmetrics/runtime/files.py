"""Files that somebody else may have made or will read: regular files alone, strict JSON, SHA-256."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import math
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from pgmetrics.errors import PgmetricsError, printable_json

_PIECE = 2**20
_MOST_DIGITS = 40  # 128 bits; nothing that we write has more
_LONGEST_NAME = 120
_MOST_LEVELS = 64  # lists and objects within each other; ours have fewer than ten

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
    _refuse_others((os.stat if follow_links else os.lstat)(path).st_mode, path)
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
    _refuse_others(os.stat(path).st_mode, path)


def kind_of(mode: int) -> str | None:
    """What a file of this `st_mode` is, such as "pipe" or "directory"; None for a regular file."""
    if stat.S_ISREG(mode):
        return None
    return next((kind for is_kind, kind in _KINDS if is_kind(mode)), "special file")


def _refuse_others(mode: int, path: str | os.PathLike[str]) -> None:
    if kind := kind_of(mode):
        reason = f"it is a {kind}, and only regular files are opened"
        raise OSError(errno.EINVAL, reason, os.fspath(path))


def sha256(file: io.BufferedIOBase) -> str:
    """SHA-256 of what is left to read of an open file, in hexadecimal; a megabyte is in memory at a time."""
    digest = hashlib.sha256()
    piece = memoryview(bytearray(_PIECE))
    while count := file.readinto(piece):
        digest.update(piece[:count])
    return digest.hexdigest()


def dump_json(value: object, **layout: Any) -> str:
    """The JSON text of a value; Python's own writer would write NaN and Infinity, which is no JSON.

    Args:
        value: of JSON's own types.
        layout: `indent`, `sort_keys`, `separators` or `ensure_ascii`, as of `json.dumps`.

    Raises:
        ValueError: a number is not finite.
    """
    # A surrogate, as of a file name that is no UTF-8, could not be encoded.
    return printable_json(json.dumps(value, allow_nan=False, **layout))


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
    target = Path(os.path.realpath(path))
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


def unwritable(path: str | os.PathLike[str], reason: str) -> PgmetricsError:
    """The refusal of a file that cannot be written."""
    return PgmetricsError(f"{os.fspath(path)} cannot be written: {reason}")


def safe_name(text: str) -> str:
    """A name for a file that every file system takes, that leads nowhere, and that no other text gets."""
    safe = re.sub(r"[^\w.\[\]-]+", "_", text, flags=re.ASCII)
    if safe == text and len(text) <= _LONGEST_NAME and text.strip("."):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{safe[:_LONGEST_NAME]}-{digest[:8]}"


@contextmanager
def set_aside(target: Path, *, directory: bool = False, suffix: str = ".tmp") -> Iterator[Path]:
    """A new file or directory beside the target, to be filled and renamed; removed where it was not.

    It is locked meanwhile, and a kernel takes a lock back however its process ends. So what is found there of
    earlier writers of the target, and is not locked, was left by a process that was killed, and is removed.

    Args:
        target: what it will become; its directory exists.
        directory: make a directory.
        suffix: of its name.

    Raises:
        OSError: it cannot be made.
    """
    # Not tempfile: its files are private to the user, and the renamed one would stay so.
    stem = f".{target.name[:40]}."
    if os.name == "posix":
        for name in os.listdir(target.parent):
            if re.fullmatch(rf"{re.escape(stem)}[0-9a-f]+{re.escape(suffix)}", name):
                _remove_unlocked(target.parent / name)
    aside, lock = _made_and_locked(target, stem, suffix, directory)
    try:
        yield aside
    finally:
        _remove(aside)
        if lock is not None:
            os.close(lock)


def _made_and_locked(target: Path, stem: str, suffix: str, directory: bool) -> tuple[Path, int | None]:
    while True:
        aside = target.with_name(f"{stem}{secrets.token_hex(4)}{suffix}")
        if directory:
            aside.mkdir()
        else:
            open(aside, "xb").close()
        if os.name != "posix":
            return aside, None
        import fcntl

        try:
            lock = os.open(aside, os.O_RDONLY)
        except FileNotFoundError:
            continue  # somebody took it for a leftover before it was locked
        try:
            with suppress(OSError):  # a file system without locks, where nothing is ever removed either
                fcntl.flock(lock, fcntl.LOCK_EX)
            if os.path.lexists(aside):
                return aside, lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)


def _remove_unlocked(leftover: Path) -> None:
    import fcntl

    with suppress(OSError):
        lock = os.open(leftover, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(leftover)
        finally:
            os.close(lock)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
