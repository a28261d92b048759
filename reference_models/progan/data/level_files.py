"""The files of a prepared set: its manifest, and one .npy for each resolution."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgmetrics.errors import SourceError
from pgmetrics.runtime.files import dump_json, parse_json, written_atomically

MANIFEST = "levels.json"
UNFINISHED = "unfinished-levels.json"
LABELS = "labels.npy"
FORMAT, FORMAT_VERSION = "progan levels", 1
SECONDS_BETWEEN_MARKS = 5.0
READ_AT_ONCE = 1 << 24  # bytes


@dataclass(frozen=True)
class PreparedSettings:
    """The settings that determine a prepared directory's bytes."""

    fingerprint: str
    shuffled: bool
    num_images: int
    resolution: int
    channels: int
    mirror: bool | None
    label_names: tuple[str, ...]
    labels_digest: str | None

    def shape(self, resolution: int) -> tuple[int, ...]:
        return self.num_images, self.channels, resolution, resolution


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write a JSON file atomically."""
    with written_atomically(path) as aside:
        aside.write_text(dump_json(content, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        SourceError: the file cannot be read, or holds something else.
    """
    try:
        content = parse_json(path.read_text())
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise SourceError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise SourceError(f"{path} is not a description of a prepared set")
    return content


def read_manifest(directory: Path) -> tuple[PreparedSettings, dict[str, str]]:
    """Read the settings of a prepared set and the digests of its files.

    Raises:
        SourceError: the set is not complete, or its manifest is damaged.
    """
    path = directory / MANIFEST
    if not path.is_file():
        begun = (directory / UNFINISHED).is_file()
        raise SourceError(
            f"{directory} is not complete; the same `progan data` command resumes where it stopped"
            if begun
            else f"{directory} is not a prepared set; `progan data` makes one"
        )
    content = read_json(path)
    kind, version = content.pop("format", None), content.pop("format_version", None)
    if (kind, version) != (FORMAT, FORMAT_VERSION):
        raise SourceError(
            f"{path} describes {kind} in version {version}; this version reads {FORMAT} in version "
            f"{FORMAT_VERSION}"
        )
    digests = content.pop("sha256", None)
    settings = parsed_settings(path, content)
    needed = {level_name(r) for r in level_resolutions(settings.resolution)}
    needed |= {LABELS} if settings.labels_digest is not None else set()
    if not isinstance(digests, dict) or set(digests) != needed:
        raise SourceError(f"{path} does not list its files; it is damaged, so prepare the set again")
    return settings, digests


def parsed_settings(path: Path, content: Mapping[str, Any]) -> PreparedSettings:
    """Check the settings that a manifest holds.

    Raises:
        SourceError: a setting is missing or out of range.
    """
    try:
        content = {**content, "label_names": tuple(content["label_names"])}
        if "order_key" in content:  # of an older version; null where the order was kept
            content["shuffled"] = content.pop("order_key") is not None
        settings = PreparedSettings(**content)
        known = level_resolutions(settings.resolution)
        if known[-1] != settings.resolution or settings.channels not in (1, 3) or settings.num_images < 1:
            raise ValueError("a number is out of range")
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise SourceError(
            f"{path} is damaged: {error}; delete {path.parent} and prepare the set again"
        ) from error
    return settings


def level_resolutions(largest: int) -> list[int]:
    """List the resolutions of growth from 4 to `largest` pixels."""
    return [4 << i for i in range(largest.bit_length() - 2)]


def level_name(resolution: int) -> str:
    """Name the file of a resolution."""
    return f"level-{resolution:04d}.npy"


def npy_header(shape: tuple[int, ...], descr: str) -> bytes:
    """Return the header of a .npy file."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def npy_bytes(labels: NDArray[np.int64]) -> bytes:
    """Return labels as a .npy file of int64."""
    return npy_header(labels.shape, "<i8") + labels.astype("<i8").tobytes()


def shown_value(value: object) -> str:
    """Shorten a value for a message."""
    text = dump_json(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
