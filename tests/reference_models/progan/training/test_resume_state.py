"""States come back to the bit, and nothing else is taken for one."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pgmetrics.errors import PgmetricsError, StateError
from pgmetrics.sources.arrays import ArraySource
from reference_models.progan.data.training_images import TrainingImages
from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.schedule import stage
from reference_models.progan.training import resume_state as states
from reference_models.progan.training.resume_state import TrainingState
from reference_models.progan.training.trainer import Trainer

CONFIG = ProGANConfig(
    resolution=8, fmap_base=32, fmap_max=8, latent_size=8, minibatch={4: 4}, stabilise_images=32,
    fade_images=32, total_images=96, minibatch_repeats=2, loss="lsgan", noise_strength=5.0,
)  # fmt: skip


def trainer(config=CONFIG):
    pixels = np.random.default_rng(5).integers(0, 256, (20, 3, 8, 8)).astype(np.uint8)
    return Trainer(config, TrainingImages(ArraySource(pixels), config), torch.device("cpu"))


@pytest.fixture
def trained():
    t = trainer()
    t.run(stage(0, CONFIG))
    t.skipped = 3
    return t


def test_a_state_comes_back_to_the_bit(trained, tmp_path):
    states.save(tmp_path / "s.safetensors", trained.state())
    found = states.load(tmp_path / "s.safetensors")
    assert (found.images_shown, found.skipped) == (8, 3)
    wanted = trained.state().tensors
    assert set(found.tensors) == set(wanted)
    assert all(torch.equal(found.tensors[name], wanted[name]) for name in wanted)
    other = trainer()
    other.restore(found)
    assert all(torch.equal(other.state().tensors[name], wanted[name]) for name in wanted)
    assert (other.images_shown, other.skipped) == (8, 3)
    # The next steps are the same, too: also of what is in no tensor of the state.
    for t in (trained, other):
        t.run(stage(40, CONFIG))
    assert all(torch.equal(a, other.state().tensors[n]) for n, a in trained.state().tensors.items())


def test_a_state_holds_both_networks_the_average_both_optimizers_and_the_noise_s_average(trained):
    names = set(trained.state().tensors)
    for each in (
        "generator.block4.dense.weight", "average.block4.dense.weight", "discriminator.from_rgb4.weight",
        "generator_adam.exp_avg.block4.dense.weight", "generator_adam.step.block4.dense.weight",
        "discriminator_adam.exp_avg_sq.from_rgb4.weight", "score_average",
    ):  # fmt: skip
        assert each in names
    # What has not been trained has no moments yet; a step count of zero in their place would be another Adam.
    assert "generator.block8.conv0.weight" in names
    assert not any(name.startswith("generator_adam") and "block8" in name for name in names)


def test_other_files_are_no_states(trained, tmp_path):
    path = tmp_path / "s.safetensors"
    with pytest.raises(StateError, match="No such file"):
        states.load(path)
    torch.save({"generator": torch.zeros(3)}, path)  # a pickle, which could run code
    with pytest.raises(StateError, match="cut short or damaged"):
        states.load(path)
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(StateError, match="is no state of a training run"):
        states.load(path)
    header = {"format_version": 2, "images_shown": 8, "skipped": 0}
    save_file({"weight": torch.zeros(3)}, path, {"progan-state": json.dumps(header)})
    with pytest.raises(StateError, match="format version 2; this version reads 1"):
        states.load(path)
    save_file({"weight": torch.zeros(3)}, path, {"progan-state": json.dumps({"format_version": 1})})
    with pytest.raises(StateError, match="is no state of a training run"):
        states.load(path)


def test_a_state_of_other_networks_is_refused(trained):
    state = trained.state()
    for config in (replace(CONFIG, fmap_max=4), replace(CONFIG, resolution=16)):
        t = trainer(replace(config, resolution=8))
        if config.resolution == 16:
            t.generator = type(t.generator)(config)
        with pytest.raises(StateError, match="of 8 images is of other networks"):
            t.restore(state)
    more = TrainingState(
        images_shown=8, skipped=0, tensors={**state.tensors, "generator.block32.bias": torch.zeros(1)}
    )
    with pytest.raises(StateError, match=r"holds generator\.block32\.bias, which is of no network"):
        trainer().restore(more)


def test_a_state_that_cannot_be_written_is_one_line(trained, tmp_path):
    with pytest.raises(PgmetricsError, match=r"nowhere/s\.safetensors cannot be written"):
        states.save(tmp_path / "nowhere" / "s.safetensors", trained.state())


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_state_that_is_not_finite_is_refused(trained, tmp_path, value):
    state = trained.state()
    state.tensors["discriminator_adam.exp_avg.block4.dense1.weight"].view(-1)[0] = value
    states.save(tmp_path / "s.safetensors", state)
    with pytest.raises(
        StateError,
        match=r"s\.safetensors: its discriminator_adam\.exp_avg\.block4\.dense1\.weight .*not finite",
    ):
        states.load(tmp_path / "s.safetensors")
