"""Directories and zips of image files, listed and ordered alike, so that both give the same images."""

from __future__ import annotations

import os
import re
import stat
import struct
import threading
import weakref
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgmetrics.errors import SourceError, printable
from pgmetrics.runtime.files import check_regular, kind_of, open_regular, sha256
from pgmetrics.sources import digests, stylegan_labels
from pgmetrics.sources.base import IDENTITY, ImageSource
from pgmetrics.sources.decode import SUFFIXES, Decoding, decode, quiet_pillow
from pgmetrics.sources.digests import Stamp

_LARGEST_FILE = 2**29  # bytes of one image file or dataset.json; more is a bomb or a mistake
_PIECE = 2**24  # bytes read at a time
_LABELS = stylegan_labels.FILE_NAME
_DIGITS = re.compile("([0-9]+)")
_LITTER = ("thumbs.db", "desktop.ini", ".ds_store")
_LITTER_FOLDERS = {
    "__MACOSX",
    ".ipynb_checkpoints",
    ".git",
    "@eaDir",
}  # copies, thumbnails, histories
_KINDS = 5  # kinds of skipped files that are listed
_EXAMPLES = 3  # skipped files that are named, for kinds that could have been images


class _Member(NamedTuple):
    offset: int
    stored: int  # bytes in the zip
    size: int
    crc: int
    deflated: bool


class _Other(NamedTuple):
    name: str
    kind: str  # its suffix, or another reason to skip it
    named: bool = False  # whether it is listed by name


class Directory:
    """Image files below a directory, including links to regular files.

    Attributes:
        path: the directory, as the user wrote it.
        names: relative names of the image files with forward slashes, in natural order.
        others: skipped files, which are not images or not regular files.
        labels_file: content of a StyleGAN data set's `dataset.json`, if there is one.
    """

    kind = "directory"

    def __init__(self, path: str) -> None:
        self.path = path
        self.names: list[str] = []
        self.others: list[_Other] = []
        self.labels_file: bytes | None = None
        for name, entry in _walk(path):
            if not _is_image(name) and name != _LABELS:
                self.others.append(_Other(name, _kind_of_other(name)))
                continue
            try:
                status = entry.stat()
            except OSError:  # a dangling link, for instance, is refused by name when it is read
                status = None
            if status is not None and (kind := kind_of(status.st_mode)):
                self.others.append(_Other(name, kind, named=True))
            elif name == _LABELS:
                self.labels_file = _read_labels(entry.path)
            else:
                self.names.append(name)
        self.names.sort(key=natural)
        self.others.sort()

    def read(self, index: int) -> bytes:
        """Return a file's bytes.

        Raises:
            OSError: the operating system cannot read it.
            ValueError: it is too large for an image.
        """
        with open_regular(os.path.join(self.path, self.names[index])) as file:
            return _at_most(file)

    def stamps(self, indices: Sequence[int]) -> list[Stamp | None]:
        """Return the stamp of each image's file."""
        return [_stamp(os.path.join(self.path, self.names[index])) for index in indices]

    def places(self, indices: Sequence[int]) -> list[str]:
        """Return the absolute path of each image's file."""
        root = os.path.abspath(self.path)
        return [os.path.join(root, self.names[index]) for index in indices]


