"""FID and FD: the contract, the peers' numbers, the jackknife against repeated draws, statistics files."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from pgmetrics.errors import OptionError, SampleError, StateError
from pgmetrics.metrics.base import Tap
from pgmetrics.metrics.frechet import FrechetDistance, FrechetInceptionDistance, _jackknife
from pgmetrics.prepared.state_files import load_state, save_state
from tests.contracts.feature_contract import FeatureContract, features
from tests.helpers.moments import given, state_of


@pytest.fixture(autouse=True)
def _one_thread():
    # Operations this small only wait for the second thread.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class TestContract(FeatureContract):
    # 700 images fill all of 10 groups and leave a chunk of 60 waiting.
    metric = FrechetInceptionDistance()
    num = 700
    same_bits = False


class TestContractOfOneGroup(FeatureContract):
    metric = FrechetDistance(groups=1, ddof=0)
    same_bits = False


def compute(real, fake, metric=FrechetInceptionDistance()):  # noqa: B008
    return metric.compute(real=state_of(real, "real", metric), fake=state_of(fake, "fake", metric))


def row(rows, name):
    (found,) = [r for r in rows if r.metric == name]
    return found


def peers(real, fake):
    """FID of the tools that people quote, from the same features."""
    real64, fake64 = real.double(), fake.double()
    mu = [x.mean(dim=0).numpy() for x in (real64, fake64)]
    sigma = [np.cov(x.numpy(), rowvar=False) for x in (real64, fake64)]
    found = {
        "torch-fidelity": fid_statistics_to_metric(
            *(fid_features_to_statistics(x) for x in (real64, fake64)), verbose=False
        )["frechet_inception_distance"]
    }
    pytorch_fid = pytest.importorskip("pytorch_fid.fid_score")
    found["pytorch-fid"] = pytorch_fid.calculate_frechet_distance(mu[0], sigma[0], mu[1], sigma[1])
    cleanfid = pytest.importorskip("cleanfid.fid")
    found["clean-fid"] = cleanfid.frechet_distance(mu[0], sigma[0], mu[1], sigma[1])
    torchmetrics = pytest.importorskip("torchmetrics.image.fid")
    moments = [torch.from_numpy(x) for x in (mu[0], sigma[0], mu[1], sigma[1])]
    found["torchmetrics"] = float(torchmetrics._compute_fid(*moments))
    return found


# SciPy calls the way the peers use it outdated.
@pytest.mark.filterwarnings("ignore:.*disp.*:DeprecationWarning")
def test_the_peers_numbers_from_the_same_features():
    real, fake = features(1, 900, 96), 1.2 * features(1, 1700, 96)[900:] + 0.1
    ours = compute(real, fake)[0][0]
    assert (ours.metric, ours.level, ours.subject, ours.n_real, ours.n_fake) == (
        "fid",
        None,
        "fake",
        900,
        800,
    )
    for name, theirs in peers(real, fake).items():
        assert ours.value == pytest.approx(theirs, rel=1e-6), name


def test_the_divisor_is_a_choice():
    real, fake = features(1, 40, 5), features(2, 30, 5)
    for ddof in (0, 1):
        stats = [
            {"mu": x.double().mean(0).numpy(), "sigma": np.cov(x.double().numpy(), rowvar=False, ddof=ddof)}
            for x in (real, fake)
        ]
        theirs = fid_statistics_to_metric(*stats, verbose=False)["frechet_inception_distance"]
        ours = compute(real, fake, FrechetInceptionDistance(ddof=ddof))[0][0].value
        assert ours == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize("n", [2, 40, 700])
def test_a_set_with_itself_is_zero(n):
    rows = 5 * features(1, n, 48)
    assert compute(rows, rows)[0][0].value < 1e-9
    # The same images, summed in another order.
    assert compute(rows, rows.flip(0))[0][0].value < 1e-9


def test_the_standard_error_is_the_spread_over_repeated_draws():
    # The mean over 40 pairs of sets of what each pair says of itself, against what the pairs differ by.
    found = [compute(1.5 * features_of(900, 6, 2 * s), features_of(1300, 6, 2 * s + 1))[0] for s in range(40)]
    values, stderrs = (np.array([getattr(rows[0], name) for rows in found]) for name in ("value", "stderr"))
    assert np.sqrt((stderrs**2).mean()) == pytest.approx(values.std(ddof=1), rel=0.3)
    assert {rows[0].stderr_kind for rows in found} == {"images (jackknife, 10 groups)"}


def test_the_bias_is_what_finitely_many_images_add():
    # Both sets from one distribution: without bias the distance would be 0.
    found = [compute(features_of(1000, 12, 2 * s), features_of(700, 12, 2 * s + 1))[0] for s in range(20)]
    value = np.mean([rows[0].value for rows in found])
    bias = np.mean([row(rows, "fid-bias").value for rows in found])
    assert bias == pytest.approx(value, rel=0.15)
    assert row(found[0], "fid-bias").stderr is None


def features_of(n, width, seed):
    """Draws of one distribution."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32))


