"""What the real images score themselves beside a row about generated ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pgmetrics.metrics.outputs import Aim
from pgmetrics.metrics.registry import output
from pgmetrics.uncertainty.verdicts import Score, Variety, variety

Row = Mapping[str, Any]
Items = Callable[[str], "Mapping[str, Any] | None"]
"""What a store says of a run label, None elsewhere: `Results.item`."""


def row_of_reals(row: Row, rows: Iterable[Row], item: Items) -> Row | None:
    """The row about the reals of a row's metric, level and protocol; None where there is none, or several.

    Args:
        row: about generated images.
        rows: of the same results.
        item: where the runs' places in training are looked up.
    """
    same = [
        other
        for other in rows
        if other["subject"] == "real"
        and all(other[name] == row[name] for name in ("metric", "level", "protocol"))
    ]
    own = [other for other in same if other["run"] == row["run"]]
    found = own or [other for other in same if _belongs(row, other, item)]
    return found[0] if len(found) == 1 else None


def _belongs(row: Row, real: Row, item: Items) -> bool:
    """Whether reals that were scored by themselves are the measure of a run's row."""
    mine, theirs = item(row["run"]), item(real["run"])
    if mine is None or theirs is None:
        # A table without provenance, of one run of `growth`: its reals have a label of their own.
        return mine is theirs and str(real["run"]).startswith("reals-")
    if theirs.get("kind") != "floor":
        return False
    if str(row["protocol"]).startswith("at-stage"):
        # Reals are faded as in training beside a checkpoint within a fade; those among themselves are not.
        return theirs.get("resolution") == mine.get("resolution") and mine.get("alpha", 1.0) >= 1
    return theirs.get("resolution") == mine.get("final_resolution")


def variety_of(row: Row, rows: Iterable[Row], item: Items) -> Variety | None:
    """How varied a row's images are beside the reals; None where it does not say or theirs is unknown."""
    if output(row["metric"]).better.aim is not Aim.REALS or row["subject"] != "fake":
        return None
    real = row_of_reals(row, rows, item)
    # Such numbers have errors over images alone.
    return None if real is None else variety(row["metric"], Score.of(row), Score.of(real))
