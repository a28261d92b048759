"""Moments against NumPy's, and the Fréchet distance against closed forms and singular values of the rows."""

from fractions import Fraction
from threading import Barrier

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info
from torch_fidelity.metric_fid import fid_statistics_to_metric

from pgmetrics.functional import frechet
from pgmetrics.functional.frechet import GaussianMoments, delete_one_distances, frechet_distance, merged, root
from tests.helpers.draws import normal


def tensor(x):
    return torch.from_numpy(np.array(x, np.float64, order="C"))


def rotation(seed, width):
    return np.linalg.qr(normal(seed, width, width))[0]


def rows(seed, n, width, power=0.5, basis=0, scale=1.0):
    """Features whose standard deviations fall like k^-power along the axes of a rotation."""
    return scale * (normal(seed, n, width) * np.arange(1.0, width + 1) ** -power) @ rotation(basis, width)


def distance_of(x, y):
    a, b = GaussianMoments.of(tensor(x)), GaussianMoments.of(tensor(y))
    return frechet_distance(a.mean, a.covariance(), b.mean, b.covariance())


def reference(x, y):
    """From singular values of the product of the centered rows' triangles: no covariance, nothing squared.

    Returns:
        The distance and the sum of the traces.
    """
    roots = []
    for rows_ in (x, y):
        roots.append(np.linalg.qr((rows_ - rows_.mean(axis=0)) / np.sqrt(len(rows_) - 1), mode="r"))
    common = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    traces = sum((r**2).sum() for r in roots)
    return ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum() + traces - 2 * common, traces


def test_moments_are_numpys_however_the_rows_are_cut():
    x = normal(0, 203, 7) @ normal(1, 7, 7) + 3
    for cuts in ([203], [1, 201, 1], [0, 64, 0, 139], [2] * 101 + [1]):
        pieces = torch.split(tensor(x), cuts)
        grown = GaussianMoments.empty(7)
        for piece in pieces:
            grown = grown.with_rows(piece)
        for moments in (grown, merged([GaussianMoments.of(p) for p in pieces if len(p)])):
            assert moments.count == 203
            np.testing.assert_allclose(moments.mean, x.mean(axis=0), rtol=1e-13)
            np.testing.assert_allclose(moments.covariance(), np.cov(x, rowvar=False), rtol=1e-11, atol=1e-13)
            np.testing.assert_allclose(moments.covariance(0), np.cov(x, rowvar=False, ddof=0), atol=1e-12)


def test_moments_of_unequal_parts_are_right_to_the_last_digits():
    # Exact in fractions. Means far apart and parts of unlike size: each factor of the merge counts.
    parts = [[1000, 1003, 999], [2000], [-5, 7]]
    every = [Fraction(v) for part in parts for v in part]
    mean = sum(every) / len(every)
    scatter = sum((v - mean) ** 2 for v in every)
    moments = merged([GaussianMoments.of(tensor(part)[:, None]) for part in parts])
    assert float(moments.mean) == pytest.approx(float(mean), rel=1e-15)
    assert float(moments.scatter) == pytest.approx(float(scatter), rel=1e-15)


def test_float32_rows_far_from_zero_keep_their_variance():
    x = (1000 + 3 * normal(0, 500, 3)).astype(np.float32)
    moments = merged([GaussianMoments.of(torch.from_numpy(part)) for part in np.split(x, [7, 300])])
    assert moments.scatter.dtype == moments.mean.dtype == torch.float64
    np.testing.assert_allclose(
        moments.covariance(), np.cov(x.astype(np.float64), rowvar=False), rtol=1e-11, atol=1e-11
    )


