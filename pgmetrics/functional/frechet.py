"""Moments of feature rows and the Fréchet distance between two Gaussians.

The distance needs the trace of the square root of A B. For covariances A = F F' and B = G G' it is the sum of
the singular values of F' G. There are two ways to compute it:

safe: singular values of F' G, with F and G from Cholesky factorizations that pivot. Nothing is
squared, so zero singular values come out as zero to rounding, whatever the ranks.

fast: square roots of the eigenvalues of F' B F, which takes half the time. A zero eigenvalue becomes a
rounding error of about 1e-16 of the largest, and its root 1e-8 of the largest root; a thousand of them would
change a digit of every FID with fewer images than features. So the fast form is used only between regular
covariances, and only if the product of its eigenvalues equals det A det B, which the factors give to full
relative accuracy: the determinant is most sensitive to the small eigenvalues.

Both were compared with singular values from the rows themselves, over variances from flat to k^-6, equal,
different and opposite axes, and all combinations of ranks. The forms agree within 1e-12 of the traces, and
with the rows within 1e-13; only for spectra as steep as k^-6 on opposite axes do both differ from the rows by
7e-11, because of the rounding of the covariances themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import blas, eigvalsh, lapack
from torch import Tensor

from pgmetrics.functional.float_precision import double
from pgmetrics.runtime.threads import share_out, single_blas

_ROUNDING = float(np.finfo(np.float64).eps)

_RELATIVE = 1e-9
_OF_TRACES = 1e-11
"""Allowed errors of the fast form, relative to the distance and to the sum of the traces."""

_CAUTION = 30.0
"""A safety factor: the error estimate is a typical size, and errors in the determinant may cancel."""


@dataclass(frozen=True)
class GaussianMoments:
    """Count, mean and scatter of feature rows, in float64.

    Attributes:
        count: rows.
        mean: float64 [D].
        scatter: float64 [D, D], the sum of the outer products of the centered rows.
    """

    count: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def empty(cls, width: int, device: torch.device | str = "cpu") -> GaussianMoments:
        """Return the moments of zero rows of `width` features."""
        mean = torch.zeros(width, dtype=torch.float64, device=device)
        return cls(0, mean, mean.new_zeros(()).expand(width, width))

    @classmethod
    def of(cls, rows: Tensor) -> GaussianMoments:
        """Return the moments of float rows [N, D]; on the CPU if their device has no float64 (MPS)."""
        rows = double(rows)
        return cls.empty(rows.shape[1], rows.device).with_rows(rows)

    def with_rows(self, rows: Tensor, *, reuse: bool = False) -> GaussianMoments:
        """Return the moments with float rows [N, D] added, in one pass over the scatter.

        Args:
            rows: the rows, on any device.
            reuse: overwrite this object's scatter, so that the object must not be used again.
        """
        n = len(rows)
        if n == 0:
            return self
        rows = double(rows).to(self.mean.device)
        mean = rows.mean(dim=0)
        centered = rows - mean
        if self.count == 0:
            return GaussianMoments(n, mean, centered.T @ centered)
        delta = mean - self.mean
        total = self.count + n
        # The cross term of Chan et al. enters as one more row.
        stacked = torch.cat([centered, (delta * sqrt(self.count * n / total))[None]])
        out = self.scatter if reuse else None
        scatter = torch.addmm(self.scatter, stacked.T, stacked, out=out)
        return GaussianMoments(total, self.mean + delta * (n / total), scatter)

    def merge(self, other: GaussianMoments) -> GaussianMoments:
        """Return the moments of both sets of rows (Chan et al. 1979), on this device; changes neither."""
        if other.count == 0:
            return self
        other = other.to(self.mean.device)
        if self.count == 0:
            return other
        total = self.count + other.count
        delta = other.mean - self.mean
        scatter = torch.addr(
            self.scatter + other.scatter, delta, delta, alpha=self.count * other.count / total
        )
        return GaussianMoments(total, self.mean + delta * (other.count / total), scatter)

    def covariance(self, ddof: int = 1) -> Tensor:
        """The scatter over count - ddof: float64 [D, D]."""
        return self.scatter / (self.count - ddof)

    def to(self, device: torch.device | str) -> GaussianMoments:
        """Return the moments on another device."""
        return GaussianMoments(self.count, self.mean.to(device), self.scatter.to(device))


def frechet_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    """Squared Fréchet (2-Wasserstein) distance between two Gaussians.

    |mean_a - mean_b|² + tr A + tr B - 2 tr (A B)^(1/2), accurate to 1e-8 of the distance or 1e-10 of the
    traces for covariances of any rank; never below 0.

    Args:
        mean_a, mean_b: float64 [D].
        cov_a, cov_b: float64 [D, D], symmetric and positive semidefinite; all on one device.

    Source: Dowson and Landau 1982; Heusel et al. 2017.
    """
    apart = float((mean_a - mean_b).square().sum())
    traces = float(cov_a.trace()) + float(cov_b.trace())
    common = _fast_root_trace(cov_a, cov_b, apart, traces)
    if common is None:
        common = float(torch.linalg.svdvals(root(cov_a).T @ root(cov_b)).sum())
    return max(apart + traces - 2 * common, 0.0)


def delete_one_distances(
    mean: Tensor, covariance: Tensor, groups: Sequence[GaussianMoments], ddof: int = 1
) -> list[float]:
    """Return the distances from a Gaussian to a set without each of its groups in turn.

    One factorization serves all distances. They use the fast form, which errs by up to 1e-8 of the largest
    eigenvalues for each zero eigenvalue, far less than the differences between groups.

    Args:
        mean, covariance: the Gaussian, float64 [D] and [D, D].
        groups: the set in parts on the same device, at least two of them with rows.
        ddof: the set's covariances are divided by n - ddof.
    """
    pool = merged(groups)
    reach, kept = _reach(root(covariance), pool)
    trace, pool_trace = float(covariance.trace()), float(pool.scatter.trace())
    inner = reach.T @ _block(pool.scatter, kept) @ reach

    def without(group: GaussianMoments) -> float:
        rest = pool.count - group.count
        delta = group.mean - pool.mean
        weight = pool.count * group.count / rest
        # A small group has low rank, so its part of the product is cheap.
        part = reach.T @ root(_block(group.scatter, kept))
        across = reach.T @ (delta if kept is None else delta[kept])
        left = torch.addmm(inner, part, part.T, alpha=-1).addr_(across, across, alpha=-weight)
        common = float(_eigenvalues(left, beside=True).clamp(min=0).sqrt().sum()) / sqrt(rest - ddof)
        apart = float((pool.mean - delta * (group.count / rest) - mean).square().sum())
        scatter = pool_trace - float(group.scatter.trace()) - weight * float(delta.square().sum())
        return apart + trace + scatter / (rest - ddof) - 2 * common

    if mean.device.type != "cpu":
        return [without(group) for group in groups]
    # An eigenvalue problem gains little from a second thread, and waits for it if the core is busy.
    with single_blas():
        return share_out(without, groups)


def _reach(factor: Tensor, pool: GaussianMoments) -> tuple[Tensor, Tensor | None]:
    """Return a smaller replacement for F in products F' S F, for every S in the range of the pool's scatter.

    A scatter of R < D rows is determined by its R x R entries at the pivots of its Cholesky factorization,
    and so is every other scatter in its range: S = W S_kept W', with W the identity at the pivots and bounded
    by the pivoting elsewhere. Parts of the pool are in its range, regardless of their own ranks.

    Returns:
        R [K, M] and the K indices, such that R' S_kept R has the nonzero eigenvalues of F' S F; or the
        factor itself and None if nothing can be saved.
    """
    width = len(pool.mean)
    if pool.count > width or pool.mean.device.type != "cpu":
        return factor, None
    lower, order = _pivoted_cholesky(pool.scatter.numpy())
    rank = lower.shape[1]
    turned = factor[torch.from_numpy(order)]
    top, bottom = torch.from_numpy(lower[:rank]), torch.from_numpy(lower[rank:])
    # W' F; only the lower triangle of `top` is used.
    reach = turned[:rank] + torch.linalg.solve_triangular(top.T, bottom.T @ turned[rank:], upper=True)
    if reach.shape[1] > rank:
        reach = torch.linalg.qr(reach.T, mode="r").R.T
    return reach, torch.from_numpy(order[:rank])


def _block(scatter: Tensor, kept: Tensor | None) -> Tensor:
    return scatter if kept is None else scatter[kept][:, kept]


def merged(groups: Sequence[GaussianMoments]) -> GaussianMoments:
    """Return the moments of all groups together, at least one, on the first one's device."""
    first = groups[0]
    filled = [group.to(first.mean.device) for group in groups if group.count]
    if len(filled) < 2:
        return filled[0] if filled else first
    total = sum(group.count for group in filled)
    origin = filled[0].mean
    deltas = torch.stack([group.mean - origin for group in filled])
    shares = origin.new_tensor([group.count / total for group in filled])
    shift = shares @ deltas
    between = (deltas - shift) * (shares * total).sqrt()[:, None]
    # One sum in place: merging pairwise would write a D x D matrix three times per group.
    scatter = torch.addmm(filled[0].scatter, between.T, between)
    for group in filled[1:]:
        scatter += group.scatter
    return GaussianMoments(total, origin + shift, scatter)


