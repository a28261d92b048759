"""The contract of a metric of features: its test subclasses `FeatureContract` and names the metric."""

import json

import numpy as np
import pytest
import torch

from pgmetrics.errors import SampleError, StateError
from pgmetrics.prepared.state_files import load_state, save_state
from pgmetrics.runtime.blocks import Block, FeatureBlock, IndexSet


def features(seed, n, width):
    """Skewed and correlated, as features are: float32 [n, width]."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, width)) @ rng.standard_normal((width, width)) / np.sqrt(width)
    return torch.from_numpy(np.maximum(rows + 0.3, 0).astype(np.float32))


class FeatureContract:
    """Subclass it and set `metric` to an instance that is quick to compute.

    Each side has `num` images of `width` features. `same_bits` is False if the division into blocks changes
    the rounding of the metric's sums; values then agree to `rtol`.
    """

    metric = None
    num = 240
    width = 6
    same_bits = True
    rtol = 1e-9

    def cuts(self):
        """Odd places, which fall together with nothing that a state might keep in pieces."""
        a, b = self.num // 3 - 3, self.num // 2 + 7
        return [(0, a), (a, b), (b, self.num)]

    def state(self, cuts=(), side="fake", seed=0, data=1, **other):
        made_as = {"resolution": (32, 32), "source": "test", "network": "some network", **other}
        state = self.metric.new_state(side, seed=seed, **made_as)
        rows = features(data, 2 * self.num, self.width)
        for start, stop in cuts:
            state.update(FeatureBlock(start, rows[start:stop]))
        return state

    def real(self, num):
        return self.state([(0, num)] if num else (), side="real", data=2)

    def values(self, fake, real=None):
        if self.metric.two_sided and real is None:
            real = self.real(self.num)
        estimates, _ = self.metric.compute(real=real, fake=fake)
        assert estimates
        return [(e.metric, e.level, e.value, e.stderr) for e in estimates]

    def assert_same(self, found, expected):
        """Equal bits, or as near as the metric promises."""
        if self.same_bits:
            assert found == expected
        else:
            assert [v[:2] for v in found] == [v[:2] for v in expected]
            for mine, theirs in zip(found, expected, strict=True):
                assert mine[2] == pytest.approx(theirs[2], rel=self.rtol)
                assert mine[3] == (theirs[3] and pytest.approx(theirs[3], rel=self.rtol))

    def test_blocks_in_any_order_give_the_same(self):
        self.assert_same(self.values(self.state(self.cuts()[::-1])), self.values(self.state(self.cuts())))

    def test_merged_shards_give_what_one_pass_gives(self):
        whole = self.values(self.state(self.cuts()))
        a, b, c = (self.state([cut]) for cut in self.cuts())
        self.assert_same(self.values(c.merge(a).merge(b)), whole)
        self.assert_same(self.values(a.merge(b.merge(c))), whole)

    def test_another_cut_gives_the_same(self):
        whole = self.values(self.state([(0, self.num)]))
        single = [(i, i + 1) for i in range(40)] + [(40, self.num)]
        self.assert_same(self.values(self.state(self.cuts())), whole)
        self.assert_same(self.values(self.state(single)), whole)

    def test_a_fresh_state_is_the_identity_from_both_sides(self):
        filled, empty = self.state(self.cuts()), self.state()
        assert self.values(filled.merge(empty)) == self.values(filled)
        assert self.values(empty.merge(filled)) == self.values(filled)

    def test_merging_changes_neither_input(self):
        first, *rest = self.cuts()
        a, b = self.state([first]), self.state(rest)
        before = [{k: v.copy() for k, v in s.arrays().items()} for s in (a, b)]
        merged = a.merge(b)
        merged.update(FeatureBlock(self.num, features(3, 70, self.width)))
        for state, arrays in zip((a, b), before, strict=True):
            now = state.arrays()
            assert now.keys() == arrays.keys()
            for name in arrays:
                np.testing.assert_array_equal(now[name], arrays[name])
        assert [len(s.seen) for s in (a, b, merged)] == [first[1], self.num - first[1], self.num + 70]

    def test_computing_changes_no_state(self):
        fake = self.state(self.cuts())
        assert self.values(fake) == self.values(fake)
        more = [(self.num, self.num + 30)]
        continued = self.state(self.cuts())
        self.values(continued)
        continued.update(FeatureBlock(self.num, features(1, 2 * self.num, self.width)[slice(*more[0])]))
        assert self.values(continued) == self.values(self.state(self.cuts() + more))

    def test_the_features_given_are_not_written_and_not_kept(self):
        rows = features(1, 2 * self.num, self.width)
        given = rows[: self.num].clone()
        state = self.state()
        state.update(FeatureBlock(0, given))
        assert torch.equal(given, rows[: self.num])
        given.zero_()  # the caller may use its memory again
        assert self.values(state) == self.values(self.state([(0, self.num)]))

    def test_images_counted_twice_are_refused(self):
        state = self.state([(0, 8)])
        with pytest.raises(StateError, match="images 4 to 7 were counted twice"):
            state.update(FeatureBlock(4, features(1, 8, self.width)))
        assert len(state.seen) == 8
        with pytest.raises(StateError, match="counted twice"):
            state.merge(self.state([(6, 16)]))

    @pytest.mark.parametrize(
        ("other", "fact"),
        [
            ({"seed": 5}, "seed is 0 here and 5 there"),
            ({"side": "real"}, "side is fake here and real there"),
            ({"source": "else"}, "source is test here and else there"),
            ({"network": "another"}, "network is some network here and another there"),
        ],
    )
    def test_states_made_differently_are_refused(self, other, fact):
        with pytest.raises(StateError, match=fact):
            self.state([(0, 8)]).merge(self.state([(8, 16)], **other))

    def test_features_of_two_networks_are_not_compared(self):
        if not self.metric.two_sided:
            pytest.skip("it compares nothing")
        real = self.state([(0, self.num)], side="real", data=2, network="another")
        with pytest.raises(StateError, match="network is another for real and some network for fake"):
            self.values(self.state(self.cuts()), real)

    def test_features_of_another_width_are_refused_with_both(self):
        state = self.state([(0, 8)])
        with pytest.raises(SampleError, match=rf"\b{self.width} features.*\b{self.width + 3}\b"):
            state.update(FeatureBlock(8, features(1, 8, self.width + 3)))
        assert len(state.seen) == 8
        wider = self.metric.new_state("fake", resolution=(32, 32), source="test", network="some network")
        wider.update(FeatureBlock(8, features(1, self.num, self.width + 3)))
        with pytest.raises(StateError, match=rf"\b{self.width} features.*\b{self.width + 3}\b"):
            state.merge(wider)
        if self.metric.two_sided:
            with pytest.raises(StateError, match=rf"\b{self.width} features.*\b{self.width + 3}\b"):
                self.values(wider)

    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
    def test_a_feature_that_is_no_number_is_refused_by_its_image(self, bad):
        rows = features(1, 8, self.width)
        rows[5, 2] = rows[7, 0] = bad
        state = self.state()
        with pytest.raises(SampleError, match=r"image 25\b"):
            state.update(FeatureBlock(20, rows))
        assert len(state.seen) == 0

    def test_pixels_are_refused(self):
        with pytest.raises(StateError, match="not images"):
            self.state().update(Block(0, torch.zeros(4, 3, 32, 32, dtype=torch.uint8)))

    def test_too_little_data_is_an_error_never_a_number(self):
        too_few = self.metric.least - 1
        for count in {0, 1, too_few}:
            few = self.state([(0, count)] if count else ())
            with pytest.raises((SampleError, StateError)):
                self.values(few)
            if self.metric.two_sided:
                with pytest.raises((SampleError, StateError)):
                    self.values(self.state(self.cuts()), self.real(count))
        with pytest.raises(SampleError, match=str(too_few)):
            self.metric.usable(too_few, "fake")
        assert self.metric.usable(self.metric.least, "fake") == self.metric.least

    def test_a_missing_state_is_refused(self):
        with pytest.raises(StateError):
            self.metric.compute(real=None, fake=None)
        if self.metric.two_sided:
            with pytest.raises(StateError):
                self.metric.compute(real=None, fake=self.state(self.cuts()))

    def test_a_state_survives_the_disk(self, tmp_path):
        state = self.state(self.cuts())
        save_state(state, tmp_path / "s")
        back = load_state(tmp_path / "s", self.state())
        assert self.values(back) == self.values(state)
        assert back.seen == IndexSet([(0, self.num)])
        assert self.values(back.merge(self.state())) == self.values(state)

    def test_a_state_goes_on_after_the_disk(self, tmp_path):
        rest = (self.num, self.num + 30)
        save_state(self.state(self.cuts()), tmp_path / "s")
        back = load_state(tmp_path / "s", self.state())
        back.update(FeatureBlock(self.num, features(1, 2 * self.num, self.width)[slice(*rest)]))
        assert self.values(back) == self.values(self.state([*self.cuts(), rest]))

    def test_an_empty_state_survives_the_disk_too(self, tmp_path):
        save_state(self.state(()), tmp_path / "s")
        assert len(load_state(tmp_path / "s", self.state(())).seen) == 0

    def test_a_stored_state_made_differently_is_refused_with_both_values(self, tmp_path):
        save_state(self.state([(0, 8)]), tmp_path / "s")
        with pytest.raises(StateError, match="seed is 0, 3 was asked for"):
            load_state(tmp_path / "s", self.state(seed=3))
        with pytest.raises(StateError, match="network is some network, another was asked for"):
            load_state(tmp_path / "s", self.state(network="another"))

    def test_a_damaged_state_is_refused(self, tmp_path):
        save_state(self.state([(0, 8)]), tmp_path / "s")
        for victim in (tmp_path / "s").glob("*.npy"):
            whole = victim.read_bytes()
            victim.write_bytes(whole[:-3])
            with pytest.raises(StateError, match=f"damaged: {victim.name}"):
                load_state(tmp_path / "s", self.state())
            victim.write_bytes(whole)
        manifest = json.loads((tmp_path / "s" / "manifest.json").read_text())
        (stored,) = manifest["states"].values()
        stored["seen"] = [[0, 11]]  # more images than the arrays tell of
        (tmp_path / "s" / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(StateError):
            load_state(tmp_path / "s", self.state())
