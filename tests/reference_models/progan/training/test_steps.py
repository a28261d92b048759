"""A step whole and in pieces, eager and compiled, in float32 and bfloat16: the same step."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from pgmetrics.errors import PgmetricsError
from pgmetrics.sources.arrays import ArraySource
from reference_models.progan.data.training_images import TrainingImages
from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.schedule import stage
from reference_models.progan.training.steps import Steps
from reference_models.progan.training.trainer import Trainer

CPU = torch.device("cpu")
CONFIG = ProGANConfig(
    resolution=16,
    fmap_base=64,
    fmap_max=16,
    latent_size=8,
    minibatch={4: 8},
    stabilise_images=32,
    fade_images=32,
    total_images=192,
    minibatch_repeats=1,
    ema=0.9,
)
STABLE, FADING = 64, 56

VARIANTS = {
    "wgan-gp": {},
    "fused": {"fused_scale": True},
    "simultaneous": {"simultaneous": True},
    "critic steps": {"d_repeats": 2},
    "classes": {"label_size": 3},
    "lsgan": {"loss": "lsgan", "noise_strength": 2.0},
    "table 1": {
        "minibatch_statistics": "none",
        "discriminator_norm": "layer",
        "equalized": False,
        "pixel_norm": False,
        "activation": "relu",
        "output": "tanh",
    },
}


class Labeled(ArraySource):
    labels = np.arange(40) % 3
    label_names = ("cat", "dog", "owl")


def images(config):
    pixels = np.random.default_rng(5).integers(0, 256, (40, 3, 16, 16)).astype(np.uint8)
    return TrainingImages((Labeled if config.label_size else ArraySource)(pixels), config)


def gradients(config, shown, steps=None, **options):
    """Those of both networks in one look at the schedule, and its progress."""
    trainer = Trainer(config, images(config), CPU, **options)
    if steps is not None:
        trainer._steps = Steps(trainer.generator, trainer.discriminator, **steps)
    trainer.images_shown = shown
    trainer.score_average = torch.tensor(0.9)
    found = {}
    update = trainer._update

    def updating(adam, network, *rest):
        # What ranks and pieces add up to is known afterwards, and then forgotten.
        clear, adam.zero_grad = adam.zero_grad, lambda: None
        update(adam, network, *rest)
        prefix = "g." if network is trainer.generator else "d."
        found.update(
            {prefix + n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
        )
        adam.zero_grad = clear
        adam.zero_grad()

    trainer._update = updating
    progress = trainer.run(stage(shown, config))
    assert trainer.skipped == 0
    return found, progress


def furthest(a, b):
    """Largest difference of a gradient, relative to the gradient's largest element."""
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max() / a[name].abs().max().clamp(min=1e-3)) for name in a)


def losses(progress):
    return [progress.real, progress.fake, progress.penalty, progress.norm, progress.classes]


# Gradients near 0 are rounding, whose sign Adam's first step follows: the generator's gradient is at a
# discriminator that differs there. Anything forgotten or mixed up moves a gradient by a tenth and more.
ROUNDING = 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("shown", [STABLE, FADING])
@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_a_step_in_pieces_is_the_whole_step(changes, shown):
    # Wrong: a sum in place of the mean, groups torn, reals and latents of other places, a piece forgotten.
    config = replace(CONFIG, **changes)
    whole, of_whole = gradients(config, shown)
    cut, of_cut = gradients(config, shown, micro_batch=4)
    assert furthest(whole, cut) < ROUNDING
    assert losses(of_cut) == pytest.approx(losses(of_whole), rel=1e-4, abs=1e-6)


# The backend decides how operations run, not which: this one needs no compiler.
TRANSLATED = {"compiled": True, "backend": "aot_eager"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "shown"),
    [({}, STABLE), *((changes, FADING) for changes in VARIANTS.values())],
    ids=["stable", *VARIANTS],
)
def test_a_compiled_step_is_the_eager_one(changes, shown):
    config = replace(CONFIG, **changes)
    eager, of_eager = gradients(config, shown)
    compiled, of_compiled = gradients(config, shown, TRANSLATED)
    assert furthest(eager, compiled) < ROUNDING
    assert losses(of_compiled) == pytest.approx(losses(of_eager), rel=1e-4, abs=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
@pytest.mark.filterwarnings("ignore:Skipping serialization of")  # PyTorch 2.6 of its own settings
def test_a_step_in_one_program_is_the_eager_one():
    eager, of_eager = gradients(CONFIG, 0)
    compiled, of_compiled = gradients(CONFIG, 0, compiled=True)
    assert furthest(eager, compiled) < ROUNDING
    assert losses(of_compiled) == pytest.approx(losses(of_eager), rel=1e-4, abs=1e-6)


@pytest.mark.slow
def test_a_fade_is_compiled_once(monkeypatch):
    # With alpha as a number of the program, each look at the schedule would make another one; with the
    # programs of earlier stages kept, torch.compile would refuse the ninth.
    made, forgotten = [], []
    forget = torch.compiler.reset
    monkeypatch.setattr(torch.compiler, "reset", lambda: (forgotten.append(len(made)), forget()))

    def counting(graph, inputs):
        made.append(graph)
        return graph.forward

    trainer = Trainer(CONFIG, images(CONFIG), CPU)
    trainer._steps = Steps(trainer.generator, trainer.discriminator, compiled=True, backend=counting)
    for shown in (40, 48, 56):
        now = stage(shown, CONFIG)
        assert 0 < now.alpha < 1
        drawn = trainer._drawn_for_discriminator(now)
        trainer._steps.discriminator_loss(now, drawn)
    assert (len(made), forgotten) == (1, [0])
    trainer._steps.discriminator_loss(
        stage(STABLE, CONFIG), trainer._drawn_for_discriminator(stage(STABLE, CONFIG))
    )
    assert (len(made), forgotten) == (2, [0, 1])


@pytest.mark.slow
def test_a_step_that_cannot_be_compiled_says_the_way_out():
    def broken(graph, inputs):
        raise RuntimeError("no compiler")

    trainer = Trainer(CONFIG, images(CONFIG), CPU)
    trainer._steps = Steps(trainer.generator, trainer.discriminator, compiled=True, backend=broken)
    with pytest.raises(PgmetricsError, match=r"no compiler.*; without --compile"):
        trainer.run(stage(STABLE, CONFIG))


@pytest.mark.parametrize("shown", [STABLE, FADING])
def test_bfloat16_rounds_activations_and_nothing_that_lasts(shown):
    exact, of_exact = gradients(CONFIG, shown)
    rounded, of_rounded = gradients(replace(CONFIG, precision="bfloat16"), shown)
    assert all(g.dtype == torch.float32 for g in rounded.values())
    # bfloat16 has 8 bits; float32 throughout would be far below 1e-4.
    assert 1e-4 < furthest(exact, rounded) < 0.5
    assert losses(of_rounded) == pytest.approx(losses(of_exact), rel=0.05, abs=0.01)
    trainer = Trainer(replace(CONFIG, precision="bfloat16"), images(CONFIG), CPU)
    trainer.run(stage(shown, CONFIG))
    assert {t.dtype for t in trainer.state().tensors.values()} == {torch.float32}
