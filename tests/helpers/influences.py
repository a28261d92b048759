"""Finite differences of a number in the weights of images: what influences are measured against."""

import numpy as np
import torch

from pgmetrics.metrics.influence import Influence

STEP = 1e-5


def weights(n, fit=None):
    """Equal ones, of all images or of those of a slice."""
    made = torch.zeros(n, dtype=torch.float64)
    made[fit or slice(None)] = 1
    return made / made.sum()


def derivatives(value, given, side):
    """Of value(*weights), when one image of a side gets a little of all the weight."""
    found = []
    for i in range(len(given[side])):
        ends = []
        for sign in (STEP, -STEP):
            moved = list(given)
            moved[side] = (1 - sign) * given[side] + sign * torch.eye(len(given[side]), dtype=torch.float64)[
                i
            ]
            ends.append(value(*moved))
        found.append((ends[0] - ends[1]) / (2 * STEP))
    found = np.array(found)
    return found - found.mean()


def length(rows):
    """The influence on the squared length of the mean, whose variance at mean 0 is all of second order."""
    mean, halves = rows.mean(0), (rows[::2].mean(0), rows[1::2].mean(0))
    parts = [Influence("m", None, None, 2 * (rows - mean) @ one) for one in (mean, *halves)]
    return Influence("m", None, None, parts[0].fake, halves=(parts[1], parts[2]))
