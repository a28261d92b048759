"""States of metrics, filled with the features of images or with given moments."""

import numpy as np

from pgmetrics.metrics.frechet import FrechetInceptionDistance
from pgmetrics.metrics.moments import MomentsState
from pgmetrics.runtime.blocks import Block, FeatureBlock


def state_of(rows, side="fake", metric=FrechetInceptionDistance(), **other):  # noqa: B008
    state = metric.new_state(side, resolution=(32, 32), **other)
    for start in range(0, len(rows), 100):
        state.update(FeatureBlock(start, rows[start : start + 100]))
    return state


def given(rows, metric=FrechetInceptionDistance(), count=None):  # noqa: B008
    x = rows.double().numpy()
    key = metric.new_state("real", resolution=(32, 32)).key
    return MomentsState.from_moments(x.mean(axis=0), np.cov(x, rowvar=False), key, count)


def filled(metric, side, rows, seed=0):
    state = metric.new_state(side, resolution=(32, 32), seed=seed)
    kind = Block if metric.name == "swd" else FeatureBlock
    for start in range(0, len(rows), 50):
        state.update(kind(start, rows[start : start + 50]))
    return state
