"""The influence of each image on the Fréchet distance between two sets of features."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgmetrics.functional.float_precision import double
from pgmetrics.functional.frechet import GaussianMoments

_ROWS = 4096

Vector = NDArray[np.float64]


def frechet_influence(a: Tensor, b: Tensor, ddof: int = 1, fit: slice | None = None) -> tuple[Vector, Vector]:
    """Return the influence of each row of both sets on the squared Fréchet distance.

    For a row x of a set with mean m, where the other set has mean m' and T is the linear map that transports
    the first Gaussian to the second, it is

        2 (m - m')'(x - m) + (x - m)'(1 - T)(x - m), minus the mean over rows.

    This is exact to first order wherever the distance has a derivative. For covariances without full rank it
    has none in the missing directions; T is then the map on the subspace that the set spans.

    Args:
        a, b: float [n_a, D] and [n_b, D], on one device.
        ddof: covariances are divided by n - ddof.
        fit: the rows at which the derivative is taken, at least 2; all by default.

    Returns:
        float64 [n_a] and [n_b], each with a mean of 0 over all rows.

    Source: the derivative of the distance, Takatsu 2011; T of Dowson and Landau 1982.
    """
    fit = fit or slice(None)
    moments = [GaussianMoments.of(rows[fit]) for rows in (a, b)]
    first = _one_side(a, moments[0], moments[1], ddof)
    return first, _one_side(b, moments[1], moments[0], ddof)


def _one_side(rows: Tensor, own: GaussianMoments, other: GaussianMoments, ddof: int) -> Vector:
    values, vectors = torch.linalg.eigh(own.covariance(ddof))
    kept = values > len(values) * torch.finfo(values.dtype).eps * values[-1].clamp(min=0)
    factor = vectors[:, kept] * values[kept].sqrt()
    whitening = vectors[:, kept] / values[kept].sqrt()
    # x' T x = z' (F' B F)^(1/2) z with F F' = A and z = F^+ x: z stays small where T could be large.
    middle = _root(factor.T @ other.covariance(ddof) @ factor)
    apart = own.mean - other.mean
    parts = []
    for part in torch.split(rows, _ROWS):
        centered = double(part).to(own.mean.device) - own.mean
        z = centered @ whitening
        quadratic = centered.square().sum(1) - ((z @ middle) * z).sum(1)
        parts.append(quadratic * (own.count / (own.count - ddof)) + 2 * (centered @ apart))
    influence = torch.cat(parts)
    centered_influence: Vector = (influence - influence.mean()).cpu().numpy()
    return centered_influence


def _root(matrix: Tensor) -> Tensor:
    """Return the symmetric square root of a positive semidefinite matrix."""
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    made: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return made
