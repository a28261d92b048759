"""Sets whose values cannot be right are named, whatever they are made of; others are not."""

import logging
import re

import numpy as np
import pytest
import torch
from PIL import Image

import pgmetrics
from pgmetrics import sources
from pgmetrics.sources.audit import audit
from pgmetrics.sources.ranges import ByteRange, same_images
from tests.helpers.image_files import pixels
from tests.helpers.tables import SWD

REAL = pixels(20, 16, 16)
FAKE = pixels(21, 16, 16)[1:]


class Sigmoid(torch.nn.Module):
    """Gives 0 to 1, for the default range of -1 to 1."""

    def forward(self, z):
        return torch.sigmoid(3 * z).reshape(len(z), 3, 16, 16)


def told(real, fake, caplog, **options):
    """The warnings of an evaluation about the ranges, as logged and as kept, each once."""
    caplog.clear()
    with caplog.at_level(logging.WARNING, "pgmetrics"):
        found = pgmetrics.evaluate(real, fake, [SWD], **options)
    logged = [record.getMessage() for record in caplog.records]
    assert set(found.provenance["notes"]) <= set(logged)
    assert len(set(logged)) == len(logged)
    return [note for note in found.provenance["notes"] if "standardized" not in note]


@pytest.mark.parametrize(
    ("make", "fact"),
    [
        (
            lambda: sources.array(FAKE / 255, value_range=(-1, 1)),
            r"between 128 and 255 of .*declared as .*\(-1, 1\)",
        ),
        (lambda: sources.generator(Sigmoid(), 768, n=20), r"between 1\d\d and 255 .*\(-1, 1\)"),
        (lambda: (FAKE > 127).astype(np.uint8), r"between 0 and 1 of 0 to 255; .* value_range=\(0, 1\)"),
        (lambda: np.zeros_like(FAKE), "every value of all 20 images is 0; such a set is constant"),
        (lambda: np.full_like(FAKE, 255), "every value of all 20 images is 255; such a set is constant"),
        (lambda: FAKE // 2, r"between 0 and 127 of 0 to 255; half of the range or less"),
    ],
    ids=["0..1 as -1..1", "sigmoid", "0 and 1", "black", "white", "half"],
)
def test_a_set_of_half_its_range_or_less_is_warned_about_by_name(make, fact, caplog):
    (note,) = told(REAL, make(), caplog)
    assert re.match(rf"\w+ \(fake\): .*{fact}", note), note
    assert "\n" not in note
    (note,) = told(make(), FAKE, caplog)
    assert re.match(rf"\w+ \(real\): .*{fact}", note), note


def with_strays(images, *values):
    """The same with one pixel of each of these values in the first image."""
    images = images.copy()
    for place, value in enumerate(values):
        images[0, 3, place] = value
    return images


@pytest.mark.parametrize(
    ("images", "fact"),
    [
        (
            with_strays((FAKE > 127).astype(np.uint8), 255),
            r"99.9 % of the values of all 20 images lie between 0 and 1 of 0 to 255; .* value_range=\(0, 1\)",
        ),
        (with_strays(FAKE // 2, 255), r"99.9 % of the values of all 20 images lie between 0 and 127 "),
        (with_strays(FAKE // 2 + 128, 0), r"99.9 % of the values .* between 128 and 255 .*\(-1, 1\)"),
        (
            with_strays(np.full_like(FAKE, 9), 0, 255),
            r"99.9 % of the values of all 20 images are 9; .*constant",
        ),
        (with_strays(np.full_like(FAKE, 255), 0), r"99.9 % of the values of all 20 images are 255; "),
    ],
    ids=["0 and 1", "half", "upper half", "constant", "white"],
)
def test_a_stray_pixel_does_not_hide_a_wrong_range(images, fact, caplog):
    # Catches a look at the least and the largest value alone: FD 44.84, where 0.114 is right, unwarned.
    (note,) = told(REAL, images, caplog)
    assert re.match(f"array \\(fake\\): {fact}", note), note


@pytest.mark.parametrize("width", [48, 97, 256])
def test_of_many_values_every_column_is_counted(width):
    # Catches a stride by the width: one column would stand for all.
    images = np.zeros((400, 3, 16, width), np.uint8)
    images[..., width // 2 :] = 255
    found = ByteRange("x")
    found.add(images)
    assert found.remark() is None
    for other in range(3):
        found = ByteRange("x")
        striped = np.full_like(images, 9)
        striped[..., other] = 255
        found.add(striped)
        assert found.remark() is None


@pytest.mark.parametrize("workers", [0, 2])
def test_a_folder_counts_as_well_whoever_decodes_it(tmp_path, caplog, workers):
    for index in range(300):
        Image.new("RGB", (16, 16), (7, 7, 7)).save(tmp_path / f"{index}.png")
    (note,) = told(REAL, str(tmp_path), caplog, workers=workers)
    assert note.startswith(f"{tmp_path} (fake): every value of all 20 images is 7;")
    assert any("every value of all 300 images is 7" in warning for warning in audit(str(tmp_path)).warnings)


def test_a_slice_and_a_mirror_pass_the_warning_on():
    linear = torch.nn.Unflatten(1, (3, 2, 2))  # standard normal values, as before training
    mirrored = sources.Mirrored(sources.Subset(sources.generator(linear, 12, n=40), 3, 30), 0)
    mirrored.batch(range(20))
    (remark,) = mirrored.take_remarks()
    assert remark.endswith("they were saturated")


def test_only_images_that_are_read_count(caplog):
    images = np.concatenate([FAKE // 2, FAKE])
    taken = sources.function(lambda i: images[list(i)].transpose(0, 3, 1, 2), 40, name="halves")
    (note,) = told(REAL, taken, caplog, num_images=20)
    assert note.startswith("halves (fake): the values of all 20 images lie between 0 and 127")
    assert told(REAL, np.concatenate([FAKE // 2, FAKE]), caplog) == []


@pytest.mark.parametrize(
    "images",
    [
        lambda: "synthetic:leaves,resolution=16,n=12",
        lambda: (FAKE > 127).astype(np.uint8) * 255,  # binary, and right
        lambda: FAKE // 255 * 127 + FAKE // 2 + 2,  # 2 to 256: just more than half
        lambda: sources.array(FAKE / 127.5 - 1, value_range=(-1, 1)),
    ],
)
def test_sound_sets_are_not_warned_about(images, caplog):
    assert told(REAL, images(), caplog) == [], images


def test_both_sets_of_a_comparison_are_named(caplog):
    with caplog.at_level(logging.WARNING, "pgmetrics"):
        found = pgmetrics.compare(np.zeros_like(FAKE), FAKE // 2, real=REAL, metrics=[SWD], permutations=99)
    kept = [note for note in found.notes if note.startswith("array (")]
    assert [note[:9] for note in kept] == ["array (A)", "array (B)"]
    assert set(kept) <= {record.getMessage() for record in caplog.records}


def test_statistics_are_warned_about_when_they_are_made(caplog):
    with caplog.at_level(logging.WARNING, "pgmetrics"):
        pgmetrics.collect(REAL // 4, [SWD])
    assert any(r.getMessage().startswith("array (real): the values of all 20") for r in caplog.records)


def test_the_range_of_nothing_is_no_news():
    assert ByteRange("x").remark() is None
    one = ByteRange("x\ny")
    one.add(np.full((1, 3, 2, 2), 9, np.uint8))
    assert one.remark() == "x\\ny: every value of the only image is 9; such a set is constant"


def test_images_are_the_same_up_to_one_level_in_a_hundred_values():
    image = pixels(1, 20, 20)
    other = image.copy()
    other.reshape(-1)[:12] ^= 1
    assert same_images(image, other)
    other.reshape(-1)[12] ^= 1
    assert not same_images(image, other)
    far = image.copy()
    far.reshape(-1)[0] ^= 2
    assert not same_images(image, far)
