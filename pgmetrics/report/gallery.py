"""Images for the page: samples of every stage next to real images, and the real images nearest to samples."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pgmetrics.errors import PgmetricsError, SampleError
from pgmetrics.growth import checkpoints
from pgmetrics.report.run_curves import Growth, ScoredCheckpoint
from pgmetrics.runtime import images as byte_images
from pgmetrics.runtime.blocks import block_length
from pgmetrics.runtime.progress import Progress
from pgmetrics.sources import loading
from pgmetrics.sources.base import ImageSource, sequence
from pgmetrics.sources.resolve import open_source
from pgmetrics.sources.stage import AtStage

Pixels = NDArray[np.uint8]

CELL = 96
"""Largest side of an image on the page in pixels; smaller images are enlarged by repeating pixels."""

_GAP = 4
_SEARCHED = 50_000
_SEARCHED_BYTES = 2**31
"""Largest number and size of the real images among which neighbors are searched."""

_QUERIES, _NEAREST, _REFERENCE = 8, 4, 64


@dataclass(frozen=True)
class Panel:
    """Samples of a checkpoint, and real images at the same resolution.

    Attributes:
        snapshot: the checkpoint that generated the samples.
        samples: uint8 [N, 3, r, r] at the stage's resolution.
        reals: real images of the same dtype and resolution, or None if there are none to show.
        coarse: whether the reals were averaged down.
    """

    snapshot: ScoredCheckpoint
    samples: Pixels
    reals: Pixels | None
    coarse: bool = False


@dataclass(frozen=True)
class Neighbors:
    """The real images nearest to samples, by pixel distance at the final resolution.

    Attributes:
        samples: uint8 [N, 3, R, R].
        nearest: uint8 [N, k, 3, R, R], the nearest first.
        distances: float64 [N, k]: the root mean square difference in gray levels.
        searched: number of real images that were searched.
        usual: the median distance of some reals to their nearest other real image: a typical distance between
            images that are not copies.
    """

    samples: Pixels
    nearest: Pixels
    distances: NDArray[np.float64]
    searched: int
    usual: float


@dataclass(frozen=True)
class Images:
    """The images that the page shows.

    Attributes:
        panels: samples of stages, with or without reals.
        near: the reals nearest to the last checkpoint's samples, or None.
        seed: seed of the latents.
        notes: sentences that explain which images are missing, and why.
    """

    panels: Sequence[Panel] = ()
    near: Neighbors | None = None
    seed: int = 0
    notes: list[str] = field(default_factory=list)


def gather(
    growth: Growth,
    *,
    real: object | None = None,
    loader: str | None = None,
    show_reals: bool = True,
    count: int = 32,
    seed: int | None = None,
    progress: Progress | None = None,
) -> Images:
    """Generate samples of every stage, choose real images to show with them, and find the nearest reals.

    The scores file of a run is not trusted. Nothing that it names is opened or imported, except checkpoints
    in its own directory. Users who trust its source or loader have to pass them again.

    Args:
        growth: the run.
        real: source of the real images; if left out, none are shown.
        loader: `module:name` of the function that opens the checkpoints, for a run that was scored with
            such a function; see `open_snapshot`.
        show_reals: whether real images may be shown at all.
        count: number of images in a grid.
        seed: seed of the latents and of the choice of reals; defaults to the seed of the scores.
        progress: called with (what, done, total).

    Raises:
        SourceError: `real` is given and cannot be opened.
    """
    seed = growth.seed if seed is None else seed
    notes: list[str] = []
    reals = _open_real(growth, real, notes) if show_reals else None
    if loader is None and growth.loader is not None:
        notes.append(
            f"No samples: the run was scored with --loader {growth.loader}. Code that a file names is not "
            "run; give --loader again if you trust it."
        )
        panels = []
    else:
        panels = _panels(growth, reals, loader, count, seed, notes, progress)
    near = None
    if reals is not None and panels and panels[-1].snapshot == growth.stages[-1].last:
        try:
            near = neighbors(panels[-1].samples[:_QUERIES], reals, _NEAREST, seed, progress)
        except SampleError as error:
            notes.append(f"No nearest real images: {error}.")
    return Images(panels, near, seed, notes)


def _open_real(growth: Growth, given: object | None, notes: list[str]) -> ImageSource | None:
    if given is None:
        known = "" if growth.real_name is None else f" (the run was scored with {growth.real_name})"
        notes.append(f"No real images: give --real SOURCE to show them{known}.")
        return None
    return open_source(given, resolution=growth.final_resolution, **growth.reading)


def open_samples(
    growth: Growth, snapshot: ScoredCheckpoint, seed: int, loader: str | None = None
) -> ImageSource:
    """Open a checkpoint as a source of samples at its own resolution.

    Args:
        growth: the run.
        snapshot: one of its checkpoints.
        seed: seed of the latents.
        loader: see `gather`; a loader named in the scores file is not used.

    Raises:
        PgmetricsError: the file is missing, lies outside the run's directory, or has changed since it was
            scored.
    """
    path = checkpoints.located(growth.folder, snapshot.file)
    if not path.exists():
        raise PgmetricsError(f"{snapshot.file} is no longer there")
    try:
        found = checkpoints.digest(path)
    except OSError as error:
        raise PgmetricsError(f"{snapshot.file} cannot be read: {error.strerror or error}") from error
    if found != snapshot.digest:
        raise PgmetricsError(f"{snapshot.file} is no longer the file that was scored")
    scored = checkpoints.Snapshot(
        path,
        snapshot.label,
        snapshot.images_shown,
        snapshot.resolution,
        snapshot.alpha,
        growth.final_resolution,
        snapshot.digest,
    )
    return checkpoints.open_snapshot(scored, checkpoints.AT_STAGE, seed, loader, growth.final_resolution)


def _panels(
    growth: Growth,
    real: ImageSource | None,
    loader: str | None,
    count: int,
    seed: int,
    notes: list[str],
    progress: Progress | None,
) -> list[Panel]:
    """Return samples of the last checkpoint of every stage from the same latents, with reals if given."""
    found = []
    for done, stage in enumerate(growth.stages):
        if progress is not None:
            progress("sampling", done, len(growth.stages))
        last = stage.last
        try:
            samples = first(open_samples(growth, last, seed, loader), count, seed)
        except PgmetricsError as error:
            notes.append(f"No samples of {last.label}: {error}.")
            continue
        reals = None
        if real is not None:
            reals = first(AtStage(real, samples.shape[-1], last.alpha), count, seed)
        coarse = real is not None and real.resolution[0] > samples.shape[-1]
        found.append(Panel(last, samples, reals, coarse))
    return found


def first(source: ImageSource, count: int, seed: int) -> Pixels:
    """Return the first images of a source in its order of evaluation."""
    order = sequence(source, seed)[: min(count, len(source))]
    images: Pixels = source.batch([int(index) for index in order])
    return images


def neighbors(
    samples: Pixels,
    real: ImageSource,
    k: int,
    seed: int,
    progress: Progress | None = None,
) -> Neighbors:
    """Find the k real images nearest to each sample, by the sum of squared differences of all bytes.

    Args:
        samples: uint8 [N, 3, r, r]; enlarged to the reals' resolution by repeating pixels.
        real: the real images, of which the first 50,000 or 2 GiB in the order of evaluation are searched.
        k: number of neighbors of each sample.
        seed: seed of that order.
        progress: called with (what, done, total).

    Raises:
        SampleError: there are too few real images for k neighbors, or their size does not fit.
    """
    side = real.resolution[0]
    if side % samples.shape[-1] or real.resolution[0] != real.resolution[1]:
        raise SampleError(
            f"neighbors of samples of {samples.shape[-1]} pixels a side cannot be found among images of "
            f"{real.resolution[0]} × {real.resolution[1]}"
        )
    queries = byte_images.nearest_upscale(samples, side // samples.shape[-1])
    number = min(len(real), _SEARCHED, max(k + 1, _SEARCHED_BYTES // (3 * side * side)))
    if number < k + 1:
        raise SampleError(f"{k} neighbors need {k + 1} real images; {real.name} holds {len(real)}")
    order = sequence(real, seed)[:number]
    reference = first(real, min(_REFERENCE, number), seed)
    both = _rows(np.concatenate([queries, reference]))
    distances = np.empty((len(both), number), np.float64)

    norms = (both * both).sum(axis=1)
    indices = [int(index) for index in order]
    for start, pixels in loading.blocks(real, indices, block_length(side)):
        rows = _rows(pixels)
        # All values are integers below 2**53, so every sum is exact.
        distances[:, start : start + len(rows)] = (
            norms[:, None] + (rows * rows).sum(axis=1) - 2 * both @ rows.T
        )
        if progress is not None:
            progress("looking for neighbors", start + len(rows), number)
    of_samples, of_reals = distances[: len(queries)], distances[len(queries) :]
    of_reals[np.arange(len(of_reals)), np.arange(len(of_reals))] = np.inf
    near = np.argsort(of_samples, axis=1, kind="stable")[:, :k]
    chosen = real.batch([indices[place] for place in near.ravel()])
    scale = 3 * side * side
    return Neighbors(
        samples=queries,
        nearest=chosen.reshape(len(queries), k, *chosen.shape[1:]),
        distances=np.sqrt(np.take_along_axis(of_samples, near, axis=1) / scale),
        searched=number,
        usual=float(np.median(np.sqrt(of_reals.min(axis=1) / scale))),
    )


def png_grid(pixels: Pixels, columns: int) -> tuple[bytes, int, int]:
    """Return a PNG of images in a grid with transparent gaps, and its width and height in pixels.

    Images are scaled by integer factors to at most `CELL` pixels a side: small images by repeating pixels,
    large images by averaging.
    """
    cells = _to_cells(pixels)
    side = cells.shape[-1]
    rows = -(-len(cells) // columns)
    columns = min(columns, len(cells))
    height, width = (n * (side + _GAP) - _GAP for n in (rows, columns))
    sheet = np.zeros((height, width, 4), np.uint8)
    for i, image in enumerate(cells):
        top, left = (place * (side + _GAP) for place in divmod(i, columns))
        sheet[top : top + side, left : left + side, :3] = image.transpose(1, 2, 0)
        sheet[top : top + side, left : left + side, 3] = 255
    return _png(sheet), width, height


def _to_cells(pixels: Pixels) -> Pixels:
    side = pixels.shape[-1]
    if side <= CELL:
        return byte_images.nearest_upscale(pixels, CELL // side)
    factor = next(f for f in range(-(-side // CELL), side + 1) if side % f == 0)
    means = byte_images.box_downscale(pixels.astype(np.float32), factor)
    return byte_images.to_bytes(means, (0.0, 255.0))


def _png(sheet: Pixels) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(sheet, "RGBA").save(file, format="png", optimize=True)
    return file.getvalue()


def _rows(pixels: Pixels) -> NDArray[np.float64]:
    return pixels.reshape(len(pixels), -1).astype(np.float64)
