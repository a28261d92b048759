"""Workers, memory, order and merges: one table, to the bit."""

import itertools

import numpy as np
import pytest
from PIL import Image

import pgmetrics
from pgmetrics import SlicedWasserstein
from pgmetrics.metrics.registry import METRICS
from pgmetrics.runtime.blocks import Block, FeatureBlock, plan
from tests.helpers.toy_network import ToyNetwork

# They keep sums of products, whose last digits depend on the cut; all others keep rows.
SUMS = ("fid", "fd")
METRIC_CHOICE = [SlicedWasserstein(patches_per_image=16, directions=8, repeats=2), "ms-ssim"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two directories of 300 small PNGs: two blocks each, the second one short."""
    made = []
    for seed in (1, 2):
        folder = tmp_path_factory.mktemp(f"set{seed}")
        small = np.random.default_rng(seed).integers(0, 256, (300, 8, 8, 3), dtype=np.uint8)
        for index, image in enumerate(small.repeat(4, axis=1).repeat(4, axis=2)):
            Image.fromarray(image).save(folder / f"{index:04d}.png")
        made.append(str(folder))
    return made


def table(folders, **how):
    return pgmetrics.evaluate(*folders, METRIC_CHOICE, floor=True, num_images=140, **how).rows


@pytest.mark.slow
def test_workers_and_memory_change_no_bit(folders):
    expected = table(folders, workers=0)
    for workers, memory in itertools.product((1, 2), (2**32, 0)):
        assert table(folders, workers=workers, max_memory=memory) == expected


def test_another_seed_changes_every_value(folders):
    one, other = (
        pgmetrics.evaluate(*folders, METRIC_CHOICE, num_images=140, seed=s, workers=0) for s in (0, 1)
    )
    assert all(a["value"] != b["value"] for a, b in zip(one.rows, other.rows, strict=True))


@pytest.mark.parametrize("name", METRICS)
def test_ranks_that_are_dealt_whole_blocks_merge_to_the_bits_of_one(name):
    import torch

    metric = METRIC_CHOICE[0] if name == "swd" else METRICS[name].load()()
    small = np.random.default_rng(3).integers(0, 256, (90, 3, 16, 16), dtype=np.uint8)
    pixels = torch.from_numpy(small.repeat(2, axis=2).repeat(2, axis=3))
    network = ToyNetwork()

    def block(start, stop):
        if metric.tap is None:
            return Block(start, pixels[start:stop])
        layer = metric.tap.layer
        return FeatureBlock(start, network.extract(pixels[start:stop], [layer])[layer])

    def side(which, world_size, backwards):
        states = [metric.new_state(which, resolution=(32, 32)) for _ in range(world_size)]
        for number, (start, stop) in enumerate(plan(90, 16)[:: -1 if backwards else 1]):
            states[number % world_size].update(block(start, stop))
        merged = states[-1]
        for state in states[:-1]:
            merged = merged.merge(state)
        return merged

    def values(world_size, backwards):
        real = side("real", world_size, backwards) if metric.two_sided else None
        return metric.compute(real=real, fake=side("fake", world_size, backwards))

    expected = values(1, False)
    for world_size, backwards in itertools.product((1, 2, 3), (False, True)):
        found = values(world_size, backwards)
        if name in SUMS:
            for one, other in zip(found[0], expected[0], strict=True):
                assert one.metric == other.metric
                assert one.value == pytest.approx(other.value, rel=1e-9)
        else:
            assert found == expected
