"""Results of evaluations: one tidy table of scores, and the provenance of each run.

Values are raw everywhere in data (Python, CSV, JSON, Parquet). The tables for people, such as
`to_table` and `paper_table`, print the sliced Wasserstein distance times 1000 as the paper does,
and say so in the header.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgmetrics.errors import OptionError, PgmetricsError, StateError, encodable
from pgmetrics.metrics.registry import in_order, named, output
from pgmetrics.results import files, run_scores, tables
from pgmetrics.results.files import check_destination as check_destination
from pgmetrics.results.provenance import check as check_provenance
from pgmetrics.results.rows import COLUMNS as COLUMNS
from pgmetrics.results.rows import FLOATS, INTEGERS, checked, place
from pgmetrics.runtime.files import dump_json, open_regular, parse_json, sha256, write_whole

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ("table", "csv", "json", "markdown", "latex")

_STAGE = {"images_shown": "Int64", "resolution": "Int64", "alpha": "float64"}
_MOST_NAMED = 8
_KEY = ("run", "subject", "metric", "level", "seed", "protocol")


@dataclass(frozen=True)
class Results:
    """Rows of scores, one per metric, level and subject, with their provenance.

    The same evaluation gives bitwise identical rows, since rows hold no times. Whatever differs between two
    runs of the same command is in the provenance.

    Attributes:
        rows: dictionaries with exactly the keys of `COLUMNS`. `subject` is `fake` or `real` (the
            floor, or a score of the reals alone). `level` is a height in pixels, None for the
            mean over levels and for metrics without levels. `stderr` is None, never 0, if no sound
            standard error exists; `stderr_kind` names its source.
        provenance: versions, device, sources, parameters, time. For several runs it is
            `{"runs": {run: provenance}}`.

    Raises:
        StateError: a row lacks a column or has one too many, a value is missing or impossible, or
            two rows have the same run, subject, metric, level, seed and protocol.
    """

    rows: tuple[dict[str, Any], ...]
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = tuple(checked(row) for row in self.rows)
        seen = set()
        for row in rows:
            key = tuple(row[column] for column in _KEY)
            if key in seen:
                raise StateError(
                    f"two results for {place(row)} in run {row['run']!r}; "
                    "give each its own label with results.with_run(LABEL)"
                )
            seen.add(key)
        object.__setattr__(self, "rows", rows)

    def __str__(self) -> str:
        return self.to_table()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Iterate over the rows."""
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __bool__(self) -> bool:
        """Return True even without rows, although `len` is then 0."""
        return True

    def __contains__(self, name: object) -> bool:
        """Return whether there are rows of a number or metric of that name."""
        return isinstance(name, str) and bool(self._of(name))

    def __getitem__(self, name: str) -> Results:
        """Select one number, such as `"precision"`, or all numbers of a metric, such as `"prdc"`.

        A name that a number and a metric share, such as `"fid"`, selects the number. The provenance is kept.

        Raises:
            OptionError: there is no row of that name; the message lists the available numbers.
        """
        rows = self._of(name) if isinstance(name, str) else ()
        if not rows:
            held = ", ".join(in_order([row["metric"] for row in self.rows])) or "no rows"
            rule = (
                "" if isinstance(name, str) else "; they are found by name, and rows by their place in .rows"
            )
            raise OptionError(f"there is no {name!r} in these results, which hold {held}{rule}")
        return replace(self, rows=rows)

    def _of(self, name: str) -> tuple[dict[str, Any], ...]:
        held = dict.fromkeys(row["metric"] for row in self.rows)
        wanted = (name,) if name in held else named(name)
        return tuple(row for row in self.rows if row["metric"] in wanted)

    def __float__(self) -> float:
        """Return the single raw score of one set of generated images.

        Rows of the reals, of single levels and of numbers that are no score, such as fid-bias, are ignored
        if other rows remain. So `float(pgmetrics.swd(real, fake))` is the mean over levels.

        Raises:
            OptionError: several numbers remain, or there are none; the message lists them.
        """
        rows = list(self.rows)
        for wanted in (
            lambda row: row["subject"] == "fake",
            lambda row: row["level"] is None,
            lambda row: output(row["metric"]).is_score,
        ):
            rows = [row for row in rows if wanted(row)] or rows
        if len(rows) == 1:
            return float(rows[0]["value"])
        runs = len({row["run"] for row in rows}) > 1
        held = [place(row) + (f" in run {row['run']}" if runs else "") for row in rows] or ["no rows"]
        few = ", ".join(held[:_MOST_NAMED]) + (
            f", and {len(held) - _MOST_NAMED:,} more" * (len(held) > _MOST_NAMED)
        )
        raise OptionError(
            f"only results of a single number are a float, and these hold {few}; "
            'results["NAME"] has those of one metric'
        )

    def _repr_html_(self) -> str:
        """Return the table of `to_table` as HTML for notebooks."""
        return tables.to_html(self.rows, self.item)

    @classmethod
    def concat(cls, results: Iterable[Results]) -> Results:
        """Join several results into one table, in the order given.

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
        """Return the same rows under another run label, such as `16x16` for a stage."""
        return replace(self, rows=tuple({**row, "run": label} for row in self.rows))

    def to_pandas(self, stages: bool = False) -> pd.DataFrame:
        """Return the tidy table: counts, levels and seeds are nullable integers, a missing stderr is NaN.

        Args:
            stages: add the columns images_shown, resolution and alpha of each row's checkpoint, as
                recorded in the scores file of `pgmetrics growth`; missing for rows without a checkpoint.
        """
        import pandas as pd

        rows: list[dict[str, Any]] = list(self.rows)
        columns, types = list(COLUMNS), dict.fromkeys(INTEGERS, "Int64") | dict.fromkeys(FLOATS, "float64")
        if stages:
            items = {run: self.item(run) or {} for run in {row["run"] for row in rows}}
            rows = [row | {name: items[row["run"]].get(name) for name in _STAGE} for row in rows]
            columns, types = [*columns, *_STAGE], types | _STAGE
        tidy: pd.DataFrame = pd.DataFrame(rows, columns=columns).astype(types)
        return tidy

    def item(self, run: str) -> dict[str, Any] | None:
        """Return the item of a run label in results of a scores file: kind, file, images shown and stage.

        Returns None for an unknown label, and for results that were not read from a scores file.
        """
        about = self.provenance.get("runs", {}).get(run, {})
        found: dict[str, Any] | None = about.get("item") if isinstance(about, dict) else None
        return found

    def paper_table(self) -> pd.DataFrame:
        """Return the layout of the paper's Table 1: a line per run, columns by metric and level.

        The columns are SWD ×10³ from the finest level to the coarsest, their mean (`Avg`), MS-SSIM and then
        all other metrics. Values have the units of the tables for people but are not rounded; missing values
        are NaN.
        """
        return tables.paper_table(self.rows)

    def to_csv(self) -> str:
        r"""Return the tidy table as CSV with raw values; floats are exact when read back.

        Missing values are empty. Bytes of a label that are not UTF-8 are escaped, such as `\xff`, because the
        text could not be encoded otherwise.
        """
        return files.csv_text(COLUMNS, self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return `{"results": [row, ...], "provenance": {...}}` as in JSON; a copy that may be changed."""
        return {"results": [dict(row) for row in self.rows], "provenance": deepcopy(self.provenance)}

    def to_json(self) -> str:
        """Return the content of `to_dict` as JSON text; floats are exact when read back."""
        content = {"results": self.rows, "provenance": self.provenance}
        return dump_json(content, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Results:
        """Read results that `to_json` wrote.

        Raises:
            StateError: the text is something else.
        """
        try:
            content = parse_json(text)
            rows, provenance = content["results"], content["provenance"]
            kinds = {type(row) for row in rows} | {type(provenance)}
            if kinds != {dict}:
                raise TypeError
        except (ValueError, TypeError, KeyError) as error:
            raise StateError('not a result: {"results": [...], "provenance": {...}} is expected') from error
        check_provenance(provenance)
        return cls(tuple(rows), provenance)

    @classmethod
    def from_csv(cls, text: str) -> Results:
        """Read results that `to_csv` wrote; their provenance is empty, since a CSV does not contain it.

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
        """Return aligned text for people: a line per run and subject, SWD times 1000 as in the paper."""
        return tables.to_text(self.rows, self.item)

    def to_markdown(self) -> str:
        """Return the table of `to_table` in Markdown."""
        return tables.to_markdown(self.rows, self.item)

    def to_latex(self) -> str:
        """Return the table of `to_table` as a LaTeX tabular, which needs the package booktabs."""
        return tables.to_latex(self.rows, self.item)

    def to_text(self, format: str) -> str:
        """Return the text in a format: `table`, `csv`, `json`, `markdown` or `latex`.

        Raises:
            OptionError: the format is not one of these.
        """
        if format not in FORMATS:
            raise OptionError(f"results are written as {', '.join(FORMATS)}, not {format!r}")
        text: str = getattr(self, f"to_{format}")()
        return text

    def _encodable(self) -> Results:
        """Return the results with all text of the rows encodable as UTF-8, escaped as in `to_csv`."""
        rows = [
            {name: encodable(value) if isinstance(value, str) else value for name, value in row.items()}
            for row in self.rows
        ]
        return replace(self, rows=tuple(rows))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file in the format its suffix names: .csv, .json, .md, .txt, .tex or .parquet.

        The write is atomic: a temporary file in the same directory is renamed. Only JSON and Parquet keep
        the provenance.

        Raises:
            OptionError: the suffix is not one of these.
            PgmetricsError: the file cannot be written; the message says why.
        """
        format = check_destination(path)
        if format == "parquet":
            content = files.to_parquet(self._encodable().to_pandas(), self.provenance, os.fspath(path))
        else:
            content = self.to_text(format).encode("utf-8", "backslashreplace")
        write_whole(path, content)


def read_results(path: str | os.PathLike[str], series: str | None = None) -> Results:
    """Read results that were saved as JSON, CSV or Parquet, or the scores file of a run.

    Args:
        path: a file, or the directory of a run that `pgmetrics growth` has scored.
        series: id of a series of a scores file; defaults to the series that was written last.

    Raises:
        OptionError: the file has another suffix (tables for people are not read back), or a series is named
            and the file is not a scores file.
        StateError: the file holds something else, or no such series.
        PgmetricsError: the file cannot be read.
    """
    source = run_scores.store_path(path)
    suffix = source.suffix.lower()
    if series is not None and suffix != ".jsonl":
        raise OptionError(f"{source}: a series is part of a store, {run_scores.FILE_NAME}; leave it out")
    if suffix == ".jsonl":
        stored, about = run_scores.load(path, series)
        try:
            check_provenance(about)
            return Results(tuple(stored), about)
        except StateError as error:
            raise StateError(f"{source}: {error}; restore the file, or move it away") from error
    readers = {".json": Results.from_json, ".csv": Results.from_csv}
    if suffix != ".parquet" and suffix not in readers:
        if not os.path.lexists(source):
            raise PgmetricsError(f"{source} does not exist")
        raise OptionError(f"{source}: results are read from .json, .csv, .parquet or .jsonl")
    try:
        if suffix == ".parquet":
            rows, provenance = files.from_parquet(source, COLUMNS)
            check_provenance(provenance)
            return Results(tuple(rows), provenance)
        return readers[suffix](_read_text(source))
    except StateError as error:
        raise StateError(f"{source}: {error}") from error


def _read_text(path: Path) -> str:
    try:
        with open_regular(path) as file:
            # utf-8-sig, because spreadsheets write a byte order mark at the start of a CSV.
            return file.read().decode("utf-8-sig")
    except OSError as error:
        raise PgmetricsError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise StateError("not a result: it is not UTF-8 text") from error


def run_id(description: Mapping[str, Any]) -> str:
    """Return a short name for a run; equal descriptions get equal names.

    Args:
        description: everything that determines the rows, serializable as JSON: sources, metrics, parameters,
            seed.
    """
    canonical = dump_json(description, sort_keys=True, separators=(",", ":"))
    # The prefix keeps readers of CSV from parsing a digest such as 1234e5678901 as a number.
    return "run-" + sha256(canonical.encode()).hexdigest()[:12]


def _parse(name: str, text: str) -> str | float | int | None:
    if not text:
        return None
    try:
        return int(text) if name in INTEGERS else float(text) if name in FLOATS else text
    except ValueError as error:
        raise StateError(f"not a result: {name} is {text!r}") from error


def _provenance_by_run(results: Results) -> dict[str, Any]:
    if "runs" in results.provenance:
        shared = {name: value for name, value in results.provenance.items() if name != "runs"}
        return {run: {**shared, **about} for run, about in results.provenance["runs"].items()}
    return {row["run"]: results.provenance for row in results.rows}
