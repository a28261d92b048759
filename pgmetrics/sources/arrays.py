"""Sources of decoded images: arrays in memory, `.npy` and `.npz` files, and torch Datasets."""

from __future__ import annotations

import math
import os
import struct
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pgmetrics.errors import PgmetricsError, SourceError, printable, told
from pgmetrics.runtime import seeding
from pgmetrics.runtime.files import open_regular
from pgmetrics.runtime.images import checked_range, grey_to_rgb, to_bytes
from pgmetrics.runtime.npy_headers import read_npy_header
from pgmetrics.sources.base import ImageSource
from pgmetrics.sources.decode import Decoding, pil_to_rgb
from pgmetrics.sources.folder import open_zip
from pgmetrics.sources.ranges import DeclaredRange

NPY_MAGIC = b"\x93NUMPY"

_PIECE = 1 << 22  # bytes unpacked or checked at a time
_ASKED_TWICE = 16  # items of a Dataset: 16 random flips go undetected once in 65,536 runs
_SIDES = {"NHWC": (1, 2), "NCHW": (2, 3), "NHW": (1, 2)}


class ArraySource(ImageSource):
    """Images along the first axis of a NumPy array or a torch tensor in memory.

    Args:
        images: array [N, H, W, C], [N, C, H, W] or [N, H, W], or tensor [N, C, H, W], with one
            channel or three; uint8, or any real numbers if `value_range` is given.
        value_range: the values that become 0 and 255, such as (-1, 1); uint8 is taken as it is. Values
            outside are refused, except within half a grey level of the range, where they round to its end.
        layout: NHWC or NCHW, for an array whose shape allows both.
        name: for messages and provenance.

    Raises:
        SourceError: the dtype or shape is unsupported, or values lie outside the range; the message says
            which.
        OptionError: the value range is invalid.
    """

    shuffled = True

    def __init__(
        self,
        images: Any,
        *,
        value_range: tuple[float, float] | None = None,
        layout: str | None = None,
        name: str = "array",
    ) -> None:
        super().__init__()
        self.name = name
        self._images = images
        self._value_range = None if value_range is None else checked_range(value_range)
        check_holds_values(images, name)
        if not (hasattr(images, "shape") and hasattr(images, "dtype")):
            raise SourceError(
                f"{name} is of type {type(images).__name__}; an array or a tensor is needed: np.stack(x) "
                "makes one, and pgmetrics.sources.dataset takes a list as it is"
            )
        self._layout = _layout_of(tuple(images.shape), is_tensor(images), layout, name)
        _check_type(images, value_range, name)
        if self._value_range is not None and not _is_bytes(images):
            declared = DeclaredRange(self._value_range, name)
            for piece in _pieces(images):
                declared.add(piece)
            declared.check_data()

    def __len__(self) -> int:
        return len(self._images)

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width in pixels of every image."""
        height, width = _SIDES[self._layout]
        return int(self._images.shape[height]), int(self._images.shape[width])

    def _read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        images = self._images[list(indices)]
        return _rgb_bytes(images, self._layout, self._value_range, self.name, indices)


class FileArraySource(ImageSource):
    """A `.npy` file or an array of an `.npz`; only the requested images are read.

    A compressed array has no random access, so it is decompressed once, piece by piece, into an unnamed
    temporary file, which the operating system removes with the process.
    """

    shuffled = True

    def __init__(self, path: str) -> None:
        super().__init__()
        self.name = path
        self._array: NDArray[Any] | None = None
        try:
            with open_regular(path) as file:
                is_npy = file.read(len(NPY_MAGIC)) == NPY_MAGIC
            self._member = None if is_npy else _image_member(path)
            with self._stream() as stream:
                shape, self._fortran, dtype = read_npy_header(stream)
                self._data_start = stream.tell()
            size = os.stat(path).st_size if self._member is None else self._member.file_size
        except (OSError, ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
            raise _as_refusal(error, path) from error
        array = f"numpy.load({printable(repr(path))})"
        if self._member is not None:
            array += f"[{printable(repr(self._member.filename.removesuffix('.npy')))}]"
        if dtype.kind == "O":
            raise SourceError(
                f"{path} holds pickled Python objects, such as a dict or images of different sizes, which "
                "are not opened since they could run any code; save one array of numbers"
            )
        if not shape:
            raise SourceError(f"{path} holds a single value; an array [N, H, W, 3] of images is needed")
        self._layout = _layout_of(shape, False, None, path)
        if dtype.kind == "c":
            raise SourceError(f"{path} holds values of dtype {dtype}; uint8 images are needed")
        if str(dtype) != "uint8":
            raise SourceError(
                f"{path} holds values of dtype {dtype}; uint8 images are needed: call "
                f"pgmetrics.sources.array({array}, value_range=(low, high))"
            )
        self._shape = shape
        if size < self._data_start + math.prod(shape):
            raise SourceError(f"{path} is incomplete: its header announces {list(shape)}")
        if self._is_packed and size > self._data_start + math.prod(shape):
            # It would be unpacked to the end, which a bomb puts gigabytes away.
            raise SourceError(
                f"{path} is damaged: its header announces {list(shape)}, and {size:,} bytes are packed in it"
            )

    def __len__(self) -> int:
        return self._shape[0]

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_array": None}  # another process opens the file itself

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width in pixels of every image."""
        height, width = _SIDES[self._layout]
        return self._shape[height], self._shape[width]

    def _read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        if self._array is None:
            try:
                self._array = self._map()
            except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
                raise _as_refusal(error, self.name) from error
        return _rgb_bytes(np.asarray(self._array[list(indices)]), self._layout, None, self.name)

    @property
    def _is_packed(self) -> bool:
        return self._member is not None and self._member.compress_type != zipfile.ZIP_STORED

    def _stream(self) -> IO[bytes]:
        if self._member is None:
            return open_regular(self.name)
        with open_zip(self.name) as archive:
            return archive.open(self._member)  # keeps the file open by itself

    def _map(self) -> NDArray[np.uint8]:
        order: Literal["C", "F"] = "F" if self._fortran else "C"
        if self._is_packed:
            unpacked = tempfile.TemporaryFile()
            with unpacked, self._stream() as stream:
                while piece := stream.read(_PIECE):
                    unpacked.write(piece)
                unpacked.flush()
                start = self._data_start
                return np.memmap(unpacked, np.uint8, "r", start, self._shape, order)
        start = self._data_start
        if self._member is not None:
            with open_regular(self.name) as file:
                file.seek(self._member.header_offset)
                lengths = struct.unpack_from("<HH", file.read(30), 26)
            start += self._member.header_offset + 30 + sum(lengths)
        with open_regular(self.name) as file:
            return np.memmap(file, np.uint8, "r", start, self._shape, order)