def test_merging_is_a_value():
    a, b = (GaussianMoments.of(tensor(normal(s, 9, 4))) for s in (0, 1))
    empty = GaussianMoments.empty(4)
    before = [t.clone() for t in (a.mean, a.scatter, b.mean, b.scatter)]
    a.merge(b)
    a.with_rows(tensor(normal(2, 3, 4)))
    for now, then in zip((a.mean, a.scatter, b.mean, b.scatter), before, strict=True):
        assert torch.equal(now, then)
    for same in (a.merge(empty), empty.merge(a), a.with_rows(tensor(np.empty((0, 4))))):
        assert torch.equal(same.scatter, a.scatter)
        assert same.count == 9


def test_in_one_dimension_it_is_the_difference_of_the_deviations():
    for a, b, mean in ((4.0, 9.0, 2.0), (1e-12, 1e6, 0.0), (0.0, 2.0, 1.0), (0.0, 0.0, 3.0), (5.0, 5.0, 0.0)):
        found = frechet_distance(tensor([mean]), tensor([[a]]), tensor([0.0]), tensor([[b]]))
        assert found == pytest.approx(mean**2 + (a**0.5 - b**0.5) ** 2, rel=1e-13, abs=1e-15)


@pytest.mark.parametrize("basis", [None, 3])
@pytest.mark.parametrize("zeros", [0, 7])
def test_covariances_that_commute_have_a_closed_form(basis, zeros):
    # |sqrt(a) - sqrt(b)|² along each common axis; zeros make both singular, on different axes.
    a, b = np.random.default_rng(0).uniform(0.1, 3, (2, 40))
    a[:zeros], b[zeros // 2 : 2 * zeros] = 0, 0
    turn = np.eye(40) if basis is None else rotation(basis, 40)
    cov_a, cov_b = (tensor(turn.T * values @ turn) for values in (a, b))
    mean = normal(5, 40)
    found = frechet_distance(tensor(mean), cov_a, tensor(np.zeros(40)), cov_b)
    assert found == pytest.approx((mean**2).sum() + ((a**0.5 - b**0.5) ** 2).sum(), rel=1e-10)


def test_supports_that_do_not_meet_share_nothing():
    # Ten axes each, none in common, in a rotated frame: the root's trace is 0, its eigenvalues rounding.
    a, b = np.zeros((2, 40))
    a[:10], b[10:20] = 1, 1
    turn = rotation(0, 40)
    zero = tensor(np.zeros(40))
    assert frechet_distance(
        zero, tensor(turn.T * a @ turn), zero, tensor(turn.T * b @ turn)
    ) == pytest.approx(20, rel=1e-12)


def test_a_rotated_and_stretched_gaussian_has_the_distance_of_its_map():
    # From N(0, A) the map T, symmetric and positive, is optimal: the cost is tr (T - 1) A (T - 1).
    width = 30
    cov = np.cov(rows(0, 100, width, power=1), rowvar=False)
    stretch = rotation(1, width).T * np.random.default_rng(2).uniform(0.2, 3, width) @ rotation(1, width)
    apart = stretch - np.eye(width)
    zero = tensor(np.zeros(width))
    found = frechet_distance(zero, tensor(cov), zero, tensor(stretch @ cov @ stretch))
    assert found == pytest.approx(np.trace(apart @ cov @ apart), rel=1e-9)


SHAPES = {
    "full rank": (300, 290),
    "just full": (82, 83),
    "one deficient": (300, 40),
    "the other deficient": (41, 300),
    "both deficient": (40, 55),
    "two images": (2, 300),
    "two and three images": (2, 3),
}


@pytest.mark.parametrize("power", [0.0, 0.5, 1.5, 3.0])
@pytest.mark.parametrize("shape", list(SHAPES))
@pytest.mark.parametrize("basis", [0, 1])
def test_it_is_the_singular_values_distance(shape, power, basis):
    n, m = SHAPES[shape]
    x, y = rows(1, n, 80, power, scale=3), rows(2, m, 80, power, basis) + 0.05
    expected, traces = reference(x, y)
    found = distance_of(x, y)
    assert found == pytest.approx(expected, rel=1e-8)
    assert found == pytest.approx(expected, abs=1e-10 * traces)
    assert distance_of(y, x) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize("power", [0.0, 0.5, 1.5, 3.0])
@pytest.mark.parametrize("n", [2, 3, 40, 80, 81, 82, 300])
def test_a_set_with_itself_is_zero(n, power, scale):
    x = rows(1, n, 80, power, scale=scale)
    assert 0 <= distance_of(x, x) <= 1e-10 * scale**2
    # The same rows summed in another order differ in their last digits.
    parts = [GaussianMoments.of(tensor(part)) for part in np.array_split(x[::-1], 4) if len(part)]
    again, once = merged(parts), GaussianMoments.of(tensor(x))
    assert frechet_distance(once.mean, once.covariance(), again.mean, again.covariance()) <= 1e-9 * scale**2


@pytest.mark.parametrize("n", [40, 300])
@pytest.mark.parametrize("size", [1e-2, 1e-3, 1e-4])
def test_nearly_the_same_sets_keep_their_small_distance(n, size):
    x = rows(1, n, 80)
    y = x + size * rows(2, n, 80)
    expected, traces = reference(x, y)
    assert distance_of(x, y) == pytest.approx(expected, abs=1e-12 * traces)
    assert expected > 1e-12 * traces


def test_features_that_never_vary_and_features_of_unlike_scale():
    x, y = rows(1, 300, 60), rows(2, 280, 60)
    x[:, :9], y[:, :9], x[:, 9:12], y[:, 12:14] = 0, 0, 7, 7
    assert distance_of(x, y) == pytest.approx(reference(x, y)[0], rel=1e-10)
    assert distance_of(x, x[::-1]) < 1e-12
    nothing = np.zeros((5, 60))
    assert distance_of(x, nothing) == pytest.approx(reference(x, nothing)[0], rel=1e-12)
    assert distance_of(nothing, nothing + 2) == pytest.approx(240)
    scales = np.logspace(-3, 3, 60)  # variances over twelve decades
    assert distance_of(x * scales, y * scales) == pytest.approx(
        reference(x * scales, y * scales)[0], rel=1e-8
    )
    assert distance_of(x * scales, x[::-1] * scales) < 1e-10 * ((x * scales).var(axis=0)).sum()


@pytest.mark.parametrize("power", [0.5, 1.5])
def test_the_fast_form_serves_ordinary_features_and_no_singular_ones(power, monkeypatch):
    taken = []
    fast = frechet._fast_root_trace
    monkeypatch.setattr(frechet, "_fast_root_trace", lambda *a: taken.append(fast(*a)) or taken[-1])
    distance_of(rows(1, 400, 200, power), 1.3 * rows(2, 390, 200, power))
    assert taken[-1] is not None
    for x, y in ((40, 300), (300, 40), (40, 50)):
        distance_of(rows(1, x, 80, power), rows(2, y, 80, power))
        assert taken[-1] is None


def test_the_fast_form_is_not_used_where_determinants_contradict_it(monkeypatch):
    # Regular covariances with standard deviations down to 256^-3 on unlike axes: the smallest
    # eigenvalues of the product are rounding.
    x, y = rows(1, 768, 256, 3, basis=0), rows(2, 768, 256, 3, basis=1)
    a, b = (GaussianMoments.of(tensor(v)).covariance() for v in (x, y))
    assert root(a).shape == root(b).shape == (256, 256)
    assert frechet._fast_root_trace(a, b, 0.0, float(a.trace() + b.trace())) is None
    # Eigenvalues that are wrong in the ninth digit of the largest cannot do harm.
    x, y = rows(1, 300, 80), rows(2, 290, 80)
    exact = frechet._eigenvalues
    monkeypatch.setattr(frechet, "_eigenvalues", lambda m: exact(m) + 1e-9 * exact(m)[-1])
    assert distance_of(x, y) == pytest.approx(reference(x, y)[0], rel=1e-10)


def test_regular_covariances_of_a_nearly_singular_product():
    # Both are regular, just; on axes of their own, so the product's eigenvalues span 26 decades and
    # those below 1e-16 of the largest are rounding.
    width = 40
    a = np.logspace(0, -13, width)
    cov_a = tensor(rotation(0, width).T * a @ rotation(0, width))
    cov_b = tensor(rotation(1, width).T * a @ rotation(1, width))
    zero = tensor(np.zeros(width))
    expected = (
        2 * a.sum()
        - 2
        * np.linalg.svd(
            (np.sqrt(a)[:, None] * rotation(0, width)) @ (np.sqrt(a)[:, None] * rotation(1, width)).T,
            compute_uv=False,
        ).sum()
    )
    # The covariances' own rounding is felt here: 1e-16 of the largest, its root, for the small axes.
    assert frechet_distance(zero, cov_a, zero, cov_b) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("n", [30, 300])
def test_the_form_for_other_devices_agrees(n, monkeypatch):
    # What a GPU runs, run here: no pivots, eigenvectors for the factors.
    x, y = rows(1, n, 60), rows(2, 280, 60) + 0.1
    expected = distance_of(x, y), distance_of(x, x[::-1])

    class Elsewhere:
        type = "cuda"

    class There(torch.Tensor):
        device = Elsewhere()

    a, b, c = (GaussianMoments.of(tensor(rows_)) for rows_ in (x, y, x[::-1].copy()))
    there = [m.covariance().as_subclass(There) for m in (a, b, c)]
    assert frechet_distance(a.mean, there[0], b.mean, there[1]) == pytest.approx(expected[0], rel=1e-9)
    assert frechet_distance(a.mean, there[0], c.mean, there[2]) < 1e-9
    assert root(there[0]).shape[1] == min(n - 1, 60)


def test_a_root_gives_its_matrix_back_and_has_its_rank():
    for n, rank in ((300, 50), (20, 19), (2, 1)):
        moments = GaussianMoments.of(tensor(rows(1, n, 50)))
        factor = root(moments.scatter)
        assert factor.shape == (50, rank)
        np.testing.assert_allclose(
            factor @ factor.T, moments.scatter, atol=1e-12 * float(moments.scatter.trace())
        )
    assert root(tensor(np.zeros((4, 4)))).shape == (4, 0)


@pytest.mark.parametrize(
    ("fixed", "sizes"), [(300, (90, 90, 71)), (300, (20, 9, 2)), (25, (20, 9, 12)), (30, (90, 50))]
)
@pytest.mark.parametrize("ddof", [0, 1])
def test_leaving_out_groups_is_taking_the_others(fixed, sizes, ddof):
    one = GaussianMoments.of(tensor(rows(9, fixed, 60)))
    groups = [GaussianMoments.of(tensor(rows(s, n, 60) + s)) for s, n in enumerate(sizes)]
    cov = one.covariance()
    found = delete_one_distances(one.mean, cov, groups, ddof)
    for left_out, value in enumerate(found):
        rest = merged([g for s, g in enumerate(groups) if s != left_out])
        expected = frechet_distance(one.mean, cov, rest.mean, rest.covariance(ddof))
        assert value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.5])
