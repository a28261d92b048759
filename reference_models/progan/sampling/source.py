"""The image source of a checkpoint: ProGANSource, and `progan:PATH,key=value`.

The module is also the plug-in through which `pgmetrics` opens checkpoints; reading a file's header does not
import torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pgmetrics.errors import OptionError, SourceError
from pgmetrics.runtime import images as byte_images
from pgmetrics.runtime.files import sha256
from pgmetrics.sources.base import IDENTITY, ImageSource, listed, whole_number
from reference_models.progan.model import checkpoint as checkpoints
from reference_models.progan.model import foreign_files

recognizes = checkpoints.recognizes
describe = checkpoints.describe
advise = foreign_files.advise


class ProGANSource(ImageSource):
    """The images of a checkpoint's generator, by index.

    Image i has the same bytes regardless of the other requested images: it is always computed at the same
    position of a batch of the same shape, since convolution libraries round differently by shape.

    Args:
        path: path of the checkpoint.
        seed: seed of the latents and labels.
        n: declared number of images.
        at: "stage" makes images at the checkpoint's own resolution, "final" repeats their pixels up to the
            final resolution, as the published evaluation does.
        label: the class of all images; None draws classes with the frequencies of training.
        truncation: bound on the latents' numbers, see `latents`.

    Raises:
        SourceError: the checkpoint cannot be read.
        OptionError: an option is out of range, or the network has no such class.
    """

    _digests_pixels = False

    def __init__(
        self,
        path: Path | str,
        seed: int = 0,
        n: int = 1_000_000,
        at: Literal["stage", "final"] = "stage",
        *,
        label: str | None = None,
        truncation: float | None = None,
    ) -> None:
        super().__init__()
        if seed < 0 or not 1 <= n <= 2**32 or at not in ("stage", "final"):
            raise OptionError(
                f"a ProGAN source takes seed from 0, n from 1 to 2**32 and at=stage or at=final, "
                f"not seed={seed}, n={n}, at={at}"
            )
        if truncation is not None and not 0.001 <= truncation <= 100:
            raise OptionError(f"a ProGAN source takes truncation from 0.001 to 100, not {truncation}")
        self._seed = seed
        self._n = n
        self._truncation = truncation
        self.name = f"progan:{path},seed={seed}"
        self.name += "" if at == "stage" else f",at={at}"
        self.name += "" if label is None else f",label={label}"
        self.name += "" if truncation is None else f",truncation={truncation}"
        from reference_models.progan.sampling.latents import class_index
        from reference_models.progan.sampling.sampler import Sampler

        self._sampler = Sampler(path, self.name)
        self.checkpoint = checkpoint = self._sampler.checkpoint
        self._class = None if label is None else class_index(checkpoint, label, f"progan:{path}")
        self._enlargement = checkpoint.config.resolution // checkpoint.resolution if at == "final" else 1
        digest = sha256(Path(path).read_bytes()).hexdigest()
        self._recipe = f"progan:{digest},seed={seed},at={at}"
        self._recipe += "" if self._class is None else f",class={self._class}"
        self._recipe += "" if truncation is None else f",truncation={truncation}"

    def __len__(self) -> int:
        return self._n

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width in pixels, of the stage or of the final resolution."""
        side = self.checkpoint.resolution * self._enlargement
        return side, side

    def to(self, device: str) -> None:
        """Run the network on this device from now on."""
        self._sampler.to(device)

    def identity(self, indices: Sequence[int] | NDArray[np.int64]) -> str:
        """Identify images by the checkpoint's digest, the sampling options and their indices."""
        return f"{IDENTITY}{self._recipe},images={listed(indices)}"

    def _read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        out = np.empty((len(indices), 3, *self.resolution), np.uint8)
        waiting = list(range(len(indices)))
        while waiting:
            # Image i has position i mod batch; if that is taken, it goes into a later batch.
            places: dict[int, int] = {}
            for request in waiting:
                places.setdefault(indices[request] % self._sampler.batch, request)
            made = self._make({place: indices[request] for place, request in places.items()})
            for place, request in places.items():
                out[request] = made[place]
            taken = set(places.values())
            waiting = [request for request in waiting if request not in taken]
        return out

    def _make(self, index_at: Mapping[int, int]) -> NDArray[np.uint8]:
        """Make one batch with these images at their positions; other positions hold padding."""
        config, batch = self.checkpoint.config, self._sampler.batch
        places, indices = list(index_at), list(index_at.values())
        z = np.zeros((batch, config.latent_size), np.float32)
        from reference_models.progan.sampling.latents import class_rows, latents

        z[places] = latents(self._seed, indices, config.latent_size, self._truncation)
        classes = class_rows(self.checkpoint, self._seed, indices, self._class)
        y = None
        if classes is not None:
            y = np.zeros((batch, config.label_size), np.float32)
            y[places] = classes
        called = [index_at.get(place, "of the padding") for place in range(batch)]
        return byte_images.nearest_upscale(self._sampler.images(z, y, called), self._enlargement)


def open_source(path: str, options: Mapping[str, str]) -> ImageSource:
    """Open the source `progan:PATH,seed=3,n=50000,at=final,label=cat,truncation=0.7`.

    Args:
        path: path of the checkpoint.
        options: any of seed, n, at, label and truncation, as text.

    Raises:
        SourceError: an option is unknown or invalid, or the checkpoint cannot be read.
    """
    unknown = sorted(set(options) - {"seed", "n", "at", "label", "truncation"})
    if unknown:
        raise SourceError(
            f"progan:{path} has no option {', '.join(unknown)}; it knows seed, n, at, label and truncation"
        )
    at = options.get("at", "stage")
    if at not in ("stage", "final"):
        raise SourceError(f"progan:{path} makes images at=stage or at=final, not at={at}")
    numbers = {}
    for name in ("seed", "n"):
        if name in options:
            numbers[name] = whole_number(options[name], name, f"progan:{path}")
    truncation = None
    if "truncation" in options:
        try:
            truncation = float(options["truncation"])
        except ValueError:
            raise SourceError(
                f"progan:{path} needs a number for truncation, not {options['truncation']!r}"
            ) from None
    return ProGANSource(
        path,
        at="final" if at == "final" else "stage",
        label=options.get("label"),
        truncation=truncation,
        **numbers,
    )
