"""Results that are compared, with the provenance that an evaluation gives them."""

import numpy as np

from pgmetrics import SlicedWasserstein
from pgmetrics.results import Results

FAST = SlicedWasserstein(patches_per_image=8, directions=16, repeats=2)


def blotches(n, seed, shift=0):
    small = np.random.default_rng(seed).integers(0, 256 - shift, (n, 3, 8, 8), dtype=np.uint8) + shift
    return small.repeat(4, axis=2).repeat(4, axis=3).astype(np.uint8)


def row(metric="ms-ssim", value=0.1, stderr=0.01, **changes):
    kind = {"ms-ssim": "pairs", "swd": "images"}.get(metric, "images")
    whole = {
        "run": "r", "subject": "fake", "metric": metric, "level": None, "value": value, "stderr": stderr,
        "stderr_kind": kind, "n_real": None if metric == "ms-ssim" else 100, "n_fake": 100, "seed": 0,
        "protocol": "native",
    }  # fmt: skip
    return {**whole, **changes}


def results(*rows, **provenance):
    return Results(rows or (row(),), provenance)


def verdicts(found):
    return {(r["metric"], r["level"]): r["verdict"] for r in found.rows}


def settings_of(**changes):
    provenance = {
        "parameters": {
            "metrics": {"swd": {"patches_per_image": 128, "num_images": 100}},
            "mirror": False, "preset": None, "resolution": None, "resize": None, "alpha": None, "bits": None,
            "block": 256,
        },
        "sources": {
            "real": {"fingerprint": "reals", "height": 32, "width": 32},
            "fake": {"fingerprint": "fakes", "height": 32, "width": 32},
        },
        "networks": {}, "versions": {"torch": "2.6"}, "device": "cpu",
    }  # fmt: skip
    for path, value in changes.items():
        *way, last = path.split("__")
        place = provenance
        for step in way:
            place = place[step]
        place[last] = value
    return provenance
