"""evaluate(): one pass, equal counts, floor, refusals, provenance."""

import logging

import numpy as np
import pytest

import pgmetrics
from pgmetrics.errors import OptionError, SampleError
from pgmetrics.evaluation.api import observe
from pgmetrics.runtime.spill import WORKING_MEMORY
from pgmetrics.sources.base import sequence
from tests.helpers.counting import Counting
from tests.helpers.tables import SWD, rows


def test_each_image_is_read_once_for_all_metrics_and_the_floor():
    real, fake = Counting(700), Counting(300, seed=1)
    found = pgmetrics.evaluate(real, fake, [SWD, "ms-ssim"], floor=True)
    assert real.reads.tolist() == [1] * 700
    assert fake.reads.tolist() == [1] * 300
    (mean,) = rows(found, metric="swd", level=None, subject="fake")
    assert (mean["n_real"], mean["n_fake"]) == (300, 300)
    (floor,) = rows(found, metric="swd", level=None, subject="real")
    assert (floor["n_real"], floor["n_fake"]) == (300, None)
    assert rows(found, metric="ms-ssim", subject="real")[0]["n_real"] == 700


def test_only_what_a_budget_needs_is_read():
    real, fake = Counting(100), Counting(100, seed=1)
    pgmetrics.evaluate(real, fake, [SWD], num_images=40)
    assert (real.reads.sum(), fake.reads.sum()) == (40, 40)


def test_budgets_take_the_first_of_one_permutation_keyed_by_seed_and_count():
    # A sorted listing is sorted by class: its first images are no sample of it.
    listing = Counting(100, shuffled=True)
    pgmetrics.evaluate(None, listing, ["ms-ssim"], num_images=40, seed=3)
    assert set(np.flatnonzero(listing.reads)) == set(sequence(listing, 3)[:40].tolist())
    assert set(sequence(listing, 3)[:40].tolist()) != set(range(40))
    assert sequence(listing, 3).tolist() != sequence(listing, 4).tolist()
    assert sequence(listing, 3).tolist() == sequence(Counting(100, seed=9, shuffled=True), 3).tolist()
    generator = Counting(100)
    pgmetrics.evaluate(None, generator, ["ms-ssim"], num_images=40)
    assert np.flatnonzero(generator.reads).tolist() == list(range(40))


def test_a_metric_beside_changes_no_bit_of_another():
    real, fake = Counting(101), Counting(99, seed=1)
    alone = pgmetrics.evaluate(real, fake, [SWD]).rows
    beside = pgmetrics.evaluate(real, fake, ["ms-ssim", SWD]).rows
    assert [r["value"] for r in alone] == [r["value"] for r in beside if r["metric"] == "swd"]


def test_the_floor_uses_two_disjoint_halves_and_is_independent_of_the_fakes():
    real = Counting(600)  # two blocks each half, the second one short
    one, other = (pgmetrics.evaluate(real, Counting(300, seed=s), [SWD], floor=True) for s in (1, 2))
    assert rows(one, subject="real")[0]["value"] == rows(other, subject="real")[0]["value"]
    first, second = real.pixels[:300], real.pixels[300:]
    swapped = pgmetrics.evaluate(
        pgmetrics.sources.function(lambda i: first[list(i)], n=300, name="first"),
        pgmetrics.sources.function(lambda i: second[list(i)], n=300, name="second"),
        [SWD],
    )
    assert [r["value"] for r in rows(one, subject="real")] == [r["value"] for r in swapped.rows]


def test_too_few_reals_for_the_floor_leave_it_out_with_a_note(caplog):
    with caplog.at_level(logging.WARNING, "pgmetrics"):
        found = pgmetrics.evaluate(Counting(60), Counting(40, seed=1), [SWD], floor=True)
    assert not rows(found, subject="real")
    assert "num_images=30 makes room" in found.provenance["notes"][0]
    assert "num_images=30" in caplog.text


def test_the_floor_lies_far_below_another_texture():
    # Tiles where the reals have blotches: another pattern of the same colors at every scale.
    tiles = np.tile(np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), dtype=np.uint8), (1, 4, 4, 1))
    found = pgmetrics.evaluate(Counting(128), tiles, ["swd"], floor=True)
    (floor,) = rows(found, subject="real", level=None)
    (fake,) = rows(found, subject="fake", level=None)
    assert fake["value"] > 2 * floor["value"]


def test_fewer_images_than_asked_are_refused_with_both_numbers():
    with pytest.raises(SampleError, match=r"counting0 holds 40 images; num_images asks for 50"):
        pgmetrics.swd(Counting(40), Counting(90, seed=1), num_images=50)


def test_unlike_sizes_are_refused_with_names_and_sizes():
    with pytest.raises(
        SampleError, match=r"counting0 \(real\) has 32x32; counting1 \(fake\) has 64x64.*--resize"
    ):
        pgmetrics.swd(Counting(8), Counting(8, seed=1, side=64))


def test_below_sixteen_pixels_swd_is_undefined_and_says_so():
    with pytest.raises(SampleError, match="undefined below 16 pixels"):
        pgmetrics.swd(Counting(8, side=8), Counting(8, side=8))


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        ((None, None, ["ms-ssim"]), "neither"),
        ((None, 1, ["swd"]), "give both"),
        ((1, 1, []), "no metric"),
        ((1, 1, ["swd", "swd"]), "twice"),
        ((1, 1, ["fud"]), r"'fud' \(did you mean fd or fid\?\); there are swd, ms-ssim"),
    ],
)
def test_impossible_requests_are_refused_before_any_image_is_opened(arguments, fact):
    with pytest.raises(OptionError, match=fact):
        pgmetrics.evaluate(*arguments)


