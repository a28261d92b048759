"""Whether the values of a set agree with the range that was declared for them, or with 0 to 255."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgmetrics.errors import SourceError, printable
from pgmetrics.runtime.images import checked_range, extremes

_ROUNDING = 0.5 / 255
"""Of the range's width, half a grey level: such a value becomes the same byte as the end of the range."""

_OVERSHOOT = 0.05
"""Of the range's width. A network without a last tanh overshoots on white or black areas by less."""

_LARGEST_SHARE = 0.5
"""No picture is left where more is saturated. An untrained linear output is about standard normal: 27 % of it
overshoot (-1, 1) by more than that."""

_ENOUGH = 16
"""Images from which on that share is judged: a few may well be all white."""

_FARTHEST = 10.0
"""Widths of the range beyond its ends: a factor of 255 lies beyond that in both (0, 1) and (-1, 1)."""

_MOST = 0.999
"""Share of a set's values that must lie within half of 0 to 255 for a warning. Drawings and digits on a plain
ground have some percent elsewhere."""

_COUNTED = 1 << 16
"""Values of a block that are counted; 65 are 0.1 % of them. All would cost 1 % of SWD; these, 0.04 %."""


class DeclaredRange:
    """How values lie relative to the range that was declared for them, over all images added.

    Of data (`check_data`), values outside by more than half a grey level are refused. Of a network's
    output (`check_output`), which may overshoot where it has no tanh, as the published ProGAN does, they are
    saturated and counted; it is refused where more than half of the values of 16 images or more lie outside
    by more than 5 % of the range's width, or one of them by more than ten widths.

    Args:
        value_range: the values that become 0 and 255.
        name: of the source, for messages.
    """

    def __init__(self, value_range: tuple[float, float], name: str) -> None:
        self.value_range = self._low, self._high = checked_range(value_range)
        self._name = printable(name)
        self._forget()

    def _forget(self) -> None:
        self._lowest, self._highest = float("inf"), -float("inf")
        self._outside = self._far_outside = self._values = self._images = 0

    def add(self, images: Any) -> None:
        """Take note of images, float [N, ...], as an array or a tensor; NaN is left to `to_bytes`."""
        width = self._high - self._low
        lowest, highest = extremes(images)
        self._values += int(np.prod(images.shape))
        self._images += len(images)
        self._lowest, self._highest = min(self._lowest, lowest), max(self._highest, highest)
        for beyond, counter in ((_ROUNDING * width, "_outside"), (_OVERSHOOT * width, "_far_outside")):
            low, high = self._low - beyond, self._high + beyond
            if lowest < low or highest > high:
                count = int(((images < low) | (images > high)).sum())
                setattr(self, counter, getattr(self, counter) + count)

    def check_data(self) -> None:
        """Refuse any value outside.

        Raises:
            SourceError: naming the least and the largest value, the share outside, and what may be meant.
        """
        if self._outside:
            hint = "give the range that they have, or clip them where only resizing has overshot"
            raise SourceError(f"{self._found(self._outside)}; {self._meant() or hint}")

    def check_output(self) -> None:
        """Refuse a network's output that cannot be of the declared range.

        Raises:
            SourceError: as `check_data`.
        """
        width = self._high - self._low
        far = max(self._low - self._lowest, self._highest - self._high) > _FARTHEST * width
        saturated = self._images >= _ENOUGH and self._far_outside > _LARGEST_SHARE * self._values
        if far or saturated:
            raise SourceError(
                f"{self._found(self._far_outside)}; {self._meant() or 'give the range that it makes'}"
            )

    def take_remarks(self) -> list[str]:
        """Tell what was saturated in a sentence, from 0.1 % of the values on, and start anew."""
        worth_telling = self._far_outside > 1e-3 * self._values
        remarks = [f"{self._found(self._far_outside)}; they were saturated"] if worth_telling else []
        self._forget()
        return remarks

    def _found(self, outside: int) -> str:
        return (
            f"{self._name} declares value_range=({self._low:g}, {self._high:g}) and has values from "
            f"{self._lowest:.4g} to {self._highest:.4g}, {100 * outside / self._values:.2g} % of them outside"
        )

    def _meant(self) -> str:
        low, high = self._lowest, self._highest
        if low >= -_ROUNDING and 1.5 < high <= 255.5:
            return "are they of 0 to 255? value_range=(0, 255)"
        if -1.01 <= low < -0.5 and high <= 1.01:
            return "are they of -1 to 1? value_range=(-1, 1)"
        if -2.2 <= low < -0.5 and 1 < high <= 2.7:
            return (
                "are they normalized by ImageNet's mean and deviation? Undo it: x * std + mean is of "
                "value_range=(0, 1)"
            )
        return ""


