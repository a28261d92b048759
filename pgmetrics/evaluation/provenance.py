"""How numbers came about: what a result and statistics say of their sets, parameters, versions and device."""

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
    """Versions of the packages that can affect a score.

    Args:
        installed: all of them, loaded or not, as the scores of a run list them: a later item has loaded
            more than the first, and equal items must have equal lines. Otherwise those that are loaded.
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
    """What decides the numbers, besides images and networks."""
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
    """Every set by its name, once its images were read."""
    described = {name: describe_source(setup, plan, name) for name in setup.sources}
    return {"real": setup.statistics.describe(), **described} if setup.statistics else described


def describe_source(setup: Setup, plan: Plan, name: str) -> dict[str, Any]:
    """One set of images, once they were read.

    What identifies them is given in the order of the listing, so that it does not depend on the seed where
    all images are taken: `fingerprint` of all that any metric was given; `metrics` of those that a metric
    was given, by its name, where they are others than all.
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
    """Identity of the images of some parts of a set, in the order of the listing; empty if there are none."""
    places = {(part.first, part.stop) for part in parts if part.reads == name}
    if not places:
        return ""
    order = setup.orders[name]
    taken = np.concatenate([order[first:stop] for first, stop in sorted(places)])
    return setup.sources[name].identity(np.unique(taken))


def circumstances(setup: Setup, started: float) -> dict[str, Any]:
    """Where and when the numbers were computed.

    Args:
        setup: of the evaluation.
        started: seconds since the epoch.
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
    """What determines the features of each network, by its name."""
    return {name: dict(extractor.protocol) for name, extractor in setup.networks.items()}


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)
