"""What metrics say of images beside their values: errors, kept rows, states that are alike."""

import pytest
import torch

from pgmetrics.errors import OptionError, StateError
from pgmetrics.metrics.frechet import FrechetDistance
from pgmetrics.metrics.inception_score import InceptionScore
from pgmetrics.metrics.kid import KernelInceptionDistance
from pgmetrics.metrics.prdc import PRDC
from pgmetrics.metrics.swd import SlicedWasserstein
from pgmetrics.runtime.blocks import Block, FeatureBlock
from tests.contracts.feature_contract import features
from tests.contracts.metric_contract import images


def swd(**how):
    return SlicedWasserstein(patches_per_image=8, directions=8, repeats=1, **how)


def filled(metric, side, rows, seed=0):
    state = metric.new_state(side, resolution=(32, 32), seed=seed)
    kind = Block if metric.name == "swd" else FeatureBlock
    for start in range(0, len(rows), 50):
        state.update(kind(start, rows[start : start + 50]))
    return state


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


def test_kept_rows_give_the_bits_of_moments_and_influences_besides():
    rows = {"real": features(1, 700, 5), "fake": features(2, 650, 5)}
    usual, keeping = FrechetDistance(), FrechetDistance(keep_rows=True)
    found = [
        metric.compute(**{side: filled(metric, side, given) for side, given in rows.items()})
        for metric in (usual, keeping)
    ]
    assert found[0] == found[1]
    assert found[0][0][0].stderr is not None
    states = {side: filled(keeping, side, given) for side, given in rows.items()}
    assert states["real"].key == filled(KernelInceptionDistance(network="custom"), "real", rows["real"]).key
    (influence,) = keeping.influences(**states)
    assert (len(influence.real), len(influence.fake)) == (700, 650)
    assert usual.influences(**{side: filled(usual, side, given) for side, given in rows.items()}) == []


def test_moments_are_not_renumbered():
    state = filled(FrechetDistance(), "fake", features(1, 80, 5))
    with pytest.raises(StateError, match="moments cannot be renumbered"):
        state.shifted(80, "elsewhere")


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