@pytest.mark.parametrize(
    ("fixed", "sizes", "size"),
    [
        (300, (9, 1, 12, 2), 23),  # fixed full, groups of ranks 0 to 11, the pool of 23
        (18, (20, 9, 12), 17),  # the fixed set is the smaller one
        (40, (20, 9, 12), 39),
        (300, (30, 30), 59),  # deficient by one
        (300, (30, 31), 60),  # the least that is regular
        (18, (90, 71, 5), 17),
        (300, (90, 71, 80), 60),
    ],
)
def test_leaving_out_groups_is_singular_values_of_the_rows_at_any_rank(
    fixed, sizes, size, power, monkeypatch
):
    # Eigenvalue problems no larger than the smaller rank: at 1,024 images an eighth of the time.
    solved = []
    exact = frechet._eigenvalues
    monkeypatch.setattr(frechet, "_eigenvalues", lambda m, **how: solved.append(len(m)) or exact(m, **how))
    one = rows(9, fixed, 60, power)
    parts = [rows(s, n, 60, power, basis=1) + 0.1 * s for s, n in enumerate(sizes)]
    moments = GaussianMoments.of(tensor(one))
    groups = [GaussianMoments.of(tensor(part)) for part in parts]
    found = delete_one_distances(moments.mean, moments.covariance(), groups)
    assert solved == [size] * len(sizes)
    for left_out, value in enumerate(found):
        others = np.concatenate([part for s, part in enumerate(parts) if s != left_out])
        expected, traces = reference(one, others)
        # A zero eigenvalue comes out as rounding, whose root is 1e-8 of the largest root.
        assert value == pytest.approx(expected, abs=1e-7 * traces)