def test_the_bias_needs_more_images_than_features_in_every_part():
    enough, few = features(1, 640, 40), features(2, 370, 40)
    assert len(compute(enough, few)[0]) == 2
    for real, fake in ((enough, features(2, 330, 300)[:, :40]), (enough, few[:200])):
        rows, _ = compute(real, fake)
        assert (len(rows) == 2) == (len(fake) == 330)
    # 370 images without the 64 of a group are fewer than 320.
    rows, notes = compute(features(1, 1000, 320), features(2, 370, 320))
    assert [r.metric for r in rows] == ["fid"]
    (note,) = notes
    assert "fid-bias is left out" in note
    assert "the 320 features" in note


def test_jackknife_of_a_mean_and_of_a_law_in_1_over_n():
    # Of a mean the groups' weighted spread is known; of a + b / n the bias is b / n, exactly.
    rng = np.random.default_rng(0)
    counts = [50, 50, 50, 50, 23]
    groups = [rng.standard_normal(n) for n in counts]
    pool = np.concatenate(groups)
    means = [np.concatenate(groups[:i] + groups[i + 1 :]).mean() for i in range(5)]
    variance, bias = _jackknife(pool.mean(), means, counts)
    share = np.array(counts) / len(pool)
    expected = sum(
        h**2 / (1 / h - 1) * (g.mean() - pool.mean()) ** 2 / h**2 for h, g in zip(share, groups, strict=True)
    )
    assert variance == pytest.approx(expected / 5)
    assert bias == pytest.approx(0, abs=1e-12)
    equal = [rng.standard_normal(40) for _ in range(8)]
    variance, _ = _jackknife(
        np.concatenate(equal).mean(),
        [np.concatenate(equal[:i] + equal[i + 1 :]).mean() for i in range(8)],
        [40] * 8,
    )
    assert variance == pytest.approx(np.var([g.mean() for g in equal], ddof=1) / 8)
    n = sum(counts)
    _, bias = _jackknife(3 + 7 / n, [3 + 7 / (n - m) for m in counts], counts)
    assert bias == pytest.approx(7 / n)


def test_the_jackknife_is_what_leaving_out_the_images_gives():
    real, fake = features(1, 500, 9), 1.3 * features(2, 470, 9)
    metric = FrechetInceptionDistance(groups=5)
    estimate = compute(real, fake, metric)[0][0]

    def variance(rows, value_of):
        group = torch.arange(len(rows)) // 64 % 5
        without = [value_of(rows[group != j]) for j in range(5)]
        return _jackknife(estimate.value, without, [int((group == j).sum()) for j in range(5)])[0]

    alone = replace(metric, groups=1)
    total = variance(fake, lambda rows: compute(real, rows, alone)[0][0].value)
    total += variance(real, lambda rows: compute(rows, fake, alone)[0][0].value)
    assert estimate.stderr == pytest.approx(total**0.5, rel=1e-9)


def test_few_groups_give_no_standard_error():
    for metric, n in ((FrechetInceptionDistance(groups=1), 700), (FrechetInceptionDistance(), 256)):
        rows, _ = compute(features(1, 700, 6), features(2, n, 6), metric)
        assert [(r.metric, r.stderr, r.stderr_kind) for r in rows] == [("fid", None, None)]
    assert compute(features(1, 700, 6), features(2, 257, 6))[0][0].stderr > 0


