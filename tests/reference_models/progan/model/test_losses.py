"""The losses in closed form, and the resolution at which a gradient is measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.layers import initialize
from reference_models.progan.model.losses import (
    cross_entropy,
    discriminator_loss,
    generator_loss,
    gradient_norm,
    noise_scale,
    updated_score_average,
)
from reference_models.progan.model.networks import Discriminator
from tests.helpers.draws import normal_tensor

CONFIG = ProGANConfig(resolution=32, fmap_base=128, fmap_max=8, latent_size=8, minibatch={4: 8})


class Linear:
    """A critic whose score is slope times the sum of the pixels, plus offset: all is known.

    Its logits are the means of the colors.
    """

    def __init__(self, slope: float, offset: float = 0.0, **options: object) -> None:
        self.config = replace(CONFIG, **options)
        self.slope, self.offset = slope, offset
        self.seen: list[Tensor] = []
        self.noise: list[Tensor | None] = []

    def __call__(self, images: Tensor, *, alpha: float, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self.seen.append(images)
        self.noise.append(noise)
        return self.slope * images.sum((1, 2, 3)) + self.offset, images.mean((2, 3))


REAL, FAKE, MIXING = (
    normal_tensor(8, 3, 4, 4),
    normal_tensor(8, 3, 4, 4, seed=8),
    torch.linspace(0, 1, 8).double(),
)


LABELS = torch.eye(3, dtype=torch.float64)[[0, 1, 2, 0, 1, 2, 0, 1]]


def loss(critic, enlargement=1, real=REAL, fake=FAKE, **options):
    return discriminator_loss(critic, real, fake, MIXING, alpha=1.0, enlargement=enlargement, **options)


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
        images = normal_tensor(8, 3, resolution, resolution)
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
    images = normal_tensor(8, 3, 8, 8).requires_grad_()
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


def test_lsgan_wants_reals_at_zero_and_fakes_at_one():
    # Appendix B: mean D(real)^2 + 0.1 mean (D(fake) - 1)^2, with neither penalty nor drift.
    critic = Linear(0.1, 0.3, loss="lsgan")
    real, fake = 0.1 * REAL.sum((1, 2, 3)) + 0.3, 0.1 * FAKE.sum((1, 2, 3)) + 0.3
    result = loss(critic)
    expected = (real**2).mean() + 0.1 * ((fake - 1) ** 2).mean()
    assert float(result.total) == pytest.approx(float(expected), rel=1e-12)
    assert (float(result.real), float(result.fake)) == pytest.approx((float(real.mean()), float(fake.mean())))
    assert (float(result.penalty), float(result.norm)) == (0, 0)
    assert len(critic.seen) == 2
    # The generator wants to be at zero, where the reals are; WGAN's sign would drive it away.
    assert float(generator_loss(critic, FAKE, alpha=1.0)) == pytest.approx(float((fake**2).mean()), rel=1e-12)


def test_cross_entropy_in_closed_form():
    # Of two classes with logits 0 and log 3: probabilities 1/4 and 3/4.
    logits = torch.tensor([[0.0, np.log(3)], [0.0, np.log(3)]], dtype=torch.float64)
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    assert cross_entropy(logits, labels).tolist() == pytest.approx([np.log(4), np.log(4 / 3)], rel=1e-12)
    assert cross_entropy(1e4 * logits, labels).isfinite().all()


@pytest.mark.parametrize("kind", ["wgan-gp", "lsgan"])
@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_classes_of_reals_and_fakes_count_in_the_discriminator_and_of_fakes_in_the_generator(kind, weight):
    critic = Linear(0.1, loss=kind, label_weight=weight)
    of_real, of_fake = (
        -(images.mean((2, 3)).softmax(1) * LABELS).sum(1).log().mean() for images in (REAL, FAKE)
    )
    without, result = loss(critic), loss(critic, labels=LABELS)
    assert float(result.classes) == pytest.approx(float(weight * (of_real + of_fake)), rel=1e-12)
    assert float(result.total - without.total) == pytest.approx(float(result.classes), rel=1e-9)
    assert float(without.classes) == 0
    difference = generator_loss(critic, FAKE, alpha=1.0, labels=LABELS) - generator_loss(
        critic, FAKE, alpha=1.0
    )
    assert float(difference) == pytest.approx(float(weight * of_fake), rel=1e-9)


def test_the_penalty_leaves_the_class_logits_aside():
    # Through them the gradient of a mixture would be another one.
    d = Discriminator(replace(CONFIG, label_size=3)).double()
    initialize(d, "discriminator", 0)
    images = normal_tensor(8, 3, 8, 8)
    norm = gradient_norm(d, images.requires_grad_(), alpha=1.0)
    (of_score,) = torch.autograd.grad(d(images)[0].sum(), images)
    assert torch.allclose(norm, of_score.flatten(1).norm(dim=1), rtol=1e-10)


def test_reals_and_fakes_have_noise_of_their_own():
    critic = Linear(0.1, loss="lsgan", noise_strength=0.2)
    noise = normal_tensor(2, 8, 5)
    loss(critic, noise=noise)
    generator_loss(critic, FAKE, alpha=1.0, noise=noise[1])
    assert [n is None for n in critic.noise] == [False] * 3
    assert torch.equal(torch.stack(critic.noise[:2]), noise)
    assert torch.equal(critic.noise[2], noise[1])


def test_noise_follows_the_average_score_of_fakes():
    # 0.2 max(0, d - 0.5)^2, d = 0.9 d + 0.1 (score, at most 1): after n scores of 5 it is 1 - 0.9^n.
    config = ProGANConfig(loss="lsgan", noise_strength=0.2)
    average = torch.zeros((), dtype=torch.float64)
    strengths = []
    for _ in range(20):
        average = updated_score_average(average, torch.tensor(5.0, dtype=torch.float64))
        strengths.append(float(noise_scale(average, config)))
    expected = [0.2 * max(1 - 0.9**n - 0.5, 0) ** 2 for n in range(1, 21)]
    assert strengths == pytest.approx(expected, abs=1e-12)
    assert strengths[5] == 0 < strengths[6]
    assert float(updated_score_average(average, torch.tensor(-3.0))) == pytest.approx(0.9 * float(average))


def test_penalty_under_autocast_is_near_that_of_float32():
    # The norm, the statistics and the scores are taken in float32 there, so that what is left is the
    # rounding of the convolutions: 8 bits, through six layers and back. In bfloat16 throughout, the
    # norm alone is rounded to 0.4 %.
    d = Discriminator(CONFIG)
    initialize(d, "discriminator", 0)
    real, fake = REAL.float(), FAKE.float()
    exact = discriminator_loss(d, real, fake, MIXING.float(), alpha=1.0, enlargement=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = discriminator_loss(d, real, fake, MIXING.float(), alpha=1.0, enlargement=1)
    for name in ("norm", "penalty", "total"):
        assert getattr(rounded, name).dtype == torch.float32
    assert float(rounded.norm) == pytest.approx(float(exact.norm), rel=0.02)
    assert float(rounded.total.detach()) == pytest.approx(float(exact.total.detach()), rel=0.04)
    rounded.total.backward()
    assert all(p.grad.dtype == torch.float32 for p in d.parameters() if p.grad is not None)
