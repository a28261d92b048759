"""Draws are disjoint, laws are found where they are known, and a stopped run goes on."""

import csv
import itertools
import xml.etree.ElementTree as ElementTree
from math import sqrt

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from benchmarks import noise_floor
from benchmarks.noise_floor import Floor, draws, exponent, floors, main, run, tables
from benchmarks.scoring import Remembering, SetScore
from pgmetrics import MultiScaleSSIM, SampleError, SlicedWasserstein
from pgmetrics.runtime import seeding
from pgmetrics.runtime.seeding import Stream
from pgmetrics.sources.dead_leaves import DeadLeaves
from tests.benchmarks.coarse_network import CoarseNetwork

LEAVES = DeadLeaves(32, n=200, seed=4)


@pytest.mark.parametrize(
    ("size", "images", "expected"), [(24, 200, 4), (24, 97, 2), (48, 95, 0), (8, 900, 5)]
)
def test_draws_share_no_image_and_stay_within_the_set(size, images, expected):
    found = draws(size, images, most=5)
    assert len(found) == min(expected, 5)
    places = [p for sides in found for first in sides for p in range(first, first + size)]
    assert len(places) == len(set(places)) == 2 * size * len(found)
    assert max(places, default=0) < images


def test_the_power_of_a_known_law_is_found():
    ladder = [Floor("swd", 32, n, (3 / sqrt(n), 3 / sqrt(n)), None) for n in (32, 128, 1024)]
    assert exponent(ladder) == pytest.approx(-0.5)
    assert exponent(ladder[:2]) is None
    assert exponent([*ladder, Floor("kid", None, 2048, (-1.0,), None)]) is None


def test_draws_of_a_size_are_put_together():
    scores = [
        SetScore("fid", None, 20, 4.0, 3.0),
        SetScore("fid", None, 40, 2.0, None),
        SetScore("fid", None, 20, 8.0, 4.0),
    ]
    small, large = floors(scores)
    assert (small.num_images, small.values, small.mean) == (20, (4.0, 8.0), 6.0)
    assert small.deviation == pytest.approx(sqrt(8))
    assert small.stderr == pytest.approx(sqrt((9 + 16) / 2))
    assert (large.deviation, large.stderr, large.shown) == (None, None, None)


def test_what_a_size_can_show_is_exceeded_once_in_a_hundred_times():
    # Two numbers of equally good sets with the error that `stderr` says.
    error, repetitions = 0.7, 20_000
    values = error * seeding.generator(0, Stream.SYNTHETIC, 2).standard_normal((repetitions, 2))
    beyond = np.abs(values[:, 0] - values[:, 1]) > Floor("fid", None, 20, (1.0,), error).shown
    assert beyond.mean() == pytest.approx(0.01, abs=4 * sqrt(0.01 * 0.99 / repetitions))


def test_tables_scale_swd_as_the_paper_does_and_leave_unmeasured_sizes_empty():
    found = [
        Floor("swd", 16, 20, (0.004, 0.006), 0.0005),
        Floor("fid", None, 20, (10.0, 12.0), None),
        Floor("fid", None, 40, (6.0,), 0.25),
    ]
    text = tables(found)
    assert "| SWD 16 ×10³ | 5 ± 1.4 |  |" in text
    assert "| FID | 11 ± 1.4 | 6 |" in text
    assert f"| SWD 16 ×10³ | {2.576 * sqrt(2) * 0.5:.2g} |  |" in text
    assert f"| FID | ? | {2.576 * sqrt(2) * 0.25:.2g} |" in text


@pytest.fixture
def _few_directions(monkeypatch):
    """An SWD that takes milliseconds, where its values do not matter."""
    small = SlicedWasserstein(patches_per_image=8, directions=8, repeats=1)
    monkeypatch.setattr(noise_floor, "PIXEL_METRICS", (small, MultiScaleSSIM()))


@pytest.mark.slow
@pytest.mark.usefixtures("_few_directions")
def test_a_stopped_run_goes_on_and_images_pass_the_network_once(tmp_path, monkeypatch):
    options = {"sizes": (24, 48), "network_images": 100, "most": 3}
    network = Remembering(CoarseNetwork())
    whole = run(LEAVES, tmp_path / "whole", {"inception": network}, **options)
    # 2 draws of 24 and 1 of 48 within 100 images for features, 3 and 2 for pixels.
    assert network.forwards == 96
    assert {(f.metric, f.num_images): len(f.values) for f in whole if f.level is None} == {
        **{(m, n): k for m in ("swd", "ms-ssim") for n, k in ((24, 3), (48, 2))},
        **{
            (m, n): k
            for m in ("fid", "kid", "is", "precision", "recall", "density", "coverage", "authpct")
            for n, k in ((24, 2), (48, 1))
        },
    }

    turns = itertools.count()

    def stopping(*sides):
        if next(turns) == 3:
            raise KeyboardInterrupt
        return computed(*sides)

    computed = noise_floor.SetScorer.scores
    with monkeypatch.context() as patch:
        patch.setattr(noise_floor.SetScorer, "scores", stopping)
        with pytest.raises(KeyboardInterrupt):
            run(LEAVES, tmp_path / "torn", {"inception": CoarseNetwork()}, **options)
    kept = [p for p in (tmp_path / "torn").rglob("*.json") if p.name != "settings.json"]
    assert len(kept) == 3
    written = {path: path.stat().st_mtime_ns for path in kept}
    assert run(LEAVES, tmp_path / "torn", {"inception": CoarseNetwork()}, **options) == whole
    assert {path: path.stat().st_mtime_ns for path in kept} == written


@pytest.mark.slow
def test_a_larger_set_scores_lower_against_others_of_its_kind(tmp_path):
    # The floor of SWD is bias: with four times the images it is about half.
    source = DeadLeaves(32, n=800, seed=4)
    found = run(source, tmp_path, {}, sizes=(24, 96), network_images=0, most=4)
    small, large = (f.mean for f in found if (f.metric, f.level) == ("swd", 32))
    assert 0.35 < large / small < 0.7


def test_too_few_images_are_refused_with_their_number(tmp_path):
    with pytest.raises(SampleError, match=r"200 images.*up to 100"):
        run(LEAVES, tmp_path, {}, sizes=(102,), network_images=0)


@pytest.mark.slow
@pytest.mark.usefixtures("_few_directions")
def test_the_command_writes_tables_draws_and_plots(tmp_path):
    document = tmp_path / "page.md"
    document.write_text("<!-- tables of noise floor -->\n<!-- end of tables of noise floor -->\n")
    source = "synthetic:leaves,resolution=32,n=200"
    arguments = ["--data", source, "--quick", "--draws", "2", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(main, [*arguments, "--docs", str(document)])
    assert done.exit_code == 0, done.output
    text = (tmp_path / "out" / "noise_floor.md").read_text()
    assert done.stdout == text
    assert text in document.read_text()
    with open(tmp_path / "out" / "noise_floor.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["num_images"], row["draw"]) for row in rows} == {
        ("24", "0"), ("24", "1"), ("48", "0"), ("48", "1"), ("96", "0"),
    }  # fmt: skip
    first = next(
        row for row in rows if (row["metric"], row["level"], row["num_images"]) == ("swd", "16", "96")
    )
    assert f"{float(first['value']) * 1e3:.4g}" in text
    for name in ("noise-floor", "noise-floor-errors"):
        ElementTree.parse(tmp_path / "images" / f"{name}.svg")
        with Image.open(tmp_path / "out" / f"{name}.png") as plot:
            assert min(plot.size) > 200