class MapDataset(Protocol):
    """A map-style Dataset, as torch defines it."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


class DatasetSource(ImageSource):
    """A map-style Dataset whose items are images, or tuples that begin with one.

    An item is a PIL image, an array [H, W], [H, W, C] or [C, H, W], or a tensor [C, H, W]. Random
    augmentation must be switched off, since every read of an item has to give the same image: 16 items are
    read twice, and a Dataset is refused if one of them differs.
    An item may also be a dict that holds one such image.
    Images are identified by their pixels, which are digested as they are read.

    Args:
        items: the Dataset.
        value_range: the values that become 0 and 255; (0, 1) after torchvision's ToTensor. Values outside
            are refused, as for an array.
        name: for messages and provenance; by default the Dataset's class.
        column: key or place of the image in each item, where that is a dict or a tuple.
        alpha: how to resolve transparency of PIL images: `white`, `black` or `drop`.

    Raises:
        SourceError: the Dataset is empty, an item cannot be read or is no image, or changes between reads.
        OptionError: the value range or `alpha` is invalid.
    """

    shuffled = True

    def __init__(
        self,
        items: MapDataset,
        *,
        value_range: tuple[float, float] | None = None,
        name: str | None = None,
        column: str | int | None = None,
        alpha: str | None = None,
    ) -> None:
        super().__init__()
        self.name = name or type(items).__name__
        self._items = items
        self._value_range = None if value_range is None else checked_range(value_range)
        self._column = column
        self._alpha = Decoding(alpha=alpha).alpha
        try:
            count = len(items)
        except Exception as error:  # a user's code may raise anything
            raise SourceError(f"{self.name} has no length: {told(error)}") from error
        if not count:
            raise SourceError(f"{self.name} is empty")
        probes = sorted({int(i) for i in np.linspace(0, count - 1, _ASKED_TWICE)})
        with seeding.global_generators_kept():
            images = [self._image(probe) for probe in probes]
            self._resolution = images[0].shape[1], images[0].shape[2]
            self._check_pure(probes, images)

    def _check_pure(self, probes: Sequence[int], images: Sequence[NDArray[np.uint8]]) -> None:
        for probe, image in zip(probes, images, strict=True):
            if not np.array_equal(image, self._image(probe)):
                raise SourceError(
                    f"{self.name} gives another image when item {probe} is read again; switch off its "
                    "random transforms, such as flips and crops"
                )

    def __len__(self) -> int:
        return len(self._items)

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width in pixels of every image."""
        return self._resolution

    def _read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        images = np.empty((len(indices), 3, *self._resolution), np.uint8)
        for place, index in zip(images, indices, strict=True):
            image = self._image(index)
            if image.shape != place.shape:
                height, width = self._resolution
                raise SourceError(
                    f"{self.name} holds images of different sizes: item 0 is {height} × {width}, "
                    f"item {index} is {image.shape[1]} × {image.shape[2]}; resize them in the Dataset"
                )
            place[:] = image
        return images

    def _image(self, index: int) -> NDArray[np.uint8]:
        name = f"item {index} of {self.name}"
        try:
            item = _chosen(self._items[index], self._column, name)
            return self._converted(item, name)
        except PgmetricsError:
            raise
        except Exception as error:  # a user's code may raise anything
            raise SourceError(f"{name} cannot be read: {told(error)}") from error

    def _converted(self, item: Any, name: str) -> NDArray[np.uint8]:
        if isinstance(item, Image.Image):
            return pil_to_rgb(item, name, self._alpha)
        if not (is_tensor(item) or isinstance(item, np.ndarray)):
            item = np.asarray(item)
        check_holds_values(item, name)
        _check_type(item, self._value_range, name)
        if self._value_range is not None and not _is_bytes(item):
            declared = DeclaredRange(self._value_range, name)
            declared.add(to_numpy(item))
            declared.check_data()
        layout = _layout_of((1, *item.shape), is_tensor(item), None, name)
        image: NDArray[np.uint8] = _rgb_bytes(item[None], layout, self._value_range, name)[0]
        return image


