"""How good is this generative model, and is it getting better?

The names below are the whole public library. Each is imported on first use, so that importing
pgmetrics costs nothing: `pgmetrics --help` must not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgmetrics import sources as sources
    from pgmetrics.errors import OptionError as OptionError
    from pgmetrics.errors import PgmetricsError as PgmetricsError
    from pgmetrics.errors import SampleError as SampleError
    from pgmetrics.errors import SourceError as SourceError
    from pgmetrics.errors import StateError as StateError

_HOME = {
    "OptionError": "pgmetrics.errors",
    "PgmetricsError": "pgmetrics.errors",
    "SampleError": "pgmetrics.errors",
    "SourceError": "pgmetrics.errors",
    "StateError": "pgmetrics.errors",
}
_MODULES = ("sources",)

__version__ = "0.1.0"
__all__ = ["__version__", *_HOME, *_MODULES]


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return importlib.import_module(f"pgmetrics.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'pgmetrics' has no attribute {name!r}")