def root(matrix: Tensor) -> Tensor:
    """Return F with F F' = matrix up to rounding, and as many columns as its numerical rank.

    Args:
        matrix: float64 [D, D], symmetric and positive semidefinite up to rounding.

    Returns:
        float64 [D, R], R from 0 to D.
    """
    if matrix.device.type != "cpu":
        values, vectors = torch.linalg.eigh(matrix)
        kept = values > len(matrix) * _ROUNDING * values[-1].clamp(min=0)
        factor: Tensor = vectors[:, kept] * values[kept].sqrt()
        return factor
    lower, order = _pivoted_cholesky(matrix.numpy())
    unordered = np.empty_like(lower)
    unordered[order] = np.tril(lower)
    return torch.from_numpy(unordered)


def _fast_root_trace(cov_a: Tensor, cov_b: Tensor, apart: float, traces: float) -> float | None:
    """Return the trace of (A B)^(1/2) by eigenvalues; None if its accuracy is uncertain."""
    regular = _regular_eigenvalues(cov_a, cov_b)
    if regular is None:
        return None
    values, log_determinant = regular
    if float(values[0]) <= 0:
        return None
    off = abs(float(values.log().sum()) / 2 - log_determinant)
    common = float(values.sqrt().sum())
    # The relative error of the product is about that of the smallest eigenvalue. If all D eigenvalues have
    # errors of one absolute size, the error of the sum of their roots follows.
    error = (off + len(values) * _ROUNDING) * sqrt(len(values) * float(values[0]))
    allowed = max(_RELATIVE * (apart + traces - 2 * common), _OF_TRACES * traces)
    return common if off < 0.01 and _CAUTION * error <= allowed else None


