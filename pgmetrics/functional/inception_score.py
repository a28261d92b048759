"""The inception score: how sure a classifier is of each image, and how many classes it sees in all."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_ROWS = 4096
"""Rows worked on at once: 33 MB of float64 for 1008 classes."""


def even_cut(n: int, splits: int) -> list[tuple[int, int]]:
    """(start, stop) of `splits` parts of 0 ... n - 1 whose lengths differ by one at most."""
    return [(i * n // splits, (i + 1) * n // splits) for i in range(splits)]


def chunk_cut(n: int, splits: int) -> list[tuple[int, int]]:
    """(start, stop) of the parts that `torch.chunk` makes: the last one may be short, or parts missing."""
    length = -(-n // splits)
    return [(start, min(start + length, n)) for start in range(0, n, length)]


def inception_score(logits: Tensor | Sequence[Tensor]) -> float:
    """The score of one split: exp of the mean KL divergence from the mean class distribution.

    1 when all images look alike to the classifier, C when each is surely of one of C classes and
    the classes are equally frequent; never more than the number of images.

    Args:
        logits: float [N, C], or pieces of it one after the other; N at least 1.

    Returns:
        The score, in float64 arithmetic.

    Source: Salimans et al. 2016, section 4. The mean divergence is taken as the entropy of the mean
    minus the mean entropy, which needs one pass.
    """
    pieces = [logits] if isinstance(logits, Tensor) else logits
    n, entropies, total = 0, 0.0, None
    for piece in pieces:
        for rows in torch.split(piece, _ROWS):
            log_p = torch.log_softmax(_double(rows), dim=1)
            p = log_p.exp()
            entropies -= float((p * log_p).sum())
            seen = p.sum(dim=0)
            total = seen if total is None else total + seen
            n += len(rows)
    assert total is not None
    mean = total / n
    # A class that no image has any of adds 0, not 0 times minus infinity.
    return exp(-float(torch.xlogy(mean, mean).sum()) - entropies / n)


def inception_score_influence(logits: Tensor, fit: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How far each image moves the score of its split: the score times its divergence less the mean one.

    What the image does to the mean distribution does not count, to first order: the mean divergence is
    least there.

    Args:
        logits: float [N, C].
        fit: bool [N], the images that the score and its mean distribution are of; at least one.

    Returns:
        float64 [N], with a mean of 0 over the fitted images.
    """
    log_p = torch.log_softmax(_double(logits), dim=1)
    p = log_p.exp()
    mean = p[torch.from_numpy(fit).to(p.device)].mean(dim=0)
    # Infinitely surprised by a class that no fitted image has any of; such p underflow together.
    surprise = mean.clamp_min(torch.finfo(mean.dtype).tiny).log()
    divergences = (p * (log_p - surprise)).sum(dim=1).cpu().numpy()
    typical = float(divergences[fit].mean())
    found: NDArray[np.float64] = exp(typical) * (divergences - typical)
    return found


def _double(rows: Tensor) -> Tensor:
    # Apple's GPUs have no float64.
    return (rows.cpu() if rows.device.type == "mps" else rows).double()
