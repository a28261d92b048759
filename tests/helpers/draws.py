"""Random numbers for tests of mathematics, the same at every call."""

import numpy as np
import torch


def normal(seed, *shape):
    """Standard normal numbers: float64."""
    return np.random.default_rng(seed).standard_normal(shape)


def normal_tensor(*shape, seed=7):
    """The same as a tensor."""
    return torch.from_numpy(normal(seed, *shape))
