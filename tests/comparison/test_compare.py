"""compare(): verdicts on images and on results, and what is refused or explained."""

import json
from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
from scipy import stats

import pgmetrics
from pgmetrics.comparison.compare import _gate, _judged, compare
from pgmetrics.comparison.scores import Scores
from pgmetrics.errors import OptionError, PgmetricsError, SampleError
from pgmetrics.metrics.fid_infinity import FIDInfinity
from pgmetrics.results import Results
from pgmetrics.results.run_scores import Entry, Journal
from pgmetrics.uncertainty.intervals import Difference
from pgmetrics.uncertainty.verdicts import Score
from tests.helpers.compared import FAST, blotches, results, row, settings_of, verdicts
from tests.helpers.samplers import write_checkpoint
from tests.helpers.toy_network import ToyNetwork


@pytest.fixture(scope="module")
def late(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("late") / "late.safetensors", images_shown=9)


@pytest.fixture(scope="module")
def early(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("early") / "early.safetensors", damage=1.0)


@pytest.fixture(scope="module")
def reals(late):
    """Other samples of the later network, which is perfect then."""
    return f"progan:{late},seed=9"


def judged_rows(*arguments):
    return tuple(row for row, _ in _judged(*arguments))


# Images.


def test_an_early_checkpoint_is_told_from_a_late_one(early, late, reals):
    found = compare(early, late, real=reals, metrics=[FAST, "ms-ssim"], num_images=128)
    assert [verdicts(found)["swd", level] for level in (32, 16, None)] == ["better"] * 3
    assert not found.worse
    back = compare(late, early, real=reals, metrics=[FAST, "ms-ssim"], num_images=128)
    assert back.worse
    assert [verdicts(back)["swd", level] for level in (32, 16, None)] == ["worse"] * 3
    for one, other in zip(found.rows, back.rows, strict=True):
        assert one["difference"] == pytest.approx(-other["difference"], rel=1e-12)
        assert one["p_value"] == other["p_value"]
        assert one["test"] == "swaps of pairs"
        assert one["low"] < one["difference"] < one["high"]


def test_two_seeds_of_one_sampler_are_within_noise(late, reals):
    found = compare(
        f"progan:{late},seed=1",
        f"progan:{late},seed=2",
        real=reals,
        metrics=[FAST, "ms-ssim"],
        num_images=128,
    )
    assert set(verdicts(found).values()) == {"within noise"}
    assert found.decided
    assert not found.worse


def test_numbers_are_evaluates(early, late, reals):
    found = compare(early, late, real=reals, metrics=[FAST, "ms-ssim"], num_images=64, seed=3)
    for side, fakes in (("a", early), ("b", late)):
        alone = pgmetrics.evaluate(reals, fakes, [FAST, "ms-ssim"], num_images=64, seed=3)
        expected = {(r["metric"], r["level"]): r["value"] for r in alone.rows if r["subject"] == "fake"}
        assert {(r["metric"], r["level"]): r[side] for r in found.rows} == expected


def test_a_set_against_itself_differs_by_nothing(late, reals):
    found = compare(late, late, real=reals, metrics=[FAST], num_images=32)
    assert {(r["difference"], r["p_value"]) for r in found.rows} == {(0.0, 1.0)}


def test_metrics_of_one_set_need_no_reals():
    found = compare(blotches(40, 1), blotches(40, 2), metrics=["ms-ssim"])
    assert verdicts(found) == {("ms-ssim", None): "within noise"}
    with pytest.raises(OptionError, match="swd compares real with generated images"):
        compare(blotches(40, 1), blotches(40, 2))


def test_frechet_distances_are_paired_through_rows():
    # From moments alone no image could be swapped with another.
    network = {"inception": ToyNetwork()}
    found = compare(
        blotches(120, 1),
        blotches(120, 2, shift=60),
        real=blotches(150, 3),
        metrics=["fid", "kid"],
        networks=network,
    )
    assert verdicts(found) == {("fid", None): "worse", ("kid", None): "worse"}
    assert {r["protocol"] for r in found.rows} == {"native, inception toy1"}
    alone = pgmetrics.evaluate(blotches(150, 3), blotches(120, 1), ["fid"], networks=network)
    assert found.rows[0]["a"] == pytest.approx(alone.rows[0]["value"], rel=1e-9)


