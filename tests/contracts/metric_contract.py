"""The contract of a metric of pixels: its test subclasses `MetricContract` and names the metric."""

import json

import numpy as np
import pytest
import torch

from pgmetrics.errors import SampleError, StateError
from pgmetrics.prepared.state_files import load_state, save_state
from pgmetrics.runtime.blocks import Block, IndexSet

CUTS = {
    "whole": [(0, 24)],
    "blocks": [(0, 8), (8, 16), (16, 24)],
    "backwards": [(16, 24), (8, 16), (0, 8)],
}


def images(seed, n=40, side=32):
    """Random blotches, so that neighboring pixels are alike."""
    noise = np.random.default_rng(seed).integers(0, 256, (n, 3, side // 4, side // 4), dtype=np.uint8)
    return torch.from_numpy(noise.repeat(4, axis=2).repeat(4, axis=3))


class MetricContract:
    """Subclass it and set `metric` to an instance that is quick to compute on images of 32x32."""

    metric = None

    def state(self, cuts=((0, 24),), side="fake", seed=0, data=1):
        state = self.metric.new_state(side, resolution=(32, 32), seed=seed, source="test")
        for start, stop in cuts:
            state.update(Block(start, images(data)[start:stop]))
        return state

    def values(self, fake, real=None):
        if self.metric.two_sided and real is None:
            real = self.state([(0, len(fake.seen))], side="real", data=2)
        estimates, _ = self.metric.compute(real=real, fake=fake)
        return [(e.level, e.value, e.stderr) for e in estimates]

    def test_blocks_in_any_order_give_the_same_bits(self):
        assert self.values(self.state(CUTS["blocks"])) == self.values(self.state(CUTS["backwards"]))

    def test_merged_shards_give_the_bits_of_one_pass(self):
        whole = self.values(self.state(CUTS["blocks"]))
        a, b, c = (self.state([cut]) for cut in CUTS["blocks"])
        assert self.values(c.merge(a).merge(b)) == whole
        assert self.values(a.merge(b.merge(c))) == whole

    def test_another_cut_gives_the_same_value(self):
        whole, blocks = self.values(self.state(CUTS["whole"])), self.values(self.state(CUTS["blocks"]))
        np.testing.assert_allclose([v for _, v, _ in whole], [v for _, v, _ in blocks], rtol=1e-5)

    def test_a_fresh_state_is_the_identity_from_both_sides(self):
        filled, empty = self.state(CUTS["blocks"]), self.state(())
        assert self.values(filled.merge(empty)) == self.values(filled)
        assert self.values(empty.merge(filled)) == self.values(filled)

    def test_merging_changes_neither_input(self):
        a, b = self.state([(0, 8)]), self.state([(8, 24)])
        before = self.values(a), self.values(b)
        merged = a.merge(b)
        merged.update(Block(24, images(3)[:8]))
        assert (self.values(a), self.values(b)) == before
        assert (len(a.seen), len(b.seen), len(merged.seen)) == (8, 16, 32)

    def test_a_state_that_says_it_is_movable_can_be_renumbered(self):
        # Wrong: a state without `_shift` that leaves `movable` true, so that `compare` refuses the metric.
        state = self.state(CUTS["blocks"])
        assert state.movable
        moved = state.shifted(24, "elsewhere")
        assert (moved.seen, state.seen) == (IndexSet([(24, 48)]), IndexSet([(0, 24)]))
        assert self.values(moved) == self.values(state)

    def test_images_counted_twice_are_refused(self):
        state = self.state([(0, 8)])
        with pytest.raises(StateError, match="images 4 to 7 were counted twice"):
            state.update(Block(4, images(1)[4:12]))
        assert len(state.seen) == 8
        with pytest.raises(StateError, match="counted twice"):
            state.merge(self.state([(6, 16)]))

    @pytest.mark.parametrize(
        ("other", "fact"),
        [({"seed": 5}, "seed is 0 here and 5 there"), ({"side": "real"}, "side is fake here and real there")],
    )
    def test_states_made_differently_are_refused(self, other, fact):
        with pytest.raises(StateError, match=fact):
            self.state([(0, 8)]).merge(self.state([(8, 16)], **other))

    def test_images_of_another_size_are_refused(self):
        with pytest.raises(SampleError, match=r"32x32.*16x16"):
            self.state(()).update(Block(0, images(1, side=16)))

    def test_too_little_data_is_an_error_never_a_number(self):
        with pytest.raises((SampleError, StateError)):
            self.values(self.state(()), self.state((), side="real") if self.metric.two_sided else None)

    def test_a_state_survives_the_disk(self, tmp_path):
        state = self.state(CUTS["blocks"])
        save_state(state, tmp_path / "s")
        back = load_state(tmp_path / "s", self.state(()))
        assert self.values(back) == self.values(state)
        assert back.seen == IndexSet([(0, 24)])
        more = back.merge(self.metric.new_state("fake", resolution=(32, 32), source="test"))
        assert self.values(more) == self.values(state)

    def test_an_empty_state_survives_the_disk_too(self, tmp_path):
        save_state(self.state(()), tmp_path / "s")
        assert len(load_state(tmp_path / "s", self.state(())).seen) == 0

    def test_a_stored_state_made_differently_is_refused_with_both_values(self, tmp_path):
        save_state(self.state([(0, 8)]), tmp_path / "s")
        with pytest.raises(StateError, match="seed is 0, 3 was asked for"):
            load_state(tmp_path / "s", self.state((), seed=3))

    def test_a_damaged_state_is_refused_by_name(self, tmp_path):
        save_state(self.state([(0, 8)]), tmp_path / "s")
        victim = sorted((tmp_path / "s").glob("*.npy"))[0]
        victim.write_bytes(victim.read_bytes()[:-3])
        with pytest.raises(StateError, match=f"damaged: {victim.name}"):
            load_state(tmp_path / "s", self.state(()))
        np.save(victim, np.zeros((3, 5), np.int8))
        with pytest.raises(StateError, match=rf"damaged: {victim.name} is \|i1 \[3, 5\]"):
            load_state(tmp_path / "s", self.state(()))
        victim.unlink()
        with pytest.raises(StateError, match=victim.name):
            load_state(tmp_path / "s", self.state(()))

    def test_a_torn_or_foreign_manifest_is_refused(self, tmp_path):
        with pytest.raises(StateError, match="holds no statistics"):
            load_state(tmp_path, self.state(()))
        save_state(self.state([(0, 8)]), tmp_path / "s")
        manifest = tmp_path / "s" / "manifest.json"
        text = manifest.read_text()
        manifest.write_text(text[:40])
        with pytest.raises(StateError, match="damaged"):
            load_state(tmp_path / "s", self.state(()))
        manifest.write_text(json.dumps({**json.loads(text), "format": 99}))
        with pytest.raises(StateError, match="format 99"):
            load_state(tmp_path / "s", self.state(()))

    def test_saving_replaces_a_state_but_nothing_else(self, tmp_path):
        save_state(self.state([(0, 8)]), tmp_path / "s")
        save_state(self.state(CUTS["blocks"]), tmp_path / "s")
        assert len(load_state(tmp_path / "s", self.state(())).seen) == 24
        assert [p.name for p in tmp_path.iterdir()] == ["s"]
        (tmp_path / "precious").mkdir()
        with pytest.raises(StateError, match="holds no statistics of ours"):
            save_state(self.state([(0, 8)]), tmp_path / "precious")
