"""The provenance of results and statistics: their sets, parameters, versions and device."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from pgmetrics._version import __version__
from pgmetrics.evaluation.plan import Part, Plan
from pgmetrics.evaluation.setup import Setup
from pgmetrics.runtime.blocks import block_length

_PACKAGES = ("torch", "numpy", "scipy", "pillow", "torchvision", "torch-fidelity")


def versions(*, installed: bool = False) -> dict[str, str]:
    """Return the versions of all packages that can affect a score.

    Args:
        installed: list all installed packages, as the scores of a run do: later items have loaded more
            packages than the first, and equal items must have equal lines. By default only loaded packages
            are listed.
    """
    python = platform.python_version()
    if installed:
        found = {name: importlib.metadata.version(name) for name in _PACKAGES}
        return {"pgmetrics": __version__, "python": python, **found}
    optional = {"torch-fidelity": "torch_fidelity", "pillow": "PIL", "scipy": "scipy"}
    loaded = {name: sys.modules[of].__version__ for name, of in optional.items() if of in sys.modules}
    always = {"torch": torch.__version__, "numpy": np.__version__, "python": python}
    return {"pgmetrics": __version__, **always, **loaded}


def parameters(setup: Setup) -> dict[str, Any]:
    """Return everything besides images and networks that decides the numbers."""
    return {
        "metrics": {metric.name: metric.parameters for metric in setup.metrics},
        "num_images": setup.options.num_images,
        "seed": setup.options.seed,
        "mirror": setup.options.mirror,
        "preset": setup.options.preset,
        "block": block_length(setup.size[0]),
        **setup.options.reading,
    }


def described_sources(setup: Setup, plan: Plan) -> dict[str, dict[str, Any]]:
    """Describe every set by its name, after its images were read."""
    described = {name: describe_source(setup, plan, name) for name in setup.sources}
    return {"real": setup.statistics.describe(), **described} if setup.statistics else described


def describe_source(setup: Setup, plan: Plan, name: str) -> dict[str, Any]:
    """Describe a set of images, after they were read.

    `fingerprint` is the identity of all images that were used. `metrics` holds the identity of the images of
    each metric that used others. Identities follow the order of the listing, so that they do not depend on
    the seed if all images are used.
    """
    source = setup.sources[name]
    height, width = source.resolution
    every = _listed(setup, name, plan.parts)
    of_metrics = {metric: _listed(setup, name, parts) for metric, parts in plan.scored.items()}
    others = {metric: images for metric, images in of_metrics.items() if images not in ("", every)}
    return {
        "name": source.name,
        "fingerprint": every,
        **({"metrics": others} if others else {}),
        "count": len(source),
        "height": height,
        "width": width,
        "notes": dict(source.notes),
    }


def _listed(setup: Setup, name: str, parts: Iterable[Part]) -> str:
    """Return the identity of the images of some parts of a set, in listing order; empty if there are none."""
    places = {(part.first, part.stop) for part in parts if part.reads == name}
    if not places:
        return ""
    order = setup.orders[name]
    taken = np.concatenate([order[first:stop] for first, stop in sorted(places)])
    return setup.sources[name].identity(np.unique(taken))


def circumstances(setup: Setup, started: float) -> dict[str, Any]:
    """Return where, when and with what the numbers were computed.

    Args:
        setup: setup of the evaluation.
        started: its start, in seconds since the epoch.
    """
    return {
        "networks": networks(setup),
        "device": _device_name(setup.device),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "spilled_bytes": setup.storage.spilled,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started, 3),
    }


def networks(setup: Setup) -> dict[str, dict[str, Any]]:
    """Return everything that determines the features of each network, by its name."""
    return {name: dict(extractor.protocol) for name, extractor in setup.networks.items()}


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)
