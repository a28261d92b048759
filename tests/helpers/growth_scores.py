"""Scoring the run of `growing_run` in a moment, and reading what was stored."""

import numpy as np

from pgmetrics.growth import score_run
from pgmetrics.results import run_scores
from pgmetrics.sources.arrays import ArraySource
from tests.helpers.tables import SWD, rows


def real_pixels(n=40, side=32):
    # All alike to some degree, or MS-SSIM of pairs would be a row of zeros.
    rng = np.random.default_rng(0)
    coarse = rng.integers(60, 196, (1, 3, 4, 4)) + rng.integers(-25, 26, (n, 3, 4, 4))
    noise = np.random.default_rng(1).integers(-30, 31, (n, 3, side, side))
    return (coarse.repeat(side // 4, 2).repeat(side // 4, 3) + noise).astype(np.uint8)


REAL = ArraySource(real_pixels(), name="reals")


FAST = (SWD, "ms-ssim")


N = 16


def score(run, real=REAL, metrics=FAST, **options):
    return score_run(run, real, metrics, **{"num_images": N, "workers": 0, "device": "cpu", **options})


def values(results, **wanted):
    return [(row["metric"], row["level"], row["value"]) for row in rows(results, **wanted)]


def store(run):
    return (run / "scores.jsonl").read_bytes()


def items(run):
    return [(entry.kind, entry.label) for entry in run_scores.read(run)]
