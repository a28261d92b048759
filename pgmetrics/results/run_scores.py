"""The store of a scored run: JSON Lines that only grow, and survive a kill at any moment.

A line is one finished item of one series: an object with the keys `format`, `series` (the id that
all lines of equal settings share), `item`, and `settings` in the first line of a series, `results`
and `provenance` in the others. An item holds its `kind` and, but for settings,

- `label`: the `run` of its rows,
- `file`: relative to the run's directory, and `digest`: of what it holds (not of a floor),
- `images_shown` (null where it is unknown), `alpha` (not of a floor), `resolution`, `final_resolution`.

No line holds a time: equal work gives equal bytes.
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
    """One line.

    Attributes:
        series: id of the series it belongs to.
        item: what was scored; at least its `kind`, and its `label` unless that is "settings".
        results: rows with the columns of `results.COLUMNS`; none in a settings line.
        provenance: how the rows came about, without times and places.
        settings: everything that decides a number of the series; of a settings line alone.
    """

    series: str
    item: Mapping[str, Any]
    results: Sequence[Mapping[str, Any]] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] | None = None

    @property
    def kind(self) -> str:
        """One of KINDS."""
        kind: str = self.item["kind"]
        return kind

    @property
    def label(self) -> str:
        """Of the item, the `run` of its rows; empty for a settings line."""
        label: str = self.item.get("label", "")
        return label

    def to_line(self) -> bytes:
        """The line, with its end; equal entries give equal bytes."""
        content: dict[str, Any] = {"format": FORMAT, "series": self.series, "item": dict(self.item)}
        if self.settings is not None:
            content["settings"] = dict(self.settings)
        else:
            content["results"] = [dict(row) for row in self.results]
            content["provenance"] = dict(self.provenance)
        return dump_json(content).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Entry:
        """The entry that `to_line` wrote.

        Raises:
            StateError: the line is something else, of another format, or a row of it is none.
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
    """The store of a run's directory; a path to anything else is taken for the store itself."""
    path = Path(run)
    return path / FILE_NAME if os.path.isdir(path) else path


def read(path: str | os.PathLike[str]) -> list[Entry]:
    """The complete lines of a store, in the order in which they were written.

    A last line without its end, as a kill leaves it, is passed over.

    Args:
        path: of the store, or of a run's directory.

    Raises:
        StateError: another line is damaged; the message says which.
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
    """The entries of one series that count, its settings first.

    An item that was scored again, since its file had changed, counts as it was scored last.

    Args:
        entries: of a store.
        series: its id; the one that was written to last if left out.

    Raises:
        StateError: there are no entries, or no such series; the message lists those there are.
    """
    known = list(dict.fromkeys(entry.series for entry in entries))
    if not entries:
        raise StateError("the store holds no scores yet; pgmetrics growth makes them")
    if series is None:
        series = entries[-1].series
    if series not in known:
        raise StateError(f"there is no series {series} among the scores; there are {', '.join(known)}")
    # A label keeps the place of its first line, with the content of its last.
    latest = {entry.label: entry for entry in entries if entry.series == series}
    return list(latest.values())


def load(
    path: str | os.PathLike[str], series: str | None = None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of a series and how they came about, for `results.Results`.

    Args:
        path: of the store, or of a run's directory.
        series: its id; the one that was written to last if left out.

    Returns:
        The rows: of the reals, of the untrained network, of the checkpoints by images shown. And
        `{"series": id, "settings": {...}, "runs": {label: {"item": {...}, ...}}}`.

    Raises:
        StateError, PgmetricsError: as `read` and `series_of`.
    """
    chosen = series_of(read(path), series)
    items = [entry for entry in chosen if entry.kind != "settings"]
    items.sort(key=lambda entry: (KINDS.index(entry.kind), *_place(entry.item)))
    rows = [dict(row) for entry in items for row in entry.results]
    settings = next((entry.settings for entry in chosen if entry.settings is not None), {})
    runs = {entry.label: {**entry.provenance, "item": dict(entry.item)} for entry in items}
    return rows, {"series": chosen[0].series, "settings": dict(settings or {}), "runs": runs}


class Journal:
    """A store that is being written: each line is on the disk before `append` returns.

    The file is made with its first line. What a kill left of a line is cut off before the next one.

    Attributes:
        path: of the file.
        entries: its lines.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read what is there.

        Args:
            path: of the store, or of a run's directory.

        Raises:
            StateError: a line of it is damaged.
            PgmetricsError: it cannot be read.
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
        """Write one line, whole or not at all as far as any later reader can tell.

        Raises:
            PgmetricsError: the disk refuses, as when it is full; what was there before stays.
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
            # Cutting makes room and cannot fail for the lack of it.
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
    """Bytes up to the end of the last line that has one."""
    return content.rfind(b"\n") + 1


def _flush_directory(directory: Path) -> None:
    """Have a new file's name on the disk, too, where the system can do that."""
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
    """Sorts by images shown; items of which they are unknown come last, by their stages."""
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
"""What the fields of an item hold, where it has them."""
