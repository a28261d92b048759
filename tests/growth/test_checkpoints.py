"""Which files of a run are checkpoints, and where in the training each stands."""

import shutil

import pytest

from pgmetrics.errors import OptionError, SourceError
from pgmetrics.growth import find_snapshots
from reference_models.progan.model.checkpoint import checkpoints
from tests.helpers.growing_run import LABELS, MOMENTS, write_checkpoint


def test_checkpoints_are_found_by_their_content_and_stand_in_the_order_of_training(run):
    shutil.move(run / "checkpoints", run / "elsewhere")
    (run / "notes.txt").write_text("nothing")
    snapshots, skipped = find_snapshots(run)
    assert [each.label for each in snapshots] == ["untrained", *LABELS]
    assert [(s.images_shown, s.resolution, s.alpha) for s in snapshots[1:]] == list(MOMENTS)
    assert {each.final_resolution for each in snapshots} == {32}
    assert not skipped


def test_a_copy_is_one_checkpoint_and_another_one_of_the_same_moment_is_refused(run):
    path = checkpoints(run)[-1]
    shutil.copy(path, run / "best.safetensors")
    assert len(find_snapshots(run)[0]) == 9
    write_checkpoint(run / "other", 800, weights=900)
    with pytest.raises(SourceError, match=r"are both of 0000000800-32x32; --pattern"):
        find_snapshots(run)
    assert len(find_snapshots(run, "checkpoints/*")[0]) == 8


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("out/ckpt-{images}-{resolution}.bin", [(64, 4), (128, 8)]),
        ("**/ckpt-{images}-{resolution}.*", [(64, 4), (128, 8)]),
        (r".*/ckpt-(?P<kimg>\d+)-(?P<resolution>\d+)\.bin", [(64_000, 4), (128_000, 8)]),
        ("out/ckpt-{images}-?.bin", [(64, None), (128, None)]),
        ("out/ckpt-6{images}-*.bin", [(4, None)]),
        ("ckpt-{images}-{resolution}.bin", []),
    ],
)
def test_others_checkpoints_are_found_by_a_pattern(tmp_path, pattern, found):
    (tmp_path / "out").mkdir()
    for name in ("ckpt-128-8.bin", "ckpt-64-4.bin", "log.txt", ".ckpt-1-4.bin"):
        (tmp_path / "out" / name).write_text(name)
    snapshots, _ = find_snapshots(tmp_path, pattern)
    assert [(each.images_shown, each.resolution) for each in snapshots] == found


@pytest.mark.parametrize(
    ("pattern", "refusal"),
    [
        ("{epoch}.pt", "has epoch; there are images, kimg, resolution, alpha"),
        ("{resolution}.pt", "does not say how many images"),
        ("(?P<images>", "no regular expression"),
    ],
)
def test_a_pattern_that_says_too_little_is_refused(tmp_path, pattern, refusal):
    with pytest.raises(OptionError, match=refusal):
        find_snapshots(tmp_path, pattern)
