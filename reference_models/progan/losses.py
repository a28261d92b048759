"""The WGAN-GP losses of both networks, with drift."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reference_models.progan.networks import Discriminator


@dataclass(frozen=True)
class DiscriminatorLoss:
    """The discriminator's loss and what it is made of, each a mean over the minibatch.

    Attributes:
        total: fake - real + penalty + drift * real**2, to be differentiated.
        real, fake: scores.
        penalty: of the gradient's norm, weighted.
        norm: the gradient's norm.
    """

    total: Tensor
    real: Tensor
    fake: Tensor
    penalty: Tensor
    norm: Tensor


def discriminator_loss(
    discriminator: Discriminator,
    real: Tensor,
    fake: Tensor,
    mixing: Tensor,
    *,
    alpha: float,
    enlargement: int,
) -> DiscriminatorLoss:
    """WGAN-GP: real scores high, fake scores low, and a gradient of norm gamma between them.

    Reals, fakes and their mixtures are judged in calls of their own, since a minibatch's
    deviation is part of the judgement.

    Args:
        discriminator: its configuration says how the penalty is weighed.
        real: float [N, C, r, r].
        fake: the same shape; no gradient goes into it.
        mixing: [N], uniform over 0 to 1: where between its real and its fake each mixture lies.
        alpha: of the stage.
        enlargement: final resolution over r.

    Source: `D_wgangp_acgan` in loss.py of Karras et al. 2018.
    """
    config = discriminator.config
    real_scores, _ = discriminator(real, alpha=alpha)
    fake_scores, _ = discriminator(fake, alpha=alpha)
    mixed = torch.lerp(real, fake, mixing.reshape(-1, 1, 1, 1)).requires_grad_()
    norm = gradient_norm(discriminator, mixed, alpha=alpha)
    if config.gp_resolution == "final":
        # The original's images are always enlarged to the final resolution. Of the K * K copies of
        # a pixel each gets 1 / K**2 of its gradient, so the norm there is K times smaller.
        norm = norm / enlargement
    penalty = config.gp_lambda / config.gp_gamma**2 * (norm - config.gp_gamma).square()
    drift = config.drift * real_scores.square()
    return DiscriminatorLoss(
        total=(fake_scores - real_scores + penalty + drift).mean(),
        real=real_scores.detach().mean(),
        fake=fake_scores.detach().mean(),
        penalty=penalty.detach().mean(),
        norm=norm.detach().mean(),
    )


def gradient_norm(discriminator: Discriminator, images: Tensor, *, alpha: float) -> Tensor:
    """L2 norm, per image, of the score's gradient; differentiable, also where it is zero.

    Args:
        discriminator: the class logits are left aside.
        images: float [N, C, r, r] that require a gradient.
        alpha: of the stage.

    Returns:
        [N], at least float32.
    """
    scores, _ = discriminator(images, alpha=alpha)
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    flat = gradient.flatten(1)
    # Not the root of a sum of squares: its derivative at zero is NaN, this one's is zero.
    norm: Tensor = torch.linalg.vector_norm(flat, dim=1, dtype=torch.promote_types(flat.dtype, torch.float32))
    return norm


def generator_loss(discriminator: Discriminator, fake: Tensor, *, alpha: float) -> Tensor:
    """Minus the mean score: the generator wants its images to look real."""
    scores: Tensor = discriminator(fake, alpha=alpha)[0]
    return -scores.mean()
