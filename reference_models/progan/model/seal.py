"""Safetensors files that hold digests of themselves, so that reading them detects damage.

The format has a section for text, `__metadata__`. Besides our own JSON it holds the SHA-256 of the tensors'
bytes, and that of the header, computed with 64 zeros in place of the latter. Other readers ignore both. Files
of earlier versions have neither; a file with any other key there is damaged.
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
# The format's own limit; our headers are kilobytes.
_MAX_HEADER_BYTES = 100_000_000


@dataclass(frozen=True)
class Header:
    """The header of a file.

    Attributes:
        text: our own JSON.
        shapes: shapes of the tensors, by name.
        dtypes: the tensors' types, as the format names them: F32, I64, ...
        start: offset of the tensors' bytes.
        expected_bytes: size of the whole file according to the header.
        found_bytes: actual size of the file.
        intact: whether the header is the one that was written.
        tensors_digest: SHA-256 of the tensors' bytes; None in a file of an earlier version.
    """

    text: str
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: frozenset[str]
    start: int
    expected_bytes: int
    found_bytes: int
    intact: bool
    tensors_digest: str | None


def sealed(content: bytes) -> tuple[bytes, memoryview]:
    """Return a header with digests, and the tensors' bytes that follow it.

    Args:
        content: content of a file, as safetensors serializes it.
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
    """Read the header of a safetensors file with our JSON; return None for any other file.

    Args:
        path: path of the file.
        key: key of our JSON in the metadata.

    Raises:
        OSError: the file cannot be read, or is not a regular file.
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
        dtypes = frozenset(str(described["dtype"]) for described in header.values())
        end = max(_end(described) for described in header.values())
        text, digests = metadata.pop(key), metadata
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    if not isinstance(text, str):
        return None
    return Header(
        text=text,
        shapes=shapes,
        dtypes=dtypes,
        start=8 + length,
        expected_bytes=8 + length + end,
        found_bytes=found_bytes,
        intact=not digests or _is_intact(start, digests),
        tensors_digest=str(digests[_OF_TENSORS]) if _OF_TENSORS in digests else None,
    )


def tensors_are_intact(path: Path, header: Header) -> bool:
    """Whether the tensors' bytes are those that were written; True for a file of an earlier version.

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
    # Quotes inside our own JSON are escaped, so this occurs once.
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
