"""Images for the page: samples of every stage beside real images, and the nearest reals of samples."""

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
"""Pixels of an image's side on the page, at most; smaller images are enlarged by repeated pixels."""

_GAP = 4
_SEARCHED = 50_000
_SEARCHED_BYTES = 2**31
"""Real images, and bytes of them, at most, among which neighbors are looked for."""

_QUERIES, _NEAREST, _REFERENCE = 8, 4, 64


@dataclass(frozen=True)
class Panel:
    """Samples of a checkpoint, and real images made as coarse as they are.

    Attributes:
        snapshot: of the samples.
        samples: uint8 [N, 3, r, r] at the stage's resolution.
        reals: the same, or None where there are none to show.
        coarse: whether the reals were averaged down.
    """

    snapshot: ScoredCheckpoint
    samples: Pixels
    reals: Pixels | None
    coarse: bool = False


@dataclass(frozen=True)
class Neighbors:
    """The real images that are nearest to samples, pixel by pixel at the final resolution.

    Attributes:
        samples: uint8 [N, 3, R, R].
        nearest: uint8 [N, k, 3, R, R], the nearest first.
        distances: float64 [N, k]: the root mean square difference in grey levels.
        searched: how many real images were looked through.
        usual: the median distance of some reals to the nearest other one: what is usual between
            images that are not copies.
    """

    samples: Pixels
    nearest: Pixels
    distances: NDArray[np.float64]
    searched: int
    usual: float


@dataclass(frozen=True)
class Images:
    """What the page shows beside numbers.

    Attributes:
        panels: samples of stages, with or without reals.
        near: nearest reals of the last checkpoint's samples, or None.
        seed: of the latents.
        notes: what is left out, and why.
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
    """Make the samples of every stage, and find real images beside them and nearest to them.

    The store of a run may come from anybody. Whatever it names besides the checkpoints in its own
    directory is neither opened nor imported; it has to be given again by whoever trusts it.

    Args:
        growth: the run.
        real: where the real images are; without it there are none.
        loader: `module:name` of the function that opens the checkpoints, for those of a run that was
            scored with one; see `open_snapshot`.
        show_reals: whether there may be real images at all.
        count: images in a grid.
        seed: of latents and of the choice of reals; that of the scores if left out.
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
    """The images of a checkpoint at its own resolution, of the latents of a seed.

    Args:
        growth: the run.
        snapshot: one of its checkpoints.
        seed: of the latents.
        loader: see `gather`; the one that the store names is not used.

    Raises:
        PgmetricsError: the file is missing, lies outside of the run's directory, or is no longer the
            one that was scored.
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
    """Samples from the last checkpoint of every stage, of the same latents; reals beside them."""
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
    """The first images of a source in the order in which it is evaluated."""
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
    """The k real images nearest to each sample, by squared differences of all bytes.

    Args:
        samples: uint8 [N, 3, r, r]; enlarged to the reals' resolution by repeated pixels.
        real: looked through in the order of evaluation, the first 50,000 or 2 GiB.
        k: neighbors of each.
        seed: of that order.
        progress: called with (what, done, total).

    Raises:
        SampleError: there are fewer reals than neighbors asked for, or their size does not fit.
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
        # Whole numbers below 2**53: every sum is exact.
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
    """A PNG of images side by side with transparent gaps; its width and height.

    Images are brought near `CELL` pixels a side: small ones by repeated pixels, large ones by means.
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
