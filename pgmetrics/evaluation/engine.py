"""One pass over a set of images: it reads each once, runs each network on it once, and feeds the states.

The pass knows nothing about metrics, statistics or caches; `evaluation.plan` decides which states are fed
which images.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice, pairwise

import torch

from pgmetrics.errors import SampleError
from pgmetrics.features.base import FeatureExtractor
from pgmetrics.metrics.base import State, Tap
from pgmetrics.metrics.feature_rows import first_not_finite
from pgmetrics.runtime.blocks import Block, FeatureBlock, block_length, plan
from pgmetrics.sources import loading
from pgmetrics.sources.base import ImageSource, Order
from pgmetrics.sources.ranges import ByteRange

_Span = tuple[int, int]  # places start ... stop - 1 of an order

_TOGETHER = 4  # the most blocks that go through a network in one extraction
_BYTES = 2**25  # an extraction of so many bytes takes no further block


@dataclass(frozen=True)
class Feed:
    """A state and the images that it is fed: those at the places first ... stop - 1 of an order.

    Attributes:
        state: its images have the indices 0 ... stop - first - 1 for any `first`.
        tap: the network output that it reads, or None for pixels.
        first, stop: places in the order.
    """

    state: State
    tap: Tap | None
    first: int
    stop: int

    def overlap(self, start: int, stop: int) -> _Span:
        """Return the part of places start ... stop - 1 that it is fed; the part (a, b) is empty if a >= b."""
        return max(start, self.first), min(stop, self.stop)

    def update(self, start: int, pixels: torch.Tensor, features: Mapping[Tap, FeatureBlock]) -> None:
        """Update the state with its part of a block's pixels or features."""
        a, b = self.overlap(start, start + len(pixels))
        if a >= b:
            return
        if self.tap is None:
            self.state.update(Block(a - self.first, pixels[a - start : b - start]))
        else:
            rows = features[self.tap]
            part = rows.features[a - rows.start : b - rows.start]
            self.state.update(FeatureBlock(a - self.first, part))


def run_pass(
    source: ImageSource,
    order: Order,
    feeds: Sequence[Feed],
    *,
    device: torch.device,
    networks: Mapping[str, FeatureExtractor] | None = None,
    workers: int | None = None,
    spans: Sequence[_Span] | None = None,
    called: str | None = None,
    check: Callable[[Tap, int], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Read each image that the feeds need once, and update their states.

    A new block begins at the first place of every feed, so that each state is fed as if it were the only one.
    The work may be divided: several calls whose spans partition the order feed the blocks of a single call,
    in any order of the calls, and the states of the calls merge to the state of the single call.

    Args:
        source: the images.
        order: their indices in the order in which they are evaluated, int64 [N].
        feeds: the states, each with its part of the order.
        device: device of the computation.
        networks: networks by name, at least those that the feeds tap.
        workers: processes that decode ahead; 0 decodes in this one, None takes one per core.
        spans: (start, stop) places of the order, ascending and disjoint; only blocks that begin within one
            of them are read. By default all blocks are read.
        called: name of the set in remarks, beside the name of its source.
        check: called with a tap and its number of features before a state is fed, so that it may refuse.
        progress: called with the number of images read and the total.

    Returns:
        Notes about the images that a reader of the scores must know, one sentence each.

    Raises:
        SourceError: an image cannot be read.
        SampleError: a network's output is not finite; the message names the image.
    """
    if not feeds:
        return []
    networks = networks or {}
    source.to(str(device))
    for name in {feed.tap.network for feed in feeds if feed.tap}:
        networks[name].to(str(device))
    blocks = _blocks(feeds, block_length(source.resolution[0]), spans)
    done, total = 0, sum(stop - start for start, stop in blocks)
    if progress is not None:
        progress(0, total)
    values = ByteRange(source.name if called is None else f"{source.name} ({called})")
    together = _TOGETHER if any(feed.tap for feed in feeds) else 1
    with closing(loading.pieces(source, order, blocks, workers)) as loaded:
        for group in _groups(blocks, {feed.first for feed in feeds}, together, source.resolution):
            decoded = [pixels for _, pixels in islice(loaded, len(group))]
            for images in decoded:
                values.add(images)
            on_device = [torch.from_numpy(images).to(device) for images in decoded]
            whole = on_device[0] if len(on_device) == 1 else torch.cat(on_device)
            features = _features(feeds, group[0][0], whole, networks, source, order, check)
            for (start, stop), pixels in zip(group, on_device, strict=True):
                for feed in feeds:
                    feed.update(start, pixels, features)
                done += stop - start
                if progress is not None:
                    progress(done, total)
    remark = values.remark()
    return source.take_remarks() + ([] if remark is None else [remark])


def _blocks(feeds: Sequence[Feed], length: int, spans: Sequence[_Span] | None) -> list[_Span]:
    """Return the blocks to read, each as (start, stop) places of the order."""
    cuts = sorted({feed.first for feed in feeds} | {max(feed.stop for feed in feeds)})
    blocks = [
        (begin + start, begin + stop)
        for begin, end in pairwise(cuts)
        for start, stop in plan(end - begin, length)
    ]
    if spans is None:
        return blocks
    starts = [start for start, _ in spans]
    within = [bisect_right(starts, start) - 1 for start, _ in blocks]
    return [
        block for block, span in zip(blocks, within, strict=True) if span >= 0 and block[0] < spans[span][1]
    ]


def _groups(
    blocks: Sequence[_Span], begins: Collection[int], most: int, resolution: tuple[int, int]
) -> Iterator[list[_Span]]:
    """Group adjacent blocks: larger extractions leave cores idle less often, as they do at their end."""
    image = 3 * resolution[0] * resolution[1]
    group: list[_Span] = []
    for start, stop in blocks:
        if group:
            adjacent = start == group[-1][1] and start not in begins
            full = len(group) == most or (group[-1][1] - group[0][0]) * image >= _BYTES
            if full or not adjacent:
                yield group
                group = []
        group.append((start, stop))
    if group:
        yield group


def _features(
    feeds: Sequence[Feed],
    start: int,
    pixels: torch.Tensor,
    networks: Mapping[str, FeatureExtractor],
    source: ImageSource,
    order: Order,
    check: Callable[[Tap, int], None] | None,
) -> dict[Tap, FeatureBlock]:
    """Run each network that a feed taps once, over the images that some feed needs."""
    wanted: dict[str, set[Tap]] = {}
    needed: dict[str, list[_Span]] = {}
    for feed in feeds:
        a, b = feed.overlap(start, start + len(pixels))
        if feed.tap is not None and a < b:
            wanted.setdefault(feed.tap.network, set()).add(feed.tap)
            needed.setdefault(feed.tap.network, []).append((a, b))
    features = {}
    for network, taps in wanted.items():
        a, b = min(a for a, _ in needed[network]), max(b for _, b in needed[network])
        layers = sorted(tap.layer for tap in taps)
        rows = networks[network].extract(pixels[a - start : b - start], layers)
        for tap in taps:
            block = FeatureBlock(a, rows[tap.layer])
            bad = first_not_finite(block)
            if bad is not None:
                raise SampleError(
                    f"{source.name}: the {network} {tap.layer} of {source.called(int(order[bad]))} "
                    "are not finite; the network or the image is broken"
                )
            if check is not None:
                check(tap, block.features.shape[1])
            features[tap] = block
    return features