def test_a_preset_keeps_its_parameters():
    # A metric by name would be made anew, without its subsets.
    how = {"real": blotches(30, 3), "metrics": ["fid", "kid"], "networks": {"inception": ToyNetwork()}}
    found = compare(blotches(30, 1), blotches(30, 2), preset="clean-fid", **how)
    made = found.provenance["parameters"]["metrics"]
    assert made["fid"]["keep_rows"]
    assert made["kid"]["subsets"] == 100
    with pytest.raises(OptionError, match="no preset 'fid'"):
        compare(blotches(30, 1), blotches(30, 2), preset="fid", **how)


def test_what_has_no_test_is_undecided_and_says_so():
    found = compare(
        blotches(60, 1),
        blotches(60, 2),
        real=blotches(60, 3),
        metrics=[FIDInfinity(points=3, smallest=20)],
        networks={"inception": ToyNetwork()},
    )
    assert verdicts(found) == {("fid-infinity", None): "undecided"}
    assert not found.decided
    (reason,) = found.gate.undecided.values()
    assert reason == "there is no test of it image by image; leave fid-infinity out of the metrics"
    assert found.notes == (f"fid-infinity is undecided: {reason}",)


def test_sets_that_differ_without_an_error_are_not_passed_by_a_gate():
    # A generator that lost its variety. Below 4 (k + 1) images no error tells that it is worse.
    fakes = blotches(20, 1), blotches(20, 2, shift=200)
    found = compare(
        *fakes,
        real=blotches(20, 3),
        metrics=["prdc"],
        networks={"inception": ToyNetwork()},
        significance=0.05,
    )
    unsure = {row["metric"] for row in found.rows if row["verdict"] == "different"}
    assert unsure
    assert unsure <= set(found.gate.undecided)
    assert "give more images" in found.gate.undecided[unsure.pop()]
    assert not found.decided


def test_too_few_images_to_tell_anything_are_pointed_out():
    found = compare(blotches(8, 1), blotches(8, 2), metrics=["ms-ssim"])
    assert "no difference can be told from noise here" in " ".join(found.notes)


def test_unlike_sizes_are_refused_or_explained():
    small, large = blotches(8, 1)[:, :, :16, :16], blotches(8, 2)
    with pytest.raises(SampleError, match=r"array \(A\) has 16x16; array \(B\) has 32x32"):
        compare(small, large, metrics=["ms-ssim"])
    found = compare(small, large, metrics=["ms-ssim"], explain=True)
    assert not found.comparable
    assert [(s.name, s.a, s.b) for s in found.settings] == [("resolution", "16x16", "32x32")]


# Verdicts.


def difference(p_value, metric="swd", change=-1.0, level=None):
    return Difference(
        metric,
        level,
        2.0,
        2.0 + change,
        change,
        0.1,
        None,
        None,
        p_value,
        "Student's t",
        9,
        9,
        p_difference=p_value,
    )


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        # Uncorrected, the first two would be called better.
        ((0.004, 0.006, 0.02), ["within noise"] * 3),
        # Bonferroni's correction would miss the second.
        ((0.001, 0.006), ["better", "better"]),
        # A row without a test takes no part in the correction.
        ((0.008, None), ["better", "undecided"]),
        ((0.01,), ["better"]),
    ],
)
def test_verdicts_are_holms(p_values, expected):
    rows = judged_rows([difference(p) for p in p_values], [None] * len(p_values), 0.01)
    assert [r["verdict"] for r in rows] == expected


@pytest.mark.parametrize(
    ("metric", "change", "expected"),
    [
        ("swd", 1, "worse"), ("swd", -1, "better"), ("fid", 1, "worse"), ("ms-ssim", 1, "different"),
        ("is", 1, "better"), ("is", -1, "worse"), ("recall", 1, "better"), ("ct", 1, "different"),
    ],
)  # fmt: skip
def test_each_metric_has_its_good_direction(metric, change, expected):
    (found,) = judged_rows([difference(1e-4, metric, float(change))], [None], 0.01)
    assert found["verdict"] == expected


