"""Time the identification of images by their content, compared with reading them.

    python -m benchmarks.sources small
    python -m benchmarks.sources large --gigabytes 10

`small` makes 50,000 PNGs of 32 x 32 random pixels, as a directory and as a zip. `large` makes files of 5 MB
of random bytes. Each set is identified twice; the second time the digests of unchanged files are cached. The
files were written just before, so they are read from the page cache if they fit; reading from a disk takes
longer. Everything is made in a temporary directory and removed.
"""

from __future__ import annotations

import io
import os
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click
import numpy as np
from PIL import Image

from benchmarks.timing import machine
from pgmetrics import sources
from pgmetrics.runtime.seeding import Stream, generator
from pgmetrics.sources.base import ImageSource
from pgmetrics.sources.folder import Directory, FolderSource
from pgmetrics.sources.loading import blocks

_SETTLED = 2.5  # seconds after which the digest of a file just written can be cached
_LARGE = 5_000_000  # bytes per file of `large`


@click.group()
def main() -> None:
    """Cost of identities."""


@main.command()
@click.option("--num-images", type=click.IntRange(min=1), default=50_000, show_default=True)
@click.option("--workers", type=click.IntRange(min=0), default=2, show_default=True, help="That decode.")
def small(num_images: int, workers: int) -> None:
    """Many small files, in a directory and in a zip."""
    with _workplace() as place:
        folder = place / "set"
        folder.mkdir()
        with zipfile.ZipFile(place / "set.zip", "w") as archive:
            for index in range(num_images):
                pixels = generator(0, Stream.SYNTHETIC, index).integers(0, 256, (32, 32, 3), np.uint8)
                file = io.BytesIO()
                Image.fromarray(pixels).save(file, "png")
                (folder / f"{index}.png").write_bytes(file.getvalue())
                archive.writestr(f"{index}.png", file.getvalue())
        time.sleep(_SETTLED)
        click.echo(f"{machine()}\n\n| {num_images:,} PNGs of 32 × 32 | directory | zip |\n|:--|--:|--:|")
        columns = [_timed(path, workers) for path in (folder, place / "set.zip")]
        for row in columns[0]:
            click.echo(f"| {row} | " + " | ".join(f"{column[row]:.2f} s" for column in columns) + " |")


def _timed(path: Path, workers: int) -> dict[str, float]:
    """Return the seconds that each operation takes, by its name."""

    def opened() -> ImageSource:
        return sources.open_source(path)

    def read(source: ImageSource) -> None:
        for _ in blocks(source, range(len(source)), 256, workers):
            pass

    fresh, again, part, reading = opened(), opened(), opened(), opened()
    found = {
        "open": _seconds(opened),
        "read, decode and digest": _seconds(lambda: read(reading)),
        "identity of what was read": _seconds(lambda: reading.fingerprint),
        "identity, first time": _seconds(lambda: fresh.fingerprint),
        "identity, remembered": _seconds(lambda: again.fingerprint),
        "identity of 2,048 of them, remembered": _seconds(lambda: part.identity(range(min(2048, len(part))))),
    }
    assert fresh.fingerprint == again.fingerprint == reading.fingerprint
    return found


@main.command()
@click.option("--gigabytes", type=click.FloatRange(min=0.01), default=10.0, show_default=True)
def large(gigabytes: float) -> None:
    """Few large files."""
    count = max(round(gigabytes * 1e9 / _LARGE), 1)
    with _workplace() as place:
        random = generator(0, Stream.SYNTHETIC)
        for index in range(count):
            (place / f"{index}.png").write_bytes(random.bytes(_LARGE))
        time.sleep(_SETTLED)
        first, again = (FolderSource(Directory(os.fspath(place))) for _ in range(2))
        # Only the bytes matter here, so they need not be an image.
        seconds = [_seconds(partial(source.identity, range(count))) for source in (first, again)]
        click.echo(
            f"{machine()}\n\n| {count:,} files of {_LARGE / 1e6:g} MB | |\n|:--|--:|\n"
            f"| identity, first time | {seconds[0]:.2f} s ({count * _LARGE / 1e9 / seconds[0]:.2f} GB/s) |\n"
            f"| identity, remembered | {seconds[1]:.2f} s |"
        )


@contextmanager
def _workplace() -> Iterator[Path]:
    """Make an empty temporary directory, and use a separate cache next to it."""
    before = os.environ.get("PGMETRICS_CACHE")
    with tempfile.TemporaryDirectory() as images, tempfile.TemporaryDirectory() as cache:
        os.environ["PGMETRICS_CACHE"] = cache
        try:
            yield Path(images)
        finally:
            if before is None:
                del os.environ["PGMETRICS_CACHE"]
            else:
                os.environ["PGMETRICS_CACHE"] = before


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
