"""Random weights: every tensor of the published layout, and numbers that other machines make alike."""

import pytest
import torch
from click.testing import CliRunner

from benchmarks import random_weights
from pgmetrics.features.inception import architecture


@pytest.mark.slow  # where it is the first to ask for the weights
def test_inception_has_the_published_layout_and_vectors_of_eight_bits(inception_weights):
    state = torch.load(inception_weights, weights_only=True)
    layout = architecture("logits_unbiased").state_dict()
    assert {name: (t.shape, t.dtype) for name, t in state.items()} == {
        name: (t.shape, t.dtype) for name, t in layout.items()
    }
    vectors = [t for t in state.values() if t.is_floating_point() and t.ndim == 1]
    assert all(torch.equal(t.bfloat16().float(), t) for t in vectors)
    assert all(bool(t.isfinite().all()) for t in state.values())


@pytest.mark.parametrize("network", ["inception", "vgg16"])
def test_the_command_writes_the_network_that_is_named(monkeypatch, tmp_path, network):
    def write(path, seed):
        path.write_text(f"{network} {seed}")
        return path

    monkeypatch.setattr(random_weights, f"write_{network}", write)
    out = tmp_path / "w.pth"
    done = CliRunner().invoke(random_weights.main, [network, str(out), "--seed", "3"])
    assert done.stdout == f"{out}\n", done.output
    assert out.read_text() == f"{network} 3"
