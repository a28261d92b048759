"""Presets that reproduce the numbers of other tools.

Implementations of one metric differ in the resizer, the scaling of pixel values, the network, the splits,
the subsets and the divisor. A preset sets all of them as one release of one tool does; `docs/protocols.md`
lists how closely each agrees with that tool's own package.

No preset can reproduce numbers from an unseeded random generator: the subsets of clean-fid and torchmetrics,
and torchmetrics' shuffle for the Inception Score. There the same formula runs on subsets and an order keyed
by the seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pgmetrics.errors import OptionError
from pgmetrics.metrics.base import Estimate, Metric, State
from pgmetrics.metrics.frechet import FrechetInceptionDistance
from pgmetrics.metrics.inception_score import InceptionScore
from pgmetrics.metrics.kid import KernelInceptionDistance
from pgmetrics.metrics.prdc import PRDC
from pgmetrics.metrics.registry import METRICS

_ALL = 10**9
"""A number of images that no set reaches: the tools use all files, also beyond the published 50,000."""


@dataclass(frozen=True)
class Preset:
    """The protocol of one release of one tool.

    Attributes:
        name: its name on the command line.
        reproduces: the tool and the release whose source was followed and whose numbers were compared.
        used_by: publications and programs whose numbers it reproduces.
        metrics: the metrics that the tool computes, by our names, with its parameters.
        networks: arguments of `features.open_network`, by network.
        order: order of the images, from which splits and subsets are cut: "listing" is the order of file
            names, as in the tools, in place of a permutation keyed by the seed.
    """

    name: str
    reproduces: str
    used_by: str
    metrics: Mapping[str, Metric]
    networks: Mapping[str, Mapping[str, Any]]
    order: Literal["listing"] = "listing"

    def metric(self, asked: str | Metric) -> Metric:
        """Return the tool's metric of that name; a metric with parameters of its own is returned unchanged.

        Raises:
            OptionError: the tool does not compute the metric, or computes it on another network.
        """
        name = asked if isinstance(asked, str) else asked.name
        if name not in self.metrics:
            raise OptionError(
                f"{self.name} computes {', '.join(self.metrics)} only, not {name}; "
                f"leave out the preset, or {name}"
            )
        reproduced = self.metrics[name]
        if isinstance(asked, str):
            return reproduced
        network, wanted = (metric.tap.network if metric.tap else "pixels" for metric in (asked, reproduced))
        if network != wanted:
            raise OptionError(f"{self.name} computes {name} on {wanted}, not {network}")
        return asked


@dataclass(frozen=True)
class _SubsetsUpTo(KernelInceptionDistance):
    """KID with subsets of at most `subset_size` images; a smaller set is used as a whole."""

    @property
    def least(self) -> int:
        return 2

    def compute(self, *, real: State | None, fake: State | None) -> tuple[list[Estimate], list[str]]:
        counts = [len(state.seen) for state in (real, fake) if state is not None]
        size = min([self.subset_size, *counts])
        fixed = KernelInceptionDistance(**{**vars(self), "subset_size": size})
        return fixed.compute(real=real, fake=fake)


def _inception(resizer: str, values: str = "(x-128)/128") -> Mapping[str, Mapping[str, Any]]:
    # Plain, because the rounding of the fast form changes a KID near 0 by more than 1e-5 of its value.
    return {"inception": {"resizer": resizer, "values": values, "form": "plain"}}


_FID = FrechetInceptionDistance(num_images=_ALL, ddof=1)

TORCH_FIDELITY = Preset(
    name="torch-fidelity",
    reproduces="torch-fidelity 0.4.0",
    used_by="papers that name it, and those whose numbers come from the original TensorFlow code",
    metrics={
        "fid": _FID,
        "is": InceptionScore(num_images=_ALL, splits=10, shuffle="torch-fidelity", cut="even", ddof=0),
        "kid": KernelInceptionDistance(
            num_images=_ALL, subsets=100, subset_size=1000, draws="torch-fidelity"
        ),
        "prdc": PRDC(num_images=_ALL, network="vgg16", k=3, names=("precision", "recall")),
    },
    networks={**_inception("tf1-bilinear"), "vgg16": {}},
)
"""`fidelity --input1 FAKE --input2 REAL --isc --fid --kid --prc`, all options left at their defaults.

FAKE and REAL are flat directories of png, jpg and jpeg files.
"""

PYTORCH_FID = Preset(
    name="pytorch-fid",
    reproduces="pytorch-fid 0.3.0",
    used_by="papers that name it: the port most repositories of 2019 to 2022 call",
    metrics={"fid": _FID},
    networks=_inception("torch-bilinear", "2x/255-1"),
)
"""`python -m pytorch_fid REAL FAKE`, with 2048 dimensions."""

CLEAN_FID = Preset(
    name="clean-fid",
    reproduces="clean-fid 0.1.35, mode clean",
    used_by="papers that name it, or that warn of resizing without antialiasing",
    metrics={"fid": _FID, "kid": _SubsetsUpTo(num_images=_ALL, subsets=100, subset_size=1000)},
    networks=_inception("pil-bicubic"),
)
"""`cleanfid.fid.compute_fid(FAKE, REAL)` and `compute_kid`; its draws are unseeded."""

TORCHMETRICS = Preset(
    name="torchmetrics",
    reproduces="torchmetrics 1.9.0 (the same since 1.8, when FID began to antialias)",
    used_by="training loops in Lightning and others that score as they train",
    metrics={
        "fid": _FID,
        "is": InceptionScore(num_images=_ALL, splits=10, shuffle="keyed", cut="chunks", ddof=1),
        "kid": KernelInceptionDistance(num_images=_ALL, subsets=100, subset_size=1000),
    },
    networks=_inception("torch-bilinear-antialias"),
)
"""`FrechetInceptionDistance`, `InceptionScore` and `KernelInceptionDistance` of uint8 images.

Its shuffle and its subsets come from torch's global generator.
"""

PRESETS: dict[str, Preset] = {
    preset.name: preset for preset in (TORCH_FIDELITY, PYTORCH_FID, CLEAN_FID, TORCHMETRICS)
}


def users_of(network: str) -> list[str]:
    """Return the metrics that read a network by default, and those that do so in a preset."""
    usual = [name for name, declared in METRICS.items() if _reads(declared.load()(), network)]
    return usual + [
        f"{name} as {preset.name} computes it"
        for preset in PRESETS.values()
        for name, metric in preset.metrics.items()
        if name not in usual and _reads(metric, network)
    ]


def _reads(metric: Metric, network: str) -> bool:
    return metric.tap is not None and metric.tap.network == network
