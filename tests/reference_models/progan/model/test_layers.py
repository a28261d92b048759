"""The layers against hand-computed values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pgmetrics.errors import OptionError
from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.layers import (
    BatchNorm,
    EqualizedConv2d,
    EqualizedLinear,
    LayerNorm,
    MinibatchDiscrimination,
    initialize,
    minibatch_stddev,
    pixel_norm,
)
from reference_models.progan.model.networks import Discriminator, Generator
from tests.helpers.draws import normal_tensor


def test_scales_are_gain_over_root_of_fan_in():
    # Common mistakes: sqrt(2) everywhere, the slope 0.2 as gain, in channels alone as fan-in.
    config = ProGANConfig()
    with torch.device("meta"):
        g, d = Generator(config), Discriminator(config)
    expected = {
        "block4.dense": 0.015625,
        "block4.conv": 0.0208333,
        "block64.conv0": 0.0208333,
        "block1024.conv1": (2 / (9 * 16)) ** 0.5,
        "to_rgb1024": 0.25,
        "to_rgb4": 512**-0.5,
    }
    for name, scale in expected.items():
        assert g.get_submodule(name).scale == pytest.approx(scale, abs=1e-7), name
    expected = {
        "from_rgb1024": 0.8164966,
        "block4.conv": 0.0208130,
        "block4.dense0": 0.015625,
        "block4.dense1": 0.0441942,
    }
    for name, scale in expected.items():
        assert d.get_submodule(name).scale == pytest.approx(scale, abs=1e-7), name


@pytest.mark.parametrize("gain", [1.0, 2**0.5])
def test_initial_layers_keep_unit_inputs_at_their_gain(gain):
    layer = EqualizedConv2d(64, 64, 3, gain=gain)
    initialize(layer, "layer", 0)
    out = layer(normal_tensor(4, 64, 16, 16).float())[:, :, 1:-1, 1:-1]
    assert float(out.square().mean().sqrt().detach()) == pytest.approx(gain, rel=0.05)


@pytest.mark.parametrize("scaling", ["none", "up", "down"])
def test_biases_are_not_scaled(scaling):
    conv = EqualizedConv2d(3, 5, 3, scaling=scaling)
    dense = EqualizedLinear(6, 8, shared=4)
    with torch.no_grad():
        conv.bias.fill_(1)
        dense.bias.copy_(torch.tensor([1.0, 2.0]))
    assert torch.equal(conv(torch.ones(1, 3, 4, 4)), torch.ones_like(conv(torch.ones(1, 3, 4, 4))))
    assert dense(torch.ones(1, 6)).tolist() == [[1, 1, 1, 1, 2, 2, 2, 2]]


def test_fused_scaling_is_the_plain_layer_with_a_resize():
    x = normal_tensor(2, 3, 6, 10)
    plain = EqualizedConv2d(3, 5, 3).double()
    initialize(plain, "layer", 0)
    up = EqualizedConv2d(3, 5, 3, scaling="up").double()
    down = EqualizedConv2d(3, 5, 3, scaling="down").double()
    for fused in (up, down):
        fused.load_state_dict(plain.state_dict())
    enlarged = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.allclose(up(x), plain(enlarged), atol=1e-12)
    assert torch.allclose(down(x), F.avg_pool2d(plain(x), 2), atol=1e-12)


def test_pixel_norm_is_a_mean_with_its_epsilon_inside():
    # At an rms of 1e-4 the epsilon halves the square; outside the root it would hardly show, and a
    # sum over channels instead of a mean would give 1 / sqrt(32).
    x = torch.full((2, 16, 3, 3), 1e-4, dtype=torch.float64)
    assert float(pixel_norm(x).square().mean().sqrt()) == pytest.approx(0.5**0.5, abs=1e-9)
    assert torch.equal(pixel_norm(torch.zeros(1, 4, 2, 2)), torch.zeros(1, 4, 2, 2))


def test_minibatch_deviation_by_hand():
    # Image n is n everywhere. Strided groups of 4 of 16 are {0, 4, 8, 12} + k, whose biased
    # deviation is sqrt(20); neighbors would give sqrt(1.25), the unbiased one sqrt(80 / 3).
    x = torch.arange(16.0, dtype=torch.float64).reshape(16, 1, 1, 1).expand(16, 3, 2, 2)
    out = minibatch_stddev(x, 4)
    assert out.shape == (16, 4, 2, 2)
    assert torch.equal(out[:, :3], x)
    assert torch.allclose(out[:, 3], torch.full((), 20**0.5, dtype=torch.float64), atol=1e-8)


def test_minibatch_deviation_is_the_mean_of_deviations():
    # One number per group: not a map, not the deviation over everything.
    x = normal_tensor(16, 5, 3, 4)
    out = minibatch_stddev(x, 4)[:, 5]
    for k in range(4):
        members = x[k::4]
        expected = members.var(0, unbiased=False).add(1e-8).sqrt().mean()
        assert torch.allclose(out[k::4], expected, atol=1e-12)


def test_minibatch_deviation_knows_its_groups():
    x = normal_tensor(8, 2, 3, 3)
    out = minibatch_stddev(x, 4)[:, 2, 0, 0]
    within = x[[2, 1, 0, 3, 4, 5, 6, 7]]
    across = x[[1, 0, 2, 3, 4, 5, 6, 7]]
    assert torch.allclose(minibatch_stddev(within, 4)[:, 2, 0, 0], out, atol=1e-12)
    assert not torch.allclose(minibatch_stddev(across, 4)[:, 2, 0, 0], out, atol=1e-3)


def test_one_image_has_no_deviation_and_finite_gradients():
    # torch.std gives NaN.
    x = normal_tensor(1, 3, 2, 2).requires_grad_()
    out = minibatch_stddev(x, 4)
    assert torch.allclose(out[:, 3].detach(), torch.full((), 1e-4, dtype=torch.float64))
    out.sum().backward()
    assert bool(x.grad.isfinite().all())


def test_minibatch_deviation_is_taken_in_float32():
    # 300 squared overflows float16.
    x = torch.tensor([0.0, 600.0], dtype=torch.float16).reshape(2, 1, 1, 1)
    out = minibatch_stddev(x, 2)
    assert out.dtype == torch.float16
    assert out[:, 1].flatten().tolist() == [300, 300]


def test_a_minibatch_that_is_no_multiple_of_the_group_is_refused():
    with pytest.raises(OptionError, match=r"minibatch of 6 .* groups of 4"):
        minibatch_stddev(normal_tensor(6, 1, 1, 1), 4)


@pytest.mark.parametrize("channels", [16, 512])
def test_pixel_norm_takes_its_mean_in_float32(channels):
    # 300 squared overflows float16, and the mean of 512 squares in bfloat16 is off by percents.
    x = torch.full((1, channels, 2, 2), 300.0)
    for kind in (torch.float16, torch.bfloat16):
        out = pixel_norm(x.to(kind))
        assert out.dtype == kind
        assert out.tolist() == torch.ones_like(x).tolist()


@pytest.mark.parametrize("gain", [1.0, 2**0.5])
def test_weights_without_a_run_time_scale_have_it_from_the_start(gain):
    # The same function at the start, another one to Adam.
    scaled = EqualizedConv2d(64, 32, 3, gain=gain)
    plain = EqualizedConv2d(64, 32, 3, gain=gain, equalized=False)
    dense = EqualizedLinear(64, 32, gain=gain, equalized=False)
    for layer in (scaled, plain, dense):
        initialize(layer, "layer", 0)
    assert (plain.scale, dense.scale) == (1.0, 1.0)
    assert torch.equal(plain.weight, scaled.weight * scaled.scale)
    assert float(dense.weight.detach().std()) == pytest.approx(gain / 8, rel=0.05)
    assert not plain.bias.any()


def test_batch_norm_by_hand():
    # Two images of one channel: 1, 3 / 5, 7 has mean 4 and biased variance 5.
    norm = BatchNorm(1).double()
    initialize(norm, "norm", 0)
    assert (norm.gain.tolist(), norm.bias.tolist()) == ([1.0], [0.0])
    with torch.no_grad():
        norm.gain.fill_(2)
        norm.bias.fill_(10)
    x = torch.tensor([[1.0, 3.0], [5.0, 7.0]], dtype=torch.float64).reshape(2, 1, 1, 2)
    expected = 10 + 2 * (x - 4) / (5 + 1e-4) ** 0.5
    assert torch.allclose(norm(x), expected, atol=1e-12)
    # Nothing is remembered of it: evaluation is by what was measured, which at first is nothing.
    assert torch.allclose(norm.eval()(x), 10 + 2 * x / (1 + 1e-4) ** 0.5, atol=1e-12)


def test_layer_norm_by_hand():
    # Every image by its own mean and deviation over all features; one gain, a bias for each channel.
    norm = LayerNorm(3).double()
    initialize(norm, "norm", 0)
    with torch.no_grad():
        norm.gain.fill_(2)
        norm.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
    x = normal_tensor(4, 3, 2, 5) * torch.tensor([1.0, 10.0, 100.0, 1000.0]).reshape(4, 1, 1, 1)
    out = norm(x)
    for n in range(4):
        expected = 2 * (x[n] - x[n].mean()) / (x[n].var(correction=0) + 1e-4).sqrt()
        assert torch.allclose(out[n], expected + torch.tensor([1.0, 2.0, 3.0])[:, None, None], atol=1e-12)
    flat = LayerNorm(6).double()
    initialize(flat, "norm", 0)
    assert torch.allclose(flat(normal_tensor(4, 6)).square().mean(1), torch.ones(4).double(), atol=1e-3)


def test_minibatch_discrimination_by_hand():
    # Three images at 0, 1 and 3 on one axis; every direction is that axis, so L1 in 5 dimensions is
    # five times the distance, and the scale 0.1 of the logarithm makes half of it.
    layer = MinibatchDiscrimination(2, kernels=4).double()
    initialize(layer, "layer", 0)
    assert float(layer.weight.detach().std()) == pytest.approx(0.05, rel=0.3)
    assert layer.bias.tolist() == [-1.0] * 4
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0] = 7.0  # directions count, lengths do not
        layer.log_scale.fill_(float(np.log(0.1)))
    x = torch.tensor([[0.0, 5.0], [1.0, 5.0], [3.0, 5.0]], dtype=torch.float64)
    out = layer(x)
    assert torch.equal(out[:, :2], x)
    near = {d: float(np.exp(-0.5 * d)) for d in (1, 2, 3)}
    expected = torch.tensor([near[1] + near[3], near[1] + near[2], near[3] + near[2]]).double() - 1
    assert torch.allclose(out[:, 2:], expected[:, None].expand(3, 4), atol=1e-7)


def test_minibatch_discrimination_without_weights_is_finite():
    layer = MinibatchDiscrimination(2)
    layer(torch.ones(3, 2)).sum().backward()
    assert bool(layer.weight.grad.isfinite().all())
