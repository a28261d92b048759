import numpy as np
import pytest
import torch
from torch_fidelity.metric_kid import kid_features_to_metric

from pgmetrics.errors import OptionError, SampleError
from pgmetrics.metrics.kid import KernelInceptionDistance
from pgmetrics.runtime.blocks import FeatureBlock
from tests.contracts.feature_contract import FeatureContract, features

WIDTH = 64


def sides(n_real, n_fake, shift=0.05, seed=0):
    real, fake = features(1, n_real, WIDTH), features(2, n_fake, WIDTH) + shift
    metric = KernelInceptionDistance()
    states = []
    for side, rows in (("real", real), ("fake", fake)):
        state = metric.new_state(side, resolution=(32, 32), seed=seed)
        state.update(FeatureBlock(0, rows))
        states.append(state)
    return real, fake, states


def score(metric, states):
    (estimate,), notes = metric.compute(real=states[0], fake=states[1])
    assert notes == []
    return estimate


class TestAllPairs(FeatureContract):
    metric = KernelInceptionDistance()


class TestSubsets(FeatureContract):
    metric = KernelInceptionDistance(subsets=5, subset_size=50)


def test_torch_fidelitys_subsets_give_torch_fidelitys_number():
    real, fake, states = sides(260, 300)
    found = score(KernelInceptionDistance(subsets=15, subset_size=100, draws="torch-fidelity"), states)
    # Its first input are the fakes. In float64: its sums in the features' float32 lose digits.
    parameters = {"kid_subsets": 15, "kid_subset_size": 100, "verbose": False}
    theirs = kid_features_to_metric(fake.double(), real.double(), **parameters)
    assert found.value == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-6)
    assert found.stderr == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-6)
    theirs = kid_features_to_metric(fake, real, **parameters)
    assert found.value == pytest.approx(theirs["kernel_inception_distance_mean"], abs=3e-7)
    assert found.stderr_kind == "subsets (sd)"
    assert (found.n_real, found.n_fake) == (260, 300)


def keyed(metric, n_real, n_fake, seed=0):
    return metric._drawn(n_real, n_fake, seed)


def test_equals_torchmetrics_on_the_same_subsets(monkeypatch):
    kid = pytest.importorskip("torchmetrics.image.kid")
    real, fake, states = sides(150, 170)
    metric = KernelInceptionDistance(subsets=8, subset_size=60)
    order = iter([torch.from_numpy(places) for pair in keyed(metric, 150, 170) for places in pair])
    with pytest.warns(UserWarning, match="memory"):
        theirs = kid.KernelInceptionDistance(feature=torch.nn.Identity(), subsets=8, subset_size=60)
    theirs.update(real.double(), real=True)
    theirs.update(fake.double(), real=False)
    monkeypatch.setattr(torch, "randperm", lambda n: next(order))
    mean, deviation = theirs.compute()
    found = score(metric, states)
    assert found.value == pytest.approx(mean.item(), rel=1e-5)
    assert found.stderr == pytest.approx(deviation.item(), rel=1e-5)


def test_equals_clean_fid_on_the_same_subsets(monkeypatch):
    fid = pytest.importorskip("cleanfid.fid")
    real, fake, states = sides(150, 170)
    metric = KernelInceptionDistance(subsets=8, subset_size=60)
    order = iter([places for pair in keyed(metric, 150, 170) for places in pair])
    monkeypatch.setattr(np.random, "choice", lambda n, m, replace: next(order))
    # It draws of its second argument first.
    theirs = fid.kernel_distance(
        fake.double().numpy(), real.double().numpy(), num_subsets=8, max_subset_size=60
    )
    assert score(metric, states).value == pytest.approx(theirs, rel=1e-5)


