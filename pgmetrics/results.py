"""What an evaluation found: one tidy table, and once per run how it came about.

Values are raw everywhere in data (Python, CSV, JSON). The tables for people, `to_table` and
`to_markdown`, print the sliced Wasserstein distance times 1000 as the paper does, and say so.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pgmetrics.errors import OptionError, PgmetricsError, StateError

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "run",
    "subject",
    "metric",
    "level",
    "value",
    "stderr",
    "stderr_kind",
    "n_real",
    "n_fake",
    "seed",
    "protocol",
)
FORMATS = ("table", "csv", "json", "markdown")

_FORMAT_OF_SUFFIX = {".csv": "csv", ".json": "json", ".md": "markdown", ".txt": "table"}
_INTEGERS = ("level", "n_real", "n_fake", "seed")
_FLOATS = ("value", "stderr")
_TEXTS = ("run", "subject", "metric", "stderr_kind", "protocol")
_REQUIRED = ("run", "subject", "metric", "value")
_KEY = ("run", "subject", "metric", "level", "seed", "protocol")


@dataclass(frozen=True)
class Results:
    """Rows, one per metric, level and subject, and how they were computed.

    Equal work gives equal rows, to the bit: they hold no times. What differs between two runs of
    the same command is in the provenance.

    Attributes:
        rows: dictionaries with exactly the keys of `COLUMNS`. `subject` is `fake` or `real` (the
            floor, or a score of the reals alone). `level` is a height in pixels, None for the
            mean over levels and for metrics without levels. `stderr` is None where no sound
            one exists, never 0 in its place; `stderr_kind` says what it was taken over.
        provenance: versions, device, sources, parameters, time. Of several runs together it is
            `{"runs": {run: provenance}}`.

    Raises:
        StateError: a row lacks a column or has one too many, a value is missing or not finite, or
            two rows answer the same question.
    """

    rows: tuple[dict[str, Any], ...]
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = tuple(_clean(row) for row in self.rows)
        seen = set()
        for row in rows:
            key = tuple(row[column] for column in _KEY)
            if key in seen:
                raise StateError(
                    f"two results for {_place(row)} in run {row['run']!r}; "
                    "give each its own label with results.with_run(LABEL)"
                )
            seen.add(key)
        object.__setattr__(self, "rows", rows)

    def __str__(self) -> str:
        return self.to_table()

    @classmethod
    def concat(cls, results: Iterable[Results]) -> Results:
        """Several results as one table, in the order given.

        Raises:
            StateError: two of them hold a row for the same run, subject, metric, level, seed and
                protocol.
        """
        rows: list[dict[str, Any]] = []
        runs: dict[str, Any] = {}
        for one in results:
            rows += one.rows
            runs |= _provenance_by_run(one)
        return cls(tuple(rows), {"runs": runs})

    def with_run(self, label: str) -> Results:
        """The same rows under another run label, such as `16x16` for a stage."""
        return replace(self, rows=tuple({**row, "run": label} for row in self.rows))

    def to_pandas(self) -> pd.DataFrame:
        """The tidy table: counts, levels and seeds are nullable integers, a missing stderr is NaN."""
        import pandas as pd

        frame = pd.DataFrame(list(self.rows), columns=list(COLUMNS))
        types = dict.fromkeys(_INTEGERS, "Int64") | dict.fromkeys(_FLOATS, "float64")
        tidy: pd.DataFrame = frame.astype(types)
        return tidy

    def to_csv(self) -> str:
        """The tidy table, raw values, missing ones empty; floats are exact when read back."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue()

    def to_json(self) -> str:
        """`{"results": [row, ...], "provenance": {...}}`; floats are exact when read back."""
        content = {"results": self.rows, "provenance": self.provenance}
        return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Results:
        """What `to_json` wrote.

        Raises:
            StateError: the text is something else.
        """
        try:
            content = json.loads(text)
            rows, provenance = content["results"], content["provenance"]
            kinds = {type(row) for row in rows} | {type(provenance)}
            if kinds != {dict}:
                raise TypeError
        except (ValueError, TypeError, KeyError) as error:
            raise StateError('not a result: {"results": [...], "provenance": {...}} is expected') from error
        return cls(tuple(rows), provenance)

    @classmethod
    def from_csv(cls, text: str) -> Results:
        """What `to_csv` wrote; its provenance is empty, since a CSV has no place for it.

        Raises:
            StateError: the text is something else.
        """
        try:
            reader = csv.DictReader(io.StringIO(text, newline=""))
            columns, rows = tuple(reader.fieldnames or ()), list(reader)
        except csv.Error as error:
            raise StateError(f"not a result: {error}") from error
        if columns != COLUMNS:
            raise StateError(f"not a result: a first line {','.join(COLUMNS)} is expected")
        return cls(tuple({name: _parse(name, row[name]) for name in row} for row in rows))

    def to_table(self) -> str:
        """Aligned text for people: a line per run and subject, SWD times 1000 as the paper prints it."""
        header, lines = _layout(self.rows)
        # A metric's name stands once, over the first of its columns; the levels stand below it.
        names = [
            "" if i and header[i - 1].title == column.title else column.title
            for i, column in enumerate(header)
        ]
        grid = [["", *names], ["", *(column.level for column in header)]]
        grid += [[line.label, *line.cells] for line in lines]
        if not any(grid[1]):
            del grid[1]
        widths = [max(len(row[i]) for row in grid) for i in range(len(grid[0]))]
        text = [
            "  ".join([name.ljust(widths[0]), *map(str.rjust, cells, widths[1:])]).rstrip()
            for name, *cells in grid
        ]
        return "\n".join([*text, "", *_captions(self.rows)]) + "\n"

    def to_markdown(self) -> str:
        """The table of `to_table` in Markdown."""
        header, lines = _layout(self.rows)
        grid = [
            ["", *(f"{column.title} {column.level}".rstrip() for column in header)],
            [":--", *("--:" for _ in header)],
            *([line.label, *line.cells] for line in lines),
        ]
        text = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in grid]
        return "\n".join([*text, "", "<br>\n".join(_captions(self.rows))]) + "\n"

    def to_text(self, format: str) -> str:
        """As `table`, `csv`, `json` or `markdown`.

        Raises:
            OptionError: another format.
        """
        if format not in FORMATS:
            raise OptionError(f"results are written as {', '.join(FORMATS)}, not {format!r}")
        text: str = getattr(self, f"to_{format}")()
        return text

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file in the format its suffix names: .csv, .json, .md or .txt.

        The file is complete or not there at all: it is written beside its place and renamed.

        Raises:
            OptionError: another suffix.
            PgmetricsError: the file cannot be written; the message says why.
        """
        text = self.to_text(check_destination(path))
        try:
            _write_whole(Path(os.path.realpath(path)), text)
        except OSError as error:
            raise _unwritable(path, error.strerror or str(error)) from error


def check_destination(path: str | os.PathLike[str]) -> str:
    """Refuse a file that `Results.save` could not write, before an hour is spent on its content.

    Returns:
        The format its suffix names.

    Raises:
        OptionError: a suffix other than .csv, .json, .md and .txt.
        PgmetricsError: its directory is missing or cannot be written to.
    """
    target = Path(os.path.realpath(path))
    suffix = target.suffix.lower()
    if suffix not in _FORMAT_OF_SUFFIX:
        raise OptionError(f"{os.fspath(path)}: the suffix names the format: {', '.join(_FORMAT_OF_SUFFIX)}")
    if target.is_dir():
        raise _unwritable(path, "it is a directory")
    if not target.parent.is_dir():
        raise _unwritable(path, f"there is no directory {target.parent}")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise _unwritable(path, f"no permission to write to {target.parent}")
    return _FORMAT_OF_SUFFIX[suffix]


def read_results(path: str | os.PathLike[str]) -> Results:
    """A result that was saved as JSON or CSV.

    Raises:
        OptionError: another suffix; tables for people are not read back.
        StateError: the file holds something else.
        PgmetricsError: the file cannot be read.
    """
    readers = {".json": Results.from_json, ".csv": Results.from_csv}
    name = os.fspath(path)
    reader = readers.get(Path(path).suffix.lower())
    if reader is None:
        raise OptionError(f"{name}: results are read from .json or .csv")
    try:
        # -sig: spreadsheets put a byte order mark before a CSV that they save.
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except OSError as error:
        raise PgmetricsError(f"{name} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise StateError(f"{name}: not a result: it is not UTF-8 text") from error
    try:
        return reader(text)
    except StateError as error:
        raise StateError(f"{name}: {error}") from error


def run_id(description: Mapping[str, Any]) -> str:
    """A short name for a run: equal descriptions get equal names.

    Args:
        description: what determines the rows, as JSON can hold it: sources, metrics, parameters, seed.
    """
    canonical = json.dumps(description, sort_keys=True, separators=(",", ":"), allow_nan=False)
    # The prefix keeps a digest such as 1234e5678901 from being read as a number out of a CSV.
    return "run-" + hashlib.sha256(canonical.encode()).hexdigest()[:12]


def _clean(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row in column order and in Python's own types, so that it is written exactly."""
    if set(row) != set(COLUMNS):
        raise StateError(
            f"a result has the columns {', '.join(COLUMNS)}; "
            f"missing here: {sorted(set(COLUMNS) - set(row))}, unknown: {sorted(set(row) - set(COLUMNS))}"
        )
    clean = {name: row[name] for name in COLUMNS}
    for name in _REQUIRED:
        if clean[name] is None or clean[name] == "":
            raise StateError(f"a result needs a {name}; it is missing for {_place(clean)}")
    for name in _TEXTS:
        # The csv module of some Pythons writes a carriage return that it cannot read.
        if clean[name] is not None and re.search(r"[\x00-\x1f]", clean[name]):
            raise StateError(f"a {name} is text of one line, not {clean[name]!r}")
    for names, kind in ((_INTEGERS, int), (_FLOATS, float)):
        for name in names:
            try:
                clean[name] = None if clean[name] is None else kind(clean[name])
            except (TypeError, ValueError) as error:
                raise StateError(f"the {name} for {_place(clean)} is no number: {clean[name]!r}") from error
    for name in _FLOATS:
        if clean[name] is not None and not math.isfinite(clean[name]):
            raise StateError(f"the {name} for {_place(clean)} is {clean[name]}, which says nothing")
    return clean