def test_sets_that_differ_are_not_called_better_while_the_difference_may_be_0():
    # On CIFAR-10 two checkpoints had p = 0.0003 at level 16 and a difference of -1.0 (-8.9 to 6.9).
    judged = [
        Difference("swd", level, 2.0, 1.0, -1.0, 0.1, low, high, 1e-4, "swaps of pairs", 9, 9, p_difference=p)
        for level, low, high, p in ((32, -1.5, -0.5, 0.0001), (16, -8.9, 6.9, 0.8))
    ]
    assert [row["verdict"] for row in judged_rows(judged, [None, None], 0.01)] == ["better", "different"]


def test_the_interval_that_decides_is_as_sure_as_the_verdict():
    # Of models that are unlike and equally far, one in twenty has an interval of 95 % that leaves out 0, and
    # the test of their likeness is sure; two rows may be wrong twice as often as one.
    judged = [
        Difference("kid", None, 2.0, 1.0, -1.0, 0.4, -1.8, -0.2, 1e-4, "swaps of pairs", 9, 9, p_difference=p)
        for p in (0.014, 0.006, 0.0049)
    ]
    for one, alone, twice in zip(judged, ("different", "better", "better"), (2, 2, 0), strict=True):
        assert [row["verdict"] for row in judged_rows([one], [None], 0.01)] == [alone]
        pair = judged_rows([one, one], [None, None], 0.01)
        assert sum(row["verdict"] == "different" for row in pair) == twice


def test_a_number_without_an_error_is_not_called_better():
    alone = Difference("coverage", None, 0.5, 0.9, 0.4, None, None, None, 1e-4, "swaps of pairs", 20, 20)
    assert judged_rows([alone], [None], 0.01)[0]["verdict"] == "different"


def gate_of(metric, a, b, p_differences, reals=None, error=0.01):
    """The gate of one metric with a row for each p-value of its difference, all sure to be unlike."""
    rows = [
        Difference(
            metric, level, a, b, b - a, error, None, None, 1e-4, "swaps of pairs", 9, 9, error, error,
            p_difference=p,
        )
        for level, p in enumerate(p_differences)
    ]  # fmt: skip
    known = [None if reals is None else Score(reals, 0.001)] * len(rows)
    judged = _judged(rows, [None] * len(rows), 0.01, known)
    return _gate(judged, {}, "no reals", named=True)


@pytest.mark.parametrize(
    ("metric", "a", "b", "reals", "open_"),
    [
        # SWD rose from 66 to 100 at p = 0.0006, and the gate passed: its direction alone was noise.
        ("swd", 0.066, 0.100, None, True), ("swd", 0.100, 0.066, None, True), ("kid", 1.0, 2.0, None, True),
        ("is", 5.0, 4.0, None, True), ("density", 0.9, 0.3, None, True), ("precision", 0.5, 0.3, 0.9, True),
        ("ms-ssim", 0.2, 0.5, 0.2, True),
        # Beyond the limit neither is better, however sure the difference is.
        ("density", 0.95, 3.0, None, False), ("is", 5.0, 9.0, 4.0, False),
        ("precision", 0.8, 0.9, 0.7, False),
    ],
)  # fmt: skip
def test_a_gate_does_not_pass_while_noise_leaves_open_which_set_is_better(metric, a, b, reals, open_):
    gate = gate_of(metric, a, b, [0.03], reals)
    assert gate.decided is not open_
    assert not gate.worse
    if open_:
        assert "noise leaves open which is better; give more images" in gate.undecided[metric]


def test_one_sure_level_decides_for_levels_that_are_open():
    assert gate_of("swd", 2.0, 1.0, [1e-4, 0.5]).decided
    assert gate_of("swd", 1.0, 2.0, [1e-4, 0.5]).worse == ("swd",)
    assert not gate_of("swd", 1.0, 2.0, [0.2, 0.5]).decided


def test_a_number_that_is_no_score_is_left_out():
    assert judged_rows([difference(None, "fid-bias")], [None], 0.01) == ()


# Results.


def test_results_are_compared_as_independent_draws():
    found = compare(results(row(value=0.1)), results(row(value=0.15, stderr=0.02)))
    (only,) = found.rows
    # Welch's test: 50 pairs of each are 49 degrees of freedom.
    t, df = 0.05 / sqrt(0.01**2 + 0.02**2), 49 * (1 + 4) ** 2 / (1 + 16)
    assert only["p_value"] == only["p_difference"] == pytest.approx(2 * stats.t.sf(t, df))
    assert only["verdict"] == "within noise"
    assert only["test"] == "Student's t"
    half = stats.t.isf(0.025, df) * sqrt(0.01**2 + 0.02**2)
    assert (only["low"], only["high"]) == pytest.approx((0.05 - half, 0.05 + half))
    assert compare(results(row("swd", 0.1)), results(row("swd", 0.2, 0.02))).worse


