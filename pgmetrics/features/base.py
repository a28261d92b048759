"""A network that turns images into rows of features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class FeatureExtractor(ABC):
    """uint8 images in, rows of features out; a pure function of the images.

    Attributes:
        name: "inception", "vgg16", or "custom".
        layers: what it can give: "features", and "logits" for a classifier.
        fingerprint: one line for people and for keys, which stands for all that determines a
            feature: the weights' digest, resizer, value range, form and precision. Rows of unlike
            fingerprints are never compared.
        protocol: the same as plain values, for the provenance.
        label: a few words of it for tables, where numbers of unlike labels have columns of their own.
        fingerprint_is_whole: whether the fingerprint does stand for all of it. That of Python code does
            not: the code may change between two runs. Nothing made by such a network is cached.
        length: images in one forward. The network always sees that many, the last ones padded, so
            that a row does not depend on its neighbors.
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
        """Compute there from now on."""

    @abstractmethod
    def _forward(self, pixels: Tensor, layers: Sequence[str]) -> Mapping[str, Tensor]:
        """The outputs of exactly `length` images: float32 [length, D] per layer."""

    def extract(self, pixels: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Rows of features, each layer asked for, one forward for all of them.

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
        # Outside of inference mode, so that the caller may do with them what it likes.
        return {layer: torch.cat(rows) for layer, rows in pieces.items()}
