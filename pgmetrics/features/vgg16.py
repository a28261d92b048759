"""The VGG16 of torch-fidelity's precision and recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pgmetrics.features import weights as weights_files
from pgmetrics.features.base import FeatureExtractor
from pgmetrics.features.inception import Evaluating, torch_fidelity_bilinear
from pgmetrics.functional.float_precision import exact_float32

SIDE = 224
"""Side of the network's input in pixels."""

_MEAN = (255 * 0.485, 255 * 0.456, 255 * 0.406)
_STD = (255 * 0.229, 255 * 0.224, 255 * 0.225)


class VGG16(FeatureExtractor):
    """torchvision's VGG16, trained on ImageNet; "features" are the 4096 of its second dense layer after ReLU.

    Args:
        weights: the weights file; None searches for it as `features.weights` does.
        allow_unverified: accept a file whose digest is not the published one.

    Raises:
        WeightsError: raised by `weights.find` and `weights.load`.
    """

    name = "vgg16"
    layers = ("features",)
    length = 16

    def __init__(self, weights: str | PathLike[str] | None = None, *, allow_unverified: bool = False) -> None:
        from torchvision.models import vgg16

        file = weights_files.find("vgg16", weights, allow_unverified=allow_unverified)
        with torch.device("meta"):  # does not draw initial values from the caller's random state
            network = vgg16()
        network.load_state_dict(weights_files.load(file, network.state_dict()), assign=True)
        # Drop the classification layer, and the ReLU and dropout before it.
        layers = [network.features, network.avgpool, nn.Flatten(), *network.classifier[:4]]
        self._network = Evaluating(*layers).requires_grad_(False)
        self.protocol: dict[str, Any] = {
            "network": "vgg16",
            "weights": file.digest,
            "weights_verified": file.verified,
            "resizer": "tf1-bilinear",
            "rounding": "none",
            "values": "ImageNet mean and deviation",
            "form": "plain",
            "precision": "float32",
            "tf32": False,
        }
        self.label = "vgg16" if file.verified else f"vgg16 {file.digest[:8]}"
        self.fingerprint = (
            f"vgg16 {file.digest}, tf1-bilinear to {SIDE} unrounded, ImageNet mean and deviation, plain, "
            "float32, no TF32"
        )

    def to(self, device: str) -> None:
        self._network.to(device)

    def extract(self, pixels: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        with exact_float32():
            return super().extract(pixels, layers)

    def _forward(self, pixels: Tensor, layers: Sequence[str]) -> Mapping[str, Tensor]:
        from torchvision.transforms.functional import normalize

        images = normalize(torch_fidelity_bilinear(pixels, SIDE), _MEAN, _STD)
        return {"features": F.relu(self._network(images))}
