"""How good is this generative model, and is it getting better?

The names below are the whole public library. Each is imported on first use, so that importing
pgmetrics costs nothing: `pgmetrics --help` must not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from pgmetrics._version import __version__ as __version__

if TYPE_CHECKING:
    from pgmetrics import features as features
    from pgmetrics import sources as sources
    from pgmetrics.comparison.compare import compare as compare
    from pgmetrics.comparison.result import Comparison as Comparison
    from pgmetrics.errors import OptionError as OptionError
    from pgmetrics.errors import PgmetricsError as PgmetricsError
    from pgmetrics.errors import SampleError as SampleError
    from pgmetrics.errors import SourceError as SourceError
    from pgmetrics.errors import StateError as StateError
    from pgmetrics.errors import WeightsError as WeightsError
    from pgmetrics.evaluation.api import collect as collect
    from pgmetrics.evaluation.api import evaluate as evaluate
    from pgmetrics.evaluation.api import fid as fid
    from pgmetrics.evaluation.api import frechet_distance as frechet_distance
    from pgmetrics.evaluation.api import inception_score as inception_score
    from pgmetrics.evaluation.api import kid as kid
    from pgmetrics.evaluation.api import memorisation as memorisation
    from pgmetrics.evaluation.api import ms_ssim as ms_ssim
    from pgmetrics.evaluation.api import prdc as prdc
    from pgmetrics.evaluation.api import swd as swd
    from pgmetrics.growth import read_scores as read_scores
    from pgmetrics.growth import score_run as score_run
    from pgmetrics.metrics.fid_infinity import FIDInfinity as FIDInfinity
    from pgmetrics.metrics.frechet import FrechetDistance as FrechetDistance
    from pgmetrics.metrics.frechet import FrechetInceptionDistance as FrechetInceptionDistance
    from pgmetrics.metrics.inception_score import InceptionScore as InceptionScore
    from pgmetrics.metrics.kid import KernelInceptionDistance as KernelInceptionDistance
    from pgmetrics.metrics.memorisation import Memorisation as Memorisation
    from pgmetrics.metrics.ms_ssim import MultiScaleSSIM as MultiScaleSSIM
    from pgmetrics.metrics.prdc import PRDC as PRDC
    from pgmetrics.metrics.swd import SlicedWasserstein as SlicedWasserstein
    from pgmetrics.prepared.state_files import load_state as load_state
    from pgmetrics.prepared.state_files import save_state as save_state
    from pgmetrics.prepared.statistics import save_statistics as save_statistics
    from pgmetrics.results import Results as Results
    from pgmetrics.results import read_results as read_results
    from pgmetrics.runtime.blocks import Block as Block
    from pgmetrics.runtime.blocks import FeatureBlock as FeatureBlock
    from pgmetrics.runtime.blocks import IndexSet as IndexSet

_HOME = {
    "evaluate": "pgmetrics.evaluation.api",
    "collect": "pgmetrics.evaluation.api",
    "swd": "pgmetrics.evaluation.api",
    "ms_ssim": "pgmetrics.evaluation.api",
    "fid": "pgmetrics.evaluation.api",
    "inception_score": "pgmetrics.evaluation.api",
    "kid": "pgmetrics.evaluation.api",
    "prdc": "pgmetrics.evaluation.api",
    "memorisation": "pgmetrics.evaluation.api",
    "frechet_distance": "pgmetrics.evaluation.api",
    "score_run": "pgmetrics.growth",
    "read_scores": "pgmetrics.growth",
    "compare": "pgmetrics.comparison.compare",
    "Comparison": "pgmetrics.comparison.compare",
    "SlicedWasserstein": "pgmetrics.metrics.swd",
    "MultiScaleSSIM": "pgmetrics.metrics.ms_ssim",
    "FrechetInceptionDistance": "pgmetrics.metrics.frechet",
    "FrechetDistance": "pgmetrics.metrics.frechet",
    "FIDInfinity": "pgmetrics.metrics.fid_infinity",
    "InceptionScore": "pgmetrics.metrics.inception_score",
    "KernelInceptionDistance": "pgmetrics.metrics.kid",
    "PRDC": "pgmetrics.metrics.prdc",
    "Memorisation": "pgmetrics.metrics.memorisation",
    "Results": "pgmetrics.results",
    "read_results": "pgmetrics.results",
    "Block": "pgmetrics.runtime.blocks",
    "FeatureBlock": "pgmetrics.runtime.blocks",
    "IndexSet": "pgmetrics.runtime.blocks",
    "save_state": "pgmetrics.prepared.state_files",
    "load_state": "pgmetrics.prepared.state_files",
    "save_statistics": "pgmetrics.prepared.statistics",
    "PgmetricsError": "pgmetrics.errors",
    "OptionError": "pgmetrics.errors",
    "SampleError": "pgmetrics.errors",
    "SourceError": "pgmetrics.errors",
    "StateError": "pgmetrics.errors",
    "WeightsError": "pgmetrics.errors",
}
_MODULES = ("features", "sources")

__all__ = ["__version__", *_HOME, *_MODULES]


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return importlib.import_module(f"pgmetrics.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'pgmetrics' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