def is_tensor(images: object) -> bool:
    """Whether an object is a torch tensor; this does not import torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(images, torch.Tensor)


def to_numpy(images: Any) -> NDArray[Any]:
    """Return an array unchanged, and a tensor of any device and dtype, or an array's like, as an array."""
    if not is_tensor(images):
        return np.asarray(images)
    images = images.detach().cpu().resolve_neg()  # NumPy knows no lazy negation
    if images.dtype.is_floating_point:
        images = images.float()  # NumPy has no bfloat16
    numpy: NDArray[Any] = images.numpy()
    return numpy


def check_holds_values(images: Any, name: str) -> None:
    """Refuse tensors whose values do not lie in memory, each with what makes one whose values do.

    Raises:
        SourceError: the tensor is nested, sparse, quantized or on the meta device.
    """
    if not is_tensor(images):
        return
    import torch

    if images.is_nested:
        raise SourceError(f"{name} is a nested tensor; a list of its images, list(x.unbind()), is needed")
    if images.is_meta:
        raise SourceError(
            f"{name} is on the meta device, which keeps no values; load or compute them on another"
        )
    if images.layout != torch.strided:
        raise SourceError(f"{name} is a sparse tensor; pass x.to_dense()")
    if images.is_quantized:
        raise SourceError(f"{name} is a quantized tensor; pass x.dequantize(), with its value_range")


