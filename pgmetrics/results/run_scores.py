"""The scores file of a run: append-only JSON Lines that survive a kill at any moment.

Each line is one finished item of one series: an object with the keys `format`, `series` (an id shared
by all lines with the same settings) and `item`. The first line of a series also has `settings`, the others
have `results` and `provenance`. An item has a `kind` and, unless that is "settings", these fields:

- `label`: the `run` of its rows,
- `file`: the path relative to the run's directory, and `digest` of its content (not for a floor),
- `images_shown` (null if unknown) and `alpha` (not for a floor), `resolution`, `final_resolution`.

No line holds a time, so the same scores give identical bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from pgmetrics.errors import PgmetricsError, StateError
from pgmetrics.results.rows import checked, is_one_line
from pgmetrics.runtime.files import check_regular, dump_json, open_regular, parse_json

FORMAT = 1
FILE_NAME = "scores.jsonl"
KINDS = ("settings", "floor", "untrained", "checkpoint")
_LARGEST_SIDE = 2**16  # pixels


@dataclass(frozen=True)
class Entry:
    """One line of a scores file.

    Attributes:
        series: id of the series that the line belongs to.
        item: describes what was scored; has at least a `kind`, and a `label` unless that is "settings".
        results: rows with the columns of `results.COLUMNS`; empty in a settings line.
        provenance: provenance of the rows, without times and local paths.
        settings: everything that affects a number of the series; None except in a settings line.
    """

    series: str
    item: Mapping[str, Any]
    results: Sequence[Mapping[str, Any]] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] | None = None

    @property
    def kind(self) -> str:
        """The kind of the item, one of KINDS."""
        kind: str = self.item["kind"]
        return kind

    @property
    def label(self) -> str:
        """The label of the item, which is the `run` of its rows; empty for a settings line."""
        label: str = self.item.get("label", "")
        return label

    def to_line(self) -> bytes:
        """Return the line with its newline; equal entries give equal bytes."""
        content: dict[str, Any] = {"format": FORMAT, "series": self.series, "item": dict(self.item)}
        if self.settings is not None:
            content["settings"] = dict(self.settings)
        else:
            content["results"] = [dict(row) for row in self.results]
            content["provenance"] = dict(self.provenance)
        return dump_json(content).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Entry:
        """Read an entry that `to_line` wrote.

        Raises:
            StateError: the line is something else or of another format, or one of its rows is invalid.
        """
        try:
            content = parse_json(line)
            version = content["format"]
        except (ValueError, TypeError, KeyError) as error:
            raise StateError("it is no line of a store of scores") from error
        if version != FORMAT:
            raise StateError(f"it has format {version!r}; this version reads format {FORMAT}")
        if not _well_formed(content):
            raise StateError("a part of it is missing or of another kind")
        return cls(
            content["series"],
            content["item"],
            tuple(checked(row) for row in content.get("results", ())),
            content.get("provenance", {}),
            content.get("settings"),
        )


def store_path(run: str | os.PathLike[str]) -> Path:
    """Return the path of the scores file in a run's directory; any other path is the scores file itself."""
    path = Path(run)
    return path / FILE_NAME if os.path.isdir(path) else path


def read(path: str | os.PathLike[str]) -> list[Entry]:
    """Read the complete lines of a scores file, in the order in which they were written.

    An incomplete last line, as a kill leaves it, is ignored.

    Args:
        path: the scores file, or a run's directory.

    Raises:
        StateError: any other line is damaged; the message says which.
        PgmetricsError: there is no such file, or it cannot be read.
    """
    place = store_path(path)
    try:
        with open_regular(place) as file:
            content = file.read()
    except FileNotFoundError as error:
        hint = f"there is no {FILE_NAME} in it" if place != Path(path) else "there is no such file"
        raise PgmetricsError(f"{path} holds no scores: {hint}; pgmetrics growth makes them") from error
    except OSError as error:
        raise PgmetricsError(f"{place} cannot be read: {error.strerror or error}") from error
    entries = []
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            entries.append(Entry.from_line(line))
        except StateError as error:
            raise StateError(f"{place}, line {number}: {error}; restore the file, or move it away") from error
    return entries


def series_of(entries: Sequence[Entry], series: str | None = None) -> list[Entry]:
    """Return the current entries of one series, its settings first.

    If an item was scored again because its file had changed, only its latest entry is returned.

    Args:
        entries: all entries of a scores file.
        series: id of the series; defaults to the series that was written last.

    Raises:
        StateError: there are no entries, or no such series; the message lists the existing series.
    """
    known = list(dict.fromkeys(entry.series for entry in entries))
    if not entries:
        raise StateError("the store holds no scores yet; pgmetrics growth makes them")
    if series is None:
        series = entries[-1].series
    if series not in known:
        raise StateError(f"there is no series {series} among the scores; there are {', '.join(known)}")
    # In this dict, a label keeps the position of its first line and gets the content of its last.
    latest = {entry.label: entry for entry in entries if entry.series == series}
    return list(latest.values())


