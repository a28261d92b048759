"""What the benchmarks of noise floor and sensitivity share, held to an evaluation of the same images."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import pgmetrics
from benchmarks.scoring import (
    FEATURE_METRICS,
    PIXEL_METRICS,
    REPORTED,
    CellFiles,
    Picked,
    Remembering,
    SetScore,
    SetScorer,
    order_of_columns,
    put_into,
)
from pgmetrics import FeatureBlock
from pgmetrics.runtime.seeding import Stream, generator
from pgmetrics.sources.dead_leaves import DeadLeaves
from pgmetrics.sources.resolve import open_source
from tests.benchmarks.coarse_network import CoarseNetwork

LEAVES = DeadLeaves(32, n=150, seed=3)


@pytest.mark.slow
def test_scores_are_those_of_an_evaluation_at_every_count():
    # Wrong: states of the smaller count filled beyond it, sides exchanged, images in another order.
    real, fake = Picked(LEAVES, np.arange(70)), Picked(LEAVES, np.arange(140)[::-1][:70])
    metrics = [*PIXEL_METRICS, *FEATURE_METRICS]
    scorer = SetScorer(metrics, (36, 70), {"inception": Remembering(CoarseNetwork())}, (32, 32), seed=5)
    found = scorer.scores(scorer.states(real, "real"), scorer.states(fake, "fake"))
    assert {score.metric for score in found} == set(REPORTED)
    for count in (36, 70):
        whole = pgmetrics.evaluate(
            real, fake, metrics, num_images=count, seed=5, networks={"inception": CoarseNetwork()}, workers=0
        )
        expected = {
            (row["metric"], row["level"]): row["value"] for row in whole.rows if row["subject"] == "fake"
        }
        ours = {(s.metric, s.level): s.value for s in found if s.num_images == count}
        assert ours.keys() <= expected.keys()
        assert all(value == pytest.approx(expected[key], rel=1e-9) for key, value in ours.items())


@pytest.mark.slow
def test_every_number_has_an_error_that_falls_as_images_are_added():
    # Wrong: the mean over levels left out, or errors over directions, which do not fall.
    real, fake = Picked(LEAVES, np.arange(75)), Picked(LEAVES, np.arange(75, 150))
    networks = {"inception": CoarseNetwork()}
    scorer = SetScorer([*PIXEL_METRICS, *FEATURE_METRICS], (20, 74), networks, (32, 32), seed=5)
    found = scorer.scores(scorer.states(real, "real"), scorer.states(fake, "fake"))
    assert all(score.stderr is not None for score in found)
    for metric in ("swd", "ms-ssim", "fid", "kid", "density"):
        for few in (score for score in found if (score.metric, score.num_images) == (metric, 20)):
            many = next(s for s in found if (s.metric, s.level, s.num_images) == (metric, few.level, 74))
            assert 0 < many.stderr < few.stderr, (few, many)


@pytest.mark.slow
def test_errors_hold_the_reals_fixed():
    # Truth: the deviation between generated sets scored against one set of reals. By draws of 40 of 2 x 20
    # features each; on the safe side by what is known of each estimate. Errors of both sides, of the mean
    # of single images, or a lost square root are outside.
    def rows(metric, side, number):
        state = metric.new_state(side, resolution=(32, 32))
        drawn = generator(0, Stream.SYNTHETIC, number).standard_normal((120, 6))
        state.update(FeatureBlock(0, torch.from_numpy(drawn.astype(np.float32))))
        return state

    scorer = SetScorer(FEATURE_METRICS, (120,), {}, (32, 32))
    real = {(one.name, 120): rows(one, "real", 0) for one in FEATURE_METRICS}
    draws = [
        scorer.scores(real, {(one.name, 120): rows(one, "fake", number) for one in FEATURE_METRICS})
        for number in range(1, 61)
    ]
    for scores in zip(*draws, strict=True):
        name = scores[0].metric
        deviation = np.std([score.value for score in scores], ddof=1)
        told = np.sqrt(np.mean([score.stderr**2 for score in scores]))
        # The deviation of 60 draws is known to 9 %.
        assert 0.8 < told / deviation < 2.3, (name, told / deviation)


def test_a_remembered_row_is_the_networks_own():
    # Wrong: rows in the order in which they were made, or those of another image.
    network = Remembering(CoarseNetwork())
    pixels = torch.from_numpy(LEAVES.batch(range(9)))
    places = [4, 0, 4, 8, 0]
    network.extract(pixels[:5], ["features"])
    rows = network.extract(pixels[places], ["logits", "features"])
    assert network.forwards == 6  # five, and image 8
    own = CoarseNetwork().extract(pixels[places], ["logits", "features"])
    for layer in own:
        assert torch.equal(rows[layer], own[layer])


def test_no_more_rows_are_kept_than_asked():
    network = Remembering(CoarseNetwork(), most=3)
    pixels = torch.from_numpy(LEAVES.batch(range(5)))
    for image in pixels:
        network.extract(image[None], ["features"])
    network.extract(pixels[2:], ["features"])
    assert network.forwards == 5
    rows = network.extract(pixels[:1], ["features"])["features"]
    assert network.forwards == 6
    assert torch.equal(rows, CoarseNetwork().extract(pixels[:1], ["features"])["features"])


def test_picked_images_keep_the_order_in_which_they_were_picked():
    picked = Picked(LEAVES, [7, 7, 2])
    assert len(picked) == 3
    assert np.array_equal(picked.batch([2, 0]), LEAVES.batch([2, 7]))
    assert pgmetrics.sources.ImageSource in type(picked).__mro__
    assert picked.fingerprint != Picked(LEAVES, [7, 2, 7]).fingerprint
    assert picked.called(2) == LEAVES.called(2)


def test_picked_images_keep_their_classes(tmp_path):
    for index, image in enumerate(LEAVES.batch(range(4))):
        (tmp_path / f"class{index % 2}").mkdir(exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / f"class{index % 2}" / f"{index}.png")
    # Listed as 0, 2 of the one class and 1, 3 of the other.
    assert Picked(open_source(str(tmp_path)), [3, 0, 2]).labels.tolist() == [1, 0, 1]
    assert Picked(LEAVES, [1]).labels is None


def test_cells_of_other_settings_never_meet(tmp_path):
    score = SetScore("swd", 16, 20, 0.1 + 0.2, 1e-17)
    CellFiles(tmp_path, {"seed": 0}).put("blur-1", [score])
    assert CellFiles(tmp_path, {"seed": 0}).get("blur-1") == [score]
    assert CellFiles(tmp_path, {"seed": 0}).get("blur-2") is None
    assert CellFiles(tmp_path, {"seed": 1}).get("blur-1") is None
    assert json.loads((CellFiles(tmp_path, {"seed": 1}).path / "settings.json").read_text()) == {"seed": 1}
    assert not list(tmp_path.rglob(".*"))


def test_columns_stand_metric_by_metric_levels_finest_first():
    scores = [SetScore(m, level, 2, 0.0, None) for m, level in (("fid", None), ("swd", None), ("swd", 16))]
    scores += [SetScore("ms-ssim", None, 2, 0.0, None), SetScore("swd", 32, 2, 0.0, None)]
    assert order_of_columns(scores) == [
        ("swd", 32), ("swd", 16), ("swd", None), ("ms-ssim", None), ("fid", None),
    ]  # fmt: skip


def test_a_table_replaces_what_stood_in_its_place_and_nothing_else(tmp_path):
    document = tmp_path / "page.md"
    document.write_text("before\n<!-- table -->\n\nold\n\n<!-- end of table -->\nafter\n")
    put_into(document, "table", "new\n")
    put_into(document, "table", "newer\n")
    assert document.read_text() == "before\n<!-- table -->\n\nnewer\n\n<!-- end of table -->\nafter\n"
    with pytest.raises(pgmetrics.OptionError, match="other"):
        put_into(document, "other", "new\n")
