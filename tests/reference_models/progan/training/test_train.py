"""The loop: what a step changes, what a run leaves behind, and what it refuses."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from pgmetrics.errors import OptionError, SourceError
from pgmetrics.runtime import seeding
from pgmetrics.runtime.files import parse_json
from pgmetrics.runtime.seeding import Stream
from reference_models.progan.model.checkpoint import checkpoints, inspect, load, stage_checkpoints
from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.model_card import model_card
from reference_models.progan.sampling.export import image_grid
from reference_models.progan.sampling.source import ProGANSource
from reference_models.progan.training import run_directory
from reference_models.progan.training.signals import Interrupted
from reference_models.progan.training.train import train
from reference_models.progan.training.trainer import Diverged, Trainer
from tests.helpers.configs import TO_16 as CONFIG
from tests.helpers.samplers import sample_images
from tests.helpers.trainers import Labeled, same, source, trainer, weights


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "new" / "run"
    reports = []
    last = train(source(), directory, CONFIG, licence="CC0", report=reports.append)
    return directory, last, reports


@pytest.mark.slow
def test_a_run_grows_and_leaves_checkpoints_at_the_end_of_every_phase(run):
    directory, last, _ = run
    found = [inspect(path) for path in checkpoints(directory)]
    assert [(c.images_shown, c.resolution, c.alpha) for c in found] == [
        (40, 4, 1.0),  # ends stabilizing; the schedule is looked at every 8 images, as it goes past
        (64, 8, 1.0),
        (104, 8, 1.0),
        (128, 16, 1.0),
        (192, 16, 1.0),
    ]
    assert last == checkpoints(directory)[-1]
    assert [inspect(p).images_shown for p in stage_checkpoints(directory)] == [40, 104, 192]
    assert found[0].data_fingerprint == source().fingerprint
    assert found[0].licence == "CC0"
    assert ProGANConfig.from_json(json.loads((directory / "config.json").read_text())) == CONFIG


def test_progress_tells_stage_and_images(run):
    _, _, reports = run
    assert [p.images_shown for p in reports] == list(range(8, 193, 8))
    assert {p.stage.resolution for p in reports} == {4, 8, 16}
    assert all(np.isfinite([p.real, p.fake, p.penalty, p.norm]).all() for p in reports)
    assert reports[-1].skipped == 0


@pytest.mark.slow
def test_training_is_a_function_of_its_configuration(run, tmp_path):
    _, last, _ = run
    again = train(source(), tmp_path / "again", CONFIG, licence="CC0")
    assert again.read_bytes() == last.read_bytes()
    other = train(source(), tmp_path / "other", replace(CONFIG, seed=1), licence="CC0")
    assert other.read_bytes() != last.read_bytes()


def spoiled(monkeypatch, network, first, until=10**9):
    """Gradients of the network are not finite after this many images, until as many."""
    update = Trainer._update

    def updating(self, adam, updated, *rest):
        if updated is getattr(self, network) and first <= self.images_shown < until:
            updated.to_rgb4.bias.grad.fill_(math.nan) if network == "generator" else None
            updated.from_rgb4.bias.grad.fill_(math.inf) if network == "discriminator" else None
        update(self, adam, updated, *rest)

    monkeypatch.setattr(Trainer, "_update", updating)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "first", "parameter", "at"),
    [("discriminator", 24, r"from_rgb4\.bias", 60), ("generator", 28, r"to_rgb4\.bias", 64)],
)
def test_a_run_whose_steps_are_left_out_ends_and_names_the_first(
    tmp_path, monkeypatch, network, first, parameter, at
):
    # Seen before: such a run trains on, left out step by step, and is complete in the end. The steps of the
    # other network, made in between, do not count.
    config = replace(CONFIG, stabilise_images=320)
    run = tmp_path / "run"
    spoiled(monkeypatch, network, first)
    for _ in range(2):  # entered again it goes on from the last good state, to the same end
        with pytest.raises(Diverged) as refused:
            train(source(), run, config, state_images=8)
        message = str(refused.value)
        assert re.fullmatch(
            rf"training diverged: 10 steps of the {network} in a row were left out, the first after {first} "
            rf"images, where the gradient of the {network}'s {parameter} was not finite; .* below 0\.001",
            message,
        )
        assert json.loads((run / "finished.json").read_text()) == {"ended": "diverged", "images_shown": at}
        # What came after may be lost; the state before the first step that was left out is there.
        assert sorted(path.name for path in (run / "states").iterdir()) == [
            "images0000000016.safetensors",
            "images0000000024.safetensors",
        ]


def test_a_loss_that_is_not_finite_is_named_before_the_gradients_that_follow(tmp_path, monkeypatch):
    monkeypatch.setattr(run_directory, "_IMAGES_BETWEEN_STATS", 16)
    spoil = Trainer._judged

    def judged(self, now, piece, fake=None):
        loss = spoil(self, now, piece, fake)
        for parameter in self.discriminator.parameters():
            if parameter.grad is not None:
                parameter.grad.fill_(math.nan)
        return loss._replace(norm=loss.norm * math.inf, total=loss.total * math.nan)

    monkeypatch.setattr(Trainer, "_judged", judged)
    with pytest.raises(
        Diverged, match=r"first after 0 images, where the discriminator's gradient norm was inf;"
    ):
        train(source(), tmp_path / "run", CONFIG)
    # JSON has no NaN.
    row = (tmp_path / "run" / "stats.jsonl").read_text().splitlines()[0]
    assert parse_json(row)["norm"] is None
    assert parse_json(row)["skipped"] == 4


@pytest.mark.slow
def test_a_few_steps_that_are_left_out_end_nothing(tmp_path, monkeypatch):
    # Nine in a row, twice.
    spoiled(monkeypatch, "generator", 20, 56)
    train(source(), tmp_path / "run", CONFIG, state_images=8, keep_states=100)
    assert sorted(int(path.stem[6:]) for path in (tmp_path / "run" / "states").iterdir())[:4] == [
        8,
        16,
        56,
        64,
    ]


def test_a_stop_that_is_requested_in_doubt_waits_for_the_next_good_step(tmp_path, monkeypatch):
    # A state of a run that is lost would be what the same command goes on from, for ever.
    spoiled(monkeypatch, "generator", 20, 56)
    with pytest.raises(Interrupted, match="stopped at 56 images"):
        train(source(), tmp_path / "run", CONFIG, report=stop_at(32))


def stop_at(images):
    def report(progress):
        if progress.images_shown == images:
            raise KeyboardInterrupt

    return report


@pytest.mark.slow
def test_an_interrupted_run_leaves_a_checkpoint_of_where_it_was(tmp_path):
    def interrupt(progress):
        if progress.images_shown == 88:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(source(), tmp_path / "run", CONFIG, report=interrupt)
    last = inspect(checkpoints(tmp_path / "run")[-1])
    assert (last.images_shown, last.resolution, last.alpha) == (88, 8, 1.0)
    ProGANSource(checkpoints(tmp_path / "run")[-1]).batch([0])


def test_the_untrained_network_is_the_run_s_own_beginning(tmp_path):
    train(source(), tmp_path / "run", replace(CONFIG, total_images=8))
    facts, generator = load(tmp_path / "run" / "untrained.safetensors")
    assert (facts.resolution, facts.alpha, facts.images_shown) == (16, 1.0, 0)
    assert same(weights(generator), weights(trainer().generator))


@pytest.mark.slow
def test_snapshots_are_taken_every_so_many_images_but_never_beside_a_phase_s_checkpoint(tmp_path):
    # Looks are 8 images apart. A stable phase is seen to be over one look into the fade: at 40 and 104.
    train(source(), tmp_path / "run", CONFIG, snapshot_images=12)
    facts = [inspect(path) for path in checkpoints(tmp_path / "run")]
    taken = {fact.images_shown: (fact.resolution, fact.alpha) for fact in facts}
    assert len(facts) == len(taken)  # not one of two files of one moment
    due = {16, 24, 40, 48, 64, 72, 88, 96, 112, 120, 136, 144, 160, 168, 184, 192}
    assert set(taken) == due | {40, 64, 104, 128, 192}
    # As the steps before it were made: 64 ... 96 is stable, 96 ... 128 fades 16 in.
    assert taken[40] == (4, 1.0)  # the phase's
    assert taken[88] == taken[96] == (8, 1.0)
    assert taken[112] == (16, 0.25)
    assert taken[120] == (16, 0.5)
    assert taken[128] == (16, 1.0)  # the end of the fade
    ProGANSource(checkpoints(tmp_path / "run")[9]).batch([0])


@pytest.mark.slow
def test_snapshots_do_not_change_the_training(tmp_path):
    ends = [
        train(source(), tmp_path / str(every), CONFIG, snapshot_images=every).read_bytes()
        for every in (None, 1, 50)
    ]
    assert ends[0] == ends[1] == ends[2]
    with pytest.raises(OptionError, match=r"snapshot_images is a whole number at least 1 and .*, not 0"):
        train(source(), tmp_path / "none", CONFIG, snapshot_images=0)


def test_checkpoints_know_the_classes_and_how_frequent_they_are(tmp_path):
    pixels = np.random.default_rng(5).integers(0, 256, (40, 3, 16, 16)).astype(np.uint8)
    config = replace(CONFIG, label_size=3, total_images=8)
    last = train(Labeled(pixels), tmp_path / "run", config)
    facts = inspect(last)
    assert facts.label_names == ("cat", "dog", "owl")
    assert facts.label_distribution == (0.5, 0.25, 0.25)
    with pytest.raises(SourceError, match="label_size=3"):
        train(source(), tmp_path / "other", config)


@pytest.mark.slow
def test_a_run_that_does_not_grow_is_one_phase(tmp_path, monkeypatch):
    at = []
    reset = Trainer.reset_optimizers
    monkeypatch.setattr(Trainer, "reset_optimizers", lambda t: (at.append(t.images_shown), reset(t))[1])
    config = replace(CONFIG, growing=False, total_images=48)
    train(source(), tmp_path / "run", config, snapshot_images=24)
    assert at == [0]
    facts = [inspect(path) for path in checkpoints(tmp_path / "run")]
    assert [(c.images_shown, c.resolution, c.alpha) for c in facts] == [(24, 16, 1.0), (48, 16, 1.0)]


@pytest.mark.slow
def test_batch_norms_are_measured_for_what_is_sampled(tmp_path):
    # An average of weights has seen no batch: without this it would sample with mean 0 and variance 1.
    config = replace(CONFIG, generator_norm="batch", total_images=80)
    _, generator = load(train(source(), tmp_path / "run", config))
    latents = torch.from_numpy(
        seeding.generator(0, Stream.TRAINING_LATENTS, 0, 2).standard_normal((256, 8), dtype="float32")
    )
    judged = generator(latents, resolution=8, alpha=1.0)
    alone = torch.cat([generator(z, resolution=8, alpha=1.0) for z in latents.split(16)])
    assert torch.allclose(judged, alone, atol=1e-5)
    assert torch.allclose(judged, generator.train()(latents, resolution=8, alpha=1.0), atol=1e-4)


def test_grids_show_the_same_latents_at_each_checkpoint_and_on_both_sides_of_a_transition(run):
    directory, last, _ = run
    # The first look of a phase, its end, and the end of the run; alpha is the look's.
    assert sorted(path.name for path in (directory / "grids").iterdir()) == [
        "images0000000008-res0004-alpha1.00.png",
        "images0000000040-res0004-alpha1.00.png",
        "images0000000048-res0008-alpha0.25.png",
        "images0000000064-res0008-alpha1.00.png",
        "images0000000072-res0008-alpha1.00.png",
        "images0000000104-res0008-alpha1.00.png",
        "images0000000112-res0016-alpha0.25.png",
        "images0000000128-res0016-alpha1.00.png",
        "images0000000136-res0016-alpha1.00.png",
        "images0000000192-res0016-alpha1.00.png",
    ]
    for path in (last, checkpoints(directory)[1]):
        (grid,) = (directory / "grids").glob(f"{path.stem}-alpha*.png")
        with Image.open(grid) as image:
            shown = np.asarray(image).astype(int)
        # Rounding may fall to either side where batches differ.
        assert np.abs(shown - image_grid(sample_images(path, 64), 8)).max() <= 1


def test_each_checkpoint_has_its_card(run):
    directory, _, _ = run
    for path in checkpoints(directory):
        assert path.with_suffix(".md").read_text(encoding="utf-8") == model_card(inspect(path), path.name)


@pytest.mark.slow
def test_a_run_that_diverges_says_so_at_once_and_in_its_log(tmp_path, monkeypatch):
    update = Trainer._update

    def updating(self, adam, network, *rest):
        if self.images_shown == 44 and network is self.generator:
            network.to_rgb8.bias.grad[:] = float("inf")
        update(self, adam, network, *rest)

    monkeypatch.setattr(Trainer, "_update", updating)
    warnings = []
    train(source(), tmp_path / "run", CONFIG, warn=warnings.append)
    told = [warning for warning in warnings if "left out" in warning]
    assert len(told) == 1
    assert told[0].startswith("at 48 images a step was left out")
    assert f"warning: {told[0]}" in (tmp_path / "run" / "log.txt").read_text()
