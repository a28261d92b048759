"""Every refusal of the project: what was asked, what was found, and the way out."""

from __future__ import annotations

import numbers
import reprlib
from typing import Any

from pgmetrics.printable import printable


class PgmetricsError(Exception):
    """Anything pgmetrics refuses to do; its text is one line a person can act on.

    What it quotes from files is shown escaped.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class SampleError(PgmetricsError, ValueError):
    """The images are too few, too small or of the wrong shape for what was asked."""


class SourceError(PgmetricsError, ValueError):
    """A place that images come from cannot be opened, read or used as asked."""


class StateError(PgmetricsError, ValueError):
    """Two accumulators do not belong together, or one on disk is not what it should be."""


class OptionError(PgmetricsError, ValueError):
    """A parameter has a value outside what its meaning allows."""


class WeightsError(PgmetricsError, ValueError):
    """A network's weights are missing, damaged or another network's."""


def check_number(
    name: str,
    value: Any,
    low: float,
    high: float,
    *,
    whole: bool = False,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    """Refuse a parameter that is no finite number within its bounds; NaN passes most comparisons.

    Args:
        name: of the parameter, for the message.
        value: of the parameter.
        low, high: its bounds, finite, which are allowed themselves.
        whole: it has to be an integer; a bool is none.
        open_low, open_high: that bound is not allowed itself.

    Raises:
        OptionError: it is out of bounds, not finite or no number at all.
    """
    kind: Any = numbers.Integral if whole else numbers.Real
    if isinstance(value, kind) and not isinstance(value, bool):
        # Every comparison with NaN is false.
        above = value > low if open_low else value >= low
        below = value < high if open_high else value <= high
        if above and below:
            return
    what = "a whole number" if whole else "a number"
    first = f"{'above' if open_low else 'at least'} {_number(low)}"
    last = f"{'below' if open_high else 'at most'} {_number(high)}"
    raise OptionError(f"{name} is {what} {first} and {last}, not {reprlib.repr(value)}")


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
