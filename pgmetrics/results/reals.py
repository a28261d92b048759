"""Find the score of the real images that belongs to a row about generated images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pgmetrics.metrics.outputs import Aim
from pgmetrics.metrics.registry import output
from pgmetrics.uncertainty.verdicts import Score, Variety, variety

Row = Mapping[str, Any]
Items = Callable[[str], "Mapping[str, Any] | None"]
"""Returns the item of a run label in results of a scores file, and None in others: `Results.item`."""


def row_of_reals(row: Row, rows: Iterable[Row], item: Items) -> Row | None:
    """Return the row about the reals with the same metric, level and protocol as a row.

    A row of the same run is preferred. Returns None unless there is exactly one.

    Args:
        row: a row about generated images.
        rows: all rows of the same results.
        item: returns the item of a run label, with its place in training.
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
    """Return whether a row about reals that were scored as a separate item belongs to a run's row."""
    mine, theirs = item(row["run"]), item(real["run"])
    if mine is None or theirs is None:
        # A CSV of `growth` has no provenance, so the reals are recognized by their label.
        return mine is theirs and str(real["run"]).startswith("reals-")
    if theirs.get("kind") != "floor":
        return False
    if str(row["protocol"]).startswith("at-stage"):
        # Within a fade the reals are blended as in training, but those of the floor are not.
        return theirs.get("resolution") == mine.get("resolution") and mine.get("alpha", 1.0) >= 1
    return theirs.get("resolution") == mine.get("final_resolution")


def variety_of(row: Row, rows: Iterable[Row], item: Items) -> Variety | None:
    """Return how varied a row's images are compared with the reals; None if unknown or not measured."""
    if output(row["metric"]).better.aim is not Aim.REALS or row["subject"] != "fake":
        return None
    real = row_of_reals(row, rows, item)
    # Metrics of variety only have errors over images, so both scores keep theirs.
    return None if real is None else variety(row["metric"], Score.of(row), Score.of(real))