def test_errors_over_directions_decide_nothing():
    a, b = (results(row("swd", value, stderr_kind="directions")) for value in (1.0, 2.0))
    found = compare(a, b)
    assert verdicts(found) == {("swd", None): "undecided"}
    assert "one over directions; score with pgmetrics evaluate ... --error images" in " ".join(found.notes)


@pytest.mark.parametrize(
    ("a", "b", "options", "fact"),
    [
        (results(), np.zeros((4, 3, 32, 32), np.uint8), {}, "r holds results and ndarray holds images"),
        (results(), results(), {"real": "reals/"}, "already computed; real is for sources"),
        (results(), results(), {"num_images": 5}, "already computed; num_images is for sources"),
        (results(), results(), {"metrics": ["fid"]}, "r holds ms-ssim, not fid"),
        (results(), results(row("swd")), {}, "nothing to compare: r holds ms-ssim; r holds swd"),
        (results(row(subject="real")), results(), {}, "no scores of generated images"),
        ("a.zip", "b.zip", {"protocol": "at-final"}, "a protocol selects rows of results"),
        (results(), results(), {"significance": 0}, "significance, a probability,"),
        (results(), results(), {"confidence": 95}, "confidence, a probability,"),
        (results(), results(), {"permutations": 0}, "permutations of a test is a whole number at least 1"),
        ("nowhere.csv", results(), {}, "nowhere.csv cannot be read"),
    ],
)
def test_refusals(a, b, options, fact):
    with pytest.raises(PgmetricsError, match=fact):
        compare(a, b, **options)


# Variety, limits and the gate.


def blended(n, seed, share):
    """Coarse images of 64 pixels with a share of one picture in common: the more, the higher MS-SSIM."""
    common = np.random.default_rng(99).integers(60, 200, (1, 3, 8, 8))
    own = np.random.default_rng(seed).integers(0, 256, (n, 3, 8, 8))
    small = (share * common + (1 - share) * own).astype(np.uint8)
    return small.repeat(8, axis=2).repeat(8, axis=3)


@pytest.mark.slow
def test_noise_is_more_varied_than_the_reals_and_a_collapsed_generator_less():
    # Lower was better: noise beat good samples, p 0.0001, and the reals' own value did not matter.
    reals, good = blended(300, 1, 0.5), blended(300, 2, 0.5)
    noise = np.random.default_rng(3).integers(0, 256, (300, 3, 64, 64), dtype=np.uint8)
    collapsed = good[:1].repeat(300, axis=0)
    for other, word, beside in (
        (noise, "more varied", "more varied"),
        (collapsed, "less varied", "less varied"),
        (blended(300, 4, 0.5), "within noise", "as varied"),
    ):
        found = compare(good, other, real=reals, metrics=["ms-ssim"])
        (only,) = found.rows
        assert only["verdict"] == word
        assert (only["a_beside_reals"], only["b_beside_reals"]) == ("as varied", beside)
        assert only["nearer"] == (None if word == "within noise" else "A")
        assert found.worse == (word != "within noise")  # it was named, and both are farther from the reals
        back = compare(other, good, real=reals, metrics=["ms-ssim"])
        assert not back.worse
        assert back.decided
    alone = pgmetrics.ms_ssim(good, reals)
    expected = {row["subject"]: row["value"] for row in alone.rows}
    assert (only["a"], only["reals"]) == (expected["fake"], expected["real"])


@pytest.mark.slow
def test_ms_ssim_that_nobody_named_is_no_part_of_the_gate():
    found = compare(blended(60, 1, 0.2), blended(60, 2, 0.9), real=blended(60, 3, 0.2), num_images=60)
    assert found.gate.asked == ("swd",)
    assert found.gate.not_asked == ("ms-ssim",)
    assert found.gate.line() == "gate: swd; not asked: ms-ssim (name it with --metrics to include it)"
    assert json.loads(found.to_json())["gate"]["not_asked"] == ["ms-ssim"]


