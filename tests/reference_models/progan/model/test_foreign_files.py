"""Network files of other projects are told by their first bytes, with the command that imports them."""

import gzip
import pickle
import zipfile

import pytest
import torch

from reference_models.progan.model.foreign_files import TORCH_BEFORE_ZIP, advise

ORIGINAL = b"\x80\x04ctfutil\nNetwork\n"


def written(path, *names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (ORIGINAL, "is a network pickle of the original ProGAN"),
        (gzip.compress(ORIGINAL, mtime=0), "is a network pickle of the original ProGAN"),
        (TORCH_BEFORE_ZIP + b"more", "is a pickled torch file"),
        (gzip.compress(TORCH_BEFORE_ZIP, mtime=0), "is a pickled torch file"),
    ],
    ids=["original", "original, zipped", "torch", "torch, zipped"],
)
def test_networks_are_told_with_the_command_that_imports_them(tmp_path, content, kind):
    path = tmp_path / "network"
    path.write_bytes(content)
    line = advise(path)
    assert line.startswith(f"{path} {kind}")
    assert line.endswith(f"; `progan import {path} --out NAME.safetensors` makes a checkpoint of a ProGAN")


def test_what_torch_saves_is_a_network_and_other_archives_are_none(tmp_path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "saved.pth")
    assert "is a pickled torch file" in advise(tmp_path / "saved.pth")
    written(tmp_path / "script.pt", "model/data.pkl", "model/code/forward.py")
    written(tmp_path / "images.zip", "0.png")
    assert advise(tmp_path / "script.pt") is advise(tmp_path / "images.zip") is None


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n", pickle.dumps([1]), b"\x1f\x8bbroken", b"PK\x03\x04broken"]
)
def test_other_files_are_none(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    assert advise(tmp_path / "file") is None
    assert advise(tmp_path / "missing") is None
    assert advise(tmp_path) is None
