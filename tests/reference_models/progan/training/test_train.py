"""The loop: what a step changes, what a run leaves behind, and what it refuses."""

from __future__ import annotations

import json
import math
import random
import re
import shutil
import sys
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from pgmetrics.errors import OptionError, SourceError
from pgmetrics.runtime import seeding
from pgmetrics.runtime.files import parse_json
from pgmetrics.runtime.seeding import Stream
from pgmetrics.sources.arrays import ArraySource
from reference_models.progan.data.training_images import TrainingImages
from reference_models.progan.model.checkpoint import checkpoints, inspect, load, stage_checkpoints
from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.model_card import model_card
from reference_models.progan.model.schedule import stage
from reference_models.progan.sampling.export import image_grid
from reference_models.progan.sampling.source import ProGANSource
from reference_models.progan.training import run_directory, steps
from reference_models.progan.training.progress import Alarms, TrainingStatus
from reference_models.progan.training.signals import Interrupted
from reference_models.progan.training.train import train
from reference_models.progan.training.trainer import Diverged, Trainer
from tests.helpers.configs import TO_16 as CONFIG
from tests.helpers.samplers import sample_images

CPU = torch.device("cpu")


def source(count=40, side=16):
    pixels = np.random.default_rng(5).integers(0, 256, (count, 3, side, side)).astype(np.uint8)
    return ArraySource(pixels)


def trainer(config=CONFIG):
    return Trainer(config, TrainingImages(source(), config), CPU)


def weights(network):
    return {name: p.detach().clone() for name, p in network.named_parameters()}


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "new" / "run"
    reports = []
    last = train(source(), directory, CONFIG, licence="CC0", report=reports.append)
    return directory, last, reports


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


def test_training_is_a_function_of_its_configuration(run, tmp_path):
    _, last, _ = run
    again = train(source(), tmp_path / "again", CONFIG, licence="CC0")
    assert again.read_bytes() == last.read_bytes()
    other = train(source(), tmp_path / "other", replace(CONFIG, seed=1), licence="CC0")
    assert other.read_bytes() != last.read_bytes()


def test_global_random_numbers_are_left_alone():
    def states():
        numpy_state = np.random.get_state()[1].tolist()  # noqa: NPY002
        return torch.get_rng_state().tolist(), numpy_state, random.getstate()

    before = states()
    trainer().run(stage(40, CONFIG))
    assert states() == before


def test_a_step_of_one_network_leaves_the_other_alone():
    t = trainer()
    g, d = weights(t.generator), weights(t.discriminator)
    t._step_discriminator(stage(0, CONFIG))
    assert same(g, weights(t.generator))
    assert not same(d, weights(t.discriminator))
    # A gradient left in the generator would be added to that of its own step, with the other sign.
    assert all(p.grad is None for n in (t.generator, t.discriminator) for p in n.parameters())
    d = weights(t.discriminator)
    t._step_generator(stage(0, CONFIG))
    assert not same(g, weights(t.generator))
    assert same(d, weights(t.discriminator))
    assert all(p.grad is None for n in (t.generator, t.discriminator) for p in n.parameters())
    assert all(p.requires_grad for p in t.discriminator.parameters())


def test_every_step_has_reals_and_latents_of_its_own(monkeypatch):
    # Seen in ports: one batch and its latents for all repeats; one fake for both networks.
    t = trainer(replace(CONFIG, minibatch_repeats=4))
    latents, reals = [], []
    t.generator.register_forward_pre_hook(lambda m, args: latents.append(args[0].clone()))
    take = t.images.minibatch
    monkeypatch.setattr(t.images, "minibatch", lambda *a, **k: (reals.append(take(*a, **k)), reals[-1])[1])
    t.run(stage(0, t.config))
    assert len(latents) == 8
    assert len(reals) == 4
    for seen in (latents, reals):
        assert len({x.numpy().tobytes() for x in seen}) == len(seen)


def test_only_discriminator_steps_count_images():
    t = trainer(replace(CONFIG, d_repeats=3))
    t.run(stage(0, t.config))
    assert t.images_shown == 2 * 3 * 4


