"""List the declarations of all numbers and what their metrics need, for `pgmetrics metrics`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pgmetrics.errors import OptionError, markdown_text
from pgmetrics.metrics.base import Metric
from pgmetrics.metrics.outputs import Output
from pgmetrics.metrics.registry import METRICS

COLUMNS = {
    "name": "name",
    "title": "metric",
    "meaning": "meaning",
    "better": "better",
    "use": "when to use it",
    "misses": "what it misses",
    "depends_on": "its best value depends on",
    "needs": "needs",
    "errors": "± over",
    "source": "source",
}
"""The columns of a list, and the heading of each."""

USUAL = ("name", "meaning", "better", "needs", "errors", "source")
"""The columns of a list by default."""


def facts() -> list[dict[str, Any]]:
    """Return plain values about every number, in the order of tables; sentences have no full stop."""
    listed = []
    for declaration in METRICS.values():
        metric = declaration.load()()
        listed += [_facts(metric, number) for number in declaration.outputs]
    return listed


def _facts(metric: Metric, number: Output) -> dict[str, Any]:
    return {
        "name": number.name,
        "metric": metric.name,
        "title": number.title,
        "unit": number.unit,
        "meaning": number.meaning,
        "better": number.better.in_words or "neither",
        "use": number.use,
        "misses": number.misses,
        "depends_on": number.depends_on,
        "needs": _needs(metric, number),
        "errors": list(number.errors),
        "source": number.source,
        "scale": number.scale,
        "digits": number.digits,
        "least_images": metric.least,
        "real_images": metric.two_sided,
        "network": metric.tap.network if metric.tap else None,
    }


def _needs(metric: Metric, number: Output) -> str:
    """Return the needed weights, sides and numbers of images in words."""
    needed = []
    if metric.tap is not None:
        custom = metric.tap.network == "custom"
        needed.append("a custom network" if custom else f"weights of {metric.tap.network}")
    if metric.two_sided:
        needed.append("equally many reals" if metric.equal_counts else "reals")
    needed.append(f"at least {metric.least} images" + (" of each side" if metric.two_sided else ""))
    return ", ".join([*needed, *filter(None, [number.needs])])


def check_columns(columns: Sequence[str]) -> None:
    """Refuse an empty choice of columns, and columns that do not exist.

    Raises:
        OptionError: no column was chosen, or one does not exist; the message lists all columns.
    """
    if not columns:
        raise OptionError(f"no column was asked for; there are {', '.join(COLUMNS)}")
    for column in columns:
        if column not in COLUMNS:
            raise OptionError(f"there is no column {column!r}; there are {', '.join(COLUMNS)}")


def to_text(columns: Sequence[str] = USUAL) -> str:
    """Return a paragraph for each number with a line for each column.

    Raises:
        OptionError: there is no such column.
    """
    check_columns(columns)
    first, *others = columns
    paragraphs = []
    for number in facts():
        lines = [f"  {COLUMNS[column]}: {_shown(number[column])}" for column in others if number[column]]
        paragraphs.append("\n".join([_shown(number[first]), *lines]))
    return "\n".join(paragraphs) + "\n"


def to_markdown(columns: Sequence[str] = USUAL) -> str:
    """Return a Markdown table with a row for each number.

    Raises:
        OptionError: there is no such column.
    """
    check_columns(columns)
    grid = [[COLUMNS[column] for column in columns], [":--"] * len(columns)]
    grid += [[markdown_text(_shown(number[column])) for column in columns] for number in facts()]
    return "".join(f"| {' | '.join(line)} |\n" for line in grid)


def _shown(value: str | Sequence[str]) -> str:
    return value if isinstance(value, str) else ", ".join(value) or "none"
