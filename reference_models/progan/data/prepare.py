"""Decode a set once into one array per resolution of growth: `progan data`."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from contextlib import ExitStack, suppress
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pgmetrics.errors import OptionError, PgmetricsError, SourceError
from pgmetrics.runtime.blocks import block_length
from pgmetrics.runtime.files import open_regular, refusing_unwritable, sha256, written_atomically
from pgmetrics.runtime.progress import Progress
from pgmetrics.sources import loading
from pgmetrics.sources.base import IDENTITY, ImageSource
from reference_models.progan.data.level_files import (
    FORMAT,
    FORMAT_VERSION,
    LABELS,
    MANIFEST,
    READ_AT_ONCE,
    SECONDS_BETWEEN_MARKS,
    UNFINISHED,
    PreparedSettings,
    level_name,
    level_resolutions,
    npy_bytes,
    npy_header,
    parsed_settings,
    read_json,
    read_manifest,
    shown_value,
    write_json,
)
from reference_models.progan.data.prepared import PreparedSource
from reference_models.progan.data.pyramid_levels import center_square, levels, to_channels


def prepare(
    source: ImageSource,
    out: Path,
    *,
    channels: int = 3,
    crop: bool = False,
    mirror: bool | None = None,
    workers: int | None = None,
    report: Progress | None = None,
) -> PreparedSource:
    """Decode every image of a source once and write all levels of it.

    After any interruption the same call resumes, and the directory gets the same bytes as without the
    interruption.

    Args:
        source: images whose side is a power of two from 4, square unless they are cropped.
        out: a new or empty directory, or one begun by the same call.
        channels: 3, or 1 for grey images.
        crop: take the center of images that are not square.
        mirror: whether training should flip half of the images; None leaves that to its configuration.
        workers: decoding processes; None for one per core.
        report: called with (what, images done, images in total).

    Raises:
        SourceError: an image cannot be read, or the images have another size; or existing files are of other
            images or damaged.
        OptionError: the directory holds something else, or the same set prepared with other settings.
        PgmetricsError: the directory cannot be written, or the disk is too small.
    """
    settings = _settings(source, channels, crop, mirror)
    done = _claim(out, settings)
    if done is None:
        return PreparedSource(out)
    _check_space(out, settings)
    with _Files(out, settings, done) as files:
        rest = range(done, len(source))
        for _, pixels in loading.blocks(source, rest, block_length(settings.resolution), workers):
            files.write(to_channels(center_square(pixels), channels, source.name))
            if report is not None:
                report("decoding", files.done, len(source))
        digests = files.digests()
    if source.labels is not None:
        with written_atomically(out / LABELS) as aside:
            aside.write_bytes(npy_bytes(source.labels))
        digests[LABELS] = str(settings.labels_digest)
    header = {"format": FORMAT, "format_version": FORMAT_VERSION}
    write_json(out / MANIFEST, {**header, **asdict(settings), "sha256": digests})
    with refusing_unwritable(out):
        (out / UNFINISHED).unlink(missing_ok=True)
    return PreparedSource(out)


def verify(directory: Path, report: Progress | None = None) -> None:
    """Compare every file of a prepared directory with its checksum.

    Args:
        directory: a directory that `prepare` wrote.
        report: called with (what, bytes read, bytes in total).

    Raises:
        SourceError: the directory is incomplete, or a file is missing or has other bytes.
    """
    _, digests = read_manifest(directory)
    try:
        total, read = sum((directory / name).stat().st_size for name in digests), 0
        for name, expected in digests.items():
            digest = sha256()
            with open_regular(directory / name) as file:
                while piece := file.read(READ_AT_ONCE):
                    digest.update(piece)
                    read += len(piece)
                    if report is not None:
                        report("checking", read, total)
            if digest.hexdigest() != expected:
                raise SourceError(
                    f"{directory / name} does not have the checksum it was written with; it is damaged, "
                    f"so delete {directory} and prepare the set again"
                )
    except OSError as error:
        raise SourceError(f"{error.filename} cannot be read: {error.strerror or error}") from error


def _settings(source: ImageSource, channels: int, crop: bool, mirror: bool | None) -> PreparedSettings:
    if channels not in (1, 3):
        raise OptionError(f"images have 1 or 3 channels, not {channels}")
    height, width = source.resolution
    side = min(height, width)
    power = 1 << max(side, 4).bit_length() - 1
    way_out = f"--resize crop-box --resolution {power} makes them so (or box, lanczos, bicubic …)"
    if height != width and not crop:
        raise SourceError(
            f"{source.name} has images of {height} × {width} (height × width), and a ProGAN grows squares; "
            f"{way_out}"
        )
    if side != power:
        raise SourceError(
            f"{source.name} has images of {height} × {width} (height × width); levels halve down to 4 from a "
            f"power of two: {way_out}"
        )
    labels = source.labels
    return PreparedSettings(
        fingerprint=source.fingerprint + ("" if height == width else "+crop"),
        shuffled=source.shuffled,
        num_images=len(source),
        resolution=side,
        channels=channels,
        mirror=mirror,
        label_names=tuple(source.label_names),
        labels_digest=None if labels is None else sha256(npy_bytes(labels)).hexdigest(),
    )


def _claim(out: Path, settings: PreparedSettings) -> int | None:
    """Return the number of images already written; None if the directory is complete.

    Raises:
        OptionError: the directory holds something else, or was begun with other settings.
    """
    with refusing_unwritable(out):
        out.mkdir(parents=True, exist_ok=True)
        # A process that was killed before its first mark leaves only the mark's temporary file.
        holds_something = any(not each.name.startswith(f".{UNFINISHED}.") for each in out.iterdir())
    done: int | None
    if (out / MANIFEST).is_file():
        begun_settings, done = read_manifest(out)[0], None
    elif (out / UNFINISHED).is_file():
        begun = read_json(out / UNFINISHED)
        done = begun.pop("done", None)
        begun_settings = parsed_settings(out / UNFINISHED, begun)
        if type(done) is not int or not 0 <= done <= begun_settings.num_images:
            raise SourceError(f"{out / UNFINISHED} is damaged; delete {out} and prepare the set again")
    elif holds_something:
        raise OptionError(
            f"{out} is there already and not empty; a prepared set needs a directory of its own"
        )
    else:
        begun_settings, done = settings, 0
        _mark(out, settings, 0)
    for each in fields(PreparedSettings):
        old, new = getattr(begun_settings, each.name), getattr(settings, each.name)
        if old != new:
            what = f"with {each.name} {shown_value(old)}, not {shown_value(new)}"
            if each.name == "fingerprint":
                what = "from other images, or from files that changed since"
                if not old.startswith(IDENTITY):
                    what = (
                        "by an older version, which identified images by names and times; `progan train` "
                        "takes it as it is where it is complete"
                    )
            raise OptionError(f"{out} was prepared {what}; take another directory, or delete it")
    return done


def _check_space(out: Path, settings: PreparedSettings) -> None:
    """Refuse a disk that is too small, before hours of decoding."""
    needed = 0
    for r in level_resolutions(settings.resolution):
        path = out / level_name(r)
        needed += int(np.prod(settings.shape(r))) - (path.stat().st_size if path.is_file() else 0)
    free = shutil.disk_usage(out).free
    if needed > free:
        raise PgmetricsError(
            f"{out} needs {needed / 1e9:,.1f} GB more for {settings.num_images:,} images at all levels up to "
            f"{settings.resolution} x {settings.resolution}, and its disk has {free / 1e9:,.1f} GB free; "
            "take another disk or a lower --resolution"
        )


class _Files:
    """The level files in progress; the first `done` images are written."""

    def __init__(self, out: Path, settings: PreparedSettings, done: int) -> None:
        self._out, self._settings = out, settings
        self.done = done
        self._levels: dict[int, _LevelFile] = {}
        self._marked = time.monotonic()

    def __enter__(self) -> _Files:
        with refusing_unwritable(self._out), ExitStack() as opened:
            for r in level_resolutions(self._settings.resolution):
                level = _LevelFile(self._out / level_name(r), self._settings.shape(r), self.done)
                self._levels[r] = opened.enter_context(level)
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        # Also after an unreadable image: the images decoded before it are kept.
        with self._opened:
            self._mark()

    def write(self, pixels: NDArray[np.uint8]) -> None:
        """Append a block at every level."""
        with refusing_unwritable(self._out):
            for r, level in levels(pixels):
                self._levels[r].write(level)
        self.done += len(pixels)
        if time.monotonic() - self._marked >= SECONDS_BETWEEN_MARKS:
            self._mark()

    def digests(self) -> dict[str, str]:
        """The files' checksums by name."""
        return {level_name(r): level.digest for r, level in sorted(self._levels.items())}

    def _mark(self) -> None:
        with refusing_unwritable(self._out):
            for level in self._levels.values():
                level.sync()
        _mark(self._out, self._settings, self.done)
        self._marked = time.monotonic()


