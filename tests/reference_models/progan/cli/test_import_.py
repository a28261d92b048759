"""`progan import`, as a person meets it."""

from __future__ import annotations

import pytest
import torch
from click.testing import CliRunner

from reference_models.progan.cli import main
from reference_models.progan.cli.import_ import import_command
from reference_models.progan.model.checkpoint import inspect, load
from tests.helpers.foreign_networks import imported
from tests.helpers.official_snapshots import TINY, snapshot


@pytest.fixture
def progan(monkeypatch):
    monkeypatch.setitem(main.commands, "import", import_command)
    return lambda *arguments: CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.mark.parametrize("of_weights", ["--license", "--licence"])
def test_the_command_imports(progan, pickled, out, of_weights):
    path = pickled(snapshot(TINY, lod=0.5), name="network-snapshot-000100.pkl")
    done = progan("import", path, "--out", out, "--which", "G", of_weights, "CC0")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"{out}\n"
    assert done.stderr == "original layout, G: 16 x 16, alpha 0.50\n"
    facts = inspect(out)
    assert (facts.licence, facts.images_shown) == ("CC0", 100_000)
    trained = load(out)[1].block4.conv.weight
    other = out.with_name("other.safetensors")
    assert torch.equal(imported(path, other, which="G")[1].block4.conv.weight, trained)
    assert not torch.equal(imported(path, other)[1].block4.conv.weight, trained)
    assert progan("import", path, "--out", out, "--images-shown", 5).exit_code == 0
    assert (inspect(out).licence, inspect(out).images_shown) == ("unknown", 5)
    grid = progan("sample", out, "--num", 4, "--out", out.with_suffix(".png"))
    assert grid.exit_code == 0, grid.stderr


def test_the_command_refuses_in_one_line(progan, tmp_path, out):
    path = tmp_path / "image.png"
    path.write_bytes(b"\x89PNG")
    cases = [
        ((path, "--out", out), 1, "it is neither a pickle nor a PyTorch file"),
        ((tmp_path / "missing", "--out", out), 1, "missing cannot be imported: No such file or directory"),
        ((tmp_path, "--out", out), 1, "it is a directory, and only regular files are opened"),
        ((path, "--out", path), 1, "it is one of the inputs"),
        ((path,), 2, "Missing option '--out'"),
        ((path, "--out", out, "--which", "D"), 2, "'D' is not one of"),
    ]
    for arguments, code, fact in cases:
        refused = progan("import", *arguments)
        assert refused.exit_code == code
        assert fact in refused.stderr.splitlines()[-1]
        assert refused.stderr.splitlines()[-1].startswith("Error: ")
        assert refused.stdout == ""
    assert path.read_bytes() == b"\x89PNG"