def holds_numbers(images: Any) -> bool:
    """Whether the values of an array or a tensor are real numbers, of any precision."""
    if is_tensor(images):
        return not images.is_complex()
    # NumPy counts the bfloat16 and float8 of other packages among raw bytes.
    return np.dtype(images.dtype).kind in "biuf" or "float" in str(images.dtype)


def _chosen(item: Any, column: str | int | None, name: str) -> Any:
    """Return the image of a Dataset's item.

    Raises:
        SourceError: the item is or holds no image, or a dict holds several; the message says what there is.
    """
    parts: dict[Any, Any] = {}
    if isinstance(item, Mapping):
        parts = dict(item)
    elif isinstance(item, (tuple, list)):
        parts = dict(enumerate(item))
    if column is not None:
        if column not in parts:
            held = ", ".join(map(repr, parts)) or f"none, as it is of type {type(item).__name__}"
            raise SourceError(f"{name} has no column {column!r}; its columns are {printable(held)}")
        item, parts = parts[column], {}
    images = [key for key, part in parts.items() if _is_image(part)]
    if isinstance(item, Mapping) and len(images) == 1:
        return parts[images[0]]
    if not isinstance(item, Mapping) and (0 in images or not parts):
        item = parts.get(0, item)
    if _is_image(item) or hasattr(item, "shape"):  # another shape is refused with what it is
        return item
    if images:
        held = printable(", ".join(map(repr, images)))
        raise SourceError(
            f"{name} is a {type(item).__name__} with images in {held}; choose one by "
            f"pgmetrics.sources.dataset(items, column={printable(repr(images[0]))})"
        )
    if isinstance(item, (str, os.PathLike)) and column is None:
        raise SourceError(
            f"{name} is a path; open the files, as [PIL.Image.open(path) for path in paths] does, or give "
            "their directory"
        )
    what = f"a {type(item).__name__} of {printable(', '.join(map(repr, parts)))}" if parts else ""
    raise SourceError(
        f"{name} is {what or f'of type {type(item).__name__}'}; an image, an array, a tensor, or a tuple or "
        "dict with one is needed"
    )


def _is_image(part: Any) -> bool:
    if isinstance(part, Image.Image):
        return True
    return (is_tensor(part) or hasattr(part, "__array__")) and len(getattr(part, "shape", ())) >= 2


def _is_bytes(images: Any) -> bool:
    return str(images.dtype).removeprefix("torch.") == "uint8"


def _rgb_bytes(
    images: Any,
    layout: str,
    value_range: tuple[float, float] | None,
    name: str,
    called: Sequence[int] | None = None,
) -> NDArray[np.uint8]:
    pixels = to_numpy(images)
    if layout == "NHW":
        pixels = pixels[:, None]
    elif layout == "NHWC":
        pixels = pixels.transpose(0, 3, 1, 2)
    if value_range is not None and pixels.dtype != np.uint8:
        pixels = to_bytes(pixels, value_range, name, called)
    rgb: NDArray[np.uint8] = np.ascontiguousarray(grey_to_rgb(pixels))
    return rgb


