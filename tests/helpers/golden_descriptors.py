"""Descriptors at the published code's places."""

import numpy as np
import torch

from pgmetrics.functional.patches import channel_moments, channel_statistics, gather_patches
from pgmetrics.functional.pyramid import laplacian_pyramid, level_sizes
from tests.helpers.draws import normal_tensor
from tests.parity import formula


def unit_directions(d, k):
    directions = normal_tensor(k, d, seed=7)
    return directions / directions.norm(dim=1, keepdim=True)


def our_order(component):
    """The published place (channel, column, row) of our component (row, column, channel)."""
    row, column, channel = np.unravel_index(component, (7, 7, 3))
    return channel * 49 + column * 7 + row


def golden_descriptors(images, pieces=1):
    """Patches and statistics per level at the golden file's centers, gathered in `pieces` pieces."""
    result = []
    sizes = level_sizes(*images.shape[2:])
    for level, (side, _) in enumerate(sizes):
        chunks, moments = [], []
        for first in range(0, len(images), len(images) // pieces):
            part = torch.from_numpy(images[first : first + len(images) // pieces])
            x, y = formula.centers(len(part), level, side, first)
            rows, columns = (torch.from_numpy(v.reshape(len(part), 128) - 3) for v in (y, x))
            chunk = gather_patches(laplacian_pyramid(part, len(sizes))[level], rows, columns)
            chunks.append(chunk)
            moments.append(channel_moments(chunk, 3, len(part)))
        result.append((chunks, channel_statistics(moments)))
    return result
