"""The losses in closed form, and the resolution at which a gradient is measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from reference_models.progan.config import ProGANConfig
from reference_models.progan.layers import initialize
from reference_models.progan.losses import discriminator_loss, generator_loss, gradient_norm
from reference_models.progan.networks import Discriminator

CONFIG = ProGANConfig(resolution=32, fmap_base=128, fmap_max=8, latent_size=8, minibatch={4: 8})


def normal(*shape: int, seed: int = 7) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


class Linear:
    """A critic whose score is slope times the sum of the pixels, plus offset: all is known."""

    def __init__(self, slope: float, offset: float = 0.0, **options: object) -> None:
        self.config = replace(CONFIG, **options)
        self.slope, self.offset = slope, offset
        self.seen: list[Tensor] = []

    def __call__(self, images: Tensor, *, alpha: float) -> tuple[Tensor, Tensor]:
        self.seen.append(images)
        return self.slope * images.sum((1, 2, 3)) + self.offset, images.new_zeros(len(images), 0)


REAL, FAKE, MIXING = normal(8, 3, 4, 4), normal(8, 3, 4, 4, seed=8), torch.linspace(0, 1, 8).double()


def loss(critic, enlargement=1, real=REAL, fake=FAKE):
    return discriminator_loss(critic, real, fake, MIXING, alpha=1.0, enlargement=enlargement)


@pytest.mark.parametrize("gamma", [1.0, 750.0])
@pytest.mark.parametrize("resolution", ["final", "current"])
def test_loss_of_a_linear_critic(gamma, resolution):
    # The gradient is the slope at all 48 pixels; on images enlarged K times the norm is K times smaller.
    slope, k = 0.1, 8
    critic = Linear(slope, gp_gamma=gamma, gp_resolution=resolution)
    norm = slope * 48**0.5 / (k if resolution == "final" else 1)
    real, fake = slope * REAL.sum((1, 2, 3)), slope * FAKE.sum((1, 2, 3))
    expected = (fake - real + 10 / gamma**2 * (norm - gamma) ** 2 + 0.001 * real**2).mean()
    result = loss(critic, enlargement=k)
    assert float(result.total) == pytest.approx(float(expected), rel=1e-12)
    assert float(result.norm) == pytest.approx(norm, rel=1e-12)


def test_drift_is_of_reals_alone():
    # Reals score 3 and fakes 5; with its half on the fakes, drift would be 0.0005 * (9 + 25).
    flat = torch.full((8, 3, 4, 4), 1 / 48, dtype=torch.float64)
    result = loss(Linear(1.0, gp_lambda=1e-30), real=3 * flat, fake=5 * flat)
    assert float(result.total) == pytest.approx(2 + 0.009, abs=1e-12)


def test_every_mixture_lies_between_its_own_pair():
    # One number for the minibatch, or per pixel, is another penalty.
    critic = Linear(0.1)
    loss(critic)
    real, fake, mixed = critic.seen
    assert torch.equal(real, REAL)
    assert torch.equal(fake, FAKE)
    for n in range(8):
        assert torch.allclose(mixed[n], REAL[n] + (FAKE[n] - REAL[n]) * MIXING[n])


def test_the_norm_is_that_of_the_enlarged_image():
    # Measured on the image as it enters, a port's norm is K times the original's.
    d = Discriminator(CONFIG).double()
    initialize(d, "discriminator", 0)
    for resolution, alpha in ((4, 1.0), (8, 0.5), (16, 0.75), (32, 1.0)):
        k = 32 // resolution
        images = normal(8, 3, resolution, resolution)
        native = gradient_norm(d, images.clone().requires_grad_(), alpha=alpha)
        large = images.repeat_interleave(k, 2).repeat_interleave(k, 3).requires_grad_()
        score = d(torch.nn.functional.avg_pool2d(large, k), alpha=alpha)[0].sum()
        (gradient,) = torch.autograd.grad(score, large)
        assert torch.allclose(native / k, gradient.flatten(1).norm(dim=1), rtol=1e-10)
        if k > 1:
            result = discriminator_loss(
                d, images, images, torch.zeros(8).double(), alpha=alpha, enlargement=k
            )
            assert float(result.norm) == pytest.approx(float(native.mean().detach()) / k)


def test_a_gradient_of_zero_has_a_finite_penalty():
    # The root of a sum of squares has a NaN derivative there.
    d = Discriminator(CONFIG).double()
    result = loss(d)
    assert float(result.total.detach()) == pytest.approx(10)
    result.total.backward()
    assert all(bool(p.grad.isfinite().all()) for p in d.parameters() if p.grad is not None)


def test_the_penalty_reaches_the_weights():
    # Without create_graph the penalty would be a constant.
    d = Discriminator(CONFIG).double()
    initialize(d, "discriminator", 0)
    images = normal(8, 3, 8, 8).requires_grad_()
    gradient_norm(d, images, alpha=1.0).sum().backward()
    assert float(d.block8.conv0.weight.grad.abs().sum()) > 0


def test_kinds_of_images_are_judged_apart():
    seen = []
    d = Discriminator(CONFIG).double()
    d.register_forward_pre_hook(lambda m, args: seen.append(len(args[0])))
    loss(d)
    assert seen == [8, 8, 8]


def test_generator_wants_high_scores():
    critic = Linear(1.0)
    assert float(generator_loss(critic, FAKE, alpha=1.0)) == pytest.approx(-float(FAKE.sum() / 8))
