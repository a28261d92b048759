"""Images from a checkpoint: an image source, grids, and files.

The module is also the plug-in through which `pgmetrics` opens a checkpoint by its name alone;
looking at a file's header does not import torch.
"""

from __future__ import annotations

import difflib
import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
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
from pgmetrics.sources.base import IDENTITY, ImageSource, listed
from reference_models.progan import checkpoint as checkpoints
from reference_models.progan.checkpoint import Checkpoint, refusing_unwritable, written_atomically

if TYPE_CHECKING:
    from reference_models.progan.networks import Generator

recognises = checkpoints.recognises
describe = checkpoints.describe
_LARGEST_BATCH = 64


def latents(
    seed: int, indices: Sequence[int], latent_size: int, truncation: float | None = None
) -> NDArray[np.float32]:
    """Latents by image: row k depends on (seed, indices[k]) alone.

    Args:
        seed: of the latents.
        indices: of the images.
        latent_size: numbers in a latent.
        truncation: numbers further than this from zero are drawn again, from within; the others
            stay what they are. None leaves all.

    Returns:
        float32 [N, latent_size], from N(0, 1), or from that distribution cut off on both sides.
    """
    rows = np.empty((len(indices), latent_size), np.float32)
    for row, index in zip(rows, indices, strict=True):
        random = seeding.generator(seed, Stream.LATENTS, index)
        random.standard_normal(out=row, dtype="float32")
        if truncation is not None:
            _draw_again(row, truncation, random)
    return rows


def _draw_again(row: NDArray[np.float32], truncation: float, random: seeding.Generator) -> None:
    from scipy.special import ndtr, ndtri

    far = np.abs(row) > truncation
    # By the inverse of the distribution: repeating until all are near takes ages for a small bound.
    below, above = ndtr([-truncation, truncation])
    row[far] = ndtri(below + (above - below) * random.random(np.count_nonzero(far)))


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


def class_index(checkpoint: Checkpoint, label: str, name: str) -> int:
    """The place of a class among those of a network.

    Args:
        checkpoint: of the network.
        label: the class by its name.
        name: of the network, for the message.

    Raises:
        OptionError: the network has no such class, or none at all.
    """
    known = checkpoint.label_names
    if not known:
        raise OptionError(f"{name} is unconditional; it makes no images of a class {label!r}")
    if label not in known:
        near = difflib.get_close_matches(label, known, n=3) or known[:10]
        more = "" if len(near) == len(known) else f" and {len(known) - len(near)} more"
        raise OptionError(f"{name} has no class {label!r}; it has {', '.join(near)}{more}")
    return known.index(label)


def class_rows(
    checkpoint: Checkpoint, seed: int, indices: Sequence[int], only: int | None = None
) -> NDArray[np.float32] | None:
    """The classes of a network's images.

    Args:
        checkpoint: of the network.
        seed: of the classes.
        indices: of the images.
        only: the class of all of them; None draws each as often as training had it.

    Returns:
        one-hot float32 [N, classes], or None for an unconditional network.
    """
    if only is None:
        return labels(seed, indices, checkpoint.label_distribution) if checkpoint.label_names else None
    rows = np.zeros((len(indices), len(checkpoint.label_names)), np.float32)
    rows[:, only] = 1
    return rows


