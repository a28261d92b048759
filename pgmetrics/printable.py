"""Text from files and file names, made safe to print."""

from __future__ import annotations

import re

# Control characters, line separators, the bidirectional controls, and surrogates, which no encoding takes.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_MARKDOWN = re.compile(r"[\\`*_\[\]<>&|~$]")
_NAMED = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def printable(text: str) -> str:
    r"""The text on one line, with every character escaped that a terminal would obey instead of show.

    These are control characters (`\n`, `\x1b`), C1 controls and line separators (`\u2028`), controls of the
    writing direction (`\u202e`), and surrogates: a byte of a file name that is no UTF-8 becomes `\xff`.
    Everything else stays, so that escaping twice changes nothing; a backslash stays, too.
    """
    return _UNPRINTABLE.sub(_escaped, text)


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
