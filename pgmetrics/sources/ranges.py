"""Checks of a set's values against the declared value range, or against 0 to 255."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgmetrics.errors import SourceError, printable
from pgmetrics.runtime.images import checked_range, extremes

_ROUNDING = 0.5 / 255
"""Half a grey level relative to the range's width: such a value rounds to the byte of the range's end."""

_OVERSHOOT = 0.05
"""Relative to the range's width. Without a final tanh networks overshoot by less on white or black areas."""

_LARGEST_SHARE = 0.5
"""With a larger saturated share no picture is left. An untrained linear output is about standard normal, and
27 % of its values overshoot (-1, 1) by more than the tolerance."""

_ENOUGH = 16
"""Number of images from which on that share is checked: a few images may all be white."""

_FARTHEST = 10.0
"""Distance from the range in widths: values too large by a factor of 255 exceed it in (0, 1) and (-1, 1)."""

_MOST = 0.999
"""Share of a set's values that must lie within half of 0 to 255 for a warning. Drawings and digits on a plain
background have some percent of their values elsewhere."""

_COUNTED = 1 << 16
"""Values counted per block; 65 are 0.1 %. Counting them takes 0.04 % of the time of SWD; all, 1 %."""


class DeclaredRange:
    """Compares the values of all added images with the declared range.

    For data (`check_data`), values outside by more than half a grey level are refused. A network's output
    (`check_output`) may overshoot without a tanh, as the published ProGAN's does, so that such values are
    saturated and counted. It is refused if more than half of the values of at least 16 images lie outside by
    more than 5 % of the range's width, or one value by more than ten widths.

    Args:
        value_range: the values that become 0 and 255.
        name: the source's name, for messages.
    """

    def __init__(self, value_range: tuple[float, float], name: str) -> None:
        self.value_range = self._low, self._high = checked_range(value_range)
        self._name = printable(name)
        self._forget()

    def _forget(self) -> None:
        self._lowest, self._highest = float("inf"), -float("inf")
        self._outside = self._far_outside = self._values = self._images = 0

    def add(self, images: Any) -> None:
        """Accumulate images, float [N, ...], an array or a tensor; `to_bytes` checks for NaN."""
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
            SourceError: the message names the range of the values, the share outside, and a likely fix.
        """
        if self._outside:
            hint = "give the range that they have, or clip them where only resizing has overshot"
            raise SourceError(f"{self._found(self._outside)}; {self._meant() or hint}")

    def check_output(self) -> None:
        """Refuse a network's output that does not fit the declared range.

        Raises:
            SourceError: as for `check_data`.
        """
        width = self._high - self._low
        far = max(self._low - self._lowest, self._highest - self._high) > _FARTHEST * width
        saturated = self._images >= _ENOUGH and self._far_outside > _LARGEST_SHARE * self._values
        if far or saturated:
            raise SourceError(
                f"{self._found(self._far_outside)}; {self._meant() or 'give the range that it makes'}"
            )

    def take_remarks(self) -> list[str]:
        """Return a sentence about saturated values, if they are 0.1 % or more, and reset the counts."""
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
    """The part of 0 to 255 that a set uses, over all images read.

    It is the shortest interval that holds 99.9 % of the values, so that stray pixels do not matter.

    Args:
        name: the set's name, for the warning.
    """

    def __init__(self, name: str) -> None:
        self._name = printable(name)
        self._lowest, self._highest, self._images = 255, 0, 0
        self._counts = np.zeros(256, np.int64)

    def add(self, pixels: NDArray[np.uint8]) -> None:
        """Accumulate images, uint8 [N, 3, H, W]; at most about 65,000 values of a call are counted."""
        if not pixels.size:
            return
        step = max(1, pixels.size // _COUNTED)
        while math.gcd(step, pixels.shape[-1]) > 1:  # otherwise some columns would never be sampled
            step += 1
        self._counts += np.bincount(pixels.reshape(-1)[::step], minlength=256)
        if self._highest - self._lowest < 255:
            self._lowest = min(self._lowest, int(pixels.min()))
            self._highest = max(self._highest, int(pixels.max()))
        self._images += len(pixels)

    def remark(self) -> str | None:
        """Return a warning if the images are constant or use half of the range or less, else None."""
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
        """Return the ends of the shortest interval that holds 99.9 % of the counted values."""
        below = np.concatenate([[0], np.cumsum(self._counts)])  # number of values below 0 ... 256
        wanted = below[:-1] + _MOST * below[-1]
        ends = np.searchsorted(below, wanted)
        lengths = ends - np.arange(256)
        lengths[ends > 256] = 257
        low = int(lengths.argmin())
        return low, int(ends[low]) - 1


def same_images(first: Sequence[Any] | NDArray[np.uint8], again: Sequence[Any] | NDArray[np.uint8]) -> bool:
    """Whether two uint8 arrays show the same images, up to differences in rounding.

    One value in a hundred may differ by one level, as when a library adds in another order.
    """
    off = np.abs(np.asarray(first, np.int16) - np.asarray(again, np.int16))
    return bool(off.max(initial=0) <= 1 and np.count_nonzero(off) <= max(1, off.size // 100))