def test_a_label_that_no_row_could_hold_is_refused_before_the_work():
    for label in ("", "two\nlines"):
        with pytest.raises(OptionError, match="line of text"):
            pgmetrics.swd("nowhere", "nowhere", run=label)


def test_mirroring_flips_some_reals_and_no_fakes():
    real, fake = Counting(40), Counting(40, seed=1)
    plain = pgmetrics.evaluate(real, fake, [SWD, "ms-ssim"])
    mirrored = pgmetrics.evaluate(real, fake, [SWD, "ms-ssim"], mirror=True)
    again = pgmetrics.evaluate(real, fake, [SWD, "ms-ssim"], mirror=True)
    assert (
        rows(plain, metric="ms-ssim", subject="fake")[0]["value"]
        == rows(mirrored, metric="ms-ssim", subject="fake")[0]["value"]
    )
    for metric in ("swd", "ms-ssim"):
        subject = "fake" if metric == "swd" else "real"
        before, after = (rows(r, metric=metric, subject=subject)[0]["value"] for r in (plain, mirrored))
        assert before != after
    assert mirrored.rows == again.rows


def test_mirroring_leaves_the_memory_of_the_source_alone():
    class Lending(Counting):
        def _read(self, indices):
            return self.pixels[indices[0] : indices[-1] + 1]

    source = Lending(40)
    before = source.pixels.copy()
    pgmetrics.evaluate(source, None, ["ms-ssim"], mirror=True)
    assert np.array_equal(source.pixels, before)


def test_the_bound_on_memory_leaves_room_for_the_work():
    # 40 images of 32 px have 12 MB of descriptors a side. All are spilled where only the work has room.
    reals, fakes = Counting(40), Counting(40, seed=1)
    tight, roomy = (
        pgmetrics.swd(reals, fakes, max_memory=bound).provenance["spilled_bytes"]
        for bound in (WORKING_MEMORY, WORKING_MEMORY + 2**30)
    )
    assert tight == 2 * 2 * 40 * 128 * 147 * 4
    assert roomy == 0


def test_one_liners_equal_evaluate():
    real, fake = Counting(8), Counting(8, seed=1)
    assert pgmetrics.swd(real, fake).rows == pgmetrics.evaluate(real, fake, ["swd"]).rows
    assert pgmetrics.ms_ssim(fake).rows == pgmetrics.evaluate(None, fake, ["ms-ssim"]).rows


def test_progress_reaches_its_total():
    told = []
    pgmetrics.evaluate(Counting(8), Counting(8, seed=1), [SWD], progress=lambda *p: told.append(p))
    for what in ("real images", "fake images"):
        assert [p for p in told if p[0] == what][-1][1:] == (8, 8)


# observe(): several generated sets against the same reals.


def observed(real, fakes, metrics=(SWD, "ms-ssim"), **options):
    found = observe(real, fakes, metrics, **options)
    return {one.metric.name: one for one in found.observations}


def test_observing_reads_every_image_once_and_gives_evaluates_numbers():
    real, fakes = Counting(300), [Counting(290, seed=1), Counting(290, seed=2)]
    found = observed(real, fakes)
    assert real.reads.tolist() == [1] * 300
    assert [fake.reads.tolist() for fake in fakes] == [[1] * 290] * 2
    for number, fake in enumerate(fakes):
        alone = pgmetrics.evaluate(Counting(300), fake, [SWD, "ms-ssim"])
        for one in found.values():
            estimates, _ = one.metric.compute(real=one.real, fake=one.fakes[number])
            expected = {(r["metric"], r["subject"], r["level"]): r["value"] for r in alone.rows}
            assert all(expected[e.metric, e.subject, e.level] == e.value for e in estimates)


def test_every_set_is_observed_at_the_count_of_the_smallest():
    # Unequal counts would compare budgets: SWD and FID fall with the number of images.
    found = observed(Counting(200), [Counting(90, seed=1), Counting(61, seed=2), Counting(70, seed=3)])
    assert [len(state.seen) for state in found["swd"].fakes] == [61, 61, 61]
    assert len(found["swd"].real.seen) == 61
    assert [len(state.seen) for state in found["ms-ssim"].fakes] == [60, 60, 60]


def test_one_set_may_be_observed_twice():
    # States shared between equal sets would be fed every image twice.
    fake = Counting(40, seed=1)
    one, other = observed(Counting(40), [fake, fake])["swd"].fakes
    assert one is not other
    assert fake.reads.tolist() == [2] * 40


def test_what_is_observed_is_named_in_refusals():
    with pytest.raises(SampleError, match=r"counting1 \(A\) has 32x32; counting2 \(B\) has 64x64"):
        observed(None, [Counting(8, seed=1), Counting(8, seed=2, side=64)], ["ms-ssim"], names=("A", "B"))
    with pytest.raises(OptionError, match="swd compares real with generated images"):
        observed(None, [Counting(8)], ["swd"])
    with pytest.raises(OptionError, match="no generated images"):
        observed(Counting(8), [])


def test_observing_needs_no_reals_where_no_metric_does():
    assert observed(None, [Counting(8)], ["ms-ssim"])["ms-ssim"].real is None