def load(
    path: str | os.PathLike[str], series: str | None = None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Read the rows and the provenance of a series, for `results.Results`.

    Args:
        path: the scores file, or a run's directory.
        series: id of the series; defaults to the series that was written last.

    Returns:
        The rows of the reals, then of the untrained network, then of the checkpoints by images shown; and
        the provenance `{"series": id, "settings": {...}, "runs": {label: {"item": {...}, ...}}}`.

    Raises:
        StateError, PgmetricsError: as in `read` and `series_of`.
    """
    chosen = series_of(read(path), series)
    items = [entry for entry in chosen if entry.kind != "settings"]
    items.sort(key=lambda entry: (KINDS.index(entry.kind), *_place(entry.item)))
    rows = [dict(row) for entry in items for row in entry.results]
    settings = next((entry.settings for entry in chosen if entry.settings is not None), {})
    runs = {entry.label: {**entry.provenance, "item": dict(entry.item)} for entry in items}
    return rows, {"series": chosen[0].series, "settings": dict(settings or {}), "runs": runs}


class Journal:
    """Appends to a scores file; each line is on disk before `append` returns.

    The first `append` creates the file. An incomplete line that a kill left is truncated before the next
    line is written.

    Attributes:
        path: the scores file.
        entries: its lines.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read the existing lines.

        Args:
            path: the scores file, or a run's directory.

        Raises:
            StateError: a line of the file is damaged.
            PgmetricsError: the file cannot be read.
        """
        self.path = store_path(path)
        self.entries: list[Entry] = read(self.path) if self.path.exists() else []
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def append(self, entry: Entry) -> None:
        """Append one line; later readers see either the whole line or none of it.

        Raises:
            PgmetricsError: the file cannot be written, for example because the disk is full. Earlier lines
                are kept.
        """
        line = entry.to_line()
        try:
            file = self._file = self._file or self._open()
        except OSError as error:
            raise self._unwritable(error) from error
        end = os.fstat(file.fileno()).st_size
        try:
            view = memoryview(line)
            while view:
                view = view[file.write(view) :]
            os.fsync(file.fileno())
        except OSError as error:
            # Truncating frees space, so it cannot fail on a full disk.
            file.truncate(end)
            raise self._unwritable(error) from error
        self.entries.append(entry)

    def _open(self) -> IO[bytes]:
        if self.path.exists():
            check_regular(self.path)
        file: IO[bytes] = open(self.path, "ab", buffering=0)
        try:
            _flush_directory(self.path.parent)
            size = _complete(self.path.read_bytes())
            if size < os.fstat(file.fileno()).st_size:
                file.truncate(size)
        except OSError:
            file.close()
            raise
        return file

    def _unwritable(self, error: OSError) -> PgmetricsError:
        return PgmetricsError(f"{self.path} cannot be written: {error.strerror or error}")


def _complete(content: bytes) -> int:
    """Return the number of bytes up to and including the last newline."""
    return content.rfind(b"\n") + 1


def _flush_directory(directory: Path) -> None:
    """Flush a directory, so that the name of a new file is on disk, too; only POSIX supports this."""
    if os.name == "posix":
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _well_formed(content: Mapping[str, Any]) -> bool:
    item = content.get("item")
    if not isinstance(item, dict) or item.get("kind") not in KINDS:
        return False
    parts: dict[str, type] = {"series": str}
    if item["kind"] == "settings":
        parts |= {"settings": dict}
    else:
        parts |= {"results": list, "provenance": dict}
        if not is_one_line(item.get("label")):
            return False
    if not all(isinstance(content.get(name), kind) for name, kind in parts.items()):
        return False
    rows, notes = content.get("results", []), content.get("provenance", {}).get("notes", [])
    return (
        all(isinstance(row, dict) for row in rows)
        and isinstance(notes, list)
        and all(isinstance(note, str) for note in notes)
        and all(holds(item[name]) for name, holds in _FIELDS.items() if name in item)
    )


def _place(item: Mapping[str, Any]) -> tuple[bool, int, int, float]:
    """Return a sort key: by images shown; items with an unknown count come last, by their stages."""
    shown = item.get("images_shown", 0)
    if shown is None:
        return True, 0, item.get("resolution", 0), item.get("alpha", 1.0)
    return False, shown, 0, 0.0


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_side(value: object) -> bool:
    return type(value) is int and 1 <= value <= _LARGEST_SIDE


_FIELDS: Mapping[str, Callable[[Any], bool]] = {
    "file": lambda value: isinstance(value, str),
    "digest": lambda value: isinstance(value, str),
    "images_shown": lambda value: value is None or _is_count(value),
    "resolution": _is_side,
    "final_resolution": _is_side,
    "alpha": lambda value: type(value) in (int, float) and 0 <= value <= 1,
}
"""Checks of an item's fields, for those fields that it has."""