class Sampler:
    """A checkpoint's generator, from latents to bytes.

    Args:
        path: of the checkpoint.
        name: for messages; progan:PATH if None.

    Attributes:
        name: as given.
        checkpoint: what the file says about itself.
        batch: images that are computed at once.

    Raises:
        SourceError: the checkpoint cannot be read.
    """

    def __init__(self, path: Path | str, name: str | None = None) -> None:
        self._path = Path(path)
        self.name = name or f"progan:{path}"
        self.checkpoint: Checkpoint = checkpoints.inspect(self._path)
        self.batch = min(block_length(self.checkpoint.resolution), _LARGEST_BATCH)
        self._device = "cpu"
        self._generator: Generator | None = None

    def to(self, device: str) -> None:
        """Run the network there from now on."""
        self._device = device
        if self._generator is not None:
            self._generator.to(device)

    def images(
        self,
        latents: NDArray[np.float32],
        labels: NDArray[np.float32] | None = None,
        called: Sequence[object] | None = None,
    ) -> NDArray[np.uint8]:
        """The images of these latents.

        Always computed in batches of one shape: an image is the same bytes wherever its row has
        the same place modulo `batch`, however many others there are.

        Args:
            latents: [N, latent_size].
            labels: one-hot [N, classes], of a network that has classes.
            called: the images' numbers for messages, of a single batch; their places if left out.

        Returns:
            uint8 [N, 3, r, r] with the checkpoint's own resolution r.

        Raises:
            SourceError: the network gives NaN or infinite values.
        """
        import torch

        if self._generator is None:
            self._generator = checkpoints.load(self._path)[1].to(self._device)
        side = self.checkpoint.resolution
        out = np.empty((len(latents), 3, side, side), np.uint8)
        for start in range(0, len(latents), self.batch):
            z, y = (
                None if rows is None else torch.from_numpy(self._whole_batch(rows, start)).to(self._device)
                for rows in (latents, labels)
            )
            with torch.no_grad():
                made = self._generator(z, y, resolution=side, alpha=self.checkpoint.alpha)
            pixels = byte_images.to_bytes(made, checkpoints.VALUE_RANGE, self.name, called)
            part = out[start : start + self.batch]
            part[:] = byte_images.grey_to_rgb(pixels).cpu().numpy()[: len(part)]
        return out

    def _whole_batch(self, rows: NDArray[np.float32], start: int) -> NDArray[np.float32]:
        batch = np.zeros((self.batch, rows.shape[1]), np.float32)
        part = rows[start : start + self.batch]
        batch[: len(part)] = part
        return batch


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
        label: make images of this class only; None takes classes as often as training did.
        truncation: bound of the latents' numbers, see `latents`.

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
        self._sampler = Sampler(path, self.name)
        self.checkpoint = checkpoint = self._sampler.checkpoint
        self._class = None if label is None else class_index(checkpoint, label, f"progan:{path}")
        self._enlargement = checkpoint.config.resolution // checkpoint.resolution if at == "final" else 1
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        self._recipe = f"progan:{digest},seed={seed},at={at}"
        self._recipe += "" if self._class is None else f",class={self._class}"
        self._recipe += "" if truncation is None else f",truncation={truncation}"

    def __len__(self) -> int:
        return self._n

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width in pixels: the stage's, or the final ones."""
        side = self.checkpoint.resolution * self._enlargement
        return side, side

    def to(self, device: str) -> None:
        """Run the network there from now on."""
        self._sampler.to(device)

    def identity(self, indices: Sequence[int] | NDArray[np.int64]) -> str:
        """The checkpoint's digest, how it is sampled and these indices."""
        return f"{IDENTITY}{self._recipe},images={listed(indices)}"

    def _read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        out = np.empty((len(indices), 3, *self.resolution), np.uint8)
        waiting = list(range(len(indices)))
        while waiting:
            # Image i has place i mod batch; what finds its place taken waits for the next turn.
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
        """One batch, with the images of these indices at their places and anything elsewhere."""
        config, batch = self.checkpoint.config, self._sampler.batch
        places, indices = list(index_at), list(index_at.values())
        z = np.zeros((batch, config.latent_size), np.float32)
        z[places] = latents(self._seed, indices, config.latent_size, self._truncation)
        classes = class_rows(self.checkpoint, self._seed, indices, self._class)
        y = None
        if classes is not None:
            y = np.zeros((batch, config.label_size), np.float32)
            y[places] = classes
        called = [index_at.get(place, "of the padding") for place in range(batch)]
        return byte_images.nearest_upscale(self._sampler.images(z, y, called), self._enlargement)


