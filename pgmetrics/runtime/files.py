"""Safe file access: only regular files are opened; strict JSON, SHA-256, atomic writes and locks."""

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
_MOST_DIGITS = 40  # 128 bits; pgmetrics writes no longer integers
_LONGEST_NAME = 120
_SUFFIX = ".part"  # of files that are being written
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
_MOST_LEVELS = 64  # nesting depth of lists and objects; files of pgmetrics have fewer than ten levels

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
    """Open a regular file to read its bytes; pipes, devices and directories are refused without blocking.

    Args:
        path: path of the file.
        follow_links: open the target of a symbolic link; otherwise links are refused, too.

    Raises:
        OSError: the file does not exist, cannot be read, or is not a regular file; `strerror` says which.
    """
    # Check before opening, since opening a device can have effects, and after, since it may be replaced.
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
        OSError: the file does not exist or is not a regular file; `strerror` says which.
    """
    _refuse_others(_mode(path), path)


def kind_of(mode: int) -> str | None:
    """Return the kind of a file with this `st_mode`, such as "pipe"; None for a regular file."""
    if stat.S_ISREG(mode):
        return None
    return next((kind for is_kind, kind in _KINDS if is_kind(mode)), "special file")


def _mode(path: str | os.PathLike[str], *, follow_links: bool = True) -> int:
    try:
        return (os.stat if follow_links else os.lstat)(path).st_mode
    except ValueError as error:  # a null character, or a surrogate that encodes no byte
        raise OSError(errno.EINVAL, _NO_NAME, os.fspath(path)) from error


def _refuse_others(mode: int, path: str | os.PathLike[str]) -> None:
    if kind := kind_of(mode):
        reason = f"it is a {kind}, and only regular files are opened"
        raise OSError(errno.EINVAL, reason, os.fspath(path))


def sha256(*parts: bytes | bytearray | memoryview | io.BufferedIOBase) -> hashlib._Hash:
    """Hash bytes, and open files from their current position, one after the other by SHA-256.

    A file is read one megabyte at a time. The returned hash object can be updated further.
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
    """Return the JSON text of a value; Python's own writer would write NaN and Infinity, which JSON lacks.

    Args:
        value: a value of JSON's types, in which NumPy scalars are allowed, too.
        layout: `indent`, `sort_keys`, `separators` or `ensure_ascii`, as in `json.dumps`.

    Raises:
        ValueError: a number is not finite.
    """
    # A surrogate, such as from a file name that is not UTF-8, could not be encoded.
    return printable_json(json.dumps(value, allow_nan=False, default=_plain, **layout))


def _plain(value: object) -> int | float:
    """Convert a NumPy scalar, as users may pass for a parameter, to a Python number."""
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    raise TypeError(f"{type(value).__name__} is no type of JSON")


def finite_or_none(value: Any) -> Any:
    """Return a value of JSON's types with each number that is not finite replaced by None."""
    if isinstance(value, dict):
        return {name: finite_or_none(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite_or_none(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def parse_json(text: str | bytes, *, gaps: bool = False) -> Any:
    """Parse a JSON text strictly by RFC 8259; Python's own reader is too lenient.

    Args:
        text: the JSON text.
        gaps: return None for NaN and infinities, which earlier versions wrote into some files.

    Raises:
        ValueError: the text is not JSON, has a key twice, or holds NaN, an infinity (such as 1e999), an
            integer of more than 40 digits or more than 64 levels. Python parses a thousand levels, but
            functions that recurse into the value could not.
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
    # Counting brackets is fast and settles nearly all texts. Brackets in strings only cost a second check.
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
    """Refuse a path that could not be written, before the file's content is computed.

    Raises:
        PgmetricsError: the directory is missing or not writable, the path is something other than a file,
            or it is one of the inputs.
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
        PgmetricsError: no file can have this name, for example because it is too long.
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
    """Return the error for a file that cannot be written."""
    return PgmetricsError(f"{os.fspath(path)} cannot be written: {reason}")


def safe_name(text: str) -> str:
    """Return a file name that is valid on every file system, has no separators, and is unique to the text."""
    safe = re.sub(r"[^\w.\[\]-]+", "_", text, flags=re.ASCII)
    if safe == text and len(text) <= _LONGEST_NAME and text.strip("."):
        return text
    digest = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{safe[:_LONGEST_NAME]}-{digest[:8]}"


@contextmanager
def refusing_unwritable(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an error of the system into one line that says which file cannot be written, and why.

    Raises:
        PgmetricsError: the system raised an error.
    """
    try:
        yield
    except OSError as error:
        raise unwritable(path, error.strerror or str(error)) from error


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file that the user named atomically; a symbolic link stays, and its target is written.

    Raises:
        PgmetricsError: it cannot be written; the message says why.
    """
    with refusing_unwritable(path), written_atomically(resolved(path)) as aside:
        aside.write_bytes(content)


@contextmanager
def written_atomically(target: Path, *, directory: bool = False) -> Iterator[Path]:
    """Yield a new file or directory beside the target; it replaces the target when the body ends.

    Until then the target is unchanged. A file's bytes are flushed to the disk before it is renamed, so that a
    full disk is noticed while the old file still exists. If the body fails, the new file is removed.

    The new file is locked while it is written, and the kernel releases the lock however the process ends.
    Files of earlier writers that are not locked were therefore left by killed processes, and the next writer
    removes them.

    Args:
        target: the file or directory to write; its parent directory must exist.
        directory: make a directory instead of a file.

    Raises:
        PgmetricsError: the target cannot be written, for example because the disk is full.
    """
    with refusing_unwritable(target):
        # Files of tempfile are private to the user, and would remain so after the renaming.
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
                with aside.open("r+b") as file:  # Windows flushes only files that are open for writing
                    os.fsync(file.fileno())
                os.replace(aside, target)
        finally:
            _remove(aside)
            if lock is not None:
                os.close(lock)


def _put_in_place(aside: Path, target: Path) -> None:
    """Rename a directory; an old one is renamed first, so that the name never holds a mixture of both."""
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
            return aside, None  # Windows cannot rename an open file
        from filelock import lock_descriptor

        try:
            lock = os.open(aside, os.O_RDONLY)
        except FileNotFoundError:
            continue  # another process removed it as a leftover before it was locked
        try:
            with suppress(OSError):  # on a file system without locks, leftovers are never removed
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
    """Hold an exclusive lock on a file, which is removed afterwards.

    The operating system releases the lock however this process ends, so that a file left behind locks
    nothing. On a file system without locks, other processes are not kept out.

    Args:
        place: path of the lock file; its directory must exist.
        busy: the message if another process holds the lock.

    Raises:
        OptionError: another process holds the lock.
        PgmetricsError: the file cannot be made, or the path is something other than a file.
    """
    # Importing filelock takes a third of the time of `--help`.
    from filelock import FileLock, Timeout

    lock = FileLock(place)
    try:
        with suppress(FileNotFoundError):  # also where its holder removes it at this moment
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
        # Remove it before the release: a process that opened it meanwhile must not lock an unlinked file.
        with suppress(OSError):  # Windows cannot remove an open file
            place.unlink()
        lock.release()