class Archive:
    """Image files in a zip, read without a shared file position, so that threads may read at once.

    Attributes:
        path, names, others, labels_file: as for a `Directory`.
    """

    kind = "zip"

    def __init__(self, path: str) -> None:
        self.path = path
        self.others: list[_Other] = []
        self.labels_file: bytes | None = None
        members: dict[str, _Member] = {}
        with open_zip(path) as archive:
            for info in archive.infolist():
                name = _member_name(info)
                if not name:
                    continue  # a directory
                if not _is_image(name) and name != _LABELS:
                    self.others.append(_Other(name, _kind_of_other(name)))
                elif kind := _kind_of_member(info):
                    self.others.append(_Other(name, kind, named=True))
                elif name == _LABELS:
                    self.labels_file = _read_member(path, archive, info)
                elif name in members:
                    raise SourceError(f"{path} holds two files called {printable(name)}; zip it anew")
                else:
                    members[name] = _member(path, info)
        self.names = sorted(members, key=natural)
        self._members = [members[name] for name in self.names]
        self.others.sort()
        status = os.stat(path)
        self._size = status.st_size
        self._identity = _identity(status)
        self._open_lock = threading.Lock()
        self._descriptor: int | None = None

    def __getstate__(self) -> dict[str, object]:
        # Another process opens the file again.
        return self.__dict__ | {"_descriptor": None, "_open_lock": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._open_lock = threading.Lock()

    def read(self, index: int) -> bytes:
        """Return a member's bytes, decompressed and with its checksum verified.

        Raises:
            OSError: the operating system cannot read the zip.
            ValueError: the zip is damaged at this member.
        """
        member = self._members[index]
        # A table of contents can claim any 64-bit numbers; memory is taken for what the file can hold.
        if member.offset + 30 + member.stored > self._size:
            raise ValueError(f"its place in the zip lies beyond the zip's {self._size:,} bytes")
        # Only the local header itself gives the length of its last field.
        slack = 30 + len(self.names[index].encode("utf-8", "surrogateescape")) + 512
        block = self._read_at(member.offset, slack + member.stored)
        if block[:4] != b"PK\x03\x04":
            raise ValueError("its place in the zip is damaged")
        name_length, extra_length = struct.unpack_from("<HH", block, 26)
        begin = 30 + name_length + extra_length
        packed = block[begin : begin + member.stored]
        if len(packed) < member.stored:
            packed = self._read_at(member.offset + begin, member.stored)
        # For zlib a limit of 0 is none.
        limit = max(member.size, 1)
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, limit) if member.deflated else packed
        if len(data) != member.size or zlib.crc32(data) != member.crc:
            raise ValueError("its checksum in the zip is wrong")
        return data

    def stamps(self, indices: Sequence[int]) -> list[Stamp | None]:
        """Return the zip's own stamp for each image."""
        return [_stamp(self.path)] * len(indices)

    def places(self, indices: Sequence[int]) -> list[str]:
        """Return the zip's absolute path and the member's name for each image."""
        root = os.path.abspath(self.path)
        return [f"{root}\0{self.names[index]}" for index in indices]

    def _read_at(self, offset: int, size: int) -> bytes:
        if self._descriptor is None:
            with self._open_lock:
                if self._descriptor is None:
                    self._descriptor = self._open()
        if hasattr(os, "pread"):
            return os.pread(self._descriptor, size, offset)
        with self._open_lock:  # Windows has no positional read
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            return os.read(self._descriptor, size)

    def _open(self) -> int:
        with open_regular(self.path) as file:
            descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, descriptor)
        if _identity(os.fstat(descriptor)) != self._identity:
            raise SourceError(f"{self.path} has changed since it was opened; start again")
        return descriptor


class FolderSource(ImageSource):
    """The images of a directory or zip, sorted naturally by their names without suffix.

    Images are identified by their encoded bytes, so that equal files are the same set wherever they are.

    Attributes:
        names: names of the image files, relative to the directory or zip.
        ignored: number of skipped files.
        decoding: the rules by which files become images.
    """

    in_workers = True
    shuffled = True
    _digests_pixels = False

    def __init__(self, files: Directory | Archive, decoding: Decoding | None = None) -> None:
        super().__init__()
        self.name = files.path
        self.decoding = decoding or Decoding()
        self.files = files
        self.names = files.names
        self.ignored = len(files.others)
        if files.others:
            self.left_out = f"{printable(self.name)}: {_counted(files.others)}"
        if not self.names:
            raise SourceError(f"{self.name} {_nothing(files)}")
        self._resolution: tuple[int, int] | None = None
        if self.decoding.resolution is not None:
            self._resolution = (self.decoding.resolution, self.decoding.resolution)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width in pixels of every image."""
        if self._resolution is None:
            with quiet_pillow():
                # Notes are counted later, when the image is read for an evaluation.
                first = decode(self.read_file(0), self._called(0), self.decoding, type(self.notes)())
            self._resolution = first.shape[1], first.shape[2]
        return self._resolution

    def read_file(self, index: int) -> bytes:
        """Return the encoded bytes of one image file.

        Raises:
            SourceError: the file cannot be read; the message names it and the reason.
        """
        try:
            return self.files.read(index)
        except SourceError:
            raise
        except (OSError, ValueError, zlib.error) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise SourceError(f"{self._called(index)} cannot be read: {reason}") from error

    def identity(self, indices: Sequence[int] | NDArray[np.int64]) -> str:
        """Identify the images at these indices by their files' bytes and the decoding rules."""
        wanted = [int(index) for index in indices]
        missing = [index for index in dict.fromkeys(wanted) if index not in self._digests]
        self.learn_digests(digests.digests(self.files, missing, self.read_file))
        return f"{IDENTITY}files:{self._joined_digests(wanted)}{self.decoding}"

    def learn_digests(self, digests: Mapping[int, bytes]) -> None:
        """Store digests of files.

        Raises:
            SourceError: the digest of a file has changed.
        """
        for index, digest in digests.items():
            if self._digests.setdefault(index, digest) != digest:
                raise SourceError(f"{self._called(index)} has changed since it was first read; start again")

    def forget_digests(self) -> None:
        """Keep the digests: a changed file is detected when it is read again."""

    def _read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        height, width = self.resolution
        images = np.empty((len(indices), 3, height, width), np.uint8)
        with quiet_pillow():
            for place, index in zip(images, indices, strict=True):
                data = self.read_file(index)
                self.learn_digests({int(index): sha256(data).digest()})
                image = decode(data, self._called(index), self.decoding, self.notes)
                if image.shape != place.shape:
                    raise SourceError(self._sizes_differ(index, image.shape))
                place[:] = image
        return images

    def _sizes_differ(self, index: int, shape: tuple[int, ...]) -> str:
        height, width = self.resolution
        return (
            f"{self.name} holds images of different sizes: {printable(self.names[0])} is {height} × {width}, "
            f"{printable(self.names[index])} is {shape[1]} × {shape[2]} (height × width); "
            f"--resize crop-box --resolution {min(height, width, *shape[1:])} brings them to one"
        )

    def called(self, index: int) -> str:
        """The name of an image's file, relative to the directory or zip."""
        return printable(self.names[index])

    @property
    def by_characters(self) -> NDArray[np.int64]:
        """Indices that sort the files' names character by character."""
        return np.array(sorted(range(len(self)), key=self.names.__getitem__), np.int64)

    def _called(self, index: int) -> str:
        return f"{self.called(index)} in {self.name}"

    @cached_property
    def label_names(self) -> list[str]:
        """Names of the classes: from `dataset.json`, or else the images' folders."""
        return self._labeled[0]

    @cached_property
    def labels(self) -> NDArray[np.int64] | None:
        """The class of each image as an index into `label_names`, or None if there are no classes."""
        return self._labeled[1]

    @property
    def unlabeled(self) -> str | None:
        """Why `dataset.json` gives no classes; None if it is valid or absent."""
        return self._labeled[2]

    @cached_property
    def _labeled(self) -> tuple[list[str], NDArray[np.int64] | None, str | None]:
        if self.files.labels_file is not None:
            try:
                labels = stylegan_labels.class_of_each(self.files.labels_file, self.names)
            except SourceError as error:
                return [], None, f"{_LABELS} {error}"
            count = 0 if labels is None else int(labels.max()) + 1
            return [str(label) for label in range(count)], labels, None
        shared = len(_shared_folder(self.names))
        folders = [name[shared:].partition("/") for name in self.names]
        if not all(rest for _, _, rest in folders):
            return [], None, None
        label_names = sorted({folder for folder, _, _ in folders})
        place = {folder: label for label, folder in enumerate(label_names)}
        return label_names, np.array([place[folder] for folder, _, _ in folders], np.int64), None


