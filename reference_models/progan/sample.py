"""Images from a checkpoint: an image source, grids, and files.

The module is also the plug-in through which `pgmetrics` opens a checkpoint by its name alone;
looking at a file's header does not import torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from math import ceil, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from pgmetrics import images as byte_images
from pgmetrics import seeding
from pgmetrics.blocks import block_length
from pgmetrics.errors import OptionError, SourceError
from pgmetrics.seeding import Stream
from pgmetrics.sources.base import ImageSource
from reference_models.progan import checkpoint as checkpoints
from reference_models.progan.checkpoint import Checkpoint, refusing_unwritable, written_atomically

if TYPE_CHECKING:
    from reference_models.progan.networks import Generator

recognises = checkpoints.recognises
describe = checkpoints.describe
_LARGEST_BATCH = 64


def latents(seed: int, indices: Sequence[int], latent_size: int) -> NDArray[np.float32]:
    """Latents by image: row k depends on (seed, indices[k]) alone.

    Returns:
        float32 [N, latent_size], from N(0, 1).
    """
    rows = np.empty((len(indices), latent_size), np.float32)
    for row, index in zip(rows, indices, strict=True):
        seeding.generator(seed, Stream.LATENTS, index).standard_normal(out=row, dtype="float32")
    return rows


def labels(seed: int, indices: Sequence[int], distribution: Sequence[float]) -> NDArray[np.float32]:
    """One-hot labels by image, as frequent as in the training images.

    Returns:
        float32 [N, classes]; row k depends on (seed, indices[k]) alone.
    """
    edges = np.cumsum(distribution) / np.sum(distribution)
    rows = np.zeros((len(indices), len(distribution)), np.float32)
    for row, index in zip(rows, indices, strict=True):
        row[np.searchsorted(edges, seeding.generator(seed, Stream.LABELS, index).random(), "right")] = 1
    return rows


class ProGANSource(ImageSource):
    """The images of a checkpoint's generator, by index.

    Image i is the same bytes whatever else is asked for: it is always computed at the same place
    of a batch of the same shape, since convolution libraries round differently by shape.

    Args:
        path: of the checkpoint.
        seed: of the latents and labels.
        n: how many images the source claims to have.
        at: "stage" makes images at the checkpoint's own resolution, "final" repeats their pixels
            up to the final resolution, as the published evaluation does.

    Raises:
        SourceError: the checkpoint cannot be read.
        OptionError: an option is out of range.
    """

    def __init__(
        self, path: Path | str, seed: int = 0, n: int = 1_000_000, at: Literal["stage", "final"] = "stage"
    ) -> None:
        super().__init__()
        if seed < 0 or not 1 <= n <= 2**32 or at not in ("stage", "final"):
            raise OptionError(
                f"a ProGAN source takes seed from 0, n from 1 to 2**32 and at=stage or at=final, "
                f"not seed={seed}, n={n}, at={at}"
            )
        self._path = Path(path)
        self.checkpoint: Checkpoint = checkpoints.inspect(self._path)
        self._seed = seed
        self._n = n
        self._enlargement = self.checkpoint.config.resolution // self.checkpoint.resolution
        if at == "stage":
            self._enlargement = 1
        self.name = f"progan:{path},seed={seed}" + ("" if at == "stage" else f",at={at}")
        digest = hashlib.sha256(self._path.read_bytes()).hexdigest()
        self.fingerprint = f"progan:{digest},seed={seed},n={n},at={at}"
        self._batch = min(block_length(self.checkpoint.resolution), _LARGEST_BATCH)
        self._device = "cpu"
        self._generator: Generator | None = None

    def __len__(self) -> int:
        return self._n

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width in pixels: the stage's, or the final ones."""
        side = self.checkpoint.resolution * self._enlargement
        return side, side

    def to(self, device: str) -> None:
        """Run the network there from now on."""
        self._device = device
        if self._generator is not None:
            self._generator.to(device)

    def _read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        out = np.empty((len(indices), 3, *self.resolution), np.uint8)
        waiting = list(range(len(indices)))
        while waiting:
            # Image i has place i mod batch; what finds its place taken waits for the next turn.
            places: dict[int, int] = {}
            for request in waiting:
                places.setdefault(indices[request] % self._batch, request)
            made = self._make({place: indices[request] for place, request in places.items()})
            for place, request in places.items():
                out[request] = made[place]
            taken = set(places.values())
            waiting = [request for request in waiting if request not in taken]
        return out

    def _make(self, index_at: Mapping[int, int]) -> NDArray[np.uint8]:
        """One batch, with the images of these indices at their places and anything elsewhere."""
        import torch

        config = self.checkpoint.config
        if self._generator is None:
            _, generator = checkpoints.load(self._path)
            self._generator = generator.to(self._device)
        places, indices = list(index_at), list(index_at.values())
        z = np.zeros((self._batch, config.latent_size), np.float32)
        z[places] = latents(self._seed, indices, config.latent_size)
        one_hot = None
        if config.label_size:
            y = np.zeros((self._batch, config.label_size), np.float32)
            y[places] = labels(self._seed, indices, self.checkpoint.label_distribution)
            one_hot = torch.from_numpy(y).to(self._device)
        with torch.no_grad():
            made = self._generator(
                torch.from_numpy(z).to(self._device),
                one_hot,
                resolution=self.checkpoint.resolution,
                alpha=self.checkpoint.alpha,
            )
        pixels = byte_images.grey_to_rgb(byte_images.to_bytes(made, checkpoints.VALUE_RANGE, self.name))
        pixels = byte_images.nearest_upscale(pixels, self._enlargement)
        array: NDArray[np.uint8] = pixels.cpu().numpy()
        return array


