"""Read the numbers of one generated set from results or from a run's scores file."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pgmetrics.errors import OptionError, StateError
from pgmetrics.metrics.registry import in_order
from pgmetrics.results import Results, read_results, run_scores
from pgmetrics.results.reals import row_of_reals

Key = tuple[str, "int | None", "str | None"]  # metric, level, protocol
RESULT_SUFFIXES = (".json", ".csv", ".jsonl", ".parquet")


def is_results(one: object) -> bool:
    """Whether the object is or names results: `Results`, a file of them, or the directory of a scored run."""
    if isinstance(one, Results):
        return True
    if not isinstance(one, (str, os.PathLike)):
        return False
    path, _ = _path_and_run(one)
    return path.suffix.lower() in RESULT_SUFFIXES or os.path.isfile(path / run_scores.FILE_NAME)


@dataclass(frozen=True)
class Scores:
    """The rows of one run about its generated images, and their provenance.

    Attributes:
        name: name of the run in messages.
        rows: rows by (metric, level, protocol).
        provenance: provenance of the run; empty if the file format does not hold it.
        reals: the rows about the reals' own score under the same keys, as far as the results hold them.
    """

    name: str
    rows: Mapping[Key, Mapping[str, Any]]
    provenance: Mapping[str, Any]
    reals: Mapping[Key, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, one: object) -> Scores:
        """Read the scores of the only generated set in results, or of the set named by `#RUN`.

        Raises:
            OptionError: results hold several sets and none is named, or do not hold the named one.
            StateError, PgmetricsError: as `read_results`.
        """
        if isinstance(one, Results):
            return cls.of(one, name(one))
        assert isinstance(one, (str, os.PathLike))
        path, run = _path_and_run(one)
        return cls.of(read_results(path), os.fspath(one), run)

    @classmethod
    def of(cls, results: Results, called: str, run: str | None = None) -> Scores:
        """Return the scores of one run of a table.

        Raises:
            OptionError, StateError: as `read`.
        """
        fakes = [row for row in results.rows if row["subject"] == "fake"]
        runs = list(dict.fromkeys(row["run"] for row in fakes))
        if not runs:
            raise StateError(f"{called} holds no scores of generated images")
        if run is None and len(runs) > 1:
            raise OptionError(f"{called} holds {_some(runs)}; name one: {called}#{runs[0]}")
        if run is not None and run not in runs:
            raise OptionError(f"{called}: there is no run {run!r} in it; there are {_some(runs)}")
        label = run or runs[0]
        of_run = [row for row in fakes if row["run"] == label]
        rows = {_key(row): row for row in of_run}
        if len(rows) < len(of_run):
            raise StateError(f"{called} holds scores of {label} at several seeds; compare one of each")
        of_reals = {key: row_of_reals(row, results.rows, results.item) for key, row in rows.items()}
        reals = {key: row for key, row in of_reals.items() if row is not None}
        return cls(called, rows, provenance_of(results, label), reals)

    @classmethod
    def by_run(cls, results: Results) -> dict[str, Scores]:
        """Return the scores of every run in a table; a run without generated images has those of reals."""
        rows: dict[str, dict[Key, Mapping[str, Any]]] = {}
        for row in sorted(results.rows, key=lambda row: str(row["subject"]), reverse=True):
            if row["subject"] == "fake" or _key(row) not in rows.get(row["run"], {}):
                rows.setdefault(row["run"], {})[_key(row)] = row
        return {run: cls(run, of_run, provenance_of(results, run)) for run, of_run in rows.items()}

    @property
    def metrics(self) -> list[str]:
        """The metrics' names in the order of tables."""
        return in_order([metric for metric, _, _ in self.rows])

    def under(self, protocol: str) -> Scores:
        """Return the scores under one protocol, with any network.

        Raises:
            OptionError: there are no scores under it.
        """
        kept = {key: row for key, row in self.rows.items() if base_protocol(key[2]) == protocol}
        if not kept:
            known = dict.fromkeys(base_protocol(key[2]) or "no name" for key in self.rows)
            raise OptionError(f"{self.name} holds no scores {protocol}; it holds those {', '.join(known)}")
        return dataclasses.replace(self, rows=kept)

    def only(self, metrics: Sequence[str]) -> Scores:
        """Return the scores of some metrics."""
        kept = {key: row for key, row in self.rows.items() if key[0] in metrics}
        return dataclasses.replace(self, rows=kept)


def provenance_of(results: Results, run: str) -> dict[str, Any]:
    """Return the provenance of one of the runs in results.

    In results of a scores file, the settings are the parameters of every run, and a source is named after its
    side and the protocol under which it was scored: "real at-final".
    """
    provenance = results.provenance
    if "runs" not in provenance:
        return provenance
    of_run = dict(provenance["runs"].get(run, {}))
    if "settings" not in provenance:
        return of_run
    sources = {
        f"{side} {protocol}": source
        for protocol, sides in of_run.get("sources", {}).items()
        for side, source in sides.items()
    }
    return {**of_run, "parameters": provenance["settings"], "sources": sources}


def base_protocol(protocol: str | None) -> str | None:
    """Return the protocol without the network that a metric of features appends to it."""
    return None if protocol is None else protocol.partition(",")[0]


def _path_and_run(one: str | os.PathLike[str]) -> tuple[Path, str | None]:
    text = os.fspath(one)
    path, mark, run = text.rpartition("#")
    # An existing path wins, even if its name contains '#'.
    return (Path(path), run) if mark and not os.path.lexists(text) else (Path(text), None)


def name(one: object) -> str:
    """Return the name of a set or a result in messages: a path as written, or the kind of object."""
    if isinstance(one, (str, os.PathLike)):
        return os.fsdecode(os.fspath(one))
    if isinstance(one, Results):
        runs = dict.fromkeys(row["run"] for row in one.rows if row["subject"] == "fake")
        return next(iter(runs)) if len(runs) == 1 else "the table"
    called = getattr(one, "name", None)
    return called if isinstance(called, str) else type(one).__name__


def _key(row: Mapping[str, Any]) -> Key:
    return row["metric"], row["level"], row["protocol"]


def _some(runs: Sequence[str], most: int = 4) -> str:
    names = ", ".join(runs[:most])
    return f"{len(runs)} generated sets: {names}{', ...' if len(runs) > most else ''}"
