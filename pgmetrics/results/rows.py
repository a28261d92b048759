"""Rows of results: their columns, and the check of their values."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Mapping
from typing import Any

from pgmetrics.errors import StateError
from pgmetrics.metrics.registry import output

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
INTEGERS = ("level", "n_real", "n_fake", "seed")
FLOATS = ("value", "stderr")

_TEXTS = ("run", "subject", "metric", "stderr_kind", "protocol")
_REQUIRED = ("run", "subject", "metric", "value")
_COUNT = (0, 2**63 - 1)
_BOUNDS = {"level": (1, 2**63 - 1), "n_real": _COUNT, "n_fake": _COUNT, "seed": (0, 2**128 - 1)}
_LARGEST = 1e70  # degrees of freedom need its fourth power to be finite; no real features are so large
_ROUNDING = 1e-6  # a computed value may be out of its range by this much


def checked(row: Mapping[str, Any]) -> dict[str, Any]:
    """Check a row and return it in column order with built-in Python types, so that it is written exactly.

    Raises:
        StateError: a column is missing, unknown or of the wrong type, or a number is impossible.
    """
    if set(row) != set(COLUMNS):
        raise StateError(
            f"a result has the columns {', '.join(COLUMNS)}; "
            f"missing here: {sorted(set(COLUMNS) - set(row))}, unknown: {sorted(set(row) - set(COLUMNS))}"
        )
    clean = {name: row[name] for name in COLUMNS}
    for name in _REQUIRED:
        if clean[name] is None or clean[name] == "":
            raise StateError(f"a result needs a {name}; it is missing for {place(clean)}")
    for name in _TEXTS:
        if clean[name] is not None and not is_one_line(clean[name]):
            raise StateError(f"a {name} is text of one line, not {clean[name]!r}")
    for name in INTEGERS:
        if clean[name] is not None:
            clean[name] = _integer(name, clean)
    for name in FLOATS:
        if clean[name] is not None:
            clean[name] = _float(name, clean)
    return clean


def is_one_line(value: object) -> bool:
    """Return whether a value is text without control characters.

    The csv module of some Python versions cannot read back a carriage return.
    """
    return isinstance(value, str) and not re.search(r"[\x00-\x1f]", value)


def place(row: Mapping[str, Any]) -> str:
    """Describe the number of a row for messages."""
    level = "" if row["level"] is None else f" at level {row['level']}"
    return f"{row['metric']}{level} of {row['subject']}"


def _integer(name: str, row: Mapping[str, Any]) -> int:
    number = _number(name, row)
    low, high = _BOUNDS[name]
    # A table without nullable integers stores them as floats.
    if number != number or number in (math.inf, -math.inf) or int(number) != number:
        raise _impossible(name, row, "it is a whole number")
    if not low <= number <= high:
        raise _impossible(name, row, f"it is a whole number from {low} to {high:.2g}")
    return int(number)


def _float(name: str, row: Mapping[str, Any]) -> float:
    number = float(_number(name, row))
    if not math.isfinite(number):
        raise StateError(f"not a result: the {name} for {place(row)} is {number}, which says nothing")
    if abs(number) > _LARGEST:
        raise _impossible(name, row, f"no number here is beyond {_LARGEST:g}")
    better = output(row["metric"]).better
    low, high = (0.0, None) if name == "stderr" else (better.least, better.most)
    if low is not None and number < low - _ROUNDING * (name == "value"):
        raise _impossible(name, row, f"it is at least {low:g}")
    if high is not None and number > high + _ROUNDING:
        raise _impossible(name, row, f"it is at most {high:g}")
    return number


def _number(name: str, row: Mapping[str, Any]) -> Any:
    number = row[name]
    try:
        if isinstance(number, numbers.Real) and not isinstance(number, bool):
            float(number)  # fails for an integer that is too large
            return number
    except OverflowError:
        pass
    raise StateError(f"not a result: the {name} for {place(row)} is not a number: {str(number)[:40]!r}")


def _impossible(name: str, row: Mapping[str, Any], rule: str) -> StateError:
    return StateError(f"not a result: the {name} for {place(row)} is {row[name]:.6g}; {rule}")
