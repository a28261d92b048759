"""The floor: what reals score among themselves, for every metric that compares two sides."""

import numpy as np
import pytest

import pgmetrics
from pgmetrics.errors import SampleError
from pgmetrics.metrics.swd import SlicedWasserstein
from tests.helpers.counting import Counting
from tests.helpers.tables import SWD
from tests.helpers.toy_network import ToyNetwork

TWO_SIDED = [SWD, "fid", "kid", "prdc", "memorisation"]
NAMES = {"swd", "fid", "fid-bias", "kid", "precision", "recall", "density", "coverage", "authpct"}


def score(real, fake, metrics=(*TWO_SIDED, "ms-ssim", "is"), **options):
    return pgmetrics.evaluate(
        real, fake, metrics, networks={"inception": ToyNetwork()}, floor=True, **options
    )  # fmt: skip


def values(found, subject):
    return {(r["metric"], r["level"]): r["value"] for r in found.rows if r["subject"] == subject}


def part(pixels, name):
    return pgmetrics.sources.function(lambda i: pixels[list(i)], n=len(pixels), name=name)


# 300 make two blocks, the second one short; of 301 the second set begins at an even place.
@pytest.mark.slow
@pytest.mark.parametrize("n", [300, 301])
def test_the_floor_of_every_metric_of_two_sides_is_its_value_between_disjoint_halves(n):
    real = Counting(602 + 40)
    found = score(real, Counting(n, seed=1))
    floor = values(found, "real")
    assert {metric for metric, _ in floor} == NAMES | {"ms-ssim", "is"}
    second = n + n % 2
    between = pgmetrics.evaluate(
        part(real.pixels[:n], "first"), part(real.pixels[second : second + n], "second"), TWO_SIDED,
        networks={"inception": ToyNetwork()},
    )  # fmt: skip
    for key, value in values(between, "fake").items():
        assert floor[key] == pytest.approx(value, rel=1e-9), key
    counts = {
        (r["n_real"], r["n_fake"]) for r in found.rows if r["subject"] == "real" and r["metric"] in NAMES
    }
    assert counts == {(n, None)}
    assert real.reads.tolist() == [1] * len(real)  # the halves too: nothing is read for them again


def test_without_fakes_the_floor_is_that_of_a_generator_asked_for_as_many():
    real, fake = Counting(200), Counting(80, seed=1)
    alone = score(real, None, num_images=80)
    beside = score(real, fake, num_images=80)
    assert alone.rows == tuple(
        {**row, "run": alone.rows[0]["run"]} for row in beside.rows if row["subject"] == "real"
    )


def test_what_has_too_few_reals_for_a_floor_is_named_and_the_rest_has_one():
    # fid takes all 300 of the fakes, swd its own number.
    fast = SlicedWasserstein(num_images=100, patches_per_image=16, directions=8, repeats=2)
    found = score(Counting(400), Counting(300, seed=1), [fast, "fid", "kid"])
    assert {row["metric"] for row in found.rows if row["subject"] == "real"} == {"swd"}
    (note,) = found.provenance["notes"]
    assert note == (
        "the floor is left out (fid, kid): it compares two sets of 300 real images and counting0 holds "
        "400; num_images=200 makes room for it"
    )


def test_metrics_of_one_side_have_no_floor_and_say_so():
    found = score(Counting(100), Counting(60, seed=1), ["is"])
    (note,) = found.provenance["notes"]
    assert "a property of metrics that compare two sides" in note


def test_the_mean_and_scatter_of_all_reals_stay_when_the_floor_needs_some_of_them():
    real, fake = Counting(600), Counting(130, seed=1)
    with_floor = values(score(real, fake, ["fid"]), "fake")["fid", None]
    without = pgmetrics.evaluate(real, fake, ["fid"], networks={"inception": ToyNetwork()}).rows[0]
    assert with_floor == pytest.approx(without["value"], rel=1e-9)
    assert without["n_real"] == 600
    assert np.isfinite(with_floor)


def test_a_generator_may_claim_more_images_than_memory_has_room_for_the_order_of():
    # Wrong: an order of 2^32 indices, which are 34 GB.
    few, endless = (
        [f"synthetic:leaves,resolution=32,n={n},seed={seed}" for seed in (0, 1)] for n in (80, 2**32)
    )
    expected = score(*few, [SWD, "ms-ssim"], num_images=20, workers=0)
    assert score(*endless, [SWD, "ms-ssim"], num_images=20, workers=0).rows == expected.rows
    sliced = [f"{source}@60:" for source in endless]
    expected = pgmetrics.swd(*[f"{source}@60:80" for source in few], num_images=20, workers=0)
    found = pgmetrics.swd(*sliced, num_images=20, workers=0)
    assert [row["value"] for row in found.rows] == [row["value"] for row in expected.rows]
    fingerprints = [each.provenance["sources"]["real"]["fingerprint"] for each in (found, expected)]
    assert fingerprints[0] == fingerprints[1]
    with pytest.raises(SampleError, match=r"fid would take 4,294,967,296 of them; at most 100,000,000"):
        score(endless[0], few[1], ["fid"], workers=0)
