"""The numbers of one generated set, read from results or from a run's scores."""

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
    """Whether that means results, rather than images: `Results`, their file, or a scored run's directory."""
    if isinstance(one, Results):
        return True
    if not isinstance(one, (str, os.PathLike)):
        return False
    path, _ = _path_and_run(one)
    return path.suffix.lower() in RESULT_SUFFIXES or os.path.isfile(path / run_scores.FILE_NAME)


@dataclass(frozen=True)
class Scores:
    """The generated images' rows of one run, and how they came about.

    Attributes:
        name: what the run is called in messages.
        rows: by (metric, level, protocol).
        provenance: empty where the file has no place for it.
        reals: what the reals score themselves beside these rows, as far as the results say so.
    """

    name: str
    rows: Mapping[Key, Mapping[str, Any]]
    provenance: Mapping[str, Any]
    reals: Mapping[Key, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, one: object) -> Scores:
        """The scores that results hold of the one generated set in them, or of the one named by `#RUN`.

        Raises:
            OptionError: there are several and none is named, or the named one is not there.
            StateError, PgmetricsError: as `read_results`.
        """
        if isinstance(one, Results):
            return cls.of(one, name(one))
        assert isinstance(one, (str, os.PathLike))
        path, run = _path_and_run(one)
        return cls.of(read_results(path), os.fspath(one), run)

    @classmethod
    def of(cls, results: Results, called: str, run: str | None = None) -> Scores:
        """The scores of one run of a table.

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
        mine = [row for row in fakes if row["run"] == label]
        rows = {_key(row): row for row in mine}
        if len(rows) < len(mine):
            raise StateError(f"{called} holds scores of {label} at several seeds; compare one of each")
        found = {key: row_of_reals(row, results.rows, results.item) for key, row in rows.items()}
        reals = {key: row for key, row in found.items() if row is not None}
        return cls(called, rows, provenance_of(results, label), reals)

    @classmethod
    def by_run(cls, results: Results) -> dict[str, Scores]:
        """Those of every run in a table; the reals' where there are no generated images."""
        rows: dict[str, dict[Key, Mapping[str, Any]]] = {}
        for row in sorted(results.rows, key=lambda row: str(row["subject"]), reverse=True):
            if row["subject"] == "fake" or _key(row) not in rows.get(row["run"], {}):
                rows.setdefault(row["run"], {})[_key(row)] = row
        return {run: cls(run, mine, provenance_of(results, run)) for run, mine in rows.items()}

    @property
    def metrics(self) -> list[str]:
        """Names in the order of tables."""
        return in_order([metric for metric, _, _ in self.rows])

    def under(self, protocol: str) -> Scores:
        """Those made under one protocol, with whichever network.

        Raises:
            OptionError: there are none.
        """
        kept = {key: row for key, row in self.rows.items() if base_protocol(key[2]) == protocol}
        if not kept:
            known = dict.fromkeys(base_protocol(key[2]) or "no name" for key in self.rows)
            raise OptionError(f"{self.name} holds no scores {protocol}; it holds those {', '.join(known)}")
        return dataclasses.replace(self, rows=kept)

    def only(self, metrics: Sequence[str]) -> Scores:
        """Those of some metrics."""
        kept = {key: row for key, row in self.rows.items() if key[0] in metrics}
        return dataclasses.replace(self, rows=kept)


def provenance_of(results: Results, run: str) -> dict[str, Any]:
    """Of one run of several.

    Of a store the settings are the parameters of all its runs, and a source is called by its side and
    the protocol under which it was scored: "real at-final".
    """
    provenance = results.provenance
    if "runs" not in provenance:
        return provenance
    mine = dict(provenance["runs"].get(run, {}))
    if "settings" not in provenance:
        return mine
    sources = {
        f"{side} {protocol}": source
        for protocol, sides in mine.get("sources", {}).items()
        for side, source in sides.items()
    }
    return {**mine, "parameters": provenance["settings"], "sources": sources}


def base_protocol(protocol: str | None) -> str | None:
    """The protocol without the network that a metric of features adds to it."""
    return None if protocol is None else protocol.partition(",")[0]


def _path_and_run(one: str | os.PathLike[str]) -> tuple[Path, str | None]:
    text = os.fspath(one)
    path, mark, run = text.rpartition("#")
    # What exists is meant, whatever signs its name contains.
    return (Path(path), run) if mark and not os.path.lexists(text) else (Path(text), None)


def name(one: object) -> str:
    """What people call a set or a result: a path as written, else the kind of object."""
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
