"""The Inception score: how certain a classifier is of each image, and how varied its classes are."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgmetrics.functional.float_precision import double

_ROWS = 4096
"""Rows per step: 33 MB of float64 for 1008 classes."""


def even_cut(n: int, splits: int) -> list[tuple[int, int]]:
    """Return (start, stop) of `splits` parts of 0 ... n - 1 whose lengths differ by at most one."""
    return [(i * n // splits, (i + 1) * n // splits) for i in range(splits)]


def chunk_cut(n: int, splits: int) -> list[tuple[int, int]]:
    """Return (start, stop) of the parts of `torch.chunk`: the last may be short, and some may be missing."""
    length = -(-n // splits)
    return [(start, min(start + length, n)) for start in range(0, n, length)]


def inception_score(logits: Tensor | Sequence[Tensor]) -> float:
    """The score of one split: exp of the mean KL divergence from the mean class distribution.

    It is 1 if all images look alike to the classifier, and C if each certainly belongs to one of C equally
    frequent classes; it never exceeds the number of images.

    Args:
        logits: float [N, C], or consecutive pieces of it; N at least 1.

    Returns:
        The score, in float64 arithmetic.

    Source: Salimans et al. 2016, section 4. The mean divergence is taken as the entropy of the mean
    minus the mean entropy, which needs one pass.
    """
    pieces = [logits] if isinstance(logits, Tensor) else logits
    n, entropies, total = 0, 0.0, None
    for piece in pieces:
        for rows in torch.split(piece, _ROWS):
            log_p = torch.log_softmax(double(rows), dim=1)
            p = log_p.exp()
            entropies -= float((p * log_p).sum())
            seen = p.sum(dim=0)
            total = seen if total is None else total + seen
            n += len(rows)
    assert total is not None
    mean = total / n
    # A class of probability 0 in every image adds 0, not 0 times minus infinity.
    return exp(-float(torch.xlogy(mean, mean).sum()) - entropies / n)


def inception_score_influence(logits: Tensor) -> NDArray[np.float64]:
    """Return the influence of each image on its split's score: n - 1 times the loss when it is left out.

    To first order it is the score times the difference of the image's divergence from the mean divergence.
    But an image is part of the mean distribution that it is compared with. With few images per class that
    makes divergences too small, and a standard error from them a tenth too small. Leaving it out avoids that.

    Args:
        logits: float [N, C], N at least 2.

    Returns:
        float64 [N], with a mean of 0.
    """
    log_p = torch.log_softmax(double(logits), dim=1)
    p = log_p.exp()
    n = len(p)
    entropies = -(p * log_p).sum(dim=1)
    without = torch.empty(n, dtype=p.dtype, device=p.device)
    total = p.sum(dim=0)
    for start in range(0, n, _ROWS):
        part = slice(start, start + _ROWS)
        # For a class that only this image has, rounding may leave less than 0.
        mean = ((total - p[part]) / (n - 1)).clamp_min_(0)
        without[part] = -torch.xlogy(mean, mean).sum(dim=1) - (entropies.sum() - entropies[part]) / (n - 1)
    lost = -without.exp() * (n - 1)
    influence: NDArray[np.float64] = (lost - lost.mean()).cpu().numpy()
    return influence