def test_simultaneous_updates_see_the_same_fakes_and_weights():
    t = trainer(replace(CONFIG, simultaneous=True, minibatch_repeats=1))
    latents = []
    t.generator.register_forward_pre_hook(lambda m, args: latents.append(args[0].clone()))
    twin = trainer(t.config)
    t.run(stage(0, t.config))
    assert len(latents) == 1
    # What is averaged is the generator before the step, as with steps in turns.
    assert same(weights(t.average), weights(twin.generator))
    # The generator's gradient is taken at the discriminator as it was before the step.
    now = stage(0, t.config)
    fake = twin.generator(latents[0], None, resolution=4)
    (-twin.discriminator(fake, alpha=1.0)[0].mean()).backward()
    twin._update(twin._generator_adam, twin.generator, now)
    assert same(weights(twin.generator), weights(t.generator))


def test_the_average_is_of_the_whole_generator_and_in_closed_form():
    # Seen in ports: made anew when the network grows, or of the new blocks only.
    t = trainer()
    start = weights(t.generator)
    expected = {name: w.double() for name, w in start.items()}
    for n in (0, 40, 72, 104):
        now = stage(n, CONFIG)
        for _ in range(2):
            t._step_discriminator(now)
            # The average belongs to the discriminator's step: it sees the generator before its own.
            for name, w in weights(t.generator).items():
                expected[name] = 0.9 * expected[name] + 0.1 * w.double()
            t._step_generator(now)
    averaged = weights(t.average)
    assert set(averaged) == set(start)
    for name, w in expected.items():
        assert torch.allclose(averaged[name].double(), w, atol=1e-6), name
    assert not torch.equal(averaged["block16.conv1.weight"], start["block16.conv1.weight"])


def test_blocks_that_are_not_part_of_the_stage_stay_as_they_are():
    t = trainer()
    before = weights(t.generator)
    t.run(stage(0, CONFIG))
    for name, w in weights(t.generator).items():
        assert torch.equal(w, before[name]) == ("4." not in name), name
    assert torch.equal(t.average.block8.conv0.weight, before["block8.conv0.weight"])


def test_optimizers_forget_at_both_ends_of_every_fade(tmp_path, monkeypatch):
    # Seen in ports: never, or when the network grows only.
    at = []
    reset = Trainer.reset_optimizers
    monkeypatch.setattr(Trainer, "reset_optimizers", lambda t: (at.append(t.images_shown), reset(t))[1])
    train(source(), tmp_path / "run", CONFIG)
    assert at == [0, 40, 64, 104, 128]
    t = trainer()
    t.run(stage(0, CONFIG))
    assert all(a.state for a in (t._generator_adam, t._discriminator_adam))
    t.reset_optimizers()
    assert not any(a.state for a in (t._generator_adam, t._discriminator_adam))


def test_adam_is_the_paper_s():
    t = trainer(replace(CONFIG, learning_rate={4: 0.001, 8: 0.004}))
    t.run(stage(64, t.config))
    for adam in (t._generator_adam, t._discriminator_adam):
        (group,) = adam.param_groups
        assert (group["betas"], group["eps"], group["lr"]) == ((0.0, 0.99), 1e-8, 0.004)
        assert (group["weight_decay"], group["amsgrad"]) == (0, False)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_step_with_a_gradient_that_is_not_finite_is_left_out_and_counted(bad):
    t = trainer()
    t.generator.to_rgb4.bias.register_hook(lambda g: torch.full_like(g, bad))
    before = weights(t.generator)
    t._step_generator(stage(0, CONFIG))
    assert same(before, weights(t.generator))
    assert not t._generator_adam.state
    assert t.skipped == 1


def spoiled(monkeypatch, network, first, until=10**9):
    """Gradients of the network are not finite after this many images, until as many."""
    update = Trainer._update

    def updating(self, adam, updated, *rest):
        if updated is getattr(self, network) and first <= self.images_shown < until:
            updated.to_rgb4.bias.grad.fill_(math.nan) if network == "generator" else None
            updated.from_rgb4.bias.grad.fill_(math.inf) if network == "discriminator" else None
        update(self, adam, updated, *rest)

    monkeypatch.setattr(Trainer, "_update", updating)


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


def test_large_finite_gradients_are_not_left_out():
    # The sum of their squares overflows float32.
    t = trainer()
    t.generator.to_rgb4.bias.register_hook(lambda g: torch.full_like(g, 1e25))
    t._step_generator(stage(0, CONFIG))
    assert t.skipped == 0