def _regular_eigenvalues(cov_a: Tensor, cov_b: Tensor) -> tuple[Tensor, float] | None:
    """Return ascending eigenvalues of F' B F and half of log det A det B; None unless both are regular."""
    width = len(cov_a)
    if cov_a.device.type != "cpu":
        (a, bad_a), (b, bad_b) = torch.linalg.cholesky_ex(cov_a), torch.linalg.cholesky_ex(cov_b)
        if int(bad_a) or int(bad_b):
            return None
        logs = float(a.diagonal().log().sum() + b.diagonal().log().sum())
        return torch.linalg.eigvalsh(a.T @ cov_b @ a), logs
    other, bad = lapack.dpotrf(cov_b.numpy().T, lower=1)
    if bad:
        return None
    lower, order = _pivoted_cholesky(cov_a.numpy())
    if lower.shape[1] < width:
        return None
    logs = float(np.log(lower.diagonal()).sum() + np.log(other.diagonal()).sum())
    # Pivoting sorts the columns by size, so that small eigenvalues have small errors.
    inner = cov_b.numpy().take(order, 0).take(order, 1).T
    inner = blas.dtrmm(1.0, lower, inner, side=1, lower=1, overwrite_b=1)
    inner = blas.dtrmm(1.0, lower, inner, side=0, lower=1, trans_a=1, overwrite_b=1)
    return _eigenvalues(torch.from_numpy(inner)), logs


def _pivoted_cholesky(matrix: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return a factor [D, R], valid in its lower trapezoid, and the order of its rows."""
    if not matrix.any():
        return np.zeros((len(matrix), 0)), np.arange(len(matrix))
    # The transposed view of a symmetric matrix is in LAPACK's memory order.
    lower, pivots, rank, _ = lapack.dpstrf(matrix.T, lower=1)
    return lower[:, :rank], pivots.astype(np.int64) - 1


def _eigenvalues(matrix: Tensor, *, beside: bool = False) -> Tensor:
    """Return the ascending eigenvalues of a symmetric matrix; `beside` means in parallel with others."""
    if matrix.device.type != "cpu":
        values: Tensor = torch.linalg.eigvalsh(matrix)
        return values
    if len(matrix) == 0:
        return matrix.new_zeros(0)
    if beside:  # NumPy releases the interpreter lock meanwhile, SciPy does not
        return torch.from_numpy(np.linalg.eigvalsh(matrix.numpy()))
    # This LAPACK driver was faster than those of NumPy and PyTorch.
    return torch.from_numpy(eigvalsh(matrix.numpy(), driver="evr", check_finite=False))
