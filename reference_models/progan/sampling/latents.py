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
    """Draw latents by image: row k depends only on (seed, indices[k]).

    Args:
        seed: seed of the latents. indices: indices of the images. latent_size: length of a latent.
        truncation: numbers of larger magnitude are drawn again from the truncated distribution; the others
        stay
            unchanged. None disables truncation.

    Returns:
        float32 [N, latent_size], from N(0, 1) or the truncated normal distribution.
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
    # By inversion of the distribution: rejection sampling would take very long for a small bound.
    from scipy.special import ndtr, ndtri

    below, above = ndtr([-truncation, truncation])
    row[far] = ndtri(below + (above - below) * random.random(np.count_nonzero(far)))


def labels(seed: int, indices: Sequence[int], distribution: Sequence[float]) -> NDArray[np.float32]:
    """Draw one-hot labels by image, with the frequencies of the training images.

    Returns:
        float32 [N, classes]; row k depends only on (seed, indices[k]).
    """
    edges = np.cumsum(distribution) / np.sum(distribution)
    rows = np.zeros((len(indices), len(distribution)), np.float32)
    for row, index in zip(rows, indices, strict=True):
        row[np.searchsorted(edges, seeding.generator(seed, Stream.LABELS, index).random(), "right")] = 1
    return rows


def class_index(checkpoint: Checkpoint, label: str, name: str) -> int:
    """Return the index of a class among those of a network.

    Args:
        checkpoint: description of the network.
        label: name of the class.
        name: name of the network, for the message.

    Raises:
        OptionError: the network has no such class, or no classes.
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
    """Return the classes of a network's images.

    Args:
        checkpoint: description of the network.
        seed: seed of the classes.
        indices: indices of the images.
        only: the class of all images; None draws classes with the frequencies of training.

    Returns:
        one-hot float32 [N, classes], or None for an unconditional network.
    """
    if only is None:
        return labels(seed, indices, checkpoint.label_distribution) if checkpoint.label_names else None
    rows = np.zeros((len(indices), len(checkpoint.label_names)), np.float32)
    rows[:, only] = 1
    return rows
