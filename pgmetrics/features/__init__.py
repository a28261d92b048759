"""Networks that turn images into rows of features."""

from __future__ import annotations

import importlib
from os import PathLike
from typing import TYPE_CHECKING, Any

from pgmetrics.errors import OptionError

if TYPE_CHECKING:
    from pgmetrics.features.base import FeatureExtractor as FeatureExtractor
    from pgmetrics.features.custom import custom_network as custom_network

_HOME = {"FeatureExtractor": "base", "custom_network": "custom"}

__all__ = ["NETWORKS", "FeatureExtractor", "open_network", "custom_network"]

NETWORKS = ("inception", "vgg16")
"""Names of the built-in networks; `features.custom` makes custom ones."""


def open_network(
    name: str,
    *,
    weights: str | PathLike[str] | None = None,
    allow_unverified: bool = False,
    **settings: Any,
) -> FeatureExtractor:
    """Open a built-in network on the CPU.

    Args:
        name: "inception" or "vgg16".
        weights: the weights file; None searches for it and then downloads it.
        allow_unverified: accept a file whose digest is not the published one.
        settings: for Inception: resizer, values, form and precision. VGG16 has none.

    Raises:
        OptionError: the network or setting is unknown.
        WeightsError: the weights are missing, damaged or another network's.
    """
    # Imported on the first call, since torchvision and torch-fidelity take seconds to load.
    if name == "inception":
        from pgmetrics.features.inception import Inception

        return Inception(weights, allow_unverified=allow_unverified, **settings)
    if name == "vgg16":
        from pgmetrics.features.vgg16 import VGG16

        if settings:
            raise OptionError(f"vgg16 has no settings, so {', '.join(settings)} cannot be chosen")
        return VGG16(weights, allow_unverified=allow_unverified)
    raise OptionError(
        f"unknown network {name!r}; choose from {', '.join(NETWORKS)}, or 'custom' for a custom network"
    )


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'pgmetrics.features' has no attribute {name!r}")
    return getattr(importlib.import_module(f"pgmetrics.features.{_HOME[name]}"), name)