def test_reals_of_a_fade_are_faded(monkeypatch):
    # Sharp reals during a fade tell the discriminator what is real.
    t = trainer()
    seen = []
    t.discriminator.register_forward_pre_hook(lambda m, args: seen.append(args[0].detach()))
    t._step_discriminator(replace(stage(40, CONFIG), alpha=1e-9))
    real = seen[0]
    assert real.shape[-1] == 8
    blocks = real.unfold(2, 2, 2).unfold(3, 2, 2)
    assert float((blocks.amax((4, 5)) - blocks.amin((4, 5))).max()) < 1e-6


def test_random_numbers_of_a_step_are_keyed_by_its_place():
    # So that a run can be entered anywhere, and no step repeats another's.
    t = trainer()
    t.images_shown = 1234
    latents = []
    t.generator.register_forward_pre_hook(lambda m, args: latents.append(args[0].clone()))
    t._step_discriminator(stage(0, CONFIG))
    expected = seeding.generator(0, Stream.TRAINING_LATENTS, 1234, 0).standard_normal((4, 8), dtype="float32")
    assert (latents[0].numpy() == expected).all()


def test_an_interrupted_run_leaves_a_checkpoint_of_where_it_was(tmp_path):
    def interrupt(progress):
        if progress.images_shown == 88:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(source(), tmp_path / "run", CONFIG, report=interrupt)
    last = inspect(checkpoints(tmp_path / "run")[-1])
    assert (last.images_shown, last.resolution, last.alpha) == (88, 8, 1.0)
    ProGANSource(checkpoints(tmp_path / "run")[-1]).batch([0])


def test_stats_are_lines_of_json(tmp_path, monkeypatch):
    monkeypatch.setattr(run_directory, "_IMAGES_BETWEEN_STATS", 30)
    train(source(), tmp_path / "run", CONFIG)
    rows = [json.loads(line) for line in (tmp_path / "run" / "stats.jsonl").read_text().splitlines()]
    assert [row["images_shown"] for row in rows] == [32, 64, 96, 128, 160, 192]
    assert rows[1]["stage"]["resolution"] == 8
    assert rows[1]["images_per_second"] > 0


def test_a_directory_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(OptionError, match="not empty"):
        train(source(), tmp_path, CONFIG)
    with pytest.raises(OptionError, match=r"thesis\.tex cannot be written: File exists"):
        train(source(), tmp_path / "thesis.tex", CONFIG)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_directory_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OptionError, match="cannot be written"):
        train(source(), tmp_path / "file" / "run", CONFIG)


def test_refused_images_leave_no_run_behind(tmp_path):
    with pytest.raises(SourceError, match="smaller than the final resolution 16"):
        train(source(side=8), tmp_path / "run", CONFIG)
    # Or the next try, with better images, would be refused for the remains of this one.
    assert not any((tmp_path / "run").iterdir())
    train(source(), tmp_path / "run", replace(CONFIG, total_images=8))


def test_the_untrained_network_is_the_run_s_own_beginning(tmp_path):
    train(source(), tmp_path / "run", replace(CONFIG, total_images=8))
    facts, generator = load(tmp_path / "run" / "untrained.safetensors")
    assert (facts.resolution, facts.alpha, facts.images_shown) == (16, 1.0, 0)
    assert same(weights(generator), weights(trainer().generator))


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


@pytest.mark.slow
def test_whoever_waits_is_told_how_a_run_ended(tmp_path):
    def stop(error):
        def report(progress):
            assert not (tmp_path / "run" / "finished.json").exists()
            if progress.images_shown == 88:
                raise error

        return report

    for error, ended in (
        (KeyboardInterrupt, "interrupted"),
        (ZeroDivisionError, "failed"),
        (None, "complete"),
    ):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        with nullcontext() if error is None else pytest.raises(error):
            train(source(), tmp_path / "run", CONFIG, report=stop(error) if error else None)
        said = json.loads((tmp_path / "run" / "finished.json").read_text())
        assert said == {"ended": ended, "images_shown": 192 if error is None else 88}


class Labeled(ArraySource):
    """Images of three classes: half, a quarter and a quarter of them."""

    label_names = ("cat", "dog", "owl")

    @property
    def labels(self):
        return np.maximum(np.arange(len(self)) % 4 - 1, 0)


def labeled(config):
    pixels = np.random.default_rng(5).integers(0, 256, (40, 3, 16, 16)).astype(np.uint8)
    return Trainer(config, TrainingImages(Labeled(pixels), config), CPU)


