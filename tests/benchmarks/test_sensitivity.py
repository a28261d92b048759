"""The faults are what they say they are, and what is called noticed is no chance."""

import csv
import itertools
import shutil
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from math import sqrt
from statistics import NormalDist

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from benchmarks import sensitivity
from benchmarks.scoring import Remembering, SetScore
from benchmarks.sensitivity import (
    FAULTS,
    Cell,
    answers,
    caption,
    cut,
    final_table,
    main,
    plan,
    run,
    threshold,
)
from pgmetrics import MultiScaleSSIM, SampleError, SlicedWasserstein
from pgmetrics.runtime import seeding
from pgmetrics.runtime.seeding import Stream
from pgmetrics.sources.base import ImageSource
from pgmetrics.sources.dead_leaves import DeadLeaves
from pgmetrics.sources.resolve import open_source
from tests.benchmarks.coarse_network import CoarseNetwork

APPLY = {fault.name: fault.apply for fault in FAULTS}


def constant(values, count=12, side=32):
    """Reals that are all of one color."""
    images = np.empty((count, 3, side, side), np.uint8)
    images[:] = np.array(values, np.uint8)[:, None, None]
    return cut(open_source(images), count // 3, seed=0)


@pytest.fixture(scope="module")
def leaves():
    return cut(DeadLeaves(32, n=210, seed=1), 70, seed=0)


@pytest.fixture(scope="module")
def labeled(tmp_path_factory):
    """A folder of 5 classes of 60 images, the class in the red of the first pixel."""
    folder = tmp_path_factory.mktemp("labeled")
    pixels = DeadLeaves(32, n=300, seed=2).batch(range(300)).transpose(0, 2, 3, 1).copy()
    for index, image in enumerate(pixels):
        image[0, 0] = (index % 5, index // 5, 77)
        home = folder / f"class{index % 5}"
        home.mkdir(exist_ok=True)
        Image.fromarray(image).save(home / f"{index:03d}.png")
    return folder


def everything(source):
    return source.batch(range(len(source)))


def names(images):
    """Images as hashable values."""
    return [image.tobytes() for image in images]


def test_reference_and_others_share_no_image_and_miss_none(leaves):
    reference, others = everything(leaves.reference), everything(leaves.others)
    assert len(reference) == 70
    both = set(names(reference)) | set(names(others))
    assert both == set(names(DeadLeaves(32, n=210, seed=1).batch(range(210))))
    assert len(both) == len(reference) + len(others)


def test_too_few_images_are_refused_with_their_number():
    with pytest.raises(SampleError, match=r"210 images.*213.*up to 70"):
        cut(DeadLeaves(32, n=210, seed=1), 71, seed=0)


@pytest.mark.parametrize("name", [name for name in APPLY if name != "classes"])
def test_an_image_depends_on_its_place_alone(leaves, name):
    # Wrong: noise drawn from one generator as images are read; copies marked by the place in a block.
    fault = next(fault for fault in FAULTS if fault.name == name)
    source = fault.apply(leaves, fault.quick[0])
    assert len(source) == leaves.count
    whole = everything(source)
    assert whole.dtype == np.uint8
    assert np.array_equal(source.batch([61, 5, 61]), whole[[61, 5, 61]])
    assert not source.shuffled
    assert name == "nothing" or source.fingerprint != fault.apply(leaves, fault.quick[0] * 2).fingerprint


class Lent(ImageSource):
    """A source that hands out its own memory where the images lie beside each other."""

    name = fingerprint = "lent"

    def __init__(self, images):
        super().__init__()
        self.images = images

    def __len__(self):
        return len(self.images)

    @property
    def resolution(self):
        return self.images.shape[2:]

    def _read(self, indices):
        if list(indices) == list(range(indices[0], indices[-1] + 1)):
            return self.images[indices[0] : indices[-1] + 1]
        return self.images[list(indices)]


def test_distortions_leave_the_unfaulted_images_as_they_were(leaves):
    images = everything(leaves.others)
    reals = replace(leaves, others=Lent(images), reference=Lent(images[100:]))
    before = images.copy()
    for name in ("blur", "noise", "contrast", "color", "copies"):
        assert not np.array_equal(everything(APPLY[name](reals, 0.5)), before[: reals.count]), name
        assert np.array_equal(images, before), name


@pytest.mark.parametrize("sigma", [0.6, 1.0, 2.0])
def test_blur_spreads_a_point_by_its_variance(sigma):
    # The second moment of a Gaussian is its variance along either axis; a box or a doubled sigma has another.
    images = np.zeros((6, 3, 33, 33), np.uint8)
    images[:, :, 14:19, 14:19] = 255  # 5 x 5 pixels, variance 2: large enough for bytes
    reals = cut(open_source(images), 2, seed=0)
    blurred = everything(APPLY["blur"](reals, sigma))[0, 1].astype(float)
    assert blurred.sum() == pytest.approx(25 * 255, rel=0.01)
    places = np.arange(33) - 16
    for axis in (0, 1):
        assert (blurred.sum(axis) @ places**2) / blurred.sum() == pytest.approx(2 + sigma**2, rel=0.03)


def test_blur_keeps_a_constant_image_and_the_border_of_it():
    assert np.array_equal(
        everything(APPLY["blur"](constant((10, 128, 250)), 1.5))[0, :, 0, 0], [10, 128, 250]
    )


def test_noise_has_its_deviation_and_grows_with_the_strength_alone():
    reals = constant((128, 128, 128), count=90)
    by_sigma = {s: everything(APPLY["noise"](reals, s)).astype(float) - 128 for s in (4, 8)}
    count = by_sigma[8].size
    for sigma, drawn in by_sigma.items():
        # The error of a deviation is sigma / sqrt(2 n); rounding to bytes adds 1/12 to the variance.
        assert drawn.std() == pytest.approx(sqrt(sigma**2 + 1 / 12), abs=5 * sigma / sqrt(2 * count))
        assert abs(drawn.mean()) < 5 * sigma / sqrt(count)
    assert np.abs(by_sigma[8] - 2 * by_sigma[4]).max() <= 1.5
    # Independent between images and channels.
    flat = by_sigma[8].reshape(-1, 32 * 32)
    correlations = np.corrcoef(flat)[np.triu_indices(len(flat), 1)]
    assert np.abs(correlations).max() < 6 / 32


def test_contrast_keeps_mid_grey_and_scales_the_distance_from_it():
    images = everything(APPLY["contrast"](constant((0, 255, 100)), 0.5))
    assert np.array_equal(images[0, :, 3, 3], [64, 191, 114])  # 127.5 ± 63.75, 127.5 - 13.75; rounded


def test_lost_color_is_the_luma_and_grey_stays():
    # Luma of (200, 100, 50) by Rec. 601: 59.8 + 58.7 + 5.7 = 124.2
    assert set(everything(APPLY["color"](constant((200, 100, 50)), 0)).ravel().tolist()) == {124}
    half = everything(APPLY["color"](constant((200, 100, 50)), 0.5))[0, :, 0, 0]
    assert np.array_equal(half, [162, 112, 87])
    assert set(everything(APPLY["color"](constant((90, 90, 90)), 0.5)).ravel().tolist()) == {90}


def test_classes_that_are_kept_are_nested_and_the_others_are_gone(labeled):
    reals = cut(open_source(str(labeled)), 40, seed=0)
    kept = {k: everything(APPLY["classes"](reals, k))[:, 0, 0, 0] for k in (1, 3, 5)}
    found = {k: set(labels.tolist()) for k, labels in kept.items()}
    assert [len(found[k]) for k in (1, 3, 5)] == [1, 3, 5]
    assert found[1] < found[3] < found[5]
    reference = set(names(everything(reals.reference)))
    assert not reference & set(names(everything(APPLY["classes"](reals, 3))))
    # In proportion, not one class first: of 40 images of 3 classes each has about 13.
    assert np.bincount(kept[3]).max() < 25


def test_classes_with_too_few_images_are_refused(labeled):
    reals = cut(open_source(str(labeled)), 80, seed=0)
    with pytest.raises(SampleError, match="1 of 5 classes"):
        APPLY["classes"](reals, 1)


def test_faults_that_the_images_do_not_allow_are_left_out(labeled, leaves):
    of_labeled = plan(open_source(str(labeled)), (), quick=False)
    assert [strength for fault, strength in of_labeled if fault.name == "classes"] == [2]
    of_leaves = plan(DeadLeaves(32, n=9), (), quick=False)
    assert {fault.name for fault, _ in of_leaves} == APPLY.keys() - {"classes"}
    assert {fault.name for fault, _ in plan(DeadLeaves(32, n=9), ("blur",), quick=True)} == {"blur"}


def test_a_collapse_repeats_few_images_in_random_order(leaves):
    unfaulted = names(everything(leaves.unfaulted()))
    found = names(everything(APPLY["collapse"](leaves, 4)))
    assert set(found) == set(unfaulted[:4])
    # Images in any fixed turn would never meet themselves: of 35 pairs a quarter should, 8.75 ± 2.6.
    same = sum(a == b for a, b in zip(found[::2], found[1::2], strict=True))
    assert 1 <= same <= 18
    assert len(set(names(everything(APPLY["collapse"](leaves, 1))))) == 1


@pytest.mark.slow
def test_copies_are_of_the_reference_and_more_of_them_include_fewer(leaves):
    reference, unfaulted = names(everything(leaves.reference)), names(everything(leaves.unfaulted()))
    copied = {}
    for share in (0.1, 0.5, 1):
        found = names(everything(APPLY["copies"](leaves, share)))
        copied[share] = {i for i, image in enumerate(found) if image == reference[i]}
        assert all(image in (reference[i], unfaulted[i]) for i, image in enumerate(found))
        assert abs(len(copied[share]) - 70 * share) <= 4 * sqrt(70 * share * (1 - share))
    assert copied[0.1] <= copied[0.5] <= copied[1]


def test_images_without_a_fault_are_others_than_the_unfaulted(leaves):
    found = set(names(everything(APPLY["nothing"](leaves, 1))))
    assert len(found) == 70
    assert not found & set(names(everything(leaves.unfaulted())))
    assert not found & set(names(everything(leaves.reference)))


def ladder(values, errors=None, unfaulted=10.0, metric="fid"):
    """Cells of one fault with one metric's values at growing strength; errors of 1 if not told."""
    errors = errors or [1.0] * len(values)
    cells = [Cell("unfaulted", None, (SetScore(metric, None, 20, unfaulted, errors[0]),))]
    for strength, (value, error) in enumerate(zip(values, errors, strict=True), 1):
        cells.append(Cell("blur", float(strength), (SetScore(metric, None, 20, value, error),)))
    return cells


def test_a_difference_is_measured_in_the_errors_of_both_and_corrected_for_all_strengths():
    # By hand: z = 4 / sqrt(1 + 1) = 2.83, p = 0.0047; among three by Holm it is the second, twice as large.
    found = answers(ladder([10.5, 14.0, 16.0]), alpha=0.01)
    assert [a.z for a in found] == pytest.approx([0.3536, 2.8284, 4.2426], abs=1e-4)
    p = [2 * NormalDist().cdf(-a.z) for a in found]
    assert [a.p_value for a in found] == pytest.approx([p[0], 2 * p[1], 3 * p[2]])
    assert 0.005 < found[1].p_value < 0.01
    assert [a.noticed for a in found] == [False, True, True]
    assert not answers(ladder([10.5, 14.0, 16.0]), alpha=0.009)[1].noticed
    assert threshold(found).strength == 2


def test_a_strength_counts_only_if_every_stronger_one_is_noticed_too():
    assert threshold(answers(ladder([30.0, 10.0, 30.0, 30.0]), 0.01)).strength == 3
    assert threshold(answers(ladder([30.0, 30.0, 10.0]), 0.01)) is None


def test_improvement_is_told_from_getting_worse():
    assert [a.better for a in answers(ladder([0.0, 20.0]), 0.01)] == [True, False]
    assert [a.better for a in answers(ladder([0.0, 20.0], metric="recall"), 0.01)] == [False, True]


def test_without_an_error_nothing_is_said():
    found = answers(ladder([30.0, 40.0], errors=[None, None]), 0.01)
    assert [a.noticed for a in found] == [None, None]
    assert "| FID | ? |" in final_table(found, FAULTS)


def test_values_without_spread_are_told_apart_only_if_they_differ():
    assert [a.noticed for a in answers(ladder([10.0, 11.0], errors=[0.0, 0.0]), 0.01)] == [False, True]


def test_false_alarms_over_a_whole_ladder_are_as_rare_as_asked():
    # Unfaulted images and four draws like them: any of the four noticed is an alarm. Without Holm it would
    # be one in eight at alpha = 0.05.
    alpha, repetitions = 0.05, 2000
    values = seeding.generator(0, Stream.SYNTHETIC, 1).standard_normal((repetitions, 5))
    alarms = sum(
        any(a.noticed for a in answers(ladder(list(row[1:]), unfaulted=row[0]), alpha)) for row in values
    )
    assert alarms <= repetitions * alpha + 3 * sqrt(repetitions * alpha * (1 - alpha))
    # Nor is the test so timid that it would notice nothing.
    assert alarms >= repetitions * alpha / 4


def test_the_final_table_names_the_first_strength_at_each_count():
    values = {
        ("unfaulted", None): (10, 10),
        ("noise", 2.0): (11, 30),
        ("noise", 4.0): (30, 40),
        ("copies", 0.5): (9, 2),
        ("nothing", 1.0): (9, 12),
    }
    cells = [
        Cell(*cell, (SetScore("swd", 32, 20, few, 1.0), SetScore("swd", 32, 80, many, 1.0)))
        for cell, (few, many) in values.items()
    ]
    lines = final_table(answers(cells, 0.01), FAULTS).splitlines()
    assert lines[0] == (
        "| | noise, σ in grey levels | share copied from the reference | no fault: other real images |"
    )
    assert lines[2] == "| *tried* | 2 4 | 0.5 | 1 |"
    assert lines[3] == "| SWD 32 | 4 · 2 | – · 0.5⁺ | – · – |"
    assert "20 · 80 images" in caption((20, 80), 0.01)


@pytest.fixture
def _few_directions(monkeypatch):
    """An SWD that takes milliseconds, where its values do not matter."""
    small = SlicedWasserstein(patches_per_image=8, directions=8, repeats=1)
    monkeypatch.setattr(sensitivity, "PIXEL_METRICS", (small, MultiScaleSSIM()))


class Stopped(Exception):
    """In place of a kill."""


@pytest.fixture
def quick(labeled):
    source = open_source(str(labeled))
    return source, plan(source, ("blur", "classes", "collapse", "copies", "nothing"), quick=True)


@pytest.mark.slow
@pytest.mark.usefixtures("_few_directions")
def test_an_interrupted_run_ends_with_the_same_cells_and_repeats_no_finished_one(
    tmp_path, quick, monkeypatch
):
    source, faults = quick
    network = Remembering(CoarseNetwork())
    whole = run(source, tmp_path / "whole", {"inception": network}, counts=(24, 40), faults=faults)
    assert len(whole) == 1 + len(faults)

    turns = itertools.count()

    def stopping(*sides):
        if next(turns) == 4:
            raise Stopped
        return computed(*sides)

    computed = sensitivity.SetScorer.scores
    with monkeypatch.context() as patch:
        patch.setattr(sensitivity.SetScorer, "scores", stopping)
        with pytest.raises(Stopped):
            run(source, tmp_path / "torn", {"inception": CoarseNetwork()}, counts=(24, 40), faults=faults)
    kept = {
        path: path.stat().st_mtime_ns
        for path in (tmp_path / "torn").rglob("*.json")
        if "settings" not in path.name
    }
    assert len(kept) == 4
    again = run(source, tmp_path / "torn", {"inception": CoarseNetwork()}, counts=(24, 40), faults=faults)
    assert again == whole
    assert {path: path.stat().st_mtime_ns for path in kept} == kept

    idle = Remembering(CoarseNetwork())
    assert run(source, tmp_path / "torn", {"inception": idle}, counts=(24, 40), faults=faults) == whole
    assert idle.forwards == 0


@pytest.mark.slow
@pytest.mark.usefixtures("_few_directions")
def test_an_image_passes_the_network_once_over_all_faults(tmp_path, quick):
    source, faults = quick
    network = Remembering(CoarseNetwork())
    few = [(fault, strength) for fault, strength in faults if fault.name in ("collapse", "copies", "nothing")]
    run(source, tmp_path, {"inception": network}, counts=(24, 40), faults=few)
    assert network.forwards == 3 * 40  # the reference, the unfaulted and the third set


@pytest.mark.slow
@pytest.mark.usefixtures("_few_directions")
def test_the_command_writes_the_table_the_scores_and_the_plots(tmp_path, labeled):
    document = tmp_path / "docs" / "page.md"
    document.parent.mkdir()
    document.write_text("<!-- table of sensitivity -->\n<!-- end of table of sensitivity -->\n")
    arguments = ["--data", str(labeled), "--quick", "--counts", "24,40", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(main, [*arguments, "--docs", str(document)])
    assert done.exit_code == 0, done.output
    table = (tmp_path / "out" / "sensitivity.md").read_text()
    assert done.stdout == table
    assert table in document.read_text()
    assert "min left" in done.stderr
    with open(tmp_path / "out" / "sensitivity.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["metric"] for row in rows} == {"swd", "ms-ssim"}  # no weights, no features
    assert {row["fault"] for row in rows} == set(APPLY)
    assert {row["num_images"] for row in rows} == {"24", "40"}
    for name in ("sensitivity-pixels", "sensitivity-overview"):
        for folder in (tmp_path / "out", tmp_path / "docs" / "images"):
            ElementTree.parse(folder / f"{name}.svg")
            with Image.open(folder / f"{name}.png") as plot:
                assert min(plot.size) > 200
    shutil.rmtree(tmp_path / "docs" / "images")
    again = CliRunner().invoke(main, arguments)
    assert again.stdout == table
    assert "min left" not in again.stderr


def test_too_few_images_end_the_command_with_one_line(tmp_path, labeled):
    done = CliRunner().invoke(main, ["--data", str(labeled), "--counts", "102", "--out", str(tmp_path)])
    assert done.exit_code == 1
    assert "306" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_counts_that_tear_a_pair_are_refused(tmp_path, labeled):
    done = CliRunner().invoke(main, ["--data", str(labeled), "--counts", "25", "--out", str(tmp_path)])
    assert done.exit_code == 2


@pytest.mark.slow
def test_the_papers_claims_hold_on_procedural_images(tmp_path):
    """SWD sees blur at the fine level and not contrast; MS-SSIM sees collapse and not lost color."""
    source = DeadLeaves(32, n=900, seed=0)
    strengths = {"blur": 0.6, "contrast": 0.5, "color": 0.5, "collapse": 8}
    faults = [(fault, strengths[fault.name]) for fault in FAULTS if fault.name in strengths]
    found = answers(run(source, tmp_path, {}, counts=(300,), faults=faults), alpha=0.01)
    noticed = {(a.fault, a.metric, a.level): a for a in found}
    assert noticed["blur", "swd", 32].noticed
    assert noticed["blur", "swd", 32].z > 3 * noticed["blur", "swd", 16].z
    assert not noticed["contrast", "swd", None].noticed
    assert noticed["collapse", "ms-ssim", None].noticed
    assert not noticed["color", "ms-ssim", None].noticed
    assert noticed["color", "swd", None].noticed
