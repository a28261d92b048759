import numpy as np
import pytest
import torch
from torch_fidelity.metric_kid import kid_features_to_metric

from pgmetrics.errors import SampleError
from pgmetrics.functional import mmd
from pgmetrics.functional.mmd import PolynomialKernel, squared_mmd, squared_mmd_influence, subset_squared_mmds
from tests.contracts.feature_contract import features


def normal(seed, n, d, shift=0.0, scale=1.0):
    rows = np.random.default_rng(seed).standard_normal((n, d)) * scale + shift
    return torch.from_numpy(rows.astype(np.float32))


def inception_like(seed, n, shift=0.0, d=256):
    """Positive, correlated, far from the origin compared with their spread."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(5).standard_normal((24, d)) / 10
    rows = rng.standard_normal((n, 24)) @ mixing + 0.4 + shift + 0.1 * rng.standard_normal((n, d))
    return torch.from_numpy(np.maximum(rows, 0).astype(np.float32))


def slow(x, y, degree=3, gamma=None, coef0=1.0):
    """The definition, all pairs at once, in float64."""
    x, y = x.double().numpy(), y.double().numpy()
    n, m, gamma = len(x), len(y), gamma or 1 / x.shape[1]
    xx, yy, xy = ((gamma * a @ b.T + coef0) ** degree for a, b in ((x, x), (y, y), (x, y)))
    within = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return within - 2 * xy.mean()


@pytest.mark.parametrize("shift", [0.0, 1e-3, 0.03])
def test_small_values_survive_the_cancellation(shift):
    # Kernel values of about 1.6 cancel down to 1e-5: of float32 sums nothing would be left.
    x, y = inception_like(1, 900), inception_like(2, 1300, shift)
    value, stderr = squared_mmd([x], [y])
    assert value == pytest.approx(slow(x, y), abs=1e-5 * stderr)
    assert value == pytest.approx(slow(x, y), rel=1e-5)


@pytest.mark.parametrize(
    "parameters", [{}, {"degree": 1}, {"degree": 2, "gamma": 0.3}, {"gamma": 0.01, "coef0": 0.0}]
)
def test_equals_the_definition_for_every_parameter(parameters):
    x, y = normal(1, 37, 11, 0.4), normal(2, 52, 11, 0.5)
    value, _ = squared_mmd([x], [y], PolynomialKernel(**parameters))
    assert value == pytest.approx(slow(x, y, **parameters), rel=1e-5)


def test_tiles_and_pieces_change_nothing(monkeypatch):
    x, y = inception_like(1, 101), inception_like(2, 77, 0.01)
    whole = squared_mmd([x], [y])
    assert squared_mmd(list(x.split(9)), list(y.split(50))) == whole
    monkeypatch.setattr(mmd, "_TILE", 16)
    assert squared_mmd([x], [y]) == pytest.approx(whole, rel=1e-6)


def test_rows_that_are_not_kept_are_the_same_rows(monkeypatch):
    x, y = inception_like(1, 101, d=700), inception_like(2, 77, 0.01, d=700)
    kept = squared_mmd([x], [y])
    monkeypatch.setattr("pgmetrics.functional.tiles._KEPT", 0)
    assert squared_mmd(list(x.split(9)), [y]) == kept


@pytest.mark.parametrize(
    ("n", "m", "latents", "shift"), [(40, 60, 24, 0.0), (90, 40, 24, 0.3), (30, 100, 3, 0.5)]
)
def test_the_standard_error_predicts_the_spread(n, m, latents, shift):
    # Equal distributions too: there the first-order variance vanishes, and a jackknife would be
    # 1.41 times too large, the first order alone anything.
    mixing = np.random.default_rng(3).standard_normal((latents, 32))
    rng = np.random.default_rng(4)
    found = []
    for _ in range(120):
        x, y = (rng.standard_normal((count, latents)) @ mixing * 0.2 + 0.5 for count in (n, m))
        sides = (x.astype(np.float32), (y + shift).astype(np.float32))
        found.append(squared_mmd(*([torch.from_numpy(side)] for side in sides)))
    values, errors = np.array(found, np.float64).T
    # 120 samples give the deviation to 6 %, more with heavy tails.
    assert 0.82 < np.sqrt((errors**2).mean()) / values.std() < (1.3 if shift == 0 else 1.2)
    if shift == 0:
        assert abs(values.mean()) < 4 * values.std() / np.sqrt(120)
        assert (values < 0).any()


@pytest.mark.slow
def test_between_equal_distributions_the_error_is_neither_cut_off_at_0_nor_let_down_with_the_value():
    # The value is large where the first order's estimate is. Intervals that hold in more than 98.5 % of
    # cases are what an estimate cut off at 0 gives, less than 94 % one that is not held at all.
    rng = np.random.default_rng(5)
    mixing = rng.standard_normal((24, 32)) * 0.2
    found = []
    for _ in range(400):
        x, y = ((rng.standard_normal((60, 24)) @ mixing + 0.5).astype(np.float32) for _ in range(2))
        found.append(squared_mmd([torch.from_numpy(x)], [torch.from_numpy(y)]))
    values, errors = np.array(found, np.float64).T
    assert 0.94 < (np.abs(values) < 1.96 * errors).mean() < 0.985


def test_the_variance_components_are_those_of_the_decomposition():
    # The kernel x y of numbers has them in closed form: with means a, b and variances v, w,
    # s_x = v (a - b)^2, t_xx = v^2, t_xy = v w.
    a, b, v, w, n, m = 7.0, 1.0, 1.0, 2.0, 3000, 2000
    x, y = normal(1, n, 1, a, v**0.5), normal(2, m, 1, b, w**0.5)
    _, stderr = squared_mmd([x], [y], PolynomialKernel(degree=1, gamma=1.0, coef0=0.0))
    first = 4 * v * (a - b) ** 2 / n + 4 * w * (a - b) ** 2 / m
    second = 2 * v**2 / n**2 + 2 * w**2 / m**2 + 4 * v * w / (n * m)
    assert stderr**2 == pytest.approx(first + second, rel=0.1)
    # At equal means only the second order is left, and it is not negligible.
    x, y = normal(1, 40, 200), normal(2, 40, 200)
    _, stderr = squared_mmd([x], [y], PolynomialKernel(degree=1, gamma=1.0, coef0=0.0))
    assert stderr**2 == pytest.approx(200 * (2 + 2 + 4) / 40**2, rel=0.25)


def test_subsets_equal_the_peer_on_the_same_draws():
    x, y = inception_like(1, 300), inception_like(2, 260, 0.05)
    state = np.random.RandomState(2020)
    draws = [tuple(state.choice(n, 100, replace=False) for n in (300, 260)) for _ in range(20)]
    ours = subset_squared_mmds([x], [y], draws)
    # The peer computes in the features' own precision, and float32 costs it digits.
    theirs = kid_features_to_metric(
        x.double(), y.double(), kid_subsets=20, kid_subset_size=100, rng_seed=2020, verbose=False
    )
    assert ours.mean() == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-6)
    assert ours.std() == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-6)


def test_unequal_subsets_and_more_rows_than_a_tile():
    x, y = inception_like(1, 700), inception_like(2, 650, 0.05)
    of_x, of_y = np.arange(0, 700)[::-1].copy(), np.arange(50, 650)
    (value,) = subset_squared_mmds(list(x.split(64)), [y], [(of_x, of_y)])
    assert value == pytest.approx(slow(x, y[50:]), rel=1e-6)


def test_too_few_rows_are_refused_and_three_have_no_error():
    x, y = normal(1, 10, 4), normal(2, 10, 4)
    with pytest.raises(SampleError, match="1 real and 10 generated"):
        squared_mmd([x[:1]], [y])
    with pytest.raises(SampleError, match="2 real and 1 generated"):
        subset_squared_mmds([x], [y], [(np.arange(2), np.arange(1))])
    value, stderr = squared_mmd([x[:3]], [y])
    assert value == pytest.approx(slow(x[:3], y), rel=1e-5)
    assert stderr is None


def test_the_callers_settings_and_rows_are_left_alone():
    x, y = normal(1, 50, 4), normal(2, 50, 4)
    before, threads = x.clone(), torch.get_num_threads()
    squared_mmd([x], [y])
    assert torch.equal(x, before)
    assert torch.get_num_threads() == threads


def test_kernel_influences_are_the_means_of_kernel_values():
    x, y = features(1, 31, 5), features(2, 40, 5) * 1.3
    kernel = PolynomialKernel()

    def values(a, b):
        return (a.double() @ b.double().T / 5 + 1) ** 3

    found = squared_mmd_influence(x, y, kernel)
    for fit, parts in zip((slice(None), slice(0, None, 2), slice(1, None, 2)), found, strict=True):
        for mine, other, part in ((x, y, parts[0]), (y, x, parts[1])):
            own = values(mine, mine).fill_diagonal_(0)[:, fit]
            counted = torch.ones(len(mine), len(mine)).fill_diagonal_(0)[:, fit].sum(1)
            expected = 2 * (own.sum(1) / counted - values(mine, other)[:, fit].mean(1))
            np.testing.assert_allclose(part, expected - expected.mean(), atol=1e-5)


def test_kernel_influences_are_what_leaving_a_row_out_does():
    x, y = features(1, 60, 5), features(2, 40, 5) * 1.3
    value = squared_mmd([x], [y])[0]
    without = np.array([squared_mmd([torch.cat([x[:i], x[i + 1 :]])], [y])[0] for i in range(60)])
    found = squared_mmd_influence(x, y)[0][0]
    np.testing.assert_allclose(59 * (value - without), found, atol=0.1 * found.std())