def spied(monkeypatch, name):
    """The keyword arguments of each call of one of the losses."""
    calls = []
    function = getattr(steps, name)

    def spy(*args, **options):
        calls.append({key: v.clone() if isinstance(v, torch.Tensor) else v for key, v in options.items()})
        return function(*args, **options)

    monkeypatch.setattr(steps, name, spy)
    return calls


@pytest.mark.parametrize("simultaneous", [False, True])
def test_fakes_have_the_classes_that_they_are_judged_by(monkeypatch, simultaneous):
    config = replace(CONFIG, label_size=3, minibatch_repeats=1, simultaneous=simultaneous)
    t = labeled(config)
    made = []
    t.generator.register_forward_pre_hook(lambda m, args: made.append(args[1].clone()))
    d, g = spied(monkeypatch, "discriminator_loss"), spied(monkeypatch, "generator_loss")
    t.images_shown = 100
    now = stage(100, config)
    reals, drawn = t.images.labels(100, now, CPU), t.images.drawn_labels(104, now, CPU)
    assert not torch.equal(reals, drawn)
    progress = t.run(now)
    assert progress.classes > 0
    assert torch.equal(d[0]["labels"], reals)
    if simultaneous:  # one set of fakes for both
        assert len(made) == 1
        assert torch.equal(made[0], reals)
        assert torch.equal(g[0]["labels"], reals)
    else:
        assert torch.equal(made[0], reals)
        assert torch.equal(made[1], drawn)
        assert torch.equal(g[0]["labels"], drawn)


def test_checkpoints_know_the_classes_and_how_frequent_they_are(tmp_path):
    pixels = np.random.default_rng(5).integers(0, 256, (40, 3, 16, 16)).astype(np.uint8)
    config = replace(CONFIG, label_size=3, total_images=8)
    last = train(Labeled(pixels), tmp_path / "run", config)
    facts = inspect(last)
    assert facts.label_names == ("cat", "dog", "owl")
    assert facts.label_distribution == (0.5, 0.25, 0.25)
    with pytest.raises(SourceError, match="label_size=3"):
        train(source(), tmp_path / "other", config)


LSGAN = replace(CONFIG, loss="lsgan", noise_strength=2.0, minibatch_repeats=1)


def test_the_noise_of_lsgan_is_keyed_and_as_strong_as_its_average_says(monkeypatch):
    t = trainer(LSGAN)
    t.images_shown, t.score_average = 100, torch.tensor(0.9)
    d, g = spied(monkeypatch, "discriminator_loss"), spied(monkeypatch, "generator_loss")
    now = stage(100, LSGAN)
    progress = t.run(now)
    size = t.discriminator.noise_size(now.resolution)

    def expected(shown, purpose, average, *shape):
        drawn = seeding.generator(0, Stream.TRAINING_NOISE, shown, purpose).standard_normal(
            (*shape, size), dtype="float32"
        )
        return torch.from_numpy(drawn) * (2 * max(average - 0.5, 0) ** 2)

    assert torch.allclose(d[0]["noise"], expected(100, 0, 0.9, 2, 4))
    # The generator's step comes after the average has followed the discriminator's.
    average = 0.9 * 0.9 + 0.1 * min(max(progress.fake, 0), 1)
    assert float(t.score_average) == pytest.approx(average, rel=1e-6)
    assert torch.allclose(g[0]["noise"], expected(104, 1, average, 4))


def test_simultaneous_steps_have_noise_of_their_own_for_each_network(monkeypatch):
    t = trainer(replace(LSGAN, simultaneous=True))
    t.images_shown, t.score_average = 100, torch.tensor(0.9)
    d, g = spied(monkeypatch, "discriminator_loss"), spied(monkeypatch, "generator_loss")
    now = stage(100, LSGAN)
    t.run(now)
    size = t.discriminator.noise_size(now.resolution)
    for purpose, shape, (call,) in ((0, (2, 4, size), d), (1, (4, size), g)):
        drawn = seeding.generator(0, Stream.TRAINING_NOISE, 100, purpose).standard_normal(shape, "float32")
        assert torch.allclose(call["noise"], torch.from_numpy(drawn) * (2 * 0.4**2))


def test_without_noise_none_is_drawn_and_no_average_is_kept(monkeypatch):
    t = trainer(replace(LSGAN, noise_strength=0.0))
    d, g = spied(monkeypatch, "discriminator_loss"), spied(monkeypatch, "generator_loss")
    t.run(stage(0, t.config))
    assert d[0]["noise"] is None
    assert g[0]["noise"] is None
    assert float(t.score_average) == 0