def _place(row: Mapping[str, Any]) -> str:
    level = "" if row["level"] is None else f" at level {row['level']}"
    return f"{row['metric']}{level} of {row['subject']}"


def _parse(name: str, text: str) -> str | float | int | None:
    if not text:
        return None
    try:
        return int(text) if name in _INTEGERS else float(text) if name in _FLOATS else text
    except ValueError as error:
        raise StateError(f"not a result: {name} is {text!r}") from error


def _provenance_by_run(results: Results) -> dict[str, Any]:
    if set(results.provenance) == {"runs"}:
        return dict(results.provenance["runs"])
    return {row["run"]: results.provenance for row in results.rows}


def _unwritable(path: str | os.PathLike[str], reason: str) -> PgmetricsError:
    return PgmetricsError(f"{os.fspath(path)} cannot be written: {reason}")


def _write_whole(target: Path, text: str) -> None:
    # Not tempfile: its files are private to the user, and the renamed one would stay so.
    aside = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.tmp")
    try:
        with open(aside, "x", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # a full disk must be noticed before the old file is replaced
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)


# Tables for people.


class _Style(NamedTuple):
    title: str
    scale: float
    format: str


_STYLES = {
    "swd": _Style("SWD ×10³", 1000.0, ".2f"),
    "ms-ssim": _Style("MS-SSIM", 1.0, ".4f"),
    "fid": _Style("FID", 1.0, ".2f"),
    "fid-bias": _Style("FID bias", 1.0, ".2f"),
    "fid-infinity": _Style("FID∞", 1.0, ".2f"),
    "fd": _Style("FD", 1.0, ".4g"),
    "fd-bias": _Style("FD bias", 1.0, ".4g"),
    "is": _Style("IS", 1.0, ".2f"),
    "kid": _Style("KID ×10³", 1000.0, ".3f"),
    "precision": _Style("Precision", 1.0, ".4f"),
    "recall": _Style("Recall", 1.0, ".4f"),
    "density": _Style("Density", 1.0, ".4f"),
    "coverage": _Style("Coverage", 1.0, ".4f"),
    "authpct": _Style("AuthPct", 1.0, ".4f"),
    "ct": _Style("C_T", 1.0, ".2f"),
}
# Scores of one set: a row about the reals is then no floor of a distance.
_OF_ONE_SET = ("ms-ssim", "is")


