"""The benchmark of presets: its table, with what is not installed. `tests/evaluation/test_presets.py`
compares the numbers of each tool with ours."""

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import presets
from benchmarks.presets import main, order_for_is, write_folder
from pgmetrics.sources.folder import Directory, FolderSource
from pgmetrics.sources.resolve import open_source

SMALL = ["--data", "synthetic:leaves,n=40,resolution=16", "--num-images", "20"]


@pytest.fixture
def weights(tmp_path):
    (tmp_path / "w.pth").touch()
    return ["--weights", f"inception={tmp_path / 'w.pth'}"]


def test_each_number_stands_beside_the_tool_s(monkeypatch, weights):
    monkeypatch.setattr(presets, "find_spec", lambda name: None if name == "cleanfid" else name)
    monkeypatch.setattr(presets, "compare", lambda tool, sets: [("fid", 4.0, 5.0), ("kid", 0.0, 0.0)])
    monkeypatch.setattr(presets.metadata, "version", lambda name: "1.0")
    done = CliRunner().invoke(main, [*SMALL, *weights, "--tool", "torch-fidelity", "--tool", "clean-fid"])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[4:] == [
        "| torch-fidelity 1.0 | fid | 4 | 5 | 2.5e-01 |",
        "| torch-fidelity 1.0 | kid | 0 | 0 | 0.0e+00 |",
        "| clean-fid | not installed: clean-fid | | | |",
    ]


def test_too_few_images_and_unknown_networks_are_refused(weights):
    few = CliRunner().invoke(main, [*SMALL[:2], "--num-images", "21", *weights])
    assert (few.exit_code, "holds 40 images; --num-images 21 needs more" in few.stderr) == (2, True)
    unknown = CliRunner().invoke(main, [*SMALL, "--weights", "resnet=x"])
    assert (unknown.exit_code, "is not inception=PATH or vgg16=PATH" in unknown.stderr) == (2, True)


def test_folders_hold_the_images_asked_for_in_their_order(tmp_path):
    source = open_source("synthetic:leaves,n=4,resolution=16")
    found = FolderSource(Directory(str(write_folder(tmp_path / "a", source, [2, 0]))))
    assert (found.batch([0, 1]) == source.batch([2, 0])).all()
    blurred = FolderSource(Directory(str(write_folder(tmp_path / "b", source, [2], blur=True))))
    assert (blurred.batch([0]) != source.batch([2])).any()


def test_the_order_of_is_holds_each_image_once():
    assert np.array_equal(np.sort(order_for_is(50)), np.arange(50))
