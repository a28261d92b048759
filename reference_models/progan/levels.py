"""A set of images decoded once, at every resolution that a growing network is shown them.

A prepared directory holds `level-0004.npy` … `level-1024.npy`, each uint8 [N, C, r, r], where there are
classes `labels.npy`, int64 [N], and `levels.json`, which is written last: without it the set is not
complete. Equal images prepared alike give equal files, however often the work was interrupted.

Source: dataset_tool.py of Karras et al. 2018, which keeps the same levels in other files.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgmetrics import images as byte_images
from pgmetrics import loading
from pgmetrics.blocks import block_length
from pgmetrics.errors import OptionError, PgmetricsError, SourceError
from pgmetrics.files import check_regular, dump_json, open_regular, parse_json
from pgmetrics.sources.base import IDENTITY, ImageSource
from pgmetrics.sources.resolve import open_source
from reference_models.progan.checkpoint import refusing_unwritable, written_atomically

MANIFEST = "levels.json"
_UNFINISHED = "unfinished-levels.json"
_LABELS = "labels.npy"
_FORMAT, _FORMAT_VERSION = "progan levels", 1
_SECONDS_BETWEEN_MARKS = 5.0
_READ_AT_ONCE = 1 << 24  # bytes

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class _Settings:
    """All that decides a prepared directory's bytes."""

    fingerprint: str
    shuffled: bool
    num_images: int
    resolution: int
    channels: int
    mirror: bool | None
    label_names: tuple[str, ...]
    labels_digest: str | None

    def shape(self, resolution: int) -> tuple[int, ...]:
        return self.num_images, self.channels, resolution, resolution


