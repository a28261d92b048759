"""Sampling: a checkpoint's generator makes uint8 images from latents, in batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pgmetrics.runtime import images as byte_images
from pgmetrics.runtime.blocks import block_length
from reference_models.progan.model import checkpoint as checkpoints
from reference_models.progan.model.checkpoint import Checkpoint

if TYPE_CHECKING:
    from reference_models.progan.model.networks import Generator

LARGEST_BATCH = 64


class Sampler:
    """A checkpoint's generator, from latents to bytes.

    Args:
        path: path of the checkpoint.
        name: name in messages; None for progan:PATH.

    Attributes:
        name: name in messages.
        checkpoint: the description in the file's header.
        batch: number of images computed at once.

    Raises:
        SourceError: the checkpoint cannot be read.
    """

    def __init__(self, path: Path | str, name: str | None = None) -> None:
        self._path = Path(path)
        self.name = name or f"progan:{path}"
        self.checkpoint: Checkpoint = checkpoints.inspect(self._path)
        self.batch = min(block_length(self.checkpoint.resolution), LARGEST_BATCH)
        self._device = "cpu"
        self._generator: Generator | None = None

    def to(self, device: str) -> None:
        """Run the network on this device from now on."""
        self._device = device
        if self._generator is not None:
            self._generator.to(device)

    def images(
        self,
        latents: NDArray[np.float32],
        labels: NDArray[np.float32] | None = None,
        called: Sequence[object] | None = None,
    ) -> NDArray[np.uint8]:
        """Make the images of these latents.

        They are always computed in batches of one shape: an image has the same bytes whenever its row has the
        same index modulo `batch`, regardless of the number of images.

        Args:
            latents: [N, latent_size].
            labels: one-hot [N, classes], for a network with classes.
            called: the images' numbers for messages, for a single batch; by default their indices.

        Returns:
            uint8 [N, 3, r, r] with the checkpoint's own resolution r.

        Raises:
            SourceError: the network returns NaN or infinite values.
        """
        import torch

        if self._generator is None:
            self._generator = checkpoints.load(self._path)[1].to(self._device)
        side = self.checkpoint.resolution
        out = np.empty((len(latents), 3, side, side), np.uint8)
        for start in range(0, len(latents), self.batch):
            z, y = (
                None if rows is None else torch.from_numpy(self._whole_batch(rows, start)).to(self._device)
                for rows in (latents, labels)
            )
            with torch.no_grad():
                made = self._generator(z, y, resolution=side, alpha=self.checkpoint.alpha)
            pixels = byte_images.to_bytes(made, checkpoints.VALUE_RANGE, self.name, called)
            part = out[start : start + self.batch]
            part[:] = byte_images.grey_to_rgb(pixels).cpu().numpy()[: len(part)]
        return out

    def _whole_batch(self, rows: NDArray[np.float32], start: int) -> NDArray[np.float32]:
        batch = np.zeros((self.batch, rows.shape[1]), np.float32)
        part = rows[start : start + self.batch]
        batch[: len(part)] = part
        return batch
