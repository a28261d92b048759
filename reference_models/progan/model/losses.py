"""The losses of both networks: WGAN-GP with drift or LSGAN with noise, each with or without classes.

All are pure functions; random numbers are arguments.

Source: loss.py of Karras et al. 2018; LSGAN, appendix B and the Theano code.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.networks import Discriminator


class DiscriminatorLoss(NamedTuple):
    """The discriminator's loss and its parts, each a mean over the minibatch.

    Attributes:
        total: the loss to differentiate.
        real, fake: mean scores.
        penalty: weighted penalty of the gradient's norm; 0 for LSGAN.
        norm: the gradient's norm; 0 for LSGAN.
        classes: weighted sum of the cross entropies of the reals' and the fakes' labels; 0 without labels.
    """

    total: Tensor
    real: Tensor
    fake: Tensor
    penalty: Tensor
    norm: Tensor
    classes: Tensor


def discriminator_loss(
    discriminator: Discriminator,
    real: Tensor,
    fake: Tensor,
    mixing: Tensor,
    *,
    alpha: float | Tensor,
    enlargement: int | Tensor,
    labels: Tensor | None = None,
    noise: Tensor | None = None,
) -> DiscriminatorLoss:
    """Return the discriminator's loss, including the cross entropy of classes.

    WGAN-GP: fake - real + penalty + drift * real**2, which makes real scores high, fake scores low and the
    gradient between them of norm gamma. LSGAN: real**2 + 0.1 * (fake - 1)**2.

    Reals, fakes and their mixtures are scored in separate calls, since scores depend on the minibatch's
    standard deviation.

    Args:
        discriminator: its configuration gives the loss and its weights.
        real: float [N, C, r, r].
        fake: the same shape, made with the same labels; it gets no gradient.
        mixing: [N], uniform over 0 to 1: the position of each mixture between its real and its fake. LSGAN
            does not use it.
        alpha: the stage's alpha.
        enlargement: the final resolution divided by r.
        labels: one-hot [N, label_size], of the reals and of the fakes; None without classes.
        noise: [2, N, noise_size], for the reals and for the fakes, see `Discriminator.forward`; None means no
            noise.

    Source: `D_wgangp_acgan` in loss.py of Karras et al. 2018.
    """
    config = discriminator.config
    noise_real, noise_fake = (None, None) if noise is None else (noise[0], noise[1])
    real_scores, real_logits = discriminator(real, alpha=alpha, noise=noise_real)
    fake_scores, fake_logits = discriminator(fake, alpha=alpha, noise=noise_fake)
    norm = penalty = classes = torch.zeros_like(real_scores.detach())
    if config.loss == "lsgan":
        total = real_scores.square() + 0.1 * (fake_scores - 1).square()
    else:
        mixed = torch.lerp(real, fake, mixing.reshape(-1, 1, 1, 1))
        norm = gradient_norm(discriminator, mixed, alpha=alpha)
        if config.gp_resolution == "final":
            # The original's images are always enlarged to the final resolution. Each of the K * K copies of
            # a pixel gets 1 / K**2 of its gradient, so the norm there is K times smaller.
            norm = norm / enlargement
        penalty = config.gp_lambda / config.gp_gamma**2 * (norm - config.gp_gamma).square()
        total = fake_scores - real_scores + penalty + config.drift * real_scores.square()
    if labels is not None:
        both = cross_entropy(real_logits, labels) + cross_entropy(fake_logits, labels)
        classes = config.label_weight * both
        total = total + classes
    return DiscriminatorLoss(
        total=total.mean(),
        real=real_scores.detach().mean(),
        fake=fake_scores.detach().mean(),
        penalty=penalty.detach().mean(),
        norm=norm.detach().mean(),
        classes=classes.detach().mean(),
    )


def gradient_norm(discriminator: Discriminator, images: Tensor, *, alpha: float | Tensor) -> Tensor:
    """Return the L2 norm of the score's gradient per image; it is differentiable even at zero.

    Args:
        discriminator: the discriminator, whose class logits are not used.
        images: float [N, C, r, r].
        alpha: the stage's alpha.

    Returns:
        [N], at least float32.
    """

    def total(x: Tensor) -> Tensor:
        scores: Tensor = discriminator(x, alpha=alpha)[0]
        return scores.sum()

    # Not torch.autograd.grad, which torch.compile cannot translate.
    flat = torch.func.grad(total)(images).flatten(1)
    # Not the root of a sum of squares, whose derivative at zero is NaN; here it is zero.
    norm: Tensor = torch.linalg.vector_norm(flat, dim=1, dtype=torch.promote_types(flat.dtype, torch.float32))
    return norm


def generator_loss(
    discriminator: Discriminator,
    fake: Tensor,
    *,
    alpha: float | Tensor,
    labels: Tensor | None = None,
    noise: Tensor | None = None,
) -> Tensor:
    """Return the generator's loss, including the cross entropy of classes.

    WGAN-GP: minus the mean score. LSGAN: the mean squared score, since real is 0.

    Args:
        discriminator: its configuration gives the loss.
        fake: float [N, C, r, r].
        alpha: the stage's alpha.
        labels: one-hot [N, label_size] of the fakes; None without classes.
        noise: [N, noise_size], see `Discriminator.forward`; None means no noise.

    Source: `G_wgan_acgan` in loss.py of Karras et al. 2018.
    """
    config = discriminator.config
    scores, logits = discriminator(fake, alpha=alpha, noise=noise)
    loss: Tensor = scores.square() if config.loss == "lsgan" else -scores
    if labels is not None:
        loss = loss + config.label_weight * cross_entropy(logits, labels)
    return loss.mean()


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the softmax cross entropy of each image, [N], for logits and one-hot labels [N, label_size]."""
    return -(labels * logits.log_softmax(dim=1)).sum(dim=1)


def updated_score_average(average: Tensor, fake_score: Tensor) -> Tensor:
    """Update the moving average that sets LSGAN's noise, after a discriminator step.

    Args:
        average: the previous average; 0 at the beginning of a run.
        fake_score: mean score of the step's fakes, near 1 if they are recognized.

    Returns:
        0.9 times the average plus 0.1 times the score clipped to 0 to 1.

    Source: appendix B of Karras et al. 2018. Their code averages the discriminator's loss under
    the name of this score.
    """
    return 0.9 * average + 0.1 * fake_score.clamp(0, 1)


def noise_scale(average: Tensor, config: ProGANConfig) -> Tensor:
    """Return the factor of standard normal noise: noise_strength * max(average - 0.5, 0)**2."""
    return config.noise_strength * (average - 0.5).clamp(min=0).square()
