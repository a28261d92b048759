"""The losses of a training step, as functions of its inputs, optionally compiled.

There is one function for each network. It makes the fakes, scores images and computes the loss with its
penalty, which the trainer differentiates. torch.compile makes one program of each function per resolution,
and another one for each fade.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pgmetrics.errors import PgmetricsError
from reference_models.progan.model.losses import DiscriminatorLoss, discriminator_loss, generator_loss
from reference_models.progan.model.networks import Discriminator, Generator
from reference_models.progan.model.schedule import Stage


@dataclass(frozen=True, kw_only=True)
class StepInputs:
    """The inputs of a training step: images, labels and random draws, on the device of the networks.

    Attributes:
        latents: standard normal, float32 [N, latent_size].
        labels: one-hot [N, label_size], of reals and fakes; None without classes.
        real: float32 [N, C, r, r]; None in a generator step.
        mixing: [N], see `losses.discriminator_loss`; None in a generator step.
        noise: noise of LSGAN, [N, 2, noise_size] in a discriminator step and [N, noise_size] in a generator
            step; None without noise.
    """

    latents: Tensor
    labels: Tensor | None = None
    real: Tensor | None = None
    mixing: Tensor | None = None
    noise: Tensor | None = None

    def __getitem__(self, images: slice) -> StepInputs:
        """Return the inputs of a slice of the images."""
        return StepInputs(
            latents=self.latents[images],
            labels=None if self.labels is None else self.labels[images],
            real=None if self.real is None else self.real[images],
            mixing=None if self.mixing is None else self.mixing[images],
            noise=None if self.noise is None else self.noise[images],
        )


class Steps:
    """The losses of both networks at any stage.

    With `precision` "bfloat16" convolutions and dense layers take and return bfloat16. Weights, images,
    statistics, the last dense layer, the norm of the gradient and the losses remain float32.

    Args:
        generator, discriminator: two networks of the same configuration, which sets the precision.
        compiled: translate each step into one program with torch.compile. The first step at each
            resolution and in each fade compiles again.
        backend: backend of torch.compile.
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        *,
        compiled: bool = False,
        backend: str = "inductor",
    ) -> None:
        self._generator = generator
        self._discriminator = discriminator
        self._half = generator.config.precision == "bfloat16"
        self._backend = backend if compiled else None
        self._programs_for: tuple[int, bool] | None = None
        self._programs: dict[str, Callable[..., Any]] = {}

    def discriminator_loss(
        self, now: Stage, drawn: StepInputs, fake: Tensor | None = None
    ) -> DiscriminatorLoss:
        """Return the loss of the discriminator.

        Args:
            now: the stage.
            drawn: inputs of the step; its latents are not used if fakes are given.
            fake: [N, C, r, r], made with the labels of `drawn`; None makes fakes from its latents.
        """
        loss: DiscriminatorLoss = self._call(
            self._judge, now, drawn.latents, drawn.labels, drawn.real, drawn.mixing, drawn.noise, fake
        )
        return loss

    def generator_loss(self, now: Stage, drawn: StepInputs) -> tuple[Tensor, Tensor]:
        """Return the loss of the generator, and the fakes it was computed on, detached.

        The caller must freeze the weights of the discriminator (requires_grad False).
        """
        loss: tuple[Tensor, Tensor] = self._call(self._deceive, now, drawn.latents, drawn.labels, drawn.noise)
        return loss

    def _judge(
        self,
        latents: Tensor,
        labels: Tensor | None,
        real: Tensor,
        mixing: Tensor,
        noise: Tensor | None,
        fake: Tensor | None,
        alpha: float | Tensor,
        resolution: int,
        enlargement: int,
    ) -> DiscriminatorLoss:
        with self._precision(latents):
            if fake is None:
                with torch.no_grad():
                    fake = self._generator(latents, labels, resolution=resolution, alpha=alpha)
            return discriminator_loss(
                self._discriminator,
                real,
                fake,
                mixing,
                alpha=alpha,
                enlargement=enlargement,
                labels=labels,
                noise=None if noise is None else noise.transpose(0, 1),
            )

    def _deceive(
        self,
        latents: Tensor,
        labels: Tensor | None,
        noise: Tensor | None,
        alpha: float | Tensor,
        resolution: int,
        enlargement: int,
    ) -> tuple[Tensor, Tensor]:
        with self._precision(latents):
            fake = self._generator(latents, labels, resolution=resolution, alpha=alpha)
            loss = generator_loss(self._discriminator, fake, alpha=alpha, labels=labels, noise=noise)
        return loss, fake.detach()

    def _precision(self, like: Tensor) -> torch.autocast:
        return torch.autocast(like.device.type, torch.bfloat16, enabled=self._half)

    def _call(self, function: Callable[..., Any], now: Stage, latents: Tensor, *rest: Tensor | None) -> Any:
        where = {"resolution": now.resolution, "enlargement": now.enlargement}
        if self._backend is None:
            return function(latents, *rest, alpha=now.alpha, **where)
        fading = now.alpha < 1
        # A Python number would be a constant of the program, so every alpha would compile again.
        alpha = torch.full((), now.alpha, device=latents.device) if fading else 1.0
        if self._programs_for != (now.resolution, fading):
            # Earlier programs are never used again, but hold memory.
            torch.compiler.reset()
            self._programs_for, self._programs = (now.resolution, fading), {}
        name = function.__name__
        if name not in self._programs:
            self._programs[name] = torch.compile(
                function, fullgraph=True, dynamic=False, backend=self._backend
            )
        try:
            return self._programs[name](latents, *rest, alpha=alpha, **where)
        except torch._dynamo.exc.BackendCompilerFailed as error:
            reason = " ".join(str(error).strip().split("\n\n")[0].split())
            raise PgmetricsError(
                f"torch.compile cannot translate the step here ({reason}); without --compile each operation "
                "runs by itself"
            ) from error
