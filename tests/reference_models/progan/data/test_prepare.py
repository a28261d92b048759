"""Sets decoded once: the same levels whatever happens on the way, and nothing else taken for one."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pgmetrics import sources
from pgmetrics.errors import OptionError, PgmetricsError, SourceError
from reference_models.progan.data import prepare as prepare_module
from reference_models.progan.data.prepare import prepare, verify
from reference_models.progan.data.prepared import PreparedSource, is_prepared
from tests.helpers.image_files import encoded, pixels, write
from tests.helpers.prepared_sets import Labeled, N, Noise, contents, unfinish

pytestmark = pytest.mark.usefixtures("small_blocks")


@pytest.mark.slow
def test_after_a_kill_the_same_call_goes_on(tmp_path, prepared):
    # Catches starting anew, an image twice or left out, and rows after the last mark taken for granted.
    out = tmp_path / "killed"
    code = (
        "import sys; from reference_models.progan.data import prepare as levels\n"
        "levels.SECONDS_BETWEEN_MARKS = 0.0\n"
        "levels.block_length = lambda side: 4\n"
        "from tests.helpers.prepared_sets import Dying, N\n"
        "levels.prepare(Dying(N), levels.Path(sys.argv[1]))"
    )
    root = Path(__file__).parents[4]
    died = subprocess.run([sys.executable, "-c", code, str(out)], cwd=root, check=False)
    assert died.returncode == -signal.SIGKILL
    assert is_prepared(out)
    with pytest.raises(SourceError, match="killed is not complete; the same `progan data` command resumes"):
        PreparedSource(out)
    with (out / "level-0016.npy").open("ab") as file:
        file.write(b"a row cut short")
    source = Labeled(N)
    told: list[tuple[str, int, int]] = []
    prepare(source, out, report=lambda *done: told.append(done))
    assert source.read == list(range(12, N))
    assert told == [("decoding", 16, N), ("decoding", 20, N)]
    assert contents(out) == contents(prepared)


def test_files_shorter_than_what_was_marked_are_not_continued(prepared):
    # A hole would be zeros with a checksum.
    unfinish(prepared, 12)
    os.truncate(prepared / "level-0008.npy", 128 + 12 * 3 * 64 - 1)
    with pytest.raises(SourceError, match=r"level-0008\.npy is damaged; delete"):
        prepare(Labeled(N), prepared)
    np.save(prepared / "level-0008.npy", np.zeros((N, 8, 8, 3), np.uint8))
    with pytest.raises(SourceError, match=r"level-0008\.npy is damaged; delete"):
        prepare(Labeled(N), prepared)
    for done in (-1, N + 1, None, 2.5):
        marks = prepared / "unfinished-levels.json"
        marks.write_text(json.dumps(json.loads(marks.read_text()) | {"done": done}))
        with pytest.raises(SourceError, match=r"unfinished-levels\.json is damaged"):
            prepare(Labeled(N), prepared)


def test_an_image_that_cannot_be_read_loses_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_module, "SECONDS_BETWEEN_MARKS", 1e9)

    class Broken(Noise):
        def _read(self, indices):
            if 13 in indices:
                raise SourceError("image 13 is damaged")
            return super()._read(indices)

    with pytest.raises(SourceError, match="image 13 is damaged"):
        prepare(Broken(N), tmp_path / "set")
    source = Noise(N)
    prepare(source, tmp_path / "set")
    assert min(source.read) == 12
    verify(tmp_path / "set")


def test_a_complete_set_is_not_decoded_again(prepared):
    source, before = Labeled(N), contents(prepared)
    prepare(source, prepared)
    assert source.read == []
    assert contents(prepared) == before


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"source": Noise(N, 32)}, "from other images"),
        ({"channels": 1}, "with channels 3, not 1"),
        ({"mirror": True}, "with mirror null, not true"),
        ({"source": Noise(N)}, r'with label_names \["cat", "dog", "eel"\], not \[\]'),
    ],
)
@pytest.mark.parametrize("complete", [True, False])
def test_a_set_prepared_otherwise_is_refused(prepared, change, found, complete):
    # Going on would leave a directory of two halves.
    if not complete:
        unfinish(prepared, 4)
    before = contents(prepared)
    with pytest.raises(OptionError, match=f"set was prepared {found}"):
        prepare(**{"source": Labeled(N), "out": prepared} | change)
    assert contents(prepared) == before


def test_other_labels_are_another_set(prepared):
    class Relabeled(Labeled):
        labels = np.arange(N) % 3 == 0

    with pytest.raises(OptionError, match="prepared with labels_digest"):
        prepare(Relabeled(N), prepared)


def test_a_foreign_directory_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(OptionError, match="is there already and not empty"):
        prepare(Noise(N), tmp_path)
    assert not is_prepared(tmp_path)
    with pytest.raises(SourceError, match="is not a prepared set; `progan data` makes one"):
        PreparedSource(tmp_path)
    assert list(contents(tmp_path)) == ["thesis.txt"]


def test_damage_is_found(prepared):
    verify(prepared)
    told: list[tuple[str, int, int]] = []
    verify(prepared, lambda *done: told.append(done))
    assert told[-1][0] == "checking"
    assert told[-1][1] == told[-1][2]
    path = prepared / "level-0008.npy"
    data = bytearray(path.read_bytes())
    data[-7] ^= 1
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"level-0008\.npy does not have the checksum"):
        verify(prepared)
    path.write_bytes(data[:-1])
    with pytest.raises(SourceError, match=r"level-0008\.npy cannot be read: it was cut short or damaged"):
        PreparedSource(prepared)
    path.unlink()
    with pytest.raises(SourceError, match=r"level-0008\.npy cannot be read: No such file"):
        PreparedSource(prepared)
    np.save(path, np.zeros((N, 3, 8, 8), np.float32))
    with pytest.raises(SourceError, match=r"float32 \[20, 3, 8, 8\] where uint8 \[20, 3, 8, 8\] belongs"):
        PreparedSource(prepared)
    # An object array is a pickle, which could run anything.
    np.save(path, np.array([{}], object))
    with pytest.raises(SourceError, match=r"level-0008\.npy holds object \[1\] where uint8"):
        PreparedSource(prepared)


def test_cropping_takes_the_center(tmp_path):
    # The same square as the policy of files cuts, and another set than the uncropped one.
    images = pixels(6, 16, 21)
    path = write(tmp_path / "files", {f"{i}.png": encoded(image) for i, image in enumerate(images)})
    cropped = prepare(sources.open_source(path), tmp_path / "a", crop=True)
    by_policy = sources.open_source(path, resize="crop-box", resolution=16)
    np.testing.assert_array_equal(cropped.batch(range(6)), by_policy.batch(range(6)))
    np.testing.assert_array_equal(cropped.batch(range(6)), images.transpose(0, 3, 1, 2)[:, :, :, 2:18])
    assert cropped.fingerprint == sources.open_source(path).fingerprint + "+crop"
    with pytest.raises(
        SourceError, match=r"16 × 21 .height × width., and a ProGAN grows squares; --resize crop"
    ):
        prepare(sources.open_source(path), tmp_path / "b")


def test_a_side_that_is_no_power_of_two_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(SourceError, match=r"24 × 24.*--resize crop-box --resolution 16"):
        prepare(Noise(N, 24), tmp_path / "set")
    with pytest.raises(SourceError, match=r"2 × 2.*--resolution 4"):
        prepare(Noise(N, 2), tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_grey_images_are_stored_once(tmp_path):
    source = prepare(Noise(N, grey=True), tmp_path / "grey", channels=1)
    assert np.load(tmp_path / "grey" / "level-0016.npy").shape == (N, 1, 16, 16)
    np.testing.assert_array_equal(source.batch(range(N)), Noise(N, grey=True).batch(range(N)))
    with pytest.raises(SourceError, match="noise has images in color"):
        prepare(Noise(N), tmp_path / "color", channels=1)


def test_too_small_a_disk_is_told_before_decoding(tmp_path, monkeypatch):
    source, needed = Noise(N), N * 3 * (256 + 64 + 16)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed - 1))
    with pytest.raises(PgmetricsError, match=r"20 images at all levels up to 16 x 16.*0\.0 GB free"):
        prepare(source, tmp_path / "set")
    assert source.read == []
    # What is there already needs no room.
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed))
    prepare(source, tmp_path / "set")


@pytest.mark.parametrize(("side", "room"), [(16, 10_000), (64, 120_000)])
def test_a_disk_that_fills_up_is_one_line_and_goes_on_later(tmp_path, side, room):
    # Small blocks fail where they are put on the disk, large ones where they are written.
    # The limit on a file's size is the nearest thing to a full disk that a test may make.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
        with pytest.raises(PgmetricsError, match="set cannot be written: File too large"):
            prepare(Noise(N, side), tmp_path / "set")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    source = Noise(N, side)
    prepare(source, tmp_path / "set")
    assert min(source.read) > 0
    verify(tmp_path / "set")
