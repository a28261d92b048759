"""Rows in slabs around a common center, and products of slabs."""

import numpy as np
import pytest
import torch

from pgmetrics.functional import tiles
from pgmetrics.functional.tiles import CenteredRows, cuts, matrix_product, mean_row, relative_error
from tests.helpers.feature_rows import clusters, normal, pieces


@pytest.mark.parametrize(
    "rows", [normal(1, 200, 2048), np.abs(normal(1, 200, 2048)), clusters(1, 200, 1e-3, 700)]
)
def test_the_bound_on_a_product_holds(rows):
    centered = CenteredRows(pieces(rows), mean_row(pieces(rows)))
    slab = centered.slab(slice(0, len(rows)))
    exact = torch.cat(slab, dim=1).double()
    lengths = centered.squared_lengths()
    error = (matrix_product(slab, slab).double() - exact @ exact.T).abs().numpy()
    assert (error <= 0.5 * relative_error(rows.shape[1]) * np.sqrt(np.outer(lengths, lengths))).all()
    assert error.max() > 0


def test_rows_are_the_same_whether_they_are_kept_or_centered_anew(monkeypatch):
    rows = normal(1, 70, 600) + 3
    center = mean_row(pieces(rows, 4))
    np.testing.assert_allclose(center, rows.astype(np.float64).mean(axis=0), rtol=1e-6)
    kept = CenteredRows(pieces(rows, 4), center)
    monkeypatch.setattr(tiles, "_KEPT", 0)
    anew = CenteredRows(pieces(rows, 4), center)
    picked = np.array([69, 0, 20, 20, 18, 17])
    for centered in (kept, anew):
        assert len(centered) == 70
        np.testing.assert_array_equal(torch.cat(centered.slab(slice(15, 40)), 1), (rows - center)[15:40])
        np.testing.assert_array_equal(torch.cat(centered.slab(picked), 1), (rows - center)[picked])
        np.testing.assert_array_equal(centered.take(picked), rows[picked])
        exact = (rows - center).astype(np.float64)
        np.testing.assert_allclose(centered.squared_lengths(), (exact**2).sum(axis=1), rtol=1e-12)
        np.testing.assert_allclose(centered.products(exact[3]), exact @ exact[3], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("count", "most"), [(1, 5), (5, 5), (6, 5), (2049, None), (0, None)])
def test_slabs_are_nearly_equal_and_hold_every_row_once(count, most):
    slabs = cuts(count, torch.device("cpu"), most)
    assert [place for slab in slabs for place in range(count)[slab]] == list(range(count))
    lengths = [slab.stop - slab.start for slab in slabs]
    assert max(lengths) - min(lengths) <= 1
    assert max(lengths) <= (most or 2048)
