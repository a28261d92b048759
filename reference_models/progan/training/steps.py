"""The losses of a training step, as functions of what was drawn for it; compiled where that is asked for.

Everything up to the gradients' use is here: fakes, judgments, penalty, in one function for each network.
Compiled, each becomes one program per resolution, one more while it fades in.
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
    """What a step takes that no network makes; all on the networks' device, [N, ...] each.

    Attributes:
        latents: standard normal, float32 [N, latent_size].
        labels: one-hot, of reals and fakes; None without classes.
        real: float32 [N, C, r, r]; None for a step of the generator.
        mixing: [N], see `discriminator_loss`; None for a step of the generator.
        noise: LSGAN's, [N, 2, noise_size] for the discriminator's step and [N, noise_size] for the
            generator's; None for none.
    """

    latents: Tensor
    labels: Tensor | None = None
    real: Tensor | None = None
    mixing: Tensor | None = None
    noise: Tensor | None = None

    def __getitem__(self, images: slice) -> StepInputs:
        """Some of the images."""
        return StepInputs(
            latents=self.latents[images],
            labels=None if self.labels is None else self.labels[images],
            real=None if self.real is None else self.real[images],
            mixing=None if self.mixing is None else self.mixing[images],
            noise=None if self.noise is None else self.noise[images],
        )


class Steps:
    """Losses of two networks at any stage.

    Under `precision` "bfloat16" convolutions and dense layers take and give bfloat16. Weights, images,
    statistics, the last dense layer, the gradient's norm and the losses stay in float32.

    Args:
        generator, discriminator: of one configuration, which says the precision.
        compiled: translate each step into one program with torch.compile. It is made again for each
            resolution and each fade, with the first step there.
        backend: torch.compile's.
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
        """The discriminator's loss.

        Args:
            now: the stage.
            drawn: for the step; its latents do not matter where fakes are given.
            fake: [N, C, r, r] made with its labels; None to make them.
        """
        loss: DiscriminatorLoss = self._call(
            self._judge, now, drawn.latents, drawn.labels, drawn.real, drawn.mixing, drawn.noise, fake
        )
        return loss

    def generator_loss(self, now: Stage, drawn: StepInputs) -> tuple[Tensor, Tensor]:
        """The generator's loss and the fakes that it is of, detached.

        The discriminator is expected to ask for no gradients of its weights meanwhile.
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
        # A number would be part of the program, and another alpha another program.
        alpha = torch.full((), now.alpha, device=latents.device) if fading else 1.0
        if self._programs_for != (now.resolution, fading):
            # The programs before are never needed again, and hold memory.
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
