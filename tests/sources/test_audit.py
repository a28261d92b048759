"""An audit reads everything and names every fault."""

import json

import numpy as np
import pytest
from PIL import Image

from pgmetrics import sources
from pgmetrics.errors import SourceError
from pgmetrics.sources.audit import audit
from pgmetrics.sources.decode import Decoding
from tests.helpers.image_files import encoded, pixels, png_of_16_bits, write, write_zip

IMAGES = pixels(8)


def test_a_sound_set_has_nothing_to_tell(tmp_path):
    told = []
    path = write(tmp_path, {f"{i}.png": encoded(image) for i, image in enumerate(IMAGES)})
    found = audit(path, progress=lambda *done: told.append(done))
    assert (found.exit_code, found.problems, found.warnings) == (0, [], [])
    assert (found.count, found.sizes, found.modes, found.formats) == (
        8,
        {(8, 8): 8},
        {"RGB": 8},
        {"PNG": 8},
    )
    assert told == [("checking", i, 8) for i in range(1, 9)]


def faulty():
    exif = Image.Exif()
    exif[0x0112] = 6
    transparent = np.dstack([IMAGES[3], np.zeros((8, 8), np.uint8)])
    frames = [Image.fromarray(image) for image in IMAGES[:2]]
    return {
        "a.png": encoded(IMAGES[0]),
        "broken.png": b"no image",
        "cut.png": encoded(IMAGES[1])[:50],
        "deep.png": png_of_16_bits(np.zeros((8, 8, 3), np.uint16)),
        "film.webp": encoded(frames[0], ".webp", save_all=True, append_images=frames[1:]),
        "glass.png": encoded(transparent),
        "grey.png": encoded(IMAGES[4][..., 0]),
        "notes.txt": b"",
        "same.bmp": encoded(IMAGES[0], ".bmp"),
        "turned.jpg": encoded(pixels(1, 5, 9)[0], ".jpg", exif=exif),
    }


@pytest.mark.parametrize("where", ["directory", "zip"])
def test_every_fault_is_named_not_only_the_first(tmp_path, where):
    path = write(tmp_path, faulty()) if where == "directory" else write_zip(tmp_path / "a.zip", faulty())
    found = audit(path)
    assert found.exit_code == 1
    assert found.count == 9
    assert found.ignored == 1
    assert list(found.unreadable) == ["broken.png", "cut.png", "deep.png", "film.webp", "glass.png"]
    reasons = " ".join(found.unreadable.values())
    for word in ("not a PNG", "cut.png cannot be read", "--bits 8", "several frames", "--alpha"):
        assert word in reasons
    assert found.sizes == {(8, 8): 3, (5, 9): 1}
    assert found.duplicates == [["a.png", "same.bmp"]]
    assert found.notes == {"EXIF rotation ignored": 1}
    unusable, sizes = found.problems
    assert unusable == "5 of 9 files cannot be used as they are"
    assert "8 × 8 (3, such as a.png), 5 × 9 (1, such as turned.jpg)" in sizes
    assert "--resize crop-box --resolution 5" in sizes
    repeats, mixture, grey = found.warnings
    assert repeats == "1 images repeat others pixel for pixel, such as a.png and same.bmp"
    assert "JPEG 1" in mixture
    assert grey == "1 grey images among 3 in color"


def test_options_lift_what_they_are_for(tmp_path):
    found = audit(write(tmp_path, faulty()), Decoding(alpha="white", bits=8, resize="crop-box", resolution=4))
    assert list(found.unreadable) == ["broken.png", "cut.png", "film.webp"]
    assert len(found.problems) == 1
    assert found.sizes[5, 9] == 1  # as stored


def test_warnings_alone_exit_with_0(tmp_path):
    found = audit(write(tmp_path, {"a.png": encoded(IMAGES[0]), "b.png": encoded(IMAGES[0])}))
    assert found.warnings
    assert found.exit_code == 0


def test_the_report_is_json_and_text(tmp_path):
    found = audit(write(tmp_path, faulty()))
    read_back = json.loads(json.dumps(found.to_dict()))
    assert read_back["sizes"][0] == {"height": 8, "width": 8, "count": 3}
    assert read_back["problems"] == found.problems
    text = str(found)
    for fact in (
        "8 × 8: 3",
        "RGB 3, L 1",
        "1 file left out: 1 .txt",
        "broken.png",
        *found.problems,
        *found.warnings,
    ):
        assert fact in text


@pytest.mark.slow
def test_arrays_and_generators_are_audited_too(tmp_path):
    images = np.concatenate([IMAGES, IMAGES[:1]])
    images[3] = images[3, ..., :1]
    np.savez(tmp_path / "a.npz", images)
    found = audit(tmp_path / "a.npz")
    assert (found.count, found.sizes, found.modes) == (9, {(8, 8): 9}, {"RGB": 8, "L": 1})
    assert found.duplicates == [["image 0", "image 8"]]
    endless = audit("synthetic:leaves,resolution=4,n=1000000")
    assert endless.notes == {"generated images looked at": 1000}
    assert endless.exit_code == 0


def test_faults_of_a_generator_are_named_one_by_one():
    def make(indices):
        images = np.zeros((len(indices), 3, 4, 4))
        images[np.isin(indices, [70, 71])] = np.nan
        return images + np.arange(4) / 10

    found = audit(sources.function(make, 200, value_range=(0, 1)))
    assert list(found.unreadable) == ["image 70", "image 71"]
    assert found.problems == ["2 of 200 images cannot be made"]


def test_what_cannot_be_opened_is_refused(tmp_path):
    with pytest.raises(SourceError, match="is empty"):
        audit(tmp_path)


def test_a_broken_labels_file_is_a_warning_with_its_reason(tmp_path):
    write(tmp_path, {"a.png": encoded(IMAGES[0]), "b.png": encoded(IMAGES[1]), "dataset.json": b"{"})
    for spec in (tmp_path, f"{tmp_path}@0:2"):
        found = audit(spec)
        assert found.exit_code == 0
        assert found.warnings[0].startswith("no classes: dataset.json cannot be read as JSON: ")
    (tmp_path / "dataset.json").write_text('{"labels": [["a.png", 0]]}')
    assert audit(tmp_path).warnings == ["no classes: dataset.json gives b.png no class"]