class _Column(NamedTuple):
    title: str
    level: str
    key: tuple[str, str | None, int | None]


class _Line(NamedTuple):
    label: str
    cells: list[str]


def _layout(rows: Sequence[dict[str, Any]]) -> tuple[list[_Column], list[_Line]]:
    """The header, and per (run, subject, seed) one line: the reals first, then as they came."""
    header = [column for metric, protocol in _series(rows) for column in _columns_of(metric, protocol, rows)]
    groups: dict[tuple[Any, ...], dict[tuple[str, str | None, int | None], str]] = {}
    for row in rows:
        cells = groups.setdefault((row["run"], row["subject"], row["seed"]), {})
        cells[_column_key(row)] = _cell(row)
    reals_first = sorted(groups, key=lambda group: group[1] != "real")
    labels = _labels(reals_first, {group: {key[0] for key in groups[group]} for group in groups})
    lines = [
        _Line(label, [groups[group].get(column.key, "-") for column in header])
        for label, group in zip(labels, reals_first, strict=True)
    ]
    return header, lines


def _series(rows: Sequence[dict[str, Any]]) -> list[tuple[str, str | None]]:
    """(metric, protocol) pairs in order: numbers of unlike protocols never share a column."""
    found = dict.fromkeys((row["metric"], row["protocol"]) for row in rows)
    known = list(_STYLES)
    return sorted(found, key=lambda pair: known.index(pair[0]) if pair[0] in known else len(known))


