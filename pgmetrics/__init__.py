"""How good is this generative model, and is it getting better?

The names below are the whole public library. Each is imported on first use, so that importing
pgmetrics costs nothing: `pgmetrics --help` must not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgmetrics import sources as sources
    from pgmetrics.blocks import Block as Block
    from pgmetrics.blocks import IndexSet as IndexSet
    from pgmetrics.errors import OptionError as OptionError
    from pgmetrics.errors import PgmetricsError as PgmetricsError
    from pgmetrics.errors import SampleError as SampleError
    from pgmetrics.errors import SourceError as SourceError
    from pgmetrics.errors import StateError as StateError
    from pgmetrics.evaluation import evaluate as evaluate
    from pgmetrics.evaluation import ms_ssim as ms_ssim
    from pgmetrics.evaluation import swd as swd
    from pgmetrics.metrics.ms_ssim import MultiScaleSSIM as MultiScaleSSIM
    from pgmetrics.metrics.swd import SlicedWasserstein as SlicedWasserstein
    from pgmetrics.results import Results as Results
    from pgmetrics.results import read_results as read_results
    from pgmetrics.store import load_state as load_state
    from pgmetrics.store import save_state as save_state

_HOME = {
    "evaluate": "pgmetrics.evaluation",
    "swd": "pgmetrics.evaluation",
    "ms_ssim": "pgmetrics.evaluation",
    "SlicedWasserstein": "pgmetrics.metrics.swd",
    "MultiScaleSSIM": "pgmetrics.metrics.ms_ssim",
    "Results": "pgmetrics.results",
    "read_results": "pgmetrics.results",
    "Block": "pgmetrics.blocks",
    "IndexSet": "pgmetrics.blocks",
    "save_state": "pgmetrics.store",
    "load_state": "pgmetrics.store",
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