def test_keyed_subsets_hold_no_image_twice_and_follow_seed_number_and_side():
    metric = KernelInceptionDistance(subsets=3, subset_size=40)
    drawn = keyed(metric, 50, 50)
    for pair in drawn:
        for places in pair:
            assert len(set(places.tolist())) == 40
            assert 0 <= places.min() <= places.max() < 50
    different = {tuple(places.tolist()) for pair in [*drawn, *keyed(metric, 50, 50, 1)] for places in pair}
    assert len(different) == 12
    for pair, same in zip(drawn, keyed(metric, 50, 50), strict=True):
        np.testing.assert_array_equal(pair, same)
    # Few of many: all images have a chance.
    few = keyed(KernelInceptionDistance(subsets=200, subset_size=5), 50, 50)
    seen = np.concatenate([places for pair in few for places in pair])
    assert np.bincount(seen, minlength=50).min() > 15


def test_the_states_seed_draws_the_subsets():
    metric = KernelInceptionDistance(subsets=3, subset_size=40)
    assert score(metric, sides(90, 80)[2]).value != score(metric, sides(90, 80, seed=7)[2]).value
    everything = KernelInceptionDistance()
    assert score(everything, sides(90, 80)[2]).value == score(everything, sides(90, 80, seed=7)[2]).value


def test_all_pairs_have_a_standard_error_over_images_and_subsets_agree_with_them():
    _, _, states = sides(400, 400)
    full = score(KernelInceptionDistance(), states)
    subsets = score(KernelInceptionDistance(subsets=100, subset_size=100), states)
    assert full.stderr_kind == "images"
    assert 0 < full.stderr < subsets.stderr
    assert subsets.value == pytest.approx(full.value, abs=4 * subsets.stderr / 10)


def test_a_value_below_zero_is_given_as_it_is():
    metric = KernelInceptionDistance()
    states = []
    for side in ("real", "fake"):
        state = metric.new_state(side, resolution=(32, 32))
        state.update(FeatureBlock(0, features(1, 60, WIDTH)))
        states.append(state)
    # A set against itself: the pairs of an image with itself are in one sum only.
    assert score(metric, states).value < 0
    # Nor is a mean over subsets clipped: of whole sets, it is the same number.
    subsets = KernelInceptionDistance(subsets=2, subset_size=60)
    assert score(subsets, states).value == pytest.approx(score(metric, states).value)


def test_the_kernels_parameters_are_used():
    _, _, states = sides(60, 60)
    values = [
        score(metric, states).value
        for metric in (
            KernelInceptionDistance(),
            KernelInceptionDistance(gamma=0.5),
            KernelInceptionDistance(degree=2),
            KernelInceptionDistance(coef0=3.0),
            KernelInceptionDistance(gamma=1 / WIDTH),
        )
    ]
    assert len(set(values)) == 4
    assert values[0] == values[4]


def test_one_subset_has_no_deviation():
    _, _, states = sides(60, 60)
    found = score(KernelInceptionDistance(subsets=1, subset_size=50), states)
    assert (found.stderr, found.stderr_kind) == (None, None)


def test_a_subset_larger_than_a_side_is_refused():
    _, _, states = sides(100, 90)
    metric = KernelInceptionDistance(subsets=3, subset_size=91)
    with pytest.raises(SampleError, match=r"subsets of 91 .*fake side has 90.*smaller subsets or for none"):
        metric.compute(real=states[0], fake=states[1])
    with pytest.raises(
        SampleError, match="subsets of 91 needs at least 91 images of each side; there are 90"
    ):
        metric.usable(90, "real")


@pytest.mark.parametrize(
    ("parameters", "fact"),
    [
        ({"degree": 0}, "degree of at least 1, not 0"),
        ({"gamma": -1.0}, "not -1.0"),
        ({"gamma": float("nan")}, "not nan"),
        ({"coef0": -0.1}, "not -0.1"),
        ({"subsets": -1}, "not -1"),
        ({"subset_size": 1}, "at least 2 images, not 1"),
        ({"draws": "mine"}, "not mine"),
    ],
)
def test_options_outside_their_meaning_are_refused(parameters, fact):
    with pytest.raises(OptionError, match=fact):
        KernelInceptionDistance(**parameters)
