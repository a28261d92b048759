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
"""Networks that have a name; custom ones are `features.custom`'s."""


def open_network(
    name: str,
    *,
    weights: str | PathLike[str] | None = None,
    allow_unverified: bool = False,
    **settings: Any,
) -> FeatureExtractor:
    """The network of that name, on the CPU until it is moved.

    Args:
        name: "inception" or "vgg16".
        weights: its file; looked for, then downloaded, where it is None.
        allow_unverified: take a file with another digest than the published one's.
        settings: of Inception: resizer, values, form and precision. VGG16 has none.

    Raises:
        OptionError: there is no such network or setting.
        WeightsError: the weights are missing, damaged or another network's.
    """
    # Loaded when they are called: torchvision and torch-fidelity take seconds.
    if name == "inception":
        from pgmetrics.features.inception import Inception

        return Inception(weights, allow_unverified=allow_unverified, **settings)
    if name == "vgg16":
        from pgmetrics.features.vgg16 import VGG16

        if settings:
            raise OptionError(f"vgg16 is computed in one way alone; it has no {', '.join(settings)}")
        return VGG16(weights, allow_unverified=allow_unverified)
    raise OptionError(f"there is no network {name!r}; choose from {', '.join(NETWORKS)}")


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'pgmetrics.features' has no attribute {name!r}")
    return getattr(importlib.import_module(f"pgmetrics.features.{_HOME[name]}"), name)
