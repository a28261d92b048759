"""Rows of features, whole and in pieces: float32."""

import numpy as np
import torch


def normal(seed, n, d, scale=1.0):
    return (np.random.default_rng(seed).standard_normal((n, d)) * scale).astype(np.float32)


def draws(seed, below, n):
    return np.random.default_rng(seed).integers(0, below, n)


def clusters(seed, n, spread, d=48):
    """Around ten centers far apart; spread 1e-4 is below the rounding of |x|^2 + |y|^2 - 2 x.y in float32."""
    return normal(9, 10, d, 5.0)[draws(seed, 10, n)] + normal(seed + 1, n, d, spread)


def pieces(rows, num=3):
    return [torch.from_numpy(part) for part in np.array_split(rows, num)]
