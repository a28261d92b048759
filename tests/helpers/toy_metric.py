"""A metric as somebody would add it: its mathematics, its accumulator, and its entry of the registry."""

from dataclasses import dataclass, replace
from math import sqrt
from typing import ClassVar

import numpy as np

from pgmetrics.metrics.base import Estimate, Metric, State, check_comparable, stored_array, stored_blocks
from pgmetrics.metrics.influence import Influence
from pgmetrics.metrics.outputs import Aim, Direction, Output
from pgmetrics.metrics.registry import Declaration

# What would stand in functional/brightness.py.


def brightness_gap(real, fake):
    """How far the mean brightness of two sets is apart, and what each image contributes to it."""
    difference = fake.mean() - real.mean()
    sign = np.sign(difference) or 1.0
    return abs(difference), (-sign * (real - real.mean()), sign * (fake - fake.mean()))


# What would stand in metrics/brightness.py.


class BrightnessState(State):
    """The mean brightness of every image, 0 to 1."""

    def __init__(self, key, storage=None):
        super().__init__(key, storage)
        self._means = {}

    def means(self):
        return np.concatenate([*(self._means[start] for start in sorted(self._means)), np.empty(0)])

    def _update(self, block):
        self._means[block.start] = block.pixels.double().mean(dim=(1, 2, 3)).cpu().numpy() / 255

    def _copy(self):
        copy = BrightnessState(self.key, self.storage)
        copy._absorb(self)
        return copy

    def _absorb(self, other):
        self._means.update(other._means)

    def _shift(self, by):
        moved = BrightnessState(self.key, self.storage)
        moved._means = {start + by: means for start, means in self._means.items()}
        return moved

    def arrays(self):
        return {"starts": np.array(sorted(self._means), np.int64), "means": self.means()}

    def restore(self, arrays, seen):
        blocks = stored_blocks(arrays, seen)
        means = stored_array(arrays, "means", np.float64, (len(seen),))
        stops = np.cumsum([stop - start for start, stop in blocks])
        self._means = {
            start: means[last - (stop - start) : last]
            for (start, stop), last in zip(blocks, stops, strict=True)
        }
        self.seen = seen


@dataclass(frozen=True)
class Brightness(Metric):
    """How far the brightness of generated images is from that of the reals."""

    name: ClassVar[str] = "brightness"
    two_sided: ClassVar[bool] = True

    num_images: int = 100

    def with_num_images(self, num_images):
        return replace(self, num_images=num_images)

    def usable(self, available, side):
        return min(available, self.num_images)

    def check_resolution(self, height, width):
        pass

    def new_state(self, side, *, resolution, seed=0, source="", storage=None, network=""):
        return BrightnessState(self._key(side, resolution, seed, source), storage)

    def compute(self, *, real, fake):
        check_comparable(real.key, fake.key)
        value, _ = brightness_gap(real.means(), fake.means())
        (influence,) = self.influences(real=real, fake=fake)
        counts = len(real.seen), len(fake.seen)
        return [Estimate(self.name, None, value, sqrt(influence.variance()), "images", "fake", *counts)], []

    def influences(self, *, real, fake):
        _, parts = brightness_gap(real.means(), fake.means())
        return [Influence(self.name, None, *parts)]


# What would be its entry in metrics/registry.py.

DECLARATION = Declaration(
    name="brightness",
    home="tests.helpers.toy_metric:Brightness",
    summary="Distance between mean brightnesses.",
    outputs=(
        Output(
            name="brightness",
            title="Brightness gap",
            meaning="measures how far the mean brightness is from that of the reals",
            better=Direction(Aim.LOWER, least=0.0),
            use="to find a wrong range of values",
            misses="everything else",
            errors=("images",),
            scale=100.0,
            digits=1,
            source="this test",
        ),
    ),
)