def test_the_noise_s_average_outlives_a_score_that_is_not_finite():
    t = trainer(LSGAN)
    t.score_average = torch.tensor(0.25)
    t.discriminator.register_forward_hook(lambda m, args, out: (out[0] * float("nan"), out[1]))
    t.run(stage(0, LSGAN))
    assert t.skipped == 2
    assert float(t.score_average) == 0.25


def test_a_run_that_does_not_grow_is_one_phase(tmp_path, monkeypatch):
    at = []
    reset = Trainer.reset_optimizers
    monkeypatch.setattr(Trainer, "reset_optimizers", lambda t: (at.append(t.images_shown), reset(t))[1])
    config = replace(CONFIG, growing=False, total_images=48)
    train(source(), tmp_path / "run", config, snapshot_images=24)
    assert at == [0]
    facts = [inspect(path) for path in checkpoints(tmp_path / "run")]
    assert [(c.images_shown, c.resolution, c.alpha) for c in facts] == [(24, 16, 1.0), (48, 16, 1.0)]


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


@pytest.mark.parametrize(
    ("resolution", "size"), [(4, (64, 8)), (128, (64, 8)), (256, (16, 4)), (512, (4, 2)), (1024, (4, 2))]
)
def test_grids_stay_small_enough_to_look_at(resolution, size):
    assert run_directory.grid_size(resolution) == size


def test_each_checkpoint_has_its_card(run):
    directory, _, _ = run
    for path in checkpoints(directory):
        assert path.with_suffix(".md").read_text(encoding="utf-8") == model_card(inspect(path), path.name)


def test_alarms_are_raised_once_each():
    now = stage(0, CONFIG)
    fine = TrainingStatus(images_shown=8, stage=now, skipped=0, real=1.0, fake=-1.0, penalty=0.0, norm=9.9)
    alarms = Alarms(CONFIG)
    assert alarms.raised_by(fine) == []
    (told,) = alarms.raised_by(replace(fine, norm=10.1))
    assert told.startswith("at 8 images the discriminator's gradient has a norm of 10.1, where 1 is wanted")
    (told,) = alarms.raised_by(replace(fine, norm=99.0, fake=-1001.0))
    assert "scores have come to 1 for reals and -1,001 for fakes" in told
    assert alarms.raised_by(replace(fine, norm=99.0, real=2e3)) == []
    # A target of 750 makes 7,000 no alarm, and what is no number is one.
    steep = Alarms(replace(CONFIG, gp_gamma=750.0))
    assert steep.raised_by(replace(fine, norm=7000.0)) == []
    nan = float("nan")
    assert len(steep.raised_by(replace(fine, norm=nan))) == 1
    assert len(steep.raised_by(replace(fine, fake=nan))) == 1


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


def test_the_two_networks_begin_differently():
    # Their layers have the same names and shapes, so one key for both would make them twins.
    t = trainer()
    assert t.generator.block8.conv0.weight.shape == t.discriminator.block8.conv0.weight.shape
    assert not torch.equal(t.generator.block8.conv0.weight, t.discriminator.block8.conv0.weight)


def test_tensorboard_is_refused_in_one_line_where_it_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(
        OptionError, match=r"TensorBoard is not installed; pip install 'pgmetrics\[tensorboard\]'"
    ):
        train(source(), tmp_path / "run", CONFIG, tensorboard=True)
    assert not any((tmp_path / "run").iterdir())


@pytest.mark.slow
def test_tensorboard_gets_the_numbers_and_none_twice(tmp_path, monkeypatch):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setattr(run_directory, "_IMAGES_BETWEEN_STATS", 20)

    def stop(progress):
        if progress.images_shown == 104:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(source(), tmp_path / "run", CONFIG, tensorboard=True, state_images=40, report=stop)
    train(source(), tmp_path / "run", CONFIG, tensorboard=True)
    events = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    rows = [json.loads(line) for line in (tmp_path / "run" / "stats.jsonl").read_text().splitlines()]
    for tag, name in (("loss/real", "real"), ("loss/norm", "norm")):
        seen = [(event.step, event.value) for event in events.Scalars(tag)]
        assert seen == [(row["images_shown"], pytest.approx(row[name], rel=1e-5)) for row in rows]
    assert [event.value for event in events.Scalars("stage/resolution")][-1] == 16
