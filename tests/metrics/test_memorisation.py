import numpy as np
import pytest
import torch

from pgmetrics.errors import OptionError, SampleError, StateError
from pgmetrics.metrics.memorisation import Memorisation
from pgmetrics.runtime.blocks import FeatureBlock
from tests.contracts.feature_contract import FeatureContract
from tests.helpers.draws import normal


def state(side, rows, **made_as):
    made = Memorisation().new_state(side, resolution=(32, 32), **made_as)
    made.update(FeatureBlock(0, torch.from_numpy(np.asarray(rows, np.float32))))
    return made


def scores(real, fake, held_out=None, **parameters):
    kept = None if held_out is None else state("held-out", held_out)
    estimates, notes = Memorisation(**parameters).compute(
        real=state("real", real), fake=state("fake", fake), held_out=kept
    )
    return {estimate.metric: estimate for estimate in estimates}, notes


class TestContract(FeatureContract):
    metric = Memorisation()


class TestContractWithHeldOut(FeatureContract):
    metric = Memorisation(cells=3)

    def values(self, fake, real=None):
        kept = self.state([(0, 200)], side="held-out", data=3)
        real = real or self.real(self.num)
        estimates, _ = self.metric.compute(real=real, fake=fake, held_out=kept)
        return [(e.metric, e.level, e.value, e.stderr) for e in estimates]


def test_authenticity_by_hand():
    # Training 0, 1, 3, 10: nearest others at 1, 1, 2, 7.
    # The fakes are 0.5, 1.9, 2.1, 1 and 1.5 away from 0, 3, 3, 0 and 0; 1 is no farther than 1.
    found, notes = scores([[0], [1], [3], [10]], [[0.5], [4.9], [5.1], [-1], [-1.5]])
    assert found["authpct"].value == 2 / 5
    assert found["authpct"].stderr == pytest.approx(np.sqrt(0.4 * 0.6 / 4))
    assert found["authpct"].stderr_kind == "fakes given the reals"
    assert list(found) == ["authpct"]
    assert len(notes) == 1
    assert "--held-out" in notes[0]


def test_a_generator_that_copies_is_found_out():
    real = normal(1, 400, 8)
    copies = real[np.random.default_rng(2).integers(0, 400, 300)]
    exact, _ = scores(real, copies, normal(3, 300, 8), cells=3)
    noisy, _ = scores(real, copies + 0.1 * normal(4, 300, 8), normal(3, 300, 8), cells=3)
    for found in (exact, noisy):
        assert found["authpct"].value < 0.02
        assert found["ct"].value < -8
    assert exact["authpct"].value == 0


def test_far_fakes_are_the_other_sign():
    found, _ = scores(normal(1, 400, 8), 2 * normal(2, 300, 8), normal(3, 300, 8), cells=2)
    assert found["ct"].value > 5
    assert found["authpct"].value > 0.9


@pytest.mark.slow
def test_fresh_images_score_a_half_and_within_the_deviation_given():
    runs = [
        scores(normal(3 * i, 200, 4), normal(3 * i + 1, 150, 4), normal(3 * i + 2, 180, 4), cells=cells)
        for i in range(60)
        for cells in (1, 3)
    ]
    for cells in (0, 1):
        values = np.array([found["ct"].value / found["ct"].stderr for found, _ in runs[cells::2]])
        assert abs(values.mean()) < 4 / np.sqrt(60)
        assert 0.7 < values.std() < 1.3  # 9 % is one deviation
    assert runs[0][0]["ct"].stderr == 1
    assert 0.5 < runs[1][0]["ct"].stderr < 0.8
    assert runs[0][0]["ct"].stderr_kind == "generators that copy nothing (sd)"
    assert np.mean([found["authpct"].value for found, _ in runs]) == pytest.approx(0.5, abs=0.05)


def test_the_error_of_the_share_predicts_its_spread_given_the_reals():
    real, rng = normal(1, 150, 4), np.random.default_rng(2)
    found = [scores(real, rng.standard_normal((100, 4)))[0]["authpct"] for _ in range(150)]
    assert 0.8 < np.mean([e.stderr for e in found]) / np.std([e.value for e in found]) < 1.25


