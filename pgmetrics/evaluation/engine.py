"""One pass over a set of images: each is read once, each network sees it once, and states are fed.

The pass knows nothing of metrics' numbers, statistics or caches: which states are fed which images
was decided before (`evaluation.plan`).
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

_TOGETHER = 4  # blocks that go through a network in one extraction,
_BYTES = 2**25  # unless fewer are that many bytes


@dataclass(frozen=True)
class Feed:
    """A state and the images that it is fed: those at the places first ... stop - 1 of an order.

    Attributes:
        state: of images 0 ... stop - first - 1, whatever `first` is.
        tap: the network output that it reads, or None for pixels.
        first, stop: places in the order.
    """

    state: State
    tap: Tap | None
    first: int
    stop: int

    def overlap(self, start: int, stop: int) -> _Span:
        """The part of the places start ... stop - 1 that it is fed; empty if the second is not larger."""
        return max(start, self.first), min(stop, self.stop)

    def update(self, start: int, pixels: torch.Tensor, features: Mapping[Tap, FeatureBlock]) -> None:
        """Give the state its part of a block, or of what its network made of one."""
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
    """Read the images that the feeds need, each once, and hand them round.

    Images are read in blocks that begin anew at the first place of every feed, so that each state is fed as
    if it were alone. Several calls whose spans share the order out feed, in any order of the calls, the
    blocks of one call: the states of equal parts merge to the state of the whole.

    Args:
        source: the images.
        order: their indices in the order in which they are evaluated, int64 [N].
        feeds: the states, each with its part of the order.
        device: of the computation.
        networks: by name, at least those that the feeds tap.
        workers: processes that decode ahead; 0 decodes in this one, None takes one per core.
        spans: (start, stop) places of the order, ascending and disjoint: only blocks that begin within one
            of them are read. All are by default.
        called: names the set in remarks, beside its source's name.
        check: called with a tap and the number of its features before a state is fed, so that it may refuse.
        progress: called with how many images have been read, and of how many.

    Returns:
        Sentences about the images that a reader of the scores must know.

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
    """The blocks to be read, each a (start, stop) of the order."""
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
    """Adjacent blocks, a few at a time: at the end of each extraction some cores have nothing to do."""
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
    """One forward of each network that a feed taps, over the images that some feed needs."""
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
