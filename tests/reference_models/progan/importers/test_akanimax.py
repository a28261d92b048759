"""Files of pro_gan_pth make its images, of each of its versions that can be read."""

from __future__ import annotations

from math import prod, sqrt

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from pgmetrics.errors import OptionError
from reference_models.progan.cli import main
from reference_models.progan.importers import import_network
from tests.helpers.foreign_networks import FILES, IMAGES, images_of, imported, refuses


def test_the_stage_of_a_growing_network_is_the_last_that_was_trained_or_what_is_asked_for(out):
    path = FILES / "pro-gan-pth-3.4.bin"
    facts, _ = imported(path, out)
    assert (facts.resolution, facts.config.resolution) == (8, 16)
    assert imported(path, out, resolution=16)[0].resolution == 16
    with pytest.raises(OptionError, match="no layers for 64 x 64; it grows to 16 x 16"):
        import_network(path, out, resolution=64)
    arguments = ["import", str(path), "--out", str(out), "--resolution", "4", "--which", "G"]
    result = CliRunner().invoke(main, arguments)
    assert result.stderr == "akanimax layout, G: 4 x 4, alpha 1.00\n"


def test_files_of_pro_gan_pth_that_lack_what_their_layers_multiply_by_are_refused(out, saved):
    refuses(FILES / "pro-gan-pth-1.3.pth", out, "before version 2, .* --loader MODULE:NAME")
    state = torch.load(FILES / "pro-gan-pth-2.1.1.pth", weights_only=True)
    refuses(saved({name: 0.05 * tensor for name, tensor in state.items()}), out, "those of use_eql=False")


def test_plain_layers_of_pro_gan_pth_are_not_scaled(out, saved):
    content = torch.load(FILES / "pro-gan-pth-3.4.bin", weights_only=True)
    plain = content["shadow_generator"]
    plain["conf"]["use_eql"] = False
    for name, tensor in plain["state_dict"].items():
        if name.endswith("weight"):
            fan_in = tensor.shape[0] if name == "layers.0.conv_1.weight" else prod(tensor.shape[1:])
            tensor.mul_(sqrt(2 / fan_in))
    facts, g = imported(saved(content), out)
    assert not facts.config.equalized
    made = images_of(facts, g, torch.from_numpy(IMAGES["z"])).numpy()
    assert np.abs(made - IMAGES["pro-gan-pth-3.4.bin"]).max() < 1e-4
    out.unlink()
    del content["shadow_generator"]
    refuses(saved(content), out, "holds no shadow_generator; --which G takes the other generator")
