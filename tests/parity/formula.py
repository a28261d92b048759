"""The inputs of the golden numbers, by formula, and the numbers themselves.

`golden.json` was made by running the published evaluation code of Karras et al. 2018 (metrics
unmodified, NumPy 2.4, SciPy 1.17, float32) on these inputs. Its "formula" entry states in words
what the functions here compute, and its "checks" are asserted in `test_plain_recipe.py`.
"""

import json
import re
from functools import cache
from pathlib import Path

import numpy as np


@cache
def golden() -> dict:
    """The golden numbers: {"formula": ..., "laplacian_pyramid": ..., "swd": ..., "ms_ssim": ...}."""
    return json.loads((Path(__file__).parent / "golden.json").read_text())


def images(n, s, k):
    """Harsh images: wrapped ramps and products, different for each image and k. uint8 [n, 3, s, s]."""
    i, c, y, x = np.ogrid[:n, :3, :s, :s]
    return ((x * (i + 3 + k) + y * (c + 2) * 2 + ((x * y * (i + 1)) >> 4) + 40 * k) % 256).astype(np.uint8)


def smooth(n, s, k):
    """Smooth images: a few sines. uint8 [n, 3, s, s]."""
    i, c, y, x = np.ogrid[:n, :3, :s, :s]
    values = (
        127.5
        + 60 * np.sin(2 * np.pi * x * (1 + i) / s)
        + 50 * np.cos(2 * np.pi * y * (2 + c) / s + 0.7 * k)
        + 15 * np.sin(6 * np.pi * (x + y) / s + k)
    )
    return np.clip(np.floor(values), 0, 255).astype(np.uint8)


def centers(n, level, side, first=0):
    """Columns x and rows y of 128 patch centers for images first ... first + n - 1, image by image.

    `level` is 0 for the finest and `side` the level's own size in pixels. Returns int64 [n * 128] twice.
    """
    i, p = np.ogrid[first : first + n, :128]
    x = 3 + (37 * p + 11 * i + 5 * level) % (side - 6)
    y = 3 + (53 * p + 29 * i + 7 * level) % (side - 6)
    return x.reshape(-1), y.reshape(-1)


def directions(repeat):
    """The 128 directions of a repeat 0 ... 3, the same for every level: float32 [147, 128].

    Rows are descriptor components in the published order: channel, then column, then row of the patch.
    """
    j, d = np.ogrid[:147, :128]
    matrix = np.cos(43758.5453 * (1 + d + 128 * j + 128 * 147 * repeat))
    return (matrix / np.sqrt((matrix**2).sum(0, keepdims=True))).astype(np.float32)


def sets(name):
    """The image sets that a golden entry is named after: one, or both of "images(...) vs images(...)"."""
    makers = {"images": images, "smooth": smooth}
    found = re.findall(r"(images|smooth)\((\d+), (\d+), (\d+)\)", name)
    return tuple(makers[kind](*map(int, arguments)) for kind, *arguments in found)