def test_fewer_images_than_features_are_noted():
    _, (note, no_error) = compute(features(1, 50, 20), features(2, 20, 20))
    assert "fid of 20 fake images in 20 dimensions" in note
    assert "equal counts only" in note
    assert compute(features(1, 50, 20), features(2, 21, 20))[1] == [no_error]


@pytest.mark.parametrize(("n", "without"), [(2304, 2048), (2305, 2049)])
def test_inceptions_bias_begins_at_the_number_that_the_docs_have(n, without):
    # docs/protocols.md: from 2,305 images on, more than 2,048 are left whichever of ten groups is not there.
    groups = state_of(features(1, n, 2), "fake", FrechetInceptionDistance()).groups
    assert n - max(group.count for group in groups) == without


def test_a_missing_error_says_how_many_images_it_takes():
    # Wrong: a number that is not the least one; said of statistics without images, or where none was asked.
    rows, (note,) = compute(features(1, 257, 20), features(2, 256, 20))
    assert rows[0].stderr is None
    assert "needs 257 of each side" in note
    rows, notes = compute(features(1, 257, 20), features(2, 257, 20))
    assert rows[0].stderr is not None
    assert notes == []
    assert compute(features(1, 60, 20), features(2, 60, 20), FrechetInceptionDistance(groups=1))[1] == []


def test_one_image_is_refused():
    with pytest.raises(SampleError, match=r"at least 2 images .* fake side has 1"):
        compute(features(1, 9, 4), features(2, 1, 4))


def test_the_real_side_may_be_a_statistics_file():
    real, fake = features(1, 700, 6), features(2, 700, 6)
    metric = FrechetInceptionDistance()
    both, _ = compute(real, fake)
    (estimate,), notes = metric.compute(real=given(real), fake=state_of(fake))
    assert estimate.value == pytest.approx(both[0].value, rel=1e-10)
    assert (estimate.n_real, estimate.n_fake, notes) == (None, 700, [])
    assert estimate.stderr_kind == "fake images (jackknife, 10 groups)"
    assert 0 < estimate.stderr < both[0].stderr
    assert metric.compute(real=given(real, count=700), fake=state_of(fake))[0][0].n_real == 700
    (alone,), _ = metric.compute(real=given(real), fake=state_of(fake[:200]))
    assert (alone.stderr, alone.stderr_kind) == (None, None)


def test_a_statistics_file_of_another_width_is_refused_with_both_numbers():
    with pytest.raises(StateError, match=r"real has 7 features, fake has 1,200"):
        FrechetInceptionDistance().compute(
            real=given(features(1, 30, 7)), fake=state_of(features(2, 9, 1200))
        )


@pytest.mark.parametrize("count", [None, 30])
def test_a_statistics_file_survives_the_disk(tmp_path, count):
    state, fake = given(features(1, 30, 4), count=count), state_of(features(2, 30, 4))
    save_state(state, tmp_path / "s")
    back = load_state(tmp_path / "s", FrechetInceptionDistance().new_state("real", resolution=(32, 32)))
    metric = FrechetInceptionDistance()
    assert metric.compute(real=back, fake=fake) == metric.compute(real=state, fake=fake)


def test_fid_is_inceptions_and_fd_ones_own():
    assert FrechetInceptionDistance().tap == Tap("inception", "features")
    assert FrechetDistance().tap == Tap("custom", "features")
    with pytest.raises(OptionError, match="fd is the Fréchet distance on custom features"):
        FrechetInceptionDistance(network="custom")
    for wrong in ({"groups": 0}, {"ddof": 2}):
        with pytest.raises(OptionError, match=str(next(iter(wrong.values())))):
            FrechetDistance(**wrong)
    rows, _ = compute(features(1, 700, 6), features(2, 700, 6), FrechetDistance())
    assert [r.metric for r in rows] == ["fd", "fd-bias"]


def test_states_of_other_groups_are_not_compared():
    real = state_of(features(1, 9, 3), "real", FrechetDistance(groups=5))
    with pytest.raises(StateError, match=r"'groups': 5.*'groups': 10"):
        FrechetDistance().compute(real=real, fake=state_of(features(1, 9, 3), metric=FrechetDistance()))
