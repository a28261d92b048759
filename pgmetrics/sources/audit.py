"""Check a source for problems before a long evaluation: `pgmetrics check`."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pgmetrics.errors import SourceError, printable
from pgmetrics.runtime.progress import Progress
from pgmetrics.sources.base import ImageSource
from pgmetrics.sources.decode import Decoding, decode, facts_of, open_image, quiet_pillow
from pgmetrics.sources.folder import FolderSource
from pgmetrics.sources.ranges import ByteRange
from pgmetrics.sources.resolve import open_source

_EXAMPLES = 5  # names listed for each kind of finding
_GENERATED = 1_000  # images read from a generator
_BLOCK = 64  # images read at a time from a source without files


@dataclass
class Audit:
    """The findings about a source whose images were all read.

    Attributes:
        name: of the source.
        count: number of images that it lists.
        sizes: number of images by (height, width), the most frequent first.
        modes: number of images by Pillow's mode, such as RGB or L.
        formats: number of images by file format.
        unreadable: the reason, by the name of the file.
        duplicates: groups of names whose decoded pixels are equal.
        ignored: number of skipped files.
        left_out: one line that counts the skipped files by kind; None if no file is skipped.
        notes: what decoding drops or needs an option for, with the number of images.
        problems: what makes the source unusable as it is, each in one line with its fix.
        warnings: what may be intended, but usually is a mistake.
    """

    name: str
    count: int
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)
    modes: dict[str, int] = field(default_factory=dict)
    formats: dict[str, int] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    duplicates: list[list[str]] = field(default_factory=list)
    ignored: int = 0
    left_out: str | None = None
    notes: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """1 if there are problems, else 0."""
        return 1 if self.problems else 0

    def to_dict(self) -> dict[str, object]:
        """All findings in types that JSON has."""
        return {
            "source": self.name,
            "count": self.count,
            "sizes": [
                {"height": height, "width": width, "count": count}
                for (height, width), count in self.sizes.items()
            ],
            "modes": self.modes,
            "formats": self.formats,
            "unreadable": self.unreadable,
            "duplicates": self.duplicates,
            "ignored": self.ignored,
            "left_out": self.left_out,
            "notes": self.notes,
            "problems": self.problems,
            "warnings": self.warnings,
        }

    def __str__(self) -> str:
        """All findings in a few lines of text, problems last."""
        sizes = [f"{height} × {width}: {count:,}" for (height, width), count in self.sizes.items()]
        shown_sizes = ", ".join(sizes[:_EXAMPLES]) + (
            f" and {len(sizes) - _EXAMPLES} more sizes" if len(sizes) > _EXAMPLES else ""
        )
        lines = [
            self.name,
            f"  images      {self.count:,}",
            f"  sizes       {shown_sizes or 'none read'} (height × width)",
            f"  modes       {_counts(self.modes)}",
        ]
        if self.formats:
            lines.append(f"  formats     {_counts(self.formats)}")
        if self.left_out:
            lines.append(f"  ignored     {self.left_out}")
        lines += [f"  note        {count:,} × {note}" for note, count in self.notes.items()]
        lines += [f"  warning     {warning}" for warning in self.warnings]
        lines += [f"  problem     {problem}" for problem in self.problems]
        lines += [f"  unreadable  {reason}" for reason in self.unreadable.values()]
        return "\n".join(map(printable, lines))


def audit(spec: object, decoding: Decoding | None = None, progress: Progress | None = None) -> Audit:
    """Read a whole source and report what is unusual about it, without stopping at the first fault.

    From a generator the first thousand images are read.

    Args:
        spec: a source, as for `open_source`.
        decoding: the rules for reading images. Without `alpha` and `bits`, files that need them count as
            problems. With a resize policy, images may differ in size.
        progress: called with (what, images read, images in all).

    Raises:
        SourceError: the source itself cannot be opened.
    """
    decoding = decoding or Decoding()
    source = open_source(
        spec,
        resolution=decoding.resolution,
        resize=decoding.resize,
        alpha=decoding.alpha,
        bits=decoding.bits,
    )
    if isinstance(source, FolderSource):
        return _audit_files(source, progress)
    return _audit_images(source, progress)


def _audit_files(source: FolderSource, progress: Progress | None) -> Audit:
    report = Audit(source.name, len(source), ignored=source.ignored)
    if source.left_out is not None:
        report.left_out = source.left_out.removeprefix(f"{printable(source.name)}: ")
    examples: dict[tuple[int, int], str] = {}
    sizes: Counter[tuple[int, int]] = Counter()
    modes: Counter[str] = Counter()
    formats: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    by_pixels: dict[bytes, list[str]] = {}
    bytes_used = ByteRange(source.name)
    as_they_are = Decoding(alpha=source.decoding.alpha, bits=source.decoding.bits)
    with quiet_pillow():
        for index, name in enumerate(map(printable, source.names)):
            try:
                data = source.read_file(index)
                pixels = decode(data, name, as_they_are, notes)
            except SourceError as error:
                report.unreadable[name] = str(error)
            else:
                with open_image(data) as image:
                    facts = facts_of(image)
                sizes[facts.size] += 1
                examples.setdefault(facts.size, name)
                modes[facts.mode] += 1
                formats[facts.format] += 1
                by_pixels.setdefault(_pixel_key(pixels), []).append(name)
                bytes_used.add(pixels[None])
            if progress is not None:
                progress("checking", index + 1, len(source))
    report.sizes = dict(sizes.most_common())
    report.modes = dict(modes.most_common())
    report.formats = dict(formats.most_common())
    report.notes = dict(notes)
    report.duplicates = [names for names in by_pixels.values() if len(names) > 1]
    if report.unreadable:
        report.problems.append(
            f"{len(report.unreadable):,} of {len(source):,} files cannot be used as they are"
        )
    if len(sizes) > 1 and source.decoding.resize is None:
        report.problems.append(_mixed_sizes(sizes, examples))
    report.warnings += _remarks(bytes_used, source)
    _warn(report)
    return report


def _audit_images(source: ImageSource, progress: Progress | None) -> Audit:
    """Audit images that are not files: they have one size and are RGB by construction."""
    report = Audit(source.name, len(source))
    by_pixels: dict[bytes, list[str]] = {}
    bytes_used = ByteRange(source.name)
    grey = 0
    # A generator may declare any number of images; a thousand show what it makes.
    total = len(source) if source.shuffled else min(len(source), _GENERATED)
    for start in range(0, total, _BLOCK):
        indices = range(start, min(start + _BLOCK, total))
        try:
            images: Sequence[NDArray[np.uint8] | None] = list(source.batch(indices))
        except SourceError:
            images = _one_by_one(source, indices, report)
        for index, pixels in zip(indices, images, strict=True):
            if pixels is not None:
                by_pixels.setdefault(_pixel_key(pixels), []).append(f"image {index}")
                bytes_used.add(pixels[None])
                grey += bool((pixels[0] == pixels[1]).all() and (pixels[0] == pixels[2]).all())
        if progress is not None:
            progress("checking", indices.stop, total)
    readable = total - len(report.unreadable)
    report.sizes = {source.resolution: readable} if readable else {}
    report.modes = {mode: count for mode, count in (("RGB", readable - grey), ("L", grey)) if count}
    report.notes = dict(source.take_notes())
    if total < len(source):
        report.notes["generated images looked at"] = total
    report.duplicates = [names for names in by_pixels.values() if len(names) > 1]
    if report.unreadable:
        report.problems.append(f"{len(report.unreadable):,} of {total:,} images cannot be made")
    report.warnings += _remarks(bytes_used, source)
    _warn(report)
    return report


def _remarks(bytes_used: ByteRange, source: ImageSource) -> list[str]:
    remarks = [*source.take_remarks(), bytes_used.remark() or ""]
    if source.unlabeled is not None:
        remarks.append(f"no classes: {source.unlabeled}")
    return [remark.removeprefix(f"{printable(source.name)}: ") for remark in remarks if remark]


def _one_by_one(source: ImageSource, indices: range, report: Audit) -> list[NDArray[np.uint8] | None]:
    images: list[NDArray[np.uint8] | None] = []
    for index in indices:
        try:
            images.append(source.batch([index])[0])
        except SourceError as error:
            report.unreadable[f"image {index}"] = str(error)
            images.append(None)
    return images


def _mixed_sizes(sizes: Counter[tuple[int, int]], examples: dict[tuple[int, int], str]) -> str:
    listed = ", ".join(
        f"{height} × {width} ({count:,}, such as {examples[height, width]})"
        for (height, width), count in sizes.most_common(_EXAMPLES)
    )
    more = f" and {len(sizes) - _EXAMPLES} more" if len(sizes) > _EXAMPLES else ""
    side = min(min(size) for size in sizes)
    return f"{len(sizes)} sizes: {listed}{more}; --resize crop-box --resolution {side} brings them to one"


def _warn(report: Audit) -> None:
    if report.duplicates:
        extra = sum(len(names) - 1 for names in report.duplicates)
        report.warnings.append(
            f"{extra:,} images repeat others pixel for pixel, such as "
            f"{' and '.join(report.duplicates[0][:2])}"
        )
    if len(report.formats) > 1 and "JPEG" in report.formats:
        report.warnings.append(
            f"JPEG among other formats ({_counts(report.formats)}); metrics see compression as well as "
            "content"
        )
    grey = sum(count for mode, count in report.modes.items() if mode in ("1", "L", "LA", "I;16"))
    if 0 < grey < sum(report.modes.values()):
        report.warnings.append(f"{grey:,} grey images among {sum(report.modes.values()) - grey:,} in color")


def _pixel_key(pixels: NDArray[np.uint8]) -> bytes:
    digest = hashlib.blake2b(str(pixels.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"