class ByteRange:
    """How much of 0 to 255 a set uses, over all images that were read.

    A few stray pixels do not hide it: what counts is the shortest interval that holds 99.9 % of the values.

    Args:
        name: of the set, for the warning.
    """

    def __init__(self, name: str) -> None:
        self._name = printable(name)
        self._lowest, self._highest, self._images = 255, 0, 0
        self._counts = np.zeros(256, np.int64)

    def add(self, pixels: NDArray[np.uint8]) -> None:
        """Take note of images, uint8 [N, 3, H, W]; of many values some 65,000 are counted."""
        if not pixels.size:
            return
        step = max(1, pixels.size // _COUNTED)
        while math.gcd(step, pixels.shape[-1]) > 1:  # or some columns would never be seen
            step += 1
        self._counts += np.bincount(pixels.reshape(-1)[::step], minlength=256)
        if self._highest - self._lowest < 255:
            self._lowest = min(self._lowest, int(pixels.min()))
            self._highest = max(self._highest, int(pixels.max()))
        self._images += len(pixels)

    def remark(self) -> str | None:
        """A warning where the images are constant or use half of the range or less, else None."""
        if not self._images:
            return None
        low, high = self._most()
        if high - low > 127:
            return None
        every = (low, high) == (self._lowest, self._highest)
        of_all = f"all {self._images:,} images" if self._images > 1 else "the only image"
        if low == high and every:
            return f"{self._name}: every value of {of_all} is {low}; such a set is constant"
        if low == high:
            return f"{self._name}: 99.9 % of the values of {of_all} are {low}; such a set is all but constant"
        if high <= 1:
            hint = "were values of 0 to 1 taken for bytes? Give floats with value_range=(0, 1)"
        elif low >= 127:
            hint = "they lie in the upper half: were values of 0 to 1 declared as value_range=(-1, 1)?"
        else:
            hint = "half of the range or less: is the value range right?"
        values = "the values" if every else "99.9 % of the values"
        return f"{self._name}: {values} of {of_all} lie between {low} and {high} of 0 to 255; {hint}"

    def _most(self) -> tuple[int, int]:
        """The ends of the shortest interval that holds 99.9 % of the values that were counted."""
        below = np.concatenate([[0], np.cumsum(self._counts)])  # how many values are less than 0 ... 256
        wanted = below[:-1] + _MOST * below[-1]
        ends = np.searchsorted(below, wanted)
        lengths = ends - np.arange(256)
        lengths[ends > 256] = 257
        low = int(lengths.argmin())
        return low, int(ends[low]) - 1


def same_images(first: Sequence[Any] | NDArray[np.uint8], again: Sequence[Any] | NDArray[np.uint8]) -> bool:
    """Whether two uint8 arrays show the same images, up to what a device rounds otherwise.

    One value in a hundred may be off by one level, as where a library adds in another order.
    """
    off = np.abs(np.asarray(first, np.int16) - np.asarray(again, np.int16))
    return bool(off.max(initial=0) <= 1 and np.count_nonzero(off) <= max(1, off.size // 100))
