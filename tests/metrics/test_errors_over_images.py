"""What metrics say of images beside their values: errors, kept rows, states that are alike."""

import pytest
import torch

from pgmetrics.errors import OptionError
from pgmetrics.metrics.inception_score import InceptionScore
from pgmetrics.metrics.kid import KernelInceptionDistance
from pgmetrics.metrics.prdc import PRDC
from pgmetrics.metrics.swd import SlicedWasserstein
from pgmetrics.runtime.blocks import Block
from tests.contracts.feature_contract import features
from tests.contracts.metric_contract import images
from tests.helpers.moments import filled


def swd(**how):
    return SlicedWasserstein(patches_per_image=8, directions=8, repeats=1, **how)


def test_what_errors_are_over_changes_neither_what_is_remembered_nor_the_value():
    kinds = {}
    states = [filled(swd(), side, images(seed)) for side, seed in (("real", 1), ("fake", 2))]
    for error in ("directions", "images", "both"):
        metric = swd(error=error)
        assert metric.new_state("fake", resolution=(32, 32)).key == states[1].key
        estimates, _ = metric.compute(real=states[0], fake=states[1])
        kinds[error] = {e.stderr_kind for e in estimates}
        assert [e.value for e in estimates] == [
            e.value for e in swd().compute(real=states[0], fake=states[1])[0]
        ]
    both = {"images and 8 directions"}
    assert kinds == {"directions": {"directions"}, "images": {"images"}, "both": both}


@pytest.mark.parametrize(
    ("make", "fact"),
    [
        (lambda: swd(error="patches"), "not patches"),
        (lambda: InceptionScore(error="both"), "not both"),
        (lambda: PRDC(error="both"), "not both"),
    ],
)
def test_errors_over_something_else_are_refused(make, fact):
    with pytest.raises(OptionError, match=fact):
        make()


def test_the_mean_over_levels_has_the_mean_influence():
    metric = swd()
    real, fake = (metric.new_state(side, resolution=(64, 64)) for side in ("real", "fake"))
    for state, seed in ((real, 1), (fake, 2)):
        state.update(Block(0, images(seed, 20, 64)))
    found = {one.level: one for one in metric.influences(real=real, fake=fake)}
    assert list(found) == [64, 32, 16, None]
    for side in ("real", "fake"):
        mean = sum(getattr(found[level], side) for level in (64, 32, 16)) / 3
        torch.testing.assert_close(torch.from_numpy(getattr(found[None], side)), torch.from_numpy(mean))
        assert len(mean) == 20


def test_precision_and_its_kin_have_errors_over_images_of_both_sides():
    given, over_images = PRDC(network="custom"), PRDC(network="custom", error="images")
    states = {side: filled(given, side, features(seed, 120, 4)) for side, seed in (("real", 1), ("fake", 2))}
    usual, found = (metric.compute(**states)[0] for metric in (given, over_images))
    assert [e.value for e in usual] == [e.value for e in found]
    assert {e.stderr_kind for e in found} == {"images (16 x 4 parts)"}
    assert all(e.stderr > 0 for e in found)
    assert [e.metric for e in usual if e.stderr is None] == ["coverage"]
    few = {side: filled(given, side, features(seed, 23, 4)) for side, seed in (("real", 1), ("fake", 2))}
    # 4 quarters of 6 images are the least.
    assert over_images.influences(**few) == []
    assert {e.stderr for e in over_images.compute(**few)[0]} == {None}


def test_subsets_have_no_influences():
    metric = KernelInceptionDistance(network="custom", subsets=3, subset_size=20)
    states = {side: filled(metric, side, features(seed, 60, 4)) for side, seed in (("real", 1), ("fake", 2))}
    assert metric.influences(**states) == []


def test_splits_that_hold_one_image_move_nothing():
    metric = InceptionScore(network="custom", splits=20)
    state = filled(metric, "fake", features(1, 20, 4))
    assert metric.influences(real=None, fake=state)[0].variance() == 0
