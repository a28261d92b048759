"""Costs against what PyTorch counts, and against independent counts of the original's runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.flops import (
    DEVICES,
    parameters,
    phases,
    presets_table,
    run_flops,
    run_hours,
    step_cost,
)
from reference_models.progan.model.losses import discriminator_loss, generator_loss
from reference_models.progan.model.networks import Discriminator, Generator
from reference_models.progan.model.presets import PRESETS
from reference_models.progan.model.schedule import stage

SMALL = ProGANConfig(resolution=32, fmap_base=128, fmap_max=12, latent_size=10, minibatch={4: 8})


class _Counter(TorchDispatchMode):
    """Adds up PyTorch's own formulas for everything that runs within."""

    # Its FlopCounterMode cannot be used: it fails on gradients of gradients of an image.
    total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out


def count(run: Callable[[], object]) -> int:
    with _Counter() as counter:
        run()
    return counter.total


def counted(config: ProGANConfig, resolution: int, alpha: float) -> list[float]:
    """Generator, discriminator, both steps, for each of 8 images; on tensors without data."""
    n = 8
    with torch.device("meta"):
        g, d = Generator(config), Discriminator(config)
        z, real = torch.empty(n, config.latent_size), torch.empty(n, config.channels, resolution, resolution)
        labels = torch.empty(n, config.label_size) if config.label_size else None
        mixing = torch.empty(n)

    def forward() -> torch.Tensor:
        return g(z, labels, resolution=resolution, alpha=alpha)

    def discriminator_step() -> None:
        with torch.no_grad():
            fake = forward()
        loss = discriminator_loss(d, real, fake, mixing, alpha=alpha, enlargement=1, labels=labels)
        torch.autograd.backward(loss.total)

    def generator_step() -> None:
        d.requires_grad_(False)
        torch.autograd.backward(generator_loss(d, forward(), alpha=alpha, labels=labels))
        d.requires_grad_(True)

    runs = (forward, lambda: d(real, alpha=alpha), discriminator_step, generator_step)
    return [count(run) / n for run in runs]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"fused_scale": True},
        {"label_size": 3, "channels": 1},
        {"minibatch_statistics": "discrimination"},
        {"minibatch_statistics": "none", "discriminator_norm": "layer", "generator_norm": "batch"},
        {"loss": "lsgan"},
    ],
    ids=str,
)
@pytest.mark.parametrize(("resolution", "alpha"), [(4, 1.0), (8, 0.5), (32, 1.0)])
def test_operations_are_those_that_pytorch_counts(options, resolution, alpha):
    config = replace(SMALL, **options)
    cost = step_cost(config, resolution, fading=alpha < 1)
    expected = counted(config, resolution, alpha)
    assert [
        cost.generator,
        cost.discriminator,
        cost.discriminator_step,
        cost.generator_step,
    ] == expected


# An independent count of the paper's networks, by another implementation of them: one forward, both
# steps and an iteration, in GFLOP for each image, plain and fused.
@pytest.mark.parametrize(
    ("resolution", "forward", "d_step", "g_step", "both", "fused"),
    [
        (4, 0.084, 1.09, 0.41, 1.50, 1.50),
        (32, 12.77, 166, 63.8, 229.9, 166.4),
        (256, 56.28, 732, 281, 1013, 659.6),
        (1024, 85.35, 1109, 427, 1536, 989.4),
    ],
)
def test_operations_of_the_paper_s_networks(resolution, forward, d_step, g_step, both, fused):
    cost = step_cost(ProGANConfig(), resolution)
    found = [cost.generator, cost.discriminator_step, cost.generator_step, cost.shown]
    assert [value / 1e9 for value in found] == pytest.approx([forward, d_step, g_step, both], rel=5e-3)
    assert step_cost(ProGANConfig(fused_scale=True), resolution).shown / 1e9 == pytest.approx(fused, rel=5e-3)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("celebahq-1024-v1", {}, 1.688e19),
        ("celebahq-1024-v1", {"fused_scale": True}, 1.097e19),
        ("celebahq-1024-v2", {"fused_scale": False}, 9.20e18),
        ("celebahq-1024-v2", {}, 6.00e18),
        ("lsun-256", {}, 1.38e19),
        ("table1-g", {}, 4.54e17),
        ("cifar10-32", {"simultaneous": False}, 2.62e17),
    ],
)
def test_operations_of_whole_runs(name, options, expected):
    # The same independent count, over the whole schedule.
    assert run_flops(replace(PRESETS[name], **options)) == pytest.approx(expected, rel=3e-3)


def test_repeated_and_simultaneous_steps_are_counted_once():
    alternating = step_cost(SMALL, 32)
    assert step_cost(replace(SMALL, d_repeats=5), 32).shown == (
        alternating.discriminator_step + alternating.generator_step / 5
    )
    assert step_cost(replace(SMALL, simultaneous=True), 32).shown == alternating.shown - alternating.generator


@pytest.mark.parametrize("config", [PRESETS["tiny-32"], PRESETS["tiny-32-fixed"]], ids=["growing", "fixed"])
def test_phases_are_the_schedule_s(config):
    shown = 0
    for phase in phases(config):
        for at in (shown + 1, shown + phase.images // 2, shown + phase.images - 1):
            now = stage(at, config)
            assert (now.resolution, now.alpha < 1) == (phase.resolution, phase.fading)
        shown += phase.images
    assert shown == config.total_images


def test_a_run_that_ends_early_has_the_phases_until_then():
    config = replace(SMALL, stabilise_images=100, fade_images=50, total_images=130)
    assert [(p.resolution, p.fading, p.images) for p in phases(config)] == [(4, False, 100), (8, True, 30)]


def test_parameters_are_the_paper_s():
    assert parameters(ProGANConfig()) == (23_079_115, 23_087_249)


@pytest.mark.parametrize(("name", "published_days"), [("celebahq-1024-v1", 30), ("celebahq-1024-v2", 14)])
def test_hours_of_the_published_runs(name, published_days):
    # The authors' README: a month and two weeks on one V100, both with fused convolutions.
    hours = run_hours(replace(PRESETS[name], fused_scale=True), DEVICES["V100"])
    assert 0.75 < hours / 24 / published_days < 1


@pytest.mark.parametrize(("name", "minutes"), [("tiny-32", 3), ("small-32", 10), ("tiny-64", 6)])
def test_hours_of_the_small_presets(name, minutes):
    # As they were timed, on an idle machine with two cores.
    assert 0.65 < run_hours(PRESETS[name], DEVICES["2 CPU cores"]) * 60 / minutes < 1.1


def test_small_steps_cost_their_launches():
    # 380 operations of 7 microseconds, whatever the minibatch, while the device has next to nothing to do.
    config = replace(SMALL, resolution=4, total_images=3600)
    seconds = run_hours(config, DEVICES["H200"]) * 3600
    assert seconds == pytest.approx(3600 / 8 * 380 * 7e-6)
    assert run_hours(replace(config, minibatch={4: 16}), DEVICES["H200"]) * 3600 == pytest.approx(seconds / 2)


def test_the_table_has_a_line_for_each_preset():
    header, *rows, note = presets_table().splitlines()
    assert [row.split()[0] for row in rows] == list(PRESETS)
    assert all(name in header for name in DEVICES)
    assert "not measured" in note
    v1 = rows[0].split()
    assert v1[1:8] == ["1024", "512-16", "512", "19,000", "46.17M", "1,535.9", "1.69e+19"]
    assert max(map(len, rows)) <= 120