def _layout_of(shape: tuple[int, ...], is_tensor: bool, layout: str | None, name: str) -> str:
    """Return the layout, by the axis that holds the channels.

    Raises:
        SourceError: no axis can hold them, or two can; the message gives the shape.
    """
    described = f"{name} has shape {list(shape)}"
    if layout not in (None, "NHWC", "NCHW"):
        raise SourceError(f"layout is NHWC or NCHW, not {layout!r}")
    if 0 in shape:
        raise SourceError(f"{described}: it holds no images")
    if len(shape) == 3 and layout is None and shape[2] > 4:
        return "NHW"
    channels = (1, 3)
    possible = (
        []
        if len(shape) != 4
        else [
            candidate
            for candidate, axis in (("NHWC", 3), ("NCHW", 1))
            if shape[axis] in channels and layout in (None, candidate)
        ]
    )
    if is_tensor:
        possible = [candidate for candidate in possible if candidate == "NCHW"]
    if len(possible) == 1:
        return possible[0]
    if possible:
        raise SourceError(f"{described}, which could be NHWC or NCHW; choose with layout=")
    hint = ""
    if len(shape) == 4 and is_tensor and shape[3] in channels:
        hint = ": x.permute(0, 3, 1, 2) has it"
    elif len(shape) == 4 and shape[1 if is_tensor else 3] == 4:
        hint = f": {'x[:, :3]' if is_tensor else 'x[..., :3]'} drops the fourth channel"
    raise SourceError(
        f"{described}; {'[N, 3, H, W]' if is_tensor else '[N, H, W, 3] or [N, 3, H, W]'} is needed{hint}"
    )


def _check_type(images: Any, value_range: tuple[float, float] | None, name: str) -> None:
    dtype = str(images.dtype).removeprefix("torch.")
    if dtype == "uint8":
        return
    if not holds_numbers(images):
        hint = "np.stack(list(x)) makes an array of equally large images"
        if "complex" in dtype:
            hint = "pass its real part x.real, or abs(x)"
        raise SourceError(
            f"{name} has dtype {dtype}; uint8, or real numbers with a value_range, are needed: {hint}"
        )
    if value_range is None:
        usual = "(-1, 1)" if "float" in dtype else "(0, 255)"
        raise SourceError(
            f"{name} has dtype {dtype}, so the values of black and white are unknown; pass "
            f"value_range={usual}, or whatever it is, to pgmetrics.sources.array or .dataset"
        )


def _image_member(path: str) -> zipfile.ZipInfo:
    """Return the array of an `.npz` that holds images: `arr_0`, or the only one of their shape and dtype.

    Arrays [N, H, W, 3] and [N, 3, H, W] come before grey ones [N, H, W], which may be masks.
    """
    with open_zip(path) as archive:
        arrays = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        names = ", ".join(info.filename.removesuffix(".npy") for info in arrays)
        candidates = [info for info in arrays if info.filename == "arr_0.npy"]
        shapes: dict[int, dict[str, tuple[int, ...]]] = {3: {}, 4: {}}
        for info in [] if candidates else arrays:
            try:
                with archive.open(info) as stream:
                    shape, _, dtype = read_npy_header(stream)
            except ValueError:
                continue  # a structured dtype, for labels perhaps, holds no images
            if len(shape) in shapes and dtype == np.uint8:
                shapes[len(shape)][info.filename] = shape
        found = shapes[4] or shapes[3]
        candidates += [info for info in arrays if info.filename in found]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        several = ", ".join(
            f"{name.removesuffix('.npy')} {list(shape)}" for name, shape in list(found.items())[:5]
        )
        first = repr(candidates[0].filename.removesuffix(".npy"))
        raise SourceError(
            printable(
                f"{path} holds {len(candidates)} arrays that could be images, {several}; save one in a "
                f"file of its own: numpy.save('images.npy', numpy.load({path!r})[{first}])"
            )
        )
    if {"mu.npy", "sigma.npy"} <= {info.filename for info in arrays}:
        raise SourceError(f"{path} holds statistics of features (mu and sigma), not images")
    raise SourceError(
        f"{path} holds {len(candidates)} arrays that could be images among {names or 'no arrays'}; "
        "one called arr_0, uint8 [N, H, W, 3], is needed"
    )


def _as_refusal(error: Exception, path: str) -> SourceError:
    if isinstance(error, SourceError):
        return error
    return SourceError(f"{path} cannot be read: {str(error).strip() or type(error).__name__}")


def _pieces(images: Any) -> Iterator[NDArray[Any]]:
    step = max(_PIECE * len(images) // max(images.nbytes, 1), 1)
    for start in range(0, len(images), step):
        yield to_numpy(images[start : start + step])
