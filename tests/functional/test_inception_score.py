"""The inception score of one split against closed forms and the definition."""

import numpy as np
import pytest
import torch

from pgmetrics.functional.inception_score import (
    chunk_cut,
    even_cut,
    inception_score,
    inception_score_influence,
)
from tests.contracts.feature_contract import features


def test_alike_images_score_one_however_unsure():
    assert inception_score(torch.zeros(50, 7)) == pytest.approx(1, abs=1e-13)
    assert inception_score(torch.tensor([[1.0, -3.0, 250.0]]).repeat(9, 1)) == pytest.approx(1, abs=1e-13)


def test_sure_and_equally_frequent_classes_score_their_number():
    # Logits of 2000 leave probabilities of exactly 0, whose logarithm must not matter; nor does a
    # class that no image has.
    rows = 2000 * torch.eye(13).repeat(5, 1)
    assert inception_score(rows) == pytest.approx(13, rel=1e-13)
    assert inception_score(torch.nn.functional.pad(rows, (0, 4))) == pytest.approx(13, rel=1e-13)


def test_it_is_the_exponential_of_the_mean_divergence():
    rows = np.random.default_rng(0).normal(0, 3, (41, 9))
    p = np.exp(rows) / np.exp(rows).sum(axis=1, keepdims=True)
    divergences = (p * np.log(p / p.mean(axis=0))).sum(axis=1)
    expected = np.exp(divergences.mean())
    assert inception_score(torch.from_numpy(rows)) == pytest.approx(expected, rel=1e-13)
    pieces = torch.from_numpy(rows).split([1, 17, 23])
    assert inception_score(pieces) == pytest.approx(expected, rel=1e-13)
    assert inception_score(torch.from_numpy(rows + 1000)) == pytest.approx(expected, rel=1e-10)


def test_a_split_longer_than_a_piece_of_work_is_counted_whole():
    rows = torch.from_numpy(np.random.default_rng(0).normal(0, 2, (9001, 3)))
    p = rows.softmax(dim=1)
    expected = (p * (p / p.mean(dim=0)).log()).sum(dim=1).mean().exp()
    assert inception_score(rows) == pytest.approx(float(expected), rel=1e-12)


def test_float32_logits_are_worked_on_in_float64():
    rows = torch.from_numpy(np.random.default_rng(0).normal(0, 1e-3, (2000, 11)).astype(np.float32))
    # So near to 1 that float32 sums would give the distance from it to two digits at best.
    expected = inception_score(rows.double()) - 1
    assert expected < 1e-5
    assert inception_score(rows) - 1 == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "splits"), [(10, 10), (11, 10), (103, 10), (7, 3), (5, 1)])
def test_cuts_cover_every_image_once(n, splits):
    even = even_cut(n, splits)
    assert [i for a, b in even for i in range(a, b)] == list(range(n))
    assert len(even) == splits
    assert {b - a for a, b in even} <= {n // splits, -(-n // splits)}
    assert [b - a for a, b in chunk_cut(n, splits)] == [len(c) for c in torch.arange(n).chunk(splits)]


def test_an_image_moves_the_inception_score_by_what_is_lost_without_it():
    logits = features(3, 40, 7) * 3
    score = inception_score(logits)
    without = [inception_score(torch.cat([logits[:i], logits[i + 1 :]])) for i in range(40)]
    expected = 39 * (score - np.array(without))
    np.testing.assert_allclose(
        inception_score_influence(logits), expected - expected.mean(), atol=1e-9 * expected.std()
    )


def test_influences_on_the_inception_score_go_to_its_derivative():
    logits = features(3, 2000, 7).double() * 3
    log_p = torch.log_softmax(logits, 1)
    p = log_p.exp()
    divergences = (p * (log_p - p.mean(0).log())).sum(1)
    expected = (divergences.mean().exp() * (divergences - divergences.mean())).numpy()
    np.testing.assert_allclose(inception_score_influence(logits), expected, atol=0.01 * expected.std())


def test_a_class_that_one_image_alone_has_gives_a_finite_influence():
    logits = torch.full((4, 3), -1000.0)
    logits[torch.arange(4), torch.tensor([0, 0, 0, 2])] = 0
    assert np.isfinite(inception_score_influence(logits)).all()
