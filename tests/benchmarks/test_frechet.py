"""The benchmark of the Fréchet distance: its truth, and the table of errors."""

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.frechet import features, main, truth


def test_the_truth_is_that_of_a_shift_and_of_a_scale():
    rows = features(40, 4, 0)
    assert truth(rows, rows) == pytest.approx(0, abs=1e-9)
    assert truth(rows, rows + np.array([1, 2, 0, 2])) == pytest.approx(9)
    # Of covariances C and 9 C the squared distance is (3 - 1)² trace C.
    centered = rows - rows.mean(axis=0)
    assert truth(centered, 3 * centered) == pytest.approx(4 * np.trace(np.cov(rows.T)))


@pytest.mark.slow
def test_the_distance_has_a_row_for_everyone_and_hardly_an_error():
    done = CliRunner().invoke(main, ["distance", "--num-images", "40", "--width", "8", "--turns", "1"])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("40 rows of 8 features per side; ")
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("| pgmetrics |")]
    assert float(row.split("|")[4]) < 1e-12