def test_groups_are_left_out_side_by_side_in_one_thread_each(monkeypatch):
    # Two threads on one eigenvalue problem wait for each other, and beside a busy neighbor for it.
    together, threads = Barrier(2, timeout=60), []
    exact = frechet._eigenvalues

    def meeting(matrix, **how):
        together.wait()
        threads.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
        return exact(matrix, **how)

    monkeypatch.setattr(frechet, "_eigenvalues", meeting)
    one = GaussianMoments.of(tensor(rows(9, 300, 60)))
    groups = [GaussianMoments.of(tensor(rows(s, 40, 60))) for s in range(4)]
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        delete_one_distances(one.mean, one.covariance(), groups)
    finally:
        torch.set_num_threads(before)
    assert set(threads) == {1}


def test_leaving_out_groups_with_rows_that_repeat_and_features_that_never_vary():
    one, pool = rows(9, 300, 60), rows(1, 48, 60)
    pool[24:], pool[:, 5:9], one[:, 20:30] = pool[:24], 3, 1
    parts = np.split(pool, [20, 24, 40])
    moments = GaussianMoments.of(tensor(one))
    groups = [GaussianMoments.of(tensor(part)) for part in parts]
    for left_out, value in enumerate(delete_one_distances(moments.mean, moments.covariance(), groups)):
        others = np.concatenate([part for s, part in enumerate(parts) if s != left_out])
        assert value == pytest.approx(reference(one, others)[0], rel=1e-7)
    same = [GaussianMoments.of(tensor(np.ones((4, 60)))) for _ in range(3)]
    expected = ((moments.mean - 1) ** 2).sum() + moments.covariance().trace()
    assert delete_one_distances(moments.mean, moments.covariance(), same) == pytest.approx(
        [float(expected)] * 3
    )


