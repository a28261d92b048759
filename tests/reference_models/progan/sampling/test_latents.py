"""Latents and labels: keyed by image, and drawn as they should be."""

from __future__ import annotations

from math import erf, exp, pi, sqrt

import numpy as np
import pytest

from reference_models.progan.sampling.latents import labels, latents


def test_latents_are_keyed_by_image():
    # A generator seeded once per batch would make them depend on the batch.
    rows = latents(5, range(8), 512)
    assert rows.dtype == np.float32
    assert (latents(5, [7, 3], 512) == rows[[7, 3]]).all()
    assert (latents(6, [7, 3], 512) != rows[[7, 3]]).all()
    # Keys that fall together modulo 2**32 are a known trap.
    assert (latents(5 + 2**32, [7], 512) != rows[[7]]).all()
    many = latents(0, range(400), 512)
    assert abs(float(many.mean())) < 0.01
    assert float(many.std()) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("bound", [2.0, 0.7, 1e-3])
def test_truncated_latents_are_normal_within_the_bound(bound):
    whole, cut = latents(5, range(300), 512), latents(5, range(300), 512, bound)
    assert cut.dtype == np.float32
    assert float(np.abs(cut).max()) <= bound
    # Neither drawn anew as a whole, nor scaled: what lies within stays.
    near = np.abs(whole) <= bound
    assert (cut[near] == whole[near]).all()
    # Clipping would pile numbers up at the bound: the variance and the share in the outer half are
    # those of the normal distribution cut off there.
    inside = erf(bound / sqrt(2))
    variance = 1 - 2 * bound * exp(-(bound**2) / 2) / sqrt(2 * pi) / inside
    assert float(cut.var()) == pytest.approx(variance, rel=0.02)
    outer = 1 - erf(bound / 2 / sqrt(2)) / inside
    assert float((np.abs(cut) > bound / 2).mean()) == pytest.approx(outer, abs=0.006)
    assert float(cut.mean()) == pytest.approx(0, abs=0.01 * bound)
    assert (latents(5, [7, 3], 512, bound) == cut[[7, 3]]).all()


def test_labels_are_as_frequent_as_in_training():
    rows = labels(0, range(4000), [0.1, 0.0, 0.6, 0.3])
    assert (rows.sum(1) == 1).all()
    assert rows.mean(0) == pytest.approx([0.1, 0, 0.6, 0.3], abs=0.03)
    assert (labels(0, [17, 4], [0.1, 0.0, 0.6, 0.3]) == rows[[17, 4]]).all()