def test_cells_see_what_the_whole_set_hides():
    # One of two modes is copied, the other underfitted: over all, the ranks cancel.
    modes = np.array([[0.0] * 4, [60.0] * 4])
    real = np.concatenate([modes[i] + normal(i, 200, 4) for i in (0, 1)])
    kept = np.concatenate([modes[i] + normal(5 + i, 150, 4) for i in (0, 1)])
    copied, far = real[:120] + 0.05 * normal(8, 120, 4), modes[1] + 3 * normal(9, 20, 4)
    fake = np.concatenate([copied, far])
    in_cells, notes = scores(real, fake, kept, cells=2)
    assert notes == []
    copies, _ = scores(real[:200], copied, kept[:150], cells=1)
    others, _ = scores(real[200:], far, kept[150:], cells=1)
    # Equal shares of held-out images, so the plain mean of both.
    assert in_cells["ct"].value == pytest.approx((copies["ct"].value + others["ct"].value) / 2, rel=1e-6)
    assert in_cells["ct"].stderr == pytest.approx(np.sqrt(0.5))


def test_cells_weigh_as_the_held_out_images_and_small_ones_are_left_out():
    modes = np.array([[0.0] * 4, [60.0] * 4, [-60.0] * 4])
    real = np.concatenate([mode + normal(i, 100, 4) for i, mode in enumerate(modes)])
    kept = [modes[0] + normal(5, 90, 4), modes[1] + normal(6, 30, 4), modes[2] + normal(7, 19, 4)]
    fake = [modes[i] + normal(8 + i, 50, 4) for i in range(3)]
    found, notes = scores(real, np.concatenate(fake), np.concatenate(kept), cells=3)
    alone = [scores(real[100 * i : 100 * i + 100], fake[i], kept[i], cells=1)[0]["ct"].value for i in (0, 1)]
    assert found["ct"].value == pytest.approx((90 * alone[0] + 30 * alone[1]) / 120, rel=1e-6)
    assert found["ct"].stderr == pytest.approx(np.hypot(0.75, 0.25))
    assert len(notes) == 1
    assert "leaves out 1 of 3 cells" in notes[0]
    assert "120 of 139 held-out" in notes[0]


def test_held_out_images_must_be_enough_and_made_alike():
    real, fake = normal(1, 50, 8), normal(2, 60, 8)
    with pytest.raises(SampleError, match="at least 20 held-out images; there are 19"):
        scores(real, fake, normal(3, 19, 8))
    with pytest.raises(SampleError, match="at least 20 held-out images; there are 19"):
        Memorisation().usable(19, "held-out")
    sides = {"real": state("real", real), "fake": state("fake", fake)}
    with pytest.raises(StateError, match="not fake rows"):
        Memorisation().compute(**sides, held_out=sides["fake"])
    with pytest.raises(StateError, match="network is one for real and other for held-out"):
        Memorisation().compute(
            real=state("real", real, network="one"),
            fake=state("fake", fake, network="one"),
            held_out=state("held-out", real, network="other"),
        )
    with pytest.raises(StateError, match="real rows have 8 features and held-out rows 5"):
        Memorisation().compute(**sides, held_out=state("held-out", normal(1, 30, 5)))


@pytest.mark.parametrize(
    ("training", "held_out", "fact"),
    [
        (50, 22, "none of 10 cells holds 20 held-out images"),
        (9, 30, "10 cells need as many training images; there are 9"),
    ],
)
def test_cells_too_small_leave_ct_out_and_nothing_else(training, held_out, fact):
    sides = {"real": state("real", normal(1, training, 8)), "fake": state("fake", normal(2, 60, 8))}
    estimates, notes = Memorisation().compute(**sides, held_out=state("held-out", normal(3, held_out, 8)))
    assert [estimate.metric for estimate in estimates] == ["authpct"]
    assert fact in notes[0]
    assert "cells=1" in notes[0]


@pytest.mark.parametrize(
    ("parameters", "fact"), [({"cells": 0}, "not 0"), ({"least_in_cell": 1}, "at least 2, not 1")]
)
def test_options_outside_their_meaning_are_refused(parameters, fact):
    with pytest.raises(OptionError, match=fact):
        Memorisation(**parameters)
