"""Latents and labels keyed by (seed, index)."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pgmetrics.errors import OptionError
from pgmetrics.runtime import seeding
from pgmetrics.runtime.seeding import Stream
from reference_models.progan.model.checkpoint import Checkpoint


def latents(
    seed: int, indices: Sequence[int], latent_size: int, truncation: float | None = None
) -> NDArray[np.float32]:
    """Latents by image: row k depends on (seed, indices[k]) alone.

    Args:
        seed: of the latents.
        indices: of the images.
        latent_size: numbers in a latent.
        truncation: numbers further than this from zero are drawn again, from within; the others
            stay what they are. None leaves all.

    Returns:
        float32 [N, latent_size], from N(0, 1), or from that distribution cut off on both sides.
    """
    rows = np.empty((len(indices), latent_size), np.float32)
    for row, index in zip(rows, indices, strict=True):
        random = seeding.generator(seed, Stream.LATENTS, index)
        random.standard_normal(out=row, dtype="float32")
        if truncation is not None:
            _draw_again(row, truncation, random)
    return rows


def _draw_again(row: NDArray[np.float32], truncation: float, random: seeding.Generator) -> None:

    far = np.abs(row) > truncation
    # By the inverse of the distribution: repeating until all are near takes ages for a small bound.
    from scipy.special import ndtr, ndtri

    below, above = ndtr([-truncation, truncation])
    row[far] = ndtri(below + (above - below) * random.random(np.count_nonzero(far)))


def labels(seed: int, indices: Sequence[int], distribution: Sequence[float]) -> NDArray[np.float32]:
    """One-hot labels by image, as frequent as in the training images.

    Returns:
        float32 [N, classes]; row k depends on (seed, indices[k]) alone.
    """
    edges = np.cumsum(distribution) / np.sum(distribution)
    rows = np.zeros((len(indices), len(distribution)), np.float32)
    for row, index in zip(rows, indices, strict=True):
        row[np.searchsorted(edges, seeding.generator(seed, Stream.LABELS, index).random(), "right")] = 1
    return rows


def class_index(checkpoint: Checkpoint, label: str, name: str) -> int:
    """The place of a class among those of a network.

    Args:
        checkpoint: of the network.
        label: the class by its name.
        name: of the network, for the message.

    Raises:
        OptionError: the network has no such class, or none at all.
    """
    known = checkpoint.label_names
    if not known:
        raise OptionError(f"{name} is unconditional; it makes no images of a class {label!r}")
    if label not in known:
        near = difflib.get_close_matches(label, known, n=3) or known[:10]
        more = "" if len(near) == len(known) else f" and {len(known) - len(near)} more"
        raise OptionError(f"{name} has no class {label!r}; it has {', '.join(near)}{more}")
    return known.index(label)


def class_rows(
    checkpoint: Checkpoint, seed: int, indices: Sequence[int], only: int | None = None
) -> NDArray[np.float32] | None:
    """The classes of a network's images.

    Args:
        checkpoint: of the network.
        seed: of the classes.
        indices: of the images.
        only: the class of all of them; None draws each as often as training had it.

    Returns:
        one-hot float32 [N, classes], or None for an unconditional network.
    """
    if only is None:
        return labels(seed, indices, checkpoint.label_distribution) if checkpoint.label_names else None
    rows = np.zeros((len(indices), len(checkpoint.label_names)), np.float32)
    rows[:, only] = 1
    return rows
