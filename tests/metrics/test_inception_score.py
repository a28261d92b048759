"""InceptionScore: the contract, and the scores of the tools that people quote."""

import numpy as np
import pytest
import torch
from torch_fidelity.metric_isc import isc_features_to_metric

from pgmetrics.errors import OptionError, SampleError, StateError
from pgmetrics.metrics.base import Tap
from pgmetrics.metrics.inception_score import InceptionScore
from pgmetrics.runtime.blocks import FeatureBlock
from tests.contracts.feature_contract import FeatureContract


class TestContract(FeatureContract):
    metric = InceptionScore(splits=7)


def logits(n, classes=30, seed=0):
    return torch.from_numpy(3 * np.random.default_rng(seed).standard_normal((n, classes)).astype(np.float32))


def score(metric, rows, seed=0, side="fake"):
    state = metric.new_state(side, resolution=(32, 32), seed=seed)
    state.update(FeatureBlock(0, rows))
    sides = {"real": None, "fake": None, side: state}
    (estimate,), notes = metric.compute(**sides)
    return estimate, notes


@pytest.mark.parametrize(("n", "splits"), [(1003, 10), (57, 1), (12, 12)])
def test_torch_fidelitys_number(n, splits):
    rows = logits(n)
    for shuffle in (True, False):
        theirs = isc_features_to_metric(rows, splits, shuffle)
        ours, _ = score(InceptionScore(splits=splits, shuffle="torch-fidelity" if shuffle else "none"), rows)
        assert ours.value == pytest.approx(theirs["inception_score_mean"], rel=1e-9)
        if splits > 1:
            assert ours.stderr == pytest.approx(theirs["inception_score_std"], rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("n", [1003, 41])
def test_torchmetrics_number(n, monkeypatch):
    inception = pytest.importorskip("torchmetrics.image.inception")
    rows = logits(n)
    with pytest.warns(UserWarning, match="buffer"):
        peer = inception.InceptionScore(feature=torch.nn.Identity(), splits=10)
    peer.update(rows.double())
    monkeypatch.setattr(torch, "randperm", torch.arange)  # it shuffles by the global generator
    mean, deviation = peer.compute()
    ours, notes = score(InceptionScore(shuffle="none", cut="chunks", ddof=1), rows)
    assert ours.value == pytest.approx(float(mean), rel=1e-9)
    assert ours.stderr == pytest.approx(float(deviation), rel=1e-6)
    if n == 41:
        assert "41 fake images into 9 chunks, not 10" in notes[0]
    else:
        assert notes == []


def test_the_order_is_keyed_by_the_seed_and_torch_fidelitys_is_not():
    rows = logits(1000)
    keyed = [score(InceptionScore(), rows, seed)[0].value for seed in (0, 0, 1)]
    assert keyed[0] == keyed[1] != keyed[2]
    legacy = InceptionScore(shuffle="torch-fidelity")
    assert score(legacy, rows, 0) == score(legacy, rows, 1)


def test_images_sorted_by_class_need_the_shuffle():
    # Without it a split sees one class only, and scores 1 where there are ten.
    rows = 100 * torch.eye(10).repeat_interleave(100, dim=0)
    unshuffled, _ = score(InceptionScore(shuffle="none"), rows)
    assert unshuffled.value == pytest.approx(1)
    assert unshuffled.stderr == pytest.approx(0, abs=1e-12)
    shuffled, _ = score(InceptionScore(), rows)
    assert 9 < shuffled.value < 10
    assert shuffled.stderr > 0


def test_one_split_has_no_deviation():
    alone, _ = score(InceptionScore(splits=1), logits(50))
    assert (alone.stderr, alone.stderr_kind) == (None, None)


def test_each_side_is_scored_by_itself():
    fake, _ = score(InceptionScore(), logits(100))
    real, _ = score(InceptionScore(), logits(100), side="real")
    assert fake.value == real.value
    assert (fake.subject, fake.n_fake, fake.n_real, fake.stderr_kind) == ("fake", 100, None, "splits (sd)")
    assert (real.subject, real.n_fake, real.n_real) == ("real", None, 100)


def test_it_reads_logits_and_refuses_what_it_cannot_do():
    assert InceptionScore().tap == Tap("inception", "logits")
    with pytest.raises(SampleError, match=r"10 splits needs at least 10 images.* has 9\b"):
        score(InceptionScore(), logits(9))
    with pytest.raises(StateError, match="no state"):
        InceptionScore().compute(real=None, fake=None)
    for wrong in ({"splits": 0}, {"shuffle": "yes"}, {"cut": "odd"}, {"ddof": 2}):
        with pytest.raises(OptionError, match=str(next(iter(wrong.values())))):
            InceptionScore(**wrong)
