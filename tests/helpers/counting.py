"""A source that counts how often each of its images was read."""

import numpy as np

from pgmetrics.sources.base import IDENTITY, ImageSource, listed


class Counting(ImageSource):
    """Random blotches of 32 px that count how often each was read."""

    def __init__(self, n, seed=0, shuffled=False, side=32):
        super().__init__()
        self.name, self.shuffled, self._recipe = f"counting{seed}", shuffled, f"counting:{n},{seed}"
        small = np.random.default_rng(seed).integers(0, 256, (n, 3, side // 4, side // 4), dtype=np.uint8)
        self.pixels = small.repeat(4, axis=2).repeat(4, axis=3)
        self.reads = np.zeros(n, int)

    def __len__(self):
        return len(self.pixels)

    @property
    def resolution(self):
        return self.pixels.shape[2], self.pixels.shape[3]

    def identity(self, indices):
        return f"{IDENTITY}{self._recipe},images={listed(indices)}"

    def _read(self, indices):
        self.reads[list(indices)] += 1
        return self.pixels[list(indices)]
