"""run_pass(): which images are read for which states, in how many calls, and when a state may refuse."""

import numpy as np
import pytest
import torch

from pgmetrics.errors import StateError
from pgmetrics.evaluation import engine
from pgmetrics.evaluation.engine import Feed, run_pass
from pgmetrics.metrics.registry import METRICS, metric
from pgmetrics.metrics.swd import SlicedWasserstein
from tests.helpers.counting import Counting
from tests.helpers.toy_network import ToyNetwork

CPU = torch.device("cpu")
FAST = {"swd": SlicedWasserstein(patches_per_image=16, directions=8, repeats=2)}
# They keep sums of products, whose last digits depend on how the images were cut and merged.
SUMS = ("fid", "fd")


def chosen():
    return [FAST.get(name) or metric(name) for name in METRICS]


def empty(metrics, side, first, count):
    """A feed of images first ... first + count - 1 for each metric."""
    return [Feed(one.new_state(side, resolution=(32, 32)), one.tap, first, first + count) for one in metrics]


def fill(source, order, feeds, **how):
    networks = {name: ToyNetwork(name) for name in ("inception", "custom")}
    remarks = run_pass(source, order, feeds, device=CPU, networks=networks, workers=0, **how)
    return remarks, networks


def numbers(metrics, real, fake):
    pairs = zip(metrics, real, fake, strict=True)
    return {one.name: one.compute(real=r if one.two_sided else None, fake=f)[0] for one, r, f in pairs}


def dealt(count, length, calls):
    """Blocks dealt round: the spans of each call."""
    starts = range(0, count, length)
    return [[(start, start + length) for start in starts[rank::calls]] for rank in range(calls)]


N, LENGTH = 210, 20
SPANS = {
    "dealt to three": dealt(2 * N, LENGTH, 3),
    "one in blocks of other lengths": [[(0, 33), (90, 91)], [(33, 90), (91, 2 * N)]],
    "backwards": dealt(2 * N, LENGTH, 2)[::-1],
}


@pytest.mark.parametrize("spans", SPANS.values(), ids=SPANS)
def test_spans_in_several_calls_merge_to_the_bits_of_one_call(monkeypatch, spans):
    # Wrong: a block cut where a span ends, read for two spans or for none; features of blocks that do not
    # lie side by side taken for each other's; a second set of the reals that begins in another block.
    monkeypatch.setattr(engine, "block_length", lambda _: LENGTH)
    metrics, order = chosen(), np.random.default_rng(5).permutation(2 * N)

    def halves():
        # As the floor has them: two sets of the same images, the second begins within the order.
        return empty(metrics, "real", 0, N), empty(metrics, "fake", N, N)

    whole, source = halves(), Counting(2 * N)
    _, networks = fill(source, order, [*whole[0], *whole[1]])
    assert source.reads.tolist() == [1] * (2 * N)
    expected = numbers(metrics, *([feed.state for feed in half] for half in whole))

    shared, merged, seen = Counting(2 * N), None, 0
    for part in spans:
        feeds = [feed for half in halves() for feed in half]
        _, used = fill(shared, order, feeds, spans=part)
        seen += used["inception"].images
        states = [feed.state for feed in feeds]
        merged = states if merged is None else [a.merge(b) for a, b in zip(merged, states, strict=True)]
    assert shared.reads.tolist() == [1] * (2 * N)
    assert seen == networks["inception"].images == 2 * N
    found = numbers(metrics, merged[: len(metrics)], merged[len(metrics) :])
    for name, estimates in expected.items():
        if name in SUMS:
            values = [[estimate.value for estimate in one] for one in (found[name], estimates)]
            assert values[0] == pytest.approx(values[1], rel=1e-9)
        else:
            assert found[name] == estimates


def test_only_blocks_that_begin_within_a_span_are_read_and_each_is_read_whole(monkeypatch):
    monkeypatch.setattr(engine, "block_length", lambda _: LENGTH)
    source, told = Counting(100), []
    feeds = empty([FAST["swd"]], "fake", 10, 70)
    fill(source, np.arange(100), feeds, spans=[(0, 11), (45, 51)], progress=lambda *step: told.append(step))
    # The blocks of the feed begin at 10, 30, 50 and 70.
    assert np.flatnonzero(source.reads).tolist() == [*range(10, 30), *range(50, 70)]
    assert feeds[0].state.seen.intervals == ((0, 20), (40, 60))
    assert told == [(0, 40), (20, 40), (40, 40)]


def test_without_feeds_nothing_is_read():
    source = Counting(8)
    assert fill(source, np.arange(8), [])[0] == []
    assert source.reads.sum() == 0


def test_a_refusal_of_a_networks_features_comes_before_a_state_is_fed():
    def refuse(tap, width):
        raise StateError(f"{tap.layer} {width}")

    metrics = [metric("fid")]
    feeds = [*empty(metrics, "fake", 0, 40), *empty([FAST["swd"]], "fake", 0, 40)]
    with pytest.raises(StateError, match="features 48"):
        fill(Counting(40), np.arange(40), feeds, check=refuse)
    assert [len(feed.state.seen) for feed in feeds] == [0, 0]


def test_remarks_name_the_set():
    source = Counting(40)
    source.pixels[:] = 7
    (remark,), _ = fill(source, np.arange(40), empty([FAST["swd"]], "fake", 0, 40), called="B")
    assert remark.startswith("counting0 (B): every value of all 40 images is 7")