def open_zip(path: str) -> zipfile.ZipFile:
    """Open a zip and read its table of contents.

    Raises:
        SourceError: the zip is damaged or cannot be opened.
    """
    try:
        check_regular(path)
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise SourceError(f"{path} cannot be opened as a zip: {error}; it may be incomplete") from error


def _walk(root: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Iterate over every file below a directory with its relative name, following links to directories."""
    pending: list[tuple[str, str, tuple[tuple[int, int], ...]]] = [(root, "", ())]
    while pending:
        path, prefix, above = pending.pop()
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in above:
                continue  # a link to one of its own parent folders
            above = (*above, (status.st_dev, status.st_ino))
            with os.scandir(path) as entries:
                for entry in entries:
                    if _is_folder(entry):
                        pending.append((entry.path, f"{prefix}{entry.name}/", above))
                    else:
                        yield prefix + entry.name, entry
        except OSError as error:
            raise SourceError(f"{printable(path)} cannot be listed: {error.strerror}") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, for instance, is refused by name when it is read
        return False


def _member(path: str, info: zipfile.ZipInfo) -> _Member:
    name = printable(info.filename)
    if info.flag_bits & 0x1:
        raise SourceError(f"{path} is encrypted ({name}); unpack it and give the directory")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise SourceError(
            f"{path} packs {name} by method {info.compress_type}; only stored and deflated files "
            "can be read: unpack it and give the directory"
        )
    if max(info.file_size, info.compress_size) > _LARGEST_FILE:
        claimed = max(info.file_size, info.compress_size)
        raise SourceError(f"{path} claims {claimed:,} bytes for {name}, too many for an image")
    return _Member(
        info.header_offset,
        info.compress_size,
        info.file_size,
        info.CRC,
        info.compress_type == zipfile.ZIP_DEFLATED,
    )


def _stamp(path: str) -> Stamp | None:
    try:
        return Stamp.of(os.stat(path))
    except OSError:  # a dangling link, for instance, is refused by name when it is read
        return None


def natural(name: str) -> tuple[object, ...]:
    """Return the sort key of a name: numbers by their value, without suffix, folder by folder.

    The order then does not depend on the container and the file format. Names with equal keys otherwise
    (`1.png` and `01.png`, `a.png` and `a.jpg`) are sorted by their characters.
    """
    *folders, last = name.split("/")
    parts = (*folders, os.path.splitext(last)[0])
    return tuple(_natural_part(part) for part in parts), name


def _natural_part(part: str) -> tuple[object, ...]:
    # Texts at even positions, numbers at odd ones, by length and digits: int refuses thousands of digits.
    pieces = _DIGITS.split(part)
    for place in range(1, len(pieces), 2):
        number = pieces[place].lstrip("0")
        pieces[place] = (len(number), number)
    return tuple(pieces)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not _is_litter(name)


def _is_litter(name: str) -> bool:
    """Whether a file manager or another program created the file, regardless of its suffix."""
    *folders, file = name.split("/")
    return file.startswith("._") or file.lower() in _LITTER or any(map(_is_litter_folder, folders))


def _is_litter_folder(folder: str) -> bool:
    return folder in _LITTER_FOLDERS or folder == ".Trash" or folder.startswith(".Trash-")


def _kind_of_other(name: str) -> str:
    if _is_litter(name):
        folder = next(filter(_is_litter_folder, name.split("/")[:-1]), "__MACOSX")
        return "of macOS or Windows" if folder == "__MACOSX" else f"in {folder}"
    suffix = os.path.splitext(name.rpartition("/")[2])[1].lower()
    return suffix if suffix[1:].isalnum() and len(suffix) <= 12 else "without suffix"


def _member_name(info: zipfile.ZipInfo) -> str:
    """Return the name of a zip's member relative to the zip; empty for a directory.

    Zips made on Windows may hold backslashes, and others begin names with `./` or `/`. Nothing is unpacked,
    so `../` is harmless.
    """
    name = info.filename.replace("\\", "/")
    if name.endswith("/"):
        return ""
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _kind_of_member(info: zipfile.ZipInfo) -> str | None:
    """Return the kind of a member that a Unix zip stores as a link, pipe or device; None for a file."""
    mode = info.external_attr >> 16 if info.create_system == 3 else 0
    return kind_of(mode) if stat.S_IFMT(mode) else None


def _counted(others: Sequence[_Other]) -> str:
    """Count skipped files by kind: "6 files left out: 4 .txt, 2 without suffix"."""
    kinds = Counter(other.kind for other in others)
    by_count = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    parts = [f"{count:,} {kind}{_named(others, kind)}" for kind, count in by_count[:_KINDS]]
    if rest := sum(count for _, count in by_count[_KINDS:]):
        parts.append(f"{rest:,} of other kinds")
    files = "file" if len(others) == 1 else "files"
    return f"{len(others):,} {files} left out: {', '.join(parts)}"


def _named(others: Sequence[_Other], kind: str) -> str:
    """List the first files of a kind in parentheses, if they could have been images."""
    names = [printable(other.name) for other in others if other.kind == kind and other.named]
    if not names:
        return ""
    more = ", …" if len(names) > _EXAMPLES else ""
    return f" ({', '.join(names[:_EXAMPLES])}{more})"


def _read_labels(path: str) -> bytes:
    try:
        with open_regular(path) as file:
            return _at_most(file)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise SourceError(f"{printable(path)} cannot be read: {reason}") from error


def _read_member(path: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        with archive.open(info) as file:
            return _at_most(file)
    except (
        zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError, zlib.error, ValueError,
        OverflowError,
    ) as error:  # fmt: skip
        raise SourceError(f"{printable(info.filename)} in {path} cannot be read: {error}") from error


def _at_most(file: IO[bytes]) -> bytes:
    """Read a file whole, unless it is larger than any image and any dataset.json.

    Raises:
        ValueError: it is larger.
    """
    pieces: list[bytes] = []
    read = 0
    # In pieces: zipfile unpacks as much as it is asked for, whatever the member's size.
    while piece := file.read(_PIECE):
        pieces.append(piece)
        read += len(piece)
        if read > _LARGEST_FILE:
            raise ValueError(f"it has more than {_LARGEST_FILE:,} bytes")
    return b"".join(pieces)


def _shared_folder(names: list[str]) -> str:
    """Return the folders that all names begin with, with a slash at the end."""
    common = os.path.commonprefix(names)  # noqa: RUF071 - cut at a slash below
    return common[: common.rfind("/") + 1]


def _nothing(files: Directory | Archive) -> str:
    suffixes = [suffix[1:] for suffix in SUFFIXES]
    wanted = f"{', '.join(suffixes[:-1])} or {suffixes[-1]}"
    if not files.others:
        return f"is empty; a {files.kind} with {wanted} files is needed"
    for other in files.others:
        if other.name.endswith((".safetensors", ".pkl", ".pt", ".pth", ".ckpt")):
            name = printable(other.name)
            return f"holds no images but checkpoints, such as {name}; name one of these instead"
    return f"holds no {wanted} files; {_counted(files.others)}, such as {printable(files.others[0].name)}"
