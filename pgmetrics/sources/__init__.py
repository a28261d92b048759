"""Image sources: files, arrays, generators and procedural images behind one interface.

Each name is imported on first use, since decoding processes import this package and must not wait for
modules that they do not need.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgmetrics.sources.arrays import ArraySource as array
    from pgmetrics.sources.arrays import DatasetSource as dataset
    from pgmetrics.sources.base import ImageSource as ImageSource
    from pgmetrics.sources.base import sequence as sequence
    from pgmetrics.sources.dead_leaves import DeadLeaves as synthetic
    from pgmetrics.sources.generated import FunctionSource as function
    from pgmetrics.sources.generated import GeneratorSource as generator
    from pgmetrics.sources.resize import Resized as Resized
    from pgmetrics.sources.resolve import open_source as open_source
    from pgmetrics.sources.wrappers import Mirrored as Mirrored
    from pgmetrics.sources.wrappers import Subset as Subset

_HOME = {
    "ImageSource": ("base", "ImageSource"),
    "Mirrored": ("wrappers", "Mirrored"),
    "Resized": ("resize", "Resized"),
    "Subset": ("wrappers", "Subset"),
    "array": ("arrays", "ArraySource"),
    "dataset": ("arrays", "DatasetSource"),
    "function": ("generated", "FunctionSource"),
    "generator": ("generated", "GeneratorSource"),
    "open_source": ("resolve", "open_source"),
    "sequence": ("base", "sequence"),
    "synthetic": ("dead_leaves", "DeadLeaves"),
}

__all__ = [
    "ImageSource",
    "Mirrored",
    "Resized",
    "Subset",
    "array",
    "dataset",
    "function",
    "generator",
    "open_source",
    "sequence",
    "synthetic",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'pgmetrics.sources' has no attribute {name!r}")
    module, attribute = _HOME[name]
    return getattr(importlib.import_module(f"pgmetrics.sources.{module}"), attribute)
