"""Safetensors files that hold digests of themselves, so that damage is noticed when they are read.

The format has a place for text, `__metadata__`. Beside our own JSON it gets the SHA-256 of the tensors'
bytes, and that of the header, in which 64 zeros stand for the latter. Other readers pass over both. Files
of earlier versions have neither; a file that has another key there was damaged.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgmetrics.runtime.files import dump_json, open_regular, parse_json, sha256

_OF_HEADER, _OF_TENSORS = "sha256_header", "sha256_tensors"
_BLANK = "0" * 64
# A header is kilobytes; the format itself allows no more than this.
_MAX_HEADER_BYTES = 100_000_000


@dataclass(frozen=True)
class Header:
    """What stands before the tensors of a file.

    Attributes:
        text: our own JSON.
        shapes: of the tensors, by name.
        start: where the tensors' bytes begin.
        expected_bytes: what the whole file should have.
        found_bytes: what it has.
        intact: False if the header is not the one that was written.
        tensors_digest: SHA-256 of the tensors' bytes; None in a file of an earlier version.
    """

    text: str
    shapes: Mapping[str, tuple[int, ...]]
    start: int
    expected_bytes: int
    found_bytes: int
    intact: bool
    tensors_digest: str | None


def sealed(content: bytes) -> tuple[bytes, memoryview]:
    """A header with digests, and the tensors' bytes that follow it.

    Args:
        content: of a file, as safetensors serializes it.
    """
    (length,) = struct.unpack("<Q", content[:8])
    tensors = memoryview(content)[8 + length :]
    header = parse_json(content[8 : 8 + length])
    header["__metadata__"] |= {_OF_TENSORS: sha256(tensors).hexdigest(), _OF_HEADER: _BLANK}
    text = dump_json(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # as the format recommends, for alignment
    start = struct.pack("<Q", len(text)) + text
    digest = sha256(start).hexdigest()
    return start.replace(_entry(_BLANK), _entry(digest)), tensors


def read_header(path: Path, key: str) -> Header | None:
    """The header of a safetensors file; None for other files, also for those without our JSON.

    Args:
        path: of the file.
        key: of our JSON in the metadata.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    with open_regular(path) as file:
        found_bytes = file.seek(0, 2)
        file.seek(0)
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(_MAX_HEADER_BYTES, found_bytes):
            return None
        start += file.read(length)
    try:
        header = parse_json(start[8:])
        metadata = header.pop("__metadata__")
        shapes = {name: _shape(described) for name, described in header.items()}
        end = max(_end(described) for described in header.values())
        text, digests = metadata.pop(key), metadata
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    if not isinstance(text, str):
        return None
    return Header(
        text=text,
        shapes=shapes,
        start=8 + length,
        expected_bytes=8 + length + end,
        found_bytes=found_bytes,
        intact=not digests or _is_intact(start, digests),
        tensors_digest=str(digests[_OF_TENSORS]) if _OF_TENSORS in digests else None,
    )


def tensors_are_intact(path: Path, header: Header) -> bool:
    """Whether the tensors' bytes are those that were written; true of a file of an earlier version.

    Raises:
        OSError: the file cannot be read.
    """
    if header.tensors_digest is None:
        return True
    with open_regular(path) as file:
        file.seek(header.start)
        return sha256(file).hexdigest() == header.tensors_digest


def _is_intact(start: bytes, digests: Mapping[str, Any]) -> bool:
    if set(digests) != {_OF_HEADER, _OF_TENSORS}:
        return False
    digest = str(digests[_OF_HEADER])
    return sha256(start.replace(_entry(digest), _entry(_BLANK))).hexdigest() == digest


def _entry(digest: str) -> bytes:
    # Within our own JSON the quotes are escaped, so that this occurs once.
    return f'"{_OF_HEADER}":"{digest}"'.encode()


def _shape(described: Mapping[str, Any]) -> tuple[int, ...]:
    shape = described["shape"]
    if not isinstance(shape, list) or not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError("a shape is a list of whole numbers")
    return tuple(shape)


def _end(described: Mapping[str, Any]) -> int:
    start, end = described["data_offsets"]
    if type(start) is not int or type(end) is not int or not 0 <= start <= end:
        raise ValueError("offsets are two whole numbers, ascending")
    return end