def open_source(path: str, options: Mapping[str, str]) -> ImageSource:
    """The source that `progan:PATH,seed=3,n=50000,at=final` means.

    Args:
        path: of the checkpoint.
        options: any of seed, n and at, as written.

    Raises:
        SourceError: an option is unknown or not what its meaning allows, or the checkpoint cannot
            be read.
    """
    unknown = sorted(set(options) - {"seed", "n", "at"})
    if unknown:
        raise SourceError(f"progan:{path} has no option {', '.join(unknown)}; it knows seed, n and at")
    at = options.get("at", "stage")
    if at not in ("stage", "final"):
        raise SourceError(f"progan:{path} makes images at=stage or at=final, not at={at}")
    numbers = {}
    for name in ("seed", "n"):
        if name in options:
            if not options[name].isdecimal():
                raise SourceError(f"progan:{path} needs a whole number for {name}, not {options[name]!r}")
            numbers[name] = int(options[name])
    return ProGANSource(path, at="final" if at == "final" else "stage", **numbers)


def sample_images(path: Path, num_images: int, seed: int = 0, *, device: str = "cpu") -> NDArray[np.uint8]:
    """The first images of a checkpoint: uint8 [N, 3, H, W] at the checkpoint's own resolution."""
    source = ProGANSource(path, seed=seed, n=num_images)
    source.to(device)
    pixels: NDArray[np.uint8] = source.batch(range(num_images))
    return pixels


def image_grid(pixels: NDArray[np.uint8], columns: int | None = None) -> NDArray[np.uint8]:
    """Images side by side, row by row; values stay as they are.

    Args:
        pixels: uint8 [N, 3, H, W].
        columns: images in a row, at most; about a square if None. Places left over are black.

    Returns:
        uint8 [rows * H, columns * W, 3], as image libraries take it.
    """
    import torch
    from torchvision.utils import make_grid

    grid = make_grid(torch.from_numpy(pixels), nrow=columns or ceil(sqrt(len(pixels))), padding=0)
    image: NDArray[np.uint8] = grid.permute(1, 2, 0).numpy()
    return image


def save_grid(path: Path, pixels: NDArray[np.uint8], columns: int | None = None) -> None:
    """Write one PNG with all the images, see `image_grid`."""
    from PIL import Image

    with written_atomically(path) as aside:
        Image.fromarray(image_grid(pixels, columns)).save(aside, format="png")


def save_folder(directory: Path, source: ImageSource, num_images: int) -> None:
    """Write the first images of a source as DIRECTORY/00000000.png and so on.

    Raises:
        OptionError: the directory is there already and not empty.
    """
    from PIL import Image

    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise OptionError(
            f"{directory} is there already and not empty; samples need a directory of their own"
        )
    with refusing_unwritable(directory):
        directory.mkdir(parents=True, exist_ok=True)
    for start in range(0, num_images, _LARGEST_BATCH):
        indices = range(start, min(start + _LARGEST_BATCH, num_images))
        for index, pixels in zip(indices, source.batch(indices), strict=True):
            with written_atomically(directory / f"{index:08d}.png") as aside:
                Image.fromarray(pixels.transpose(1, 2, 0)).save(aside, format="png")