class _LevelFile:
    """The file of one level, written from image `done` on.

    It is written in place rather than appended to: images that an interrupted run wrote beyond its last mark
    are written again with the same bytes, and so are those of a second run at the same time.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], done: int) -> None:
        header = npy_header(shape, "|u1")
        size = len(header) + done * int(np.prod(shape[1:]))
        path.touch()
        self._sha256 = _sha256_of_begun(path, header, size) if done else sha256(header)
        self._file = path.open("r+b")
        if not done:
            self._file.write(header)
        self._file.seek(size)

    def __enter__(self) -> _LevelFile:
        return self

    def __exit__(self, *_: object) -> None:
        # After a `sync` nothing is left to write, and if it failed its error is being raised.
        with suppress(OSError):
            self._file.close()

    def write(self, pixels: NDArray[np.uint8]) -> None:
        content = np.ascontiguousarray(pixels).data
        self._file.write(content)
        self._sha256.update(content)

    def sync(self) -> None:
        """Flush written data to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    @property
    def digest(self) -> str:
        """The digest of everything written, including the header."""
        return self._sha256.hexdigest()


def _sha256_of_begun(path: Path, header: bytes, size: int) -> hashlib._Hash:
    with open_regular(path) as file:
        begun = file.read(len(header))
        digest = sha256(begun)
        rest = size - len(begun)
        while rest and (piece := file.read(min(rest, READ_AT_ONCE))):
            digest.update(piece)
            rest -= len(piece)
    if begun != header or rest:
        raise SourceError(f"{path} is damaged; delete {path.parent} and prepare the set again")
    return digest


def _mark(out: Path, settings: PreparedSettings, done: int) -> None:
    write_json(out / UNFINISHED, {**asdict(settings), "done": done})
