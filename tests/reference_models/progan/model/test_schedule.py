"""The schedule against the original's, at the points its documentation and its runs give."""

from __future__ import annotations

from dataclasses import replace
from math import exp, floor

import pytest

from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.presets import PRESETS
from reference_models.progan.model.schedule import stage

V1 = PRESETS["celebahq-1024-v1"]
V2 = PRESETS["celebahq-1024-v2"]


@pytest.mark.parametrize(
    ("thousands", "lod", "resolution", "minibatch"),
    [
        (0, 8, 4, 16),
        (1_200, 7.5, 8, 16),
        (8_800, 3, 128, 16),
        (12_000, 1, 512, 6),
        (12_799, 0.00125, 1024, 3),
        (12_800, 0, 1024, 3),
        (19_000, 0, 1024, 3),
    ],
)
def test_v1_at_points_of_the_original_run(thousands, lod, resolution, minibatch):
    now = stage(thousands * 1000, V1)
    assert now.lod == pytest.approx(lod, abs=1e-9)
    assert now.resolution == resolution
    assert now.minibatch == minibatch
    assert now.enlargement == 1024 // resolution
    assert now.alpha == pytest.approx(1 - lod % 1)


def steps(config):
    """(images shown, stage) at every look at the schedule."""
    shown = 0
    while shown < config.total_images:
        now = stage(shown, config)
        yield shown, now
        shown += now.minibatch * config.minibatch_repeats


@pytest.mark.slow
def test_v2_changes_where_the_original_run_changed():
    # In thousands of images: parameters only change every 4 minibatches, hence the odd numbers.
    key, changes = None, []
    for shown, now in steps(V2):
        if now.reset_key != key:
            changes.append(shown)
            key = now.reset_key
    assert [n / 1000 for n in changes] == [
        0, 600.064, 1200.128, 1800.192, 2400.256, 3000.320, 3600.128, 4200.192, 4800.0, 5400.064,
        6000.0, 6600.064, 7200.0, 7800.032, 8400.0, 9000.016, 9600.0,
    ]  # fmt: skip


def test_the_optimizers_forget_at_both_ends_of_a_fade():
    # 9 resolutions stabilize, 8 of them fade in first: 17 phases, the first at the very start.
    # A fine grid instead of the millions of steps of this run.
    keys = [stage(n, V1).reset_key for n in range(0, 19_000_000, 1000)]
    changes = [n * 1000 for n in range(len(keys)) if n == 0 or keys[n] != keys[n - 1]]
    assert len(changes) == 17
    assert changes[:4] == [0, 801_000, 1_600_000, 2_401_000]


def test_the_first_resolution_only_stabilizes():
    # Fading at 4 x 4, or fading first, are both seen in ports.
    assert stage(0, V1) == stage(V1.stabilise_images, V1)
    assert stage(0, V1).alpha == 1
    after = stage(V1.stabilise_images + 64, V1)
    assert (after.resolution, after.alpha) == (8, pytest.approx(64 / 800_000))


def test_the_new_resolution_s_minibatch_and_rate_hold_from_the_fade_s_first_image():
    first = stage(9_000_001, V2)
    assert (first.resolution, first.minibatch, first.learning_rate) == (1024, 4, 0.0015)
    before = stage(9_000_000, V2)
    assert (before.resolution, before.minibatch, before.learning_rate) == (512, 4, 0.001)


def test_alpha_rises_linearly_and_never_falls():
    config = ProGANConfig(resolution=16, stabilise_images=100, fade_images=50, total_images=1000)
    assert [stage(100 + n, config).alpha for n in (10, 25, 40)] == pytest.approx([0.2, 0.5, 0.8])
    positions = [(stage(n, config).resolution, stage(n, config).alpha) for n in range(1000)]
    assert positions == sorted(positions)
    assert positions[-1] == (16, 1.0)
    assert positions.count((4, 1.0)) == 101


def test_one_resolution_never_grows():
    config = replace(V1, resolution=4)
    assert {stage(n, config).resolution for n in range(0, 19_000_000, 99_000)} == {4}


def test_lod_is_that_of_the_theano_code_s_other_formula():
    # `train_gan` in the paper's own code writes the same line with the place in a cycle as a fraction.
    cycle, fade = V1.stabilise_images + V1.fade_images, V1.fade_images
    for shown in range(0, 19_000_000, 7_777):
        place = shown / cycle
        lod = 8 - floor(place) - max(1 + (place % 1 - 1) * cycle / fade, 0)
        assert stage(shown, V1).lod == pytest.approx(max(lod, 0), abs=1e-9)


def test_v1_forgets_where_the_original_run_did():
    key, changes = None, []
    for shown, now in steps(replace(V1, total_images=2_500_000)):
        if now.reset_key != key:
            changes.append(shown)
            key = now.reset_key
    assert changes == [0, 800_064, 1_600_000, 2_400_064]


def test_without_growing_every_step_is_at_the_final_resolution():
    config = replace(V1, growing=False)
    stages = {stage(n, config) for n in range(0, 19_000_000, 99_000)}
    assert [(s.resolution, s.alpha, s.minibatch, s.enlargement, s.reset_key) for s in stages] == [
        (1024, 1.0, 3, 1, (0, 0))
    ]


def test_the_learning_rate_rises_at_the_beginning_of_the_run_alone():
    # exp(-5 (1 - t)^2): the Theano code's first 40,000 images; not again at a new resolution.
    config = replace(V1, lr_rampup_images=40_000)
    rates = [stage(n, config).learning_rate for n in (0, 20_000, 39_999, 40_000, 800_001, 1_600_000)]
    assert rates == pytest.approx([0.001 * exp(-5), 0.001 * exp(-1.25), 0.001, 0.001, 0.001, 0.001], rel=1e-6)
    assert rates[3:] == [0.001] * 3
    assert rates[2] < 0.001
