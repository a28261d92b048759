"""What is timed and counted of training; not how fast it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pgmetrics.errors import OptionError
from reference_models.progan.model.flops import step_cost
from reference_models.progan.model.schedule import stage
from reference_models.progan.training import speed
from reference_models.progan.training.speed import matmul_rate, stage_at, step_speeds
from tests.reference_models.progan.training.test_steps import CONFIG

CPU = torch.device("cpu")


def ticking(monkeypatch, *seconds):
    """A clock that says that timed blocks take so long, in turns."""
    ticks = iter(t for n in range(1000) for t in (10.0 * n, 10.0 * n + seconds[n % len(seconds)]))
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(ticks))


@pytest.mark.slow
def test_rates_are_of_whole_looks(monkeypatch):
    # Wrong: a step's images in place of a look's, the first look counted, operations of another stage.
    ticking(monkeypatch, 3.0, 0.5, 0.5)
    config = replace(CONFIG, minibatch={4: 8, 16: 4}, minibatch_repeats=3, d_repeats=2)
    small, large = step_speeds(config, (4, 16), device=CPU, turns=2)
    assert (small.resolution, small.minibatch, small.images) == (4, 8, 48)
    assert (large.resolution, large.minibatch, large.images) == (16, 4, 24)
    assert (large.first, large.seconds) == (3.0, (0.5, 0.5))
    assert large.images_per_second == 48
    assert large.flops_per_second == pytest.approx(48 * step_cost(config, 16).shown)


def test_a_product_of_two_matrices_is_two_cubes_of_operations(monkeypatch):
    ticking(monkeypatch, 0.25)
    monkeypatch.setattr(speed.torch, "mm", lambda a, b: None)
    assert matmul_rate(CPU, "float32", turns=1) == 4 * 2 * 4096**3


@pytest.mark.parametrize("side", [4, 8, 16])
def test_stages_are_those_of_the_schedule(side):
    # The enlargement is part of the penalty, the minibatch of the speed.
    shown = {4: 0, 8: 64, 16: 128}[side]
    assert stage_at(CONFIG, side) == stage(shown, CONFIG)


def test_a_stage_that_a_preset_does_not_have_is_refused():
    with pytest.raises(OptionError, match=r"32 x 32 is no stage .* 4, 8, 16"):
        list(step_speeds(CONFIG, (32,), device=CPU))


def test_classes_are_timed_too():
    (one,) = step_speeds(replace(CONFIG, label_size=3), (4,), device=CPU, turns=1)
    assert one.images == 8