def test_moments_in_the_place_of_others_are_the_same_and_otherwise_leave_them():
    first = GaussianMoments.of(tensor(rows(1, 30, 7)))
    before, more = first.scatter.clone(), tensor(rows(2, 12, 7) + 1)
    fresh = first.with_rows(more)
    assert torch.equal(first.scatter, before)
    reused = first.with_rows(more, reuse=True)
    assert reused.scatter.data_ptr() == first.scatter.data_ptr()
    assert torch.equal(reused.scatter, fresh.scatter)
    assert torch.equal(
        GaussianMoments.empty(7).with_rows(more, reuse=True).scatter, GaussianMoments.of(more).scatter
    )


@pytest.mark.slow
def test_the_peers_number_at_full_size():
    # The size of Inception's pool3.
    generator = np.random.default_rng(0)
    scales = np.arange(1.0, 2049) ** -0.5
    x, y = (np.maximum(generator.standard_normal((2600, 2048)) * scales + 0.02, 0) for _ in range(2))
    x, y = x, 1.1 * y
    stats = [{"mu": v.mean(axis=0), "sigma": np.cov(v, rowvar=False)} for v in (x, y)]
    theirs = fid_statistics_to_metric(*stats, verbose=False)["frechet_inception_distance"]
    assert distance_of(x, y) == pytest.approx(theirs, rel=1e-6)