def open_source(path: str, options: Mapping[str, str]) -> ImageSource:
    """The source that `progan:PATH,seed=3,n=50000,at=final,label=cat,truncation=0.7` means.

    Args:
        path: of the checkpoint.
        options: any of seed, n, at, label and truncation, as written.

    Raises:
        SourceError: an option is unknown or not what its meaning allows, or the checkpoint cannot
            be read.
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
            if not options[name].isdecimal():
                raise SourceError(f"progan:{path} needs a whole number for {name}, not {options[name]!r}")
            numbers[name] = int(options[name])
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


def same_latents(sources: Sequence[ProGANSource], num_images: int) -> Iterator[NDArray[np.uint8]]:
    """The first images of several networks, enlarged by nearest neighbour to the size of the largest.

    Args:
        sources: of one seed and truncation.
        num_images: of each.

    Returns:
        for each source, as it is asked for, uint8 [num_images, 3, H, W].

    Raises:
        OptionError: their latents have different lengths, so that they cannot be the same.
    """
    lengths = {source.checkpoint.config.latent_size: source.name for source in sources}
    if len(lengths) > 1:
        (a, one), (b, other) = list(lengths.items())[:2]
        raise OptionError(
            f"{one} takes latents of {a} numbers and {other} of {b}; the same latents do for networks of one "
            "latent_size"
        )
    side = max(source.resolution[0] for source in sources)
    return (
        byte_images.nearest_upscale(source.batch(range(num_images)), side // source.resolution[0])
        for source in sources
    )


def save_grid(path: Path, pixels: NDArray[np.uint8], columns: int | None = None) -> None:
    """Write one PNG with all the images, see `image_grid`."""
    from PIL import Image

    with written_atomically(path) as aside:
        Image.fromarray(image_grid(pixels, columns)).save(aside, format="png")


def save_rows(path: Path, sources: Sequence[ProGANSource], num_images: int) -> None:
    """Write one PNG with the first images of each source in a row, see `same_latents`."""
    save_grid(path, np.concatenate(list(same_latents(sources, num_images))), num_images)


def save_folder(directory: Path, source: ImageSource, num_images: int) -> None:
    """Write the first images of a source as DIRECTORY/00000000.png and so on.

    Raises:
        OptionError: the directory is there already and not empty.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise OptionError(
            f"{directory} is there already and not empty; samples need a directory of their own"
        )
    with refusing_unwritable(directory):
        directory.mkdir(parents=True, exist_ok=True)
    for index, pixels in enumerate(_first(source, num_images)):
        with written_atomically(directory / _png_name(index)) as aside:
            aside.write_bytes(_png(pixels))


def save_zip(path: Path, source: ImageSource, num_images: int) -> None:
    """Write the first images of a source as a zip of 00000000.png and so on.

    The same images give the same bytes: entries carry no time.
    """
    with written_atomically(path) as aside, zipfile.ZipFile(aside, "w") as archive:
        for index, pixels in enumerate(_first(source, num_images)):
            # Stored as they are: PNGs are compressed already.
            archive.writestr(zipfile.ZipInfo(_png_name(index)), _png(pixels))


def save_npz(path: Path, source: ImageSource, num_images: int) -> None:
    """Write the first images of a source as an npz with arr_0, uint8 [N, H, W, 3].

    That is what the evaluators of diffusion models read. Images are made while the file is
    written, so that a large array needs no memory.
    """
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)),
        "fortran_order": False,
        "shape": (num_images, *source.resolution, 3),
    }
    with written_atomically(path) as aside, zipfile.ZipFile(aside, "w") as archive:
        with archive.open(zipfile.ZipInfo("arr_0.npy"), "w", force_zip64=True) as file:
            np.lib.format.write_array_header_1_0(file, header)
            for pixels in _first(source, num_images):
                file.write(pixels.transpose(1, 2, 0).tobytes())


def _first(source: ImageSource, num_images: int) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, num_images, _LARGEST_BATCH):
        yield from source.batch(range(start, min(start + _LARGEST_BATCH, num_images)))


def _png_name(index: int) -> str:
    return f"{index:08d}.png"


def _png(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(file, format="png")
    return file.getvalue()