def test_so_few_images_that_nothing_could_be_found_decide_nothing():
    found = compare(blotches(8, 1), blotches(8, 2), real=blotches(8, 3), metrics=[FAST])
    assert set(verdicts(found).values()) == {"within noise"}
    assert not found.decided
    # Of 3 rows at 0.01: two of 2^n swaps reach furthest.
    assert "at least 10 images of each and --permutations 299" in found.gate.undecided["swd"]
    enough = compare(
        blotches(10, 1), blotches(10, 2), real=blotches(10, 3), metrics=[FAST], permutations=1023
    )
    assert enough.decided
    few = compare(blotches(40, 1), blotches(40, 2), real=blotches(40, 3), metrics=[FAST], permutations=50)
    assert not few.decided


def with_reals(metric, value, real, stderr=0.01, real_error=0.01, **changes):
    counts = {"n_real": 100, "n_fake": None, "subject": "real"}
    return row(metric, value, stderr, **changes), row(metric, real, real_error, **{**changes, **counts})


@pytest.mark.parametrize(
    ("metric", "a", "b", "real", "expected"),
    [
        ("is", 12.0, 15.0, 11.0, "different"),
        ("is", 9.0, 10.5, 11.0, "better"),
        ("is", 10.5, 9.0, 11.0, "worse"),
        ("recall", 0.87, 0.98, 0.87, "different"),
    ],
)
def test_more_than_reals_score_is_not_better(metric, a, b, real, expected):
    found = compare(*(results(*with_reals(metric, value, real)) for value in (a, b)))
    (only,) = found.rows
    assert only["verdict"] == expected
    assert only["reals"] == real
    assert "reals" in str(found).splitlines()[0]
    # Without the reals' own the literature's direction stands.
    alone = compare(*(results(row(metric, value)) for value in (a, b)))
    assert verdicts(alone) == {(metric, None): "better" if b > a else "worse"}


def test_reals_of_another_seed_are_the_same_within_noise_and_other_reals_are_not():
    def two(real, seed=1, **changes):
        mine = results(*with_reals("ms-ssim", 0.07, 0.05, 0.001, 0.001))
        other = results(*with_reals("ms-ssim", 0.1, real, 0.001, 0.001, seed=seed))
        return compare(mine, replace(other, provenance=changes) if changes else other).rows[0]

    assert two(0.052)["reals"] == pytest.approx(0.051)
    assert two(0.052)["verdict"] == "less varied"
    assert two(0.06)["reals"] is None
    assert two(0.06)["verdict"] == "different"
    mine, other = (
        Results(with_reals("ms-ssim", value, 0.05), settings_of(sources__real__fingerprint=reals))
        for value, reals in ((0.07, "these"), (0.5, "those"))
    )
    assert compare(mine, other).rows[0]["reals"] is None


def test_reals_beside_a_checkpoint_are_those_of_its_resolution(tmp_path):
    # The floor at 16 pixels, or the unfaded one beside a checkpoint within a fade, is another number.
    def line(kind, run, side, value, protocols, alpha=1.0):
        subject = "real" if kind == "floor" else "fake"
        rows = [row(value=value, run=run, subject=subject, protocol=protocol) for protocol in protocols]
        item = {"kind": kind, "label": run, "resolution": side, "final_resolution": 32, "alpha": alpha}
        return Entry("series-1", item, rows, {})

    both = ("at-final", "at-stage")
    with Journal(tmp_path) as journal:
        journal.append(Entry("series-1", {"kind": "settings"}, settings={}))
        journal.append(line("floor", "reals-16x16", 16, 0.16, both[1:]))
        journal.append(line("floor", "reals-32x32", 32, 0.32, both))
        journal.append(line("checkpoint", "a", 16, 0.5, both))
        journal.append(line("checkpoint", "b", 32, 0.5, both, alpha=0.5))
        journal.append(line("checkpoint", "c", 32, 0.5, both))
    for run, expected in (("a", [0.32, 0.16]), ("b", [0.32, None]), ("c", [0.32, 0.32])):
        found = Scores.read(f"{tmp_path}#{run}").reals
        values = [found.get(("ms-ssim", None, protocol), {}).get("value") for protocol in both]
        assert values == expected
