"""`pgmetrics check`: what is wrong with a set of images."""

import json

from PIL import Image

from tests.helpers.commands import pgmetrics


def test_check_says_what_is_wrong_and_exits_with_it(folders, tmp_path):
    assert pgmetrics("check", folders[0]).exit_code == 0
    (tmp_path / "broken.png").write_bytes(b"\x89PNG nothing")
    Image.new("RGB", (8, 8)).save(tmp_path / "fine.png")
    done = pgmetrics("check", tmp_path, "--format", "json")
    assert done.exit_code == 1
    assert "broken.png" in json.dumps(json.loads(done.stdout))