def levels(pixels: NDArray[np.uint8]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Images at every resolution from their own down to 4 x 4.

    Each level is the mean of 2 x 2 squares of the unrounded level above it, rounded to even: rounding
    each level from rounded bytes would drift.

    Args:
        pixels: uint8 [N, C, R, R], R a power of two from 4.

    Yields:
        (r, uint8 [N, C, r, r]), the largest first.
    """
    yield pixels.shape[-1], pixels
    # Sums of bytes: 2**8 of them and what rounding adds fit in 16 bits. In float32, where the means
    # are exact as well, this takes twice the time, and by `box_downscale` twenty times.
    sums: NDArray[Any] = pixels.astype(np.uint16)
    bits = 0  # 2**bits bytes are in each sum
    while sums.shape[-1] > 4:
        if bits == 8:
            sums = sums.astype(np.uint32)
        rows = sums[..., ::2, :] + sums[..., 1::2, :]
        sums = rows[..., ::2] + rows[..., 1::2]
        bits += 2
        # Just below a half, and the rest of it where the whole part is odd: a tie goes to even.
        almost_half = sums.dtype.type((1 << bits - 1) - 1)
        yield sums.shape[-1], ((sums + almost_half + (sums >> bits & 1)) >> bits).astype(np.uint8)


def centre_square(pixels: byte_images.Images) -> byte_images.Images:
    """The centre of images up to their shorter side, as the `crop-` policies cut it: a view.

    Args:
        pixels: [N, C, H, W].
    """
    height, width = pixels.shape[2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[:, :, top : top + side, left : left + side]


def to_channels(pixels: NDArray[np.uint8], channels: int, name: str) -> NDArray[np.uint8]:
    """Grey images with one or three channels, colour images with three.

    Raises:
        SourceError: one channel is asked for and images are in colour.
    """
    if pixels.shape[1] == channels:
        return pixels
    if channels == 3:
        return byte_images.grey_to_rgb(pixels)
    if (pixels != pixels[:, :1]).any():
        raise SourceError(f"{name} has images in colour; channels=1 needs grey ones")
    return pixels[:, :1]


class PreparedSource(ImageSource):
    """The images of a prepared directory, and each of their levels.

    They are those of the source that was prepared, in its order, with its fingerprint and classes:
    training on either is the same run. Any part of them is identified by its pixels.

    Attributes:
        channels: 1 or 3, as stored.
        mirror: whether training should flip half of them, or None where nobody said.

    Args:
        directory: as `prepare` wrote it.
        resolution: of the images, one of the levels; None for the largest.

    Raises:
        SourceError: it is not complete, is damaged, or has no such level.
    """

    def __init__(self, directory: Path, resolution: int | None = None) -> None:
        super().__init__()
        self.name = str(directory)
        settings, _ = _read_manifest(directory)
        largest = settings.resolution
        side = largest if resolution is None else resolution
        if side not in _resolutions(largest):
            raise SourceError(
                f"{directory} was prepared at {largest} x {largest} and has no level of {side} x {side}; "
                f"`progan data` with --resolution {side} makes one"
            )
        self._fingerprint = settings.fingerprint + ("" if side == largest else f"+level={side}")
        self.shuffled = settings.shuffled
        self.channels = settings.channels
        self.mirror = settings.mirror
        self._side = side
        self._length = settings.num_images
        self._label_names = list(settings.label_names)
        self._levels = {
            r: _mapped(directory / _level_name(r), settings.shape(r), np.dtype(np.uint8))
            for r in _resolutions(largest)
            if r <= side
        }
        self._labels: NDArray[np.int64] | None = None
        if settings.labels_digest is not None:
            self._labels = np.array(_mapped(directory / _LABELS, (self._length,), np.dtype(np.int64)))

    def __len__(self) -> int:
        return self._length

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width in pixels of every image."""
        return self._side, self._side

    @property
    def fingerprint(self) -> str:
        """That of the source which was prepared."""
        return self._fingerprint

    def identity(self, indices: Sequence[int] | NDArray[np.int64]) -> str:
        """The fingerprint of all images in their order; of others the pixels are digested."""
        whole = np.array_equal(np.asarray(indices, np.int64), np.arange(len(self)))
        return self.fingerprint if whole else super().identity(indices)

    @property
    def label_names(self) -> list[str]:
        """Names of the classes; empty where there are none."""
        return list(self._label_names)

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """The class of each image as a place in `label_names`, or None where there are no classes."""
        return self._labels

    def level(self, indices: Sequence[int] | NDArray[np.int64], resolution: int) -> NDArray[np.uint8]:
        """Images by index at one of the levels: uint8 [N, channels, r, r]."""
        taken: NDArray[np.uint8] = np.take(self._levels[resolution], np.asarray(indices, np.int64), axis=0)
        return taken

    def _read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        return to_channels(self.level(indices, self._side), 3, self.name)


def prepare(
    source: ImageSource,
    out: Path,
    *,
    channels: int = 3,
    crop: bool = False,
    mirror: bool | None = None,
    workers: int | None = None,
    report: Report | None = None,
) -> PreparedSource:
    """Decode every image of a source once and write all levels of it.

    Interrupted in whatever way, the same call goes on where it was; the directory's bytes are the
    same as without the interruption.

    Args:
        source: of images of a power of two from 4, square unless they are cropped.
        out: new, empty, or begun by the same call.
        channels: 3, or 1 for grey images.
        crop: take the centre of images that are not square.
        mirror: whether training should flip half of the images; None leaves that to its configuration.
        workers: processes that decode; None for one per core.
        report: called with (images done, images in all).

    Raises:
        SourceError: an image cannot be read or the images are of no such size; what is there is of
            other images or damaged.
        OptionError: the directory holds something else, or the same set prepared otherwise.
        PgmetricsError: it cannot be written, or the disk is too small.
    """
    settings = _settings(source, channels, crop, mirror)
    done = _claim(out, settings)
    if done is None:
        return PreparedSource(out)
    _check_space(out, settings)
    with _Files(out, settings, done) as files:
        rest = range(done, len(source))
        for _, pixels in loading.blocks(source, rest, block_length(settings.resolution), workers):
            files.write(to_channels(centre_square(pixels), channels, source.name))
            if report is not None:
                report(files.done, len(source))
        digests = files.digests()
    if source.labels is not None:
        with written_atomically(out / _LABELS) as aside:
            aside.write_bytes(_npy(source.labels))
        digests[_LABELS] = str(settings.labels_digest)
    header = {"format": _FORMAT, "format_version": _FORMAT_VERSION}
    _write_json(out / MANIFEST, {**header, **asdict(settings), "sha256": digests})
    with refusing_unwritable(out):
        (out / _UNFINISHED).unlink(missing_ok=True)
    return PreparedSource(out)


def verify(directory: Path, report: Report | None = None) -> None:
    """Compare every file of a prepared directory with its checksum.

    Args:
        directory: as `prepare` wrote it.
        report: called with (bytes read, bytes in all).

    Raises:
        SourceError: the directory is not complete, or a file is missing or has other bytes.
    """
    _, digests = _read_manifest(directory)
    try:
        total, read = sum((directory / name).stat().st_size for name in digests), 0
        for name, expected in digests.items():
            digest = hashlib.sha256()
            with open_regular(directory / name) as file:
                while piece := file.read(_READ_AT_ONCE):
                    digest.update(piece)
                    read += len(piece)
                    if report is not None:
                        report(read, total)
            if digest.hexdigest() != expected:
                raise SourceError(
                    f"{directory / name} does not have the checksum it was written with; it is damaged, "
                    f"so delete {directory} and prepare the set again"
                )
    except OSError as error:
        raise SourceError(f"{error.filename} cannot be read: {error.strerror or error}") from error


def is_prepared(directory: Path) -> bool:
    """Whether a directory was made by `prepare`, complete or not."""
    return any((directory / name).is_file() for name in (MANIFEST, _UNFINISHED))


def open_training_source(data: str, resolution: int, *, resize: str | None = None) -> ImageSource:
    """The images that a training at this resolution is given.

    Args:
        data: a prepared directory, or whatever `pgmetrics` takes images from.
        resolution: final side in pixels; of a prepared directory it may be any level.
        resize: the policy that makes images of other sizes fit; a prepared directory's are as they are.

    Raises:
        SourceError: there are no images there, or a prepared set is incomplete or too small.
        OptionError: a prepared directory is to be resized.
    """
    if is_prepared(Path(data)):
        if resize is not None:
            raise OptionError(
                f"{data} is prepared, so its images cannot be resized; leave --resize out, or give it to "
                "`progan data`"
            )
        return PreparedSource(Path(data), resolution)
    # A procedural set can be of any resolution; files are what they are, unless told otherwise.
    follows = resize is not None or data.startswith("synthetic:")
    return open_source(data, resolution=resolution if follows else None, resize=resize)


def _settings(source: ImageSource, channels: int, crop: bool, mirror: bool | None) -> _Settings:
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
    return _Settings(
        fingerprint=source.fingerprint + ("" if height == width else "+crop"),
        shuffled=source.shuffled,
        num_images=len(source),
        resolution=side,
        channels=channels,
        mirror=mirror,
        label_names=tuple(source.label_names),
        labels_digest=None if labels is None else hashlib.sha256(_npy(labels)).hexdigest(),
    )


def _claim(out: Path, settings: _Settings) -> int | None:
    """How many images are written already; None for all, with everything else.

    Raises:
        OptionError: the directory holds something else, or the work was begun otherwise.
    """
    with refusing_unwritable(out):
        out.mkdir(parents=True, exist_ok=True)
        # A process that was killed before its first mark leaves nothing but what that was made of.
        holds_something = any(not each.name.startswith(f".{_UNFINISHED}.") for each in out.iterdir())
    done: int | None
    if (out / MANIFEST).is_file():
        found, done = _read_manifest(out)[0], None
    elif (out / _UNFINISHED).is_file():
        begun = _read_json(out / _UNFINISHED)
        done = begun.pop("done", None)
        found = _parsed(out / _UNFINISHED, begun)
        if type(done) is not int or not 0 <= done <= found.num_images:
            raise SourceError(f"{out / _UNFINISHED} is damaged; delete {out} and prepare the set again")
    elif holds_something:
        raise OptionError(
            f"{out} is there already and not empty; a prepared set needs a directory of its own"
        )
    else:
        found, done = settings, 0
        _mark(out, settings, 0)
    for each in fields(_Settings):
        old, new = getattr(found, each.name), getattr(settings, each.name)
        if old != new:
            what = f"with {each.name} {_shown(old)}, not {_shown(new)}"
            if each.name == "fingerprint":
                what = "from other images, or from files that changed since"
                if not old.startswith(IDENTITY):
                    what = (
                        "by an older version, which identified images by names and times; `progan train` "
                        "takes it as it is where it is complete"
                    )
            raise OptionError(f"{out} was prepared {what}; take another directory, or delete it")
    return done


def _check_space(out: Path, settings: _Settings) -> None:
    """Before hours of decoding: would all of it fit?"""
    needed = 0
    for r in _resolutions(settings.resolution):
        path = out / _level_name(r)
        needed += int(np.prod(settings.shape(r))) - (path.stat().st_size if path.is_file() else 0)
    free = shutil.disk_usage(out).free
    if needed > free:
        raise PgmetricsError(
            f"{out} needs {needed / 1e9:,.1f} GB more for {settings.num_images:,} images at all levels up to "
            f"{settings.resolution} x {settings.resolution}, and its disk has {free / 1e9:,.1f} GB free; "
            "take another disk or a lower --resolution"
        )


class _Files:
    """The level files under way; what `done` counts is written, and at the end on the disk."""

    def __init__(self, out: Path, settings: _Settings, done: int) -> None:
        self._out, self._settings = out, settings
        self.done = done
        self._levels: dict[int, _LevelFile] = {}
        self._marked = time.monotonic()

    def __enter__(self) -> _Files:
        with refusing_unwritable(self._out), ExitStack() as opened:
            for r in _resolutions(self._settings.resolution):
                level = _LevelFile(self._out / _level_name(r), self._settings.shape(r), self.done)
                self._levels[r] = opened.enter_context(level)
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        # Also where an image cannot be read: what was decoded until then is kept.
        with self._opened:
            self._mark()

    def write(self, pixels: NDArray[np.uint8]) -> None:
        """Append a block at every level."""
        with refusing_unwritable(self._out):
            for r, level in levels(pixels):
                self._levels[r].write(level)
        self.done += len(pixels)
        if time.monotonic() - self._marked >= _SECONDS_BETWEEN_MARKS:
            self._mark()

    def digests(self) -> dict[str, str]:
        """The files' checksums by name."""
        return {_level_name(r): level.digest for r, level in sorted(self._levels.items())}

    def _mark(self) -> None:
        with refusing_unwritable(self._out):
            for level in self._levels.values():
                level.sync()
        _mark(self._out, self._settings, self.done)
        self._marked = time.monotonic()


class _LevelFile:
    """One level as it is written, from image `done` on.

    Written in place rather than appended: what an interrupted run wrote beyond its last mark is
    written again with the same bytes, and so is what a second run writes beside this one.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], done: int) -> None:
        header = _npy_header(shape, "|u1")
        size = len(header) + done * int(np.prod(shape[1:]))
        path.touch()
        self._sha256 = _sha256_of_begun(path, header, size) if done else hashlib.sha256(header)
        self._file = path.open("r+b")
        if not done:
            self._file.write(header)
        self._file.seek(size)

    def __enter__(self) -> _LevelFile:
        return self

    def __exit__(self, *_: object) -> None:
        # After a `sync` there is nothing left to write, and where that failed its error is under way.
        with suppress(OSError):
            self._file.close()

    def write(self, pixels: NDArray[np.uint8]) -> None:
        content = np.ascontiguousarray(pixels).data
        self._file.write(content)
        self._sha256.update(content)

    def sync(self) -> None:
        """Put on the disk what was written."""
        self._file.flush()
        os.fsync(self._file.fileno())

    @property
    def digest(self) -> str:
        """Of everything written, from the header on."""
        return self._sha256.hexdigest()


def _sha256_of_begun(path: Path, header: bytes, size: int) -> hashlib._Hash:
    digest = hashlib.sha256()
    with open_regular(path) as file:
        begun = file.read(len(header))
        digest.update(begun)
        rest = size - len(begun)
        while rest and (piece := file.read(min(rest, _READ_AT_ONCE))):
            digest.update(piece)
            rest -= len(piece)
    if begun != header or rest:
        raise SourceError(f"{path} is damaged; delete {path.parent} and prepare the set again")
    return digest


def _mark(out: Path, settings: _Settings, done: int) -> None:
    _write_json(out / _UNFINISHED, {**asdict(settings), "done": done})


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    with written_atomically(path) as aside:
        aside.write_text(dump_json(content, indent=2) + "\n")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = parse_json(path.read_text())
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise SourceError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise SourceError(f"{path} is no description of a prepared set")
    return content


def _read_manifest(directory: Path) -> tuple[_Settings, dict[str, str]]:
    path = directory / MANIFEST
    if not path.is_file():
        begun = (directory / _UNFINISHED).is_file()
        raise SourceError(
            f"{directory} is not complete; the same `progan data` command goes on where it stopped"
            if begun
            else f"{directory} is no prepared set; `progan data` makes one"
        )
    content = _read_json(path)
    kind, version = content.pop("format", None), content.pop("format_version", None)
    if (kind, version) != (_FORMAT, _FORMAT_VERSION):
        raise SourceError(
            f"{path} describes {kind} in version {version}; this version reads {_FORMAT} in version "
            f"{_FORMAT_VERSION}"
        )
    digests = content.pop("sha256", None)
    settings = _parsed(path, content)
    needed = {_level_name(r) for r in _resolutions(settings.resolution)}
    needed |= {_LABELS} if settings.labels_digest is not None else set()
    if not isinstance(digests, dict) or set(digests) != needed:
        raise SourceError(f"{path} does not list its files; it is damaged, so prepare the set again")
    return settings, digests


def _parsed(path: Path, content: Mapping[str, Any]) -> _Settings:
    try:
        content = {**content, "label_names": tuple(content["label_names"])}
        if "order_key" in content:  # of an older version; null where the order was kept
            content["shuffled"] = content.pop("order_key") is not None
        settings = _Settings(**content)
        known = _resolutions(settings.resolution)
        if known[-1] != settings.resolution or settings.channels not in (1, 3) or settings.num_images < 1:
            raise ValueError("a number is out of range")
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise SourceError(
            f"{path} is damaged: {error}; delete {path.parent} and prepare the set again"
        ) from error
    return settings


def _mapped(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    try:
        check_regular(path)
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        reason = (
            error.strerror if isinstance(error, OSError) and error.strerror else "it was cut short or damaged"
        )
        raise SourceError(f"{path} cannot be read: {reason}; prepare the set again") from error
    if array.shape != shape or array.dtype != dtype:
        raise SourceError(
            f"{path} holds {array.dtype} {list(array.shape)} where {dtype} {list(shape)} belongs; prepare "
            "the set again"
        )
    return np.asarray(array)


def _resolutions(largest: int) -> list[int]:
    return [4 << i for i in range(largest.bit_length() - 2)]


def _level_name(resolution: int) -> str:
    return f"level-{resolution:04d}.npy"


def _npy_header(shape: tuple[int, ...], descr: str) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def _npy(labels: NDArray[np.int64]) -> bytes:
    return _npy_header(labels.shape, "<i8") + labels.astype("<i8").tobytes()


def _shown(value: object) -> str:
    text = dump_json(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
