"""The classes of a StyleGAN data set: {"labels": [[name, class], ...]} or null in `dataset.json`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgmetrics.errors import SourceError, printable
from pgmetrics.runtime.files import parse_json

FILE_NAME = "dataset.json"
MOST_CLASSES = 100_000
"""Each class costs a name and a column of a network's first layer; ImageNet-21k has 21,841."""


def class_of_each(content: bytes, names: Sequence[str]) -> NDArray[np.int64] | None:
    """Read classes as NVlabs' data-set tool writes them.

    Args:
        content: content of the file.
        names: names of the images, as in the file.

    Returns:
        int64 [N] from 0 to MOST_CLASSES - 1; None if the file declares that there are no classes.

    Raises:
        SourceError: the classes are unusable; the caller puts the file's name in front of the message.
    """
    pairs = _pairs(content)
    if not pairs:
        return None
    table: dict[str, Any] = {}
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str):
            raise SourceError('does not hold {"labels": [[name, class], …]}')
        name, label = pair
        if table.setdefault(name, label) != label:
            raise SourceError(f"gives {printable(name)} two classes")
    return np.array([_class_of(name, table) for name in names], np.int64)


def _pairs(content: bytes) -> list[Any] | None:
    try:
        parsed = parse_json(content)
    except ValueError as error:
        raise SourceError(f"cannot be read as JSON: {error}") from error
    if not isinstance(parsed, dict) or "labels" not in parsed:
        raise SourceError("holds no labels")
    pairs = parsed["labels"]
    if pairs is not None and not isinstance(pairs, list):
        raise SourceError('does not hold {"labels": [[name, class], …]}')
    return pairs


def _class_of(name: str, table: dict[str, Any]) -> int:
    if name not in table:
        raise SourceError(f"gives {printable(name)} no class")
    label = table[name]
    if isinstance(label, list):
        raise SourceError(f"gives {printable(name)} a vector; a class is a whole number")
    if type(label) is not int or label < 0:
        raise SourceError(
            f"gives {printable(name)} {str(label)[:40]}; a class is a whole number from 0 upwards"
        )
    if label >= MOST_CLASSES:
        raise SourceError(
            f"gives {printable(name)} class {label:,}; at most {MOST_CLASSES:,} classes are taken"
        )
    return label
