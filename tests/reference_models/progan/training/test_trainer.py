"""Steps: what each changes, what it draws, and what it leaves alone."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from pgmetrics.runtime import seeding
from pgmetrics.runtime.seeding import Stream
from reference_models.progan.data.training_images import TrainingImages
from reference_models.progan.model.schedule import stage
from reference_models.progan.training import steps
from reference_models.progan.training.train import train
from reference_models.progan.training.trainer import Trainer
from tests.helpers.configs import TO_16 as CONFIG
from tests.helpers.trainers import CPU, Labeled, same, source, trainer, weights


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


@pytest.mark.slow
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


def test_the_two_networks_begin_differently():
    # Their layers have the same names and shapes, so one key for both would make them twins.
    t = trainer()
    assert t.generator.block8.conv0.weight.shape == t.discriminator.block8.conv0.weight.shape
    assert not torch.equal(t.generator.block8.conv0.weight, t.discriminator.block8.conv0.weight)
