"""Cells of the training set, and the rank test within each."""

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu, norm

from pgmetrics.functional.copy_test import Cells, rank_z_score
from tests.helpers.draws import normal


@pytest.mark.parametrize("levels", [10**6, 12, 2])
def test_the_rank_score_is_scipys_with_ties(levels):
    rng = np.random.default_rng(levels)
    a, b = (rng.integers(0, levels, n).astype(np.float64) + s for n, s in ((37, levels // 12), (52, 0)))
    z = rank_z_score(a, b)
    theirs = mannwhitneyu(a, b, method="asymptotic", use_continuity=False, alternative="greater")
    assert z == pytest.approx(norm.isf(theirs.pvalue), rel=1e-9)
    assert rank_z_score(b, a) == pytest.approx(-z)


def test_equal_values_say_nothing():
    assert rank_z_score(np.zeros(5), np.zeros(9)) == 0


def test_cells_are_those_of_lloyds_fixed_point_and_any_cut_gives_the_same():
    rows = torch.from_numpy(np.concatenate([normal(i, 50 + 20 * i, 5) + 1.2 * i for i in range(3)])).float()
    draws = np.array([0.1, 0.5, 0.9])
    cells = Cells([rows], draws)
    of = cells.of([rows])
    centers = np.stack([rows.double().numpy()[of == cell].mean(axis=0) for cell in range(3)])
    nearest = ((rows.double().numpy()[:, None] - centers) ** 2).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(of, nearest)
    np.testing.assert_array_equal(Cells(list(rows.split(7)), draws).of(list(rows.split(11))), of)
    # More cells than distinct rows: some stay empty.
    assert len(set(Cells([torch.ones(9, 2)], np.linspace(0.1, 0.9, 4)).of([torch.ones(3, 2)]).tolist())) == 1