def _columns_of(metric: str, protocol: str | None, rows: Sequence[dict[str, Any]]) -> Iterator[_Column]:
    """From the finest level to the coarsest, then their mean."""
    title = _style(metric).title
    if len({row["protocol"] for row in rows if row["metric"] == metric}) > 1:
        title = f"{title} ({protocol})"
    levels = {row["level"] for row in rows if (row["metric"], row["protocol"]) == (metric, protocol)}
    for level in sorted(levels - {None}, reverse=True):
        yield _Column(title, str(level), (metric, protocol, level))
    if None in levels:
        yield _Column(title, "Avg" if len(levels) > 1 else "", (metric, protocol, None))


def _labels(groups: Sequence[tuple[Any, ...]], metrics: Mapping[tuple[Any, ...], set[str]]) -> list[str]:
    several_runs = len({run for run, _, _ in groups}) > 1
    one_real = sum(subject == "real" for _, subject, _ in groups) == 1
    several_seeds = len({seed for _, _, seed in groups}) > 1
    labels = []
    for group in groups:
        run, subject, seed = group
        if subject == "real":
            label = "real" if metrics[group] <= set(_OF_ONE_SET) else "real (floor)"
            if several_runs and not one_real:
                label = f"{run}: {label}"
        else:
            label = run if several_runs else subject
        if several_seeds:
            label = f"{label}, seed {seed}"
        labels.append(label)
    return labels


def _column_key(row: Mapping[str, Any]) -> tuple[str, str | None, int | None]:
    return row["metric"], row["protocol"], row["level"]


def _style(metric: str) -> _Style:
    return _STYLES.get(metric, _Style(metric.upper(), 1.0, ".4g"))


def _cell(row: Mapping[str, Any]) -> str:
    style = _style(row["metric"])
    value = format(row["value"] * style.scale, style.format)
    if row["stderr"] is None:
        return value
    return f"{value} ± {format(row['stderr'] * style.scale, style.format)}"


def _spread(kind: str | None) -> str:
    """What a ± is: an error of the value, or a standard deviation where its kind says so."""
    over = (kind or "").removesuffix(" (sd)")
    return f"standard {'error' if over == kind else 'deviation'} over {over}"


def _captions(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Per metric: how many images, and what the ± was taken over."""
    captions = []
    for metric in dict.fromkeys(metric for metric, _ in _series(rows)):
        mine = [row for row in rows if row["metric"] == metric]
        counts = {row[n] for row in mine for n in ("n_real", "n_fake")} - {None}
        kinds = dict.fromkeys(row["stderr_kind"] for row in mine if row["stderr"] is not None)
        parts = []
        if counts:
            low, high = min(counts), max(counts)
            parts.append(f"{low:,} images" if low == high else f"{low:,} to {high:,} images")
        if kinds:
            parts.append("± " + " or ".join(map(_spread, kinds)))
        if parts:
            captions.append(f"{_style(metric).title}: {', '.join(parts)}")
    return captions
