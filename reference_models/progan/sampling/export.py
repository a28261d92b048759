"""Generated images as grids, folders, zips and arrays for other tools."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator, Sequence
from math import ceil, sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pgmetrics.errors import OptionError
from pgmetrics.runtime import images as byte_images
from pgmetrics.runtime.files import refusing_unwritable, written_atomically
from pgmetrics.sources.base import ImageSource
from reference_models.progan.sampling.sampler import LARGEST_BATCH
from reference_models.progan.sampling.source import ProGANSource


def image_grid(pixels: NDArray[np.uint8], columns: int | None = None) -> NDArray[np.uint8]:
    """Arrange images in a grid, row by row.

    Args:
        pixels: uint8 [N, 3, H, W].
        columns: maximum images per row; None for about a square. Unused cells are black.

    Returns:
        uint8 [rows * H, columns * W, 3].
    """
    import torch
    from torchvision.utils import make_grid

    grid = make_grid(torch.from_numpy(pixels), nrow=columns or ceil(sqrt(len(pixels))), padding=0)
    image: NDArray[np.uint8] = grid.permute(1, 2, 0).numpy()
    return image


def same_latents(sources: Sequence[ProGANSource], num_images: int) -> Iterator[NDArray[np.uint8]]:
    """Iterate over the first images of several networks, enlarged by nearest neighbor to the largest size.

    Args:
        sources: sources with the same seed and truncation.
        num_images: number of images of each.

    Returns:
        for each source uint8 [num_images, 3, H, W].

    Raises:
        OptionError: the networks' latents have different lengths, so that they cannot be the same.
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
    with written_atomically(path) as aside:
        Image.fromarray(image_grid(pixels, columns)).save(aside, format="png")


def save_rows(path: Path, sources: Sequence[ProGANSource], num_images: int) -> None:
    """Write one PNG with the first images of each source in a row, see `same_latents`."""
    save_grid(path, np.concatenate(list(same_latents(sources, num_images))), num_images)


def save_folder(directory: Path, source: ImageSource, num_images: int) -> None:
    """Write the first images of a source as DIRECTORY/00000000.png and so on.

    Raises:
        OptionError: the directory exists and is not empty.
    """
    if os.path.exists(directory) and (not directory.is_dir() or any(directory.iterdir())):
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

    The same images give the same bytes, since entries have no time.
    """
    with written_atomically(path) as aside, zipfile.ZipFile(aside, "w") as archive:
        for index, pixels in enumerate(_first(source, num_images)):
            # Stored without compression, since PNGs are compressed already.
            archive.writestr(zipfile.ZipInfo(_png_name(index)), _png(pixels))


def save_npz(path: Path, source: ImageSource, num_images: int) -> None:
    """Write the first images of a source as an npz with arr_0, uint8 [N, H, W, 3].

    The evaluators of diffusion models read this format. Images are made while the file is written, so that a
    large array needs no memory.
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
    for start in range(0, num_images, LARGEST_BATCH):
        yield from source.batch(range(start, min(start + LARGEST_BATCH, num_images)))


def _png_name(index: int) -> str:
    return f"{index:08d}.png"


def _png(pixels: NDArray[np.uint8]) -> bytes:

    file = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(file, format="png")
    return file.getvalue()
