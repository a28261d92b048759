"""Every refusal of the project: what was asked, what was found, and the fix."""

from __future__ import annotations

import numbers
import re
import reprlib
from typing import Any


class PgmetricsError(Exception):
    """Anything pgmetrics refuses to do; its text is one line a person can act on.

    What it quotes is shown escaped, and shortened where it is longer than any name.
    """

    def __str__(self) -> str:
        return one_line(super().__str__())


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


# Control characters, line separators, the bidirectional controls, surrogates, which no encoding takes,
# and what XML does not take.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
_LONG_WORD = re.compile(r"\S{1001,}")
_SHOWN = 100  # characters at both of its ends
_SURROGATE = re.compile("[\ud800-\udfff]")
_MARKDOWN = re.compile(r"[\\`*_\[\]<>&|~$]")
_NAMED = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def printable(text: str) -> str:
    r"""The text on one line, with every character escaped that a terminal would obey instead of show.

    These are control characters (`\n`, `\x1b`), C1 controls and line separators (`\u2028`), controls of the
    writing direction (`\u202e`), what XML does not take (`\uffff`), and surrogates: a byte of a file name
    that is no UTF-8 becomes `\xff`. Everything else stays, so that escaping twice changes nothing; a
    backslash stays, too.
    """
    return _UNPRINTABLE.sub(_escaped, text)


def one_line(text: str) -> str:
    """Return the text as `printable` does, with words of more than 1,000 characters cut in their middle.

    Such a word is a mistake rather than the name of a file, and would fill the terminal.
    """
    return _LONG_WORD.sub(lambda found: f"{found[0][:_SHOWN]}…{found[0][-_SHOWN:]}", printable(text))


def told(error: BaseException) -> str:
    """The class of an exception that foreign code raised and the first line of its message."""
    lines = str(error).strip().splitlines()
    return printable(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__)


def encodable(text: str) -> str:
    r"""The text with the surrogates alone escaped, as `printable` does: a byte that is no UTF-8 is `\xff`."""
    return _SURROGATE.sub(_escaped, text)


def printable_json(text: str) -> str:
    """JSON of the same values, with JSON's own escapes for what `printable` escapes."""
    # Line feeds stand between values only: in strings, JSON has escaped the control characters already.
    return _UNPRINTABLE.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is: it ends no cell of a table, and becomes neither HTML nor a link."""
    return _MARKDOWN.sub(r"\\\g<0>", printable(text))


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    code = ord(character)
    if character in _NAMED:
        return _NAMED[character]
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"
