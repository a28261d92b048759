"""The interface of networks that turn images into rows of features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class FeatureExtractor(ABC):
    """A pure function from uint8 images to rows of features.

    Attributes:
        name: "inception", "vgg16", or "custom".
        layers: the available outputs: "features", and "logits" for a classifier.
        fingerprint: one line that identifies everything that determines a feature: the weights' digest,
            resizer, value range, form and precision. Rows with different fingerprints are never compared.
        protocol: the same facts as plain values, for the provenance.
        label: a short form for tables, which give numbers of different labels separate columns.
        fingerprint_is_whole: whether the fingerprint covers everything. It does not cover Python code,
            which may change between two runs, so that features of such a network are not cached.
        length: number of images in a forward pass. The network always gets this many, with padding after
            the last ones, so that a row does not depend on its neighbors.
    """

    name: str
    layers: tuple[str, ...]
    fingerprint: str
    protocol: Mapping[str, Any]
    label: str
    length: int
    fingerprint_is_whole: bool = True

    @abstractmethod
    def to(self, device: str) -> None:
        """Run the network on this device from now on."""

    @abstractmethod
    def _forward(self, pixels: Tensor, layers: Sequence[str]) -> Mapping[str, Tensor]:
        """Return the outputs for exactly `length` images: float32 [length, D] per layer."""

    def extract(self, pixels: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Return rows of features for the requested layers, from one forward pass per image.

        Args:
            pixels: uint8 [N, 3, H, W] on the extractor's device, any H and W.
            layers: some of `self.layers`.

        Returns:
            float32 [N, D] per layer.
        """
        pieces: dict[str, list[Tensor]] = {layer: [] for layer in layers}
        with torch.inference_mode():
            for piece in torch.split(pixels, self.length):
                short = self.length - len(piece)
                padded = torch.cat([piece, piece[-1:].expand(short, -1, -1, -1)]) if short else piece
                for layer, rows in self._forward(padded, layers).items():
                    pieces[layer].append(rows[: len(piece)])
        # Concatenated outside inference mode, so that the caller may use the rows in any computation.
        return {layer: torch.cat(rows) for layer, rows in pieces.items()}
