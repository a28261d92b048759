"""Decoding of one file into one uint8 RGB image, or a refusal in one line."""

from __future__ import annotations

import io
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin

from pgmetrics.errors import OptionError, SourceError
from pgmetrics.sources.resize import check_policy, resize_image


def _avif() -> tuple[str, ...]:
    """AVIF's name in Pillow's registry, if this Pillow can decode it."""
    try:
        from PIL import AvifImagePlugin
    except ImportError:  # before Pillow 11.3
        return ()
    return (AvifImagePlugin.AvifImageFile.format,) if AvifImagePlugin.SUPPORTED else ()


SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".ppm", ".pgm",
)  # fmt: skip
ROTATED = "EXIF rotation ignored"
OPAQUE = "opaque alpha dropped"
TRANSPARENT = "transparency resolved as asked"
SIXTEEN = "16-bit scaled to 8-bit"
FIRST_PICTURE = "first picture taken of a JPEG that holds several"

# Importing a plug-in registers its format; these two are not among the five that Pillow loads first.
_FORMATS = (
    "PNG",
    "JPEG",
    TiffImagePlugin.TiffImageFile.format,
    WebPImagePlugin.WebPImageFile.format,
    "BMP",
    "GIF",
    "PPM",
    *_avif(),
)
# Bytes to decode one image. A few kilobytes of a PNG can claim more pixels than memory holds, and the largest
# camera images of 100 million pixels fit.
_MOST_MEMORY = 1_400_000_000
_AVIF_BRANDS = (b"avif", b"avis")
# Unlike every other format, Pillow rotates a TIFF by its orientation while loading.
_UNDO_TIFF_ROTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@dataclass(frozen=True)
class Decoding:
    """Rules by which files become images; part of a set's identity.

    Attributes:
        resolution: side in pixels of the resized images; requires `resize`.
        resize: a policy of `resize.POLICIES`, or None to keep each image's size.
        alpha: how to resolve real transparency: composite on `white` or `black`, or `drop` the channel;
            None refuses it.
        bits: 8 scales 16-bit images by 1/257, rounded; None refuses them.
    """

    resolution: int | None = None
    resize: str | None = None
    alpha: str | None = None
    bits: int | None = None

    def __post_init__(self) -> None:
        check_policy(self.resize, self.resolution)
        if self.alpha not in (None, "white", "black", "drop"):
            raise OptionError(f"alpha is white, black or drop, not {self.alpha!r}")
        if self.bits not in (None, 8):
            raise OptionError(f"bits is 8 or left out, not {self.bits!r}")

    def __str__(self) -> str:
        """The rules that differ from the defaults, for an identity; empty if none does."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return "".join(f",{name}={value}" for name, value in given.items())


@dataclass(frozen=True)
class Facts:
    """Properties of a file before any decoding rule is applied.

    Attributes:
        format: PNG, JPEG, ...
        mode: Pillow's name for the channels and their type.
        size: height and width in pixels, as stored.
        several: whether it holds more than one frame; such a JPEG comes from a phone, with a picture for
            each lens, say.
        sixteen: whether a channel has 16 bits.
        transparency: whether it holds an alpha channel or a transparent color.
        orientation: the rotation or flip that EXIF asks a viewer for, 2 to 8; otherwise 1.
    """

    format: str
    mode: str
    size: tuple[int, int]
    several: bool
    sixteen: bool
    transparency: bool
    orientation: int

    @property
    def rotated(self) -> bool:
        """Whether a viewer would show the image rotated or flipped."""
        return self.orientation in _UNDO_TIFF_ROTATION


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Silence Pillow's warnings about metadata and large images.

    Use it around many images: entering it takes as long as decoding a small image.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def decode(data: bytes, name: str, decoding: Decoding, notes: Counter[str]) -> NDArray[np.uint8]:
    """Decode the image in a file's bytes.

    Args:
        data: the whole file.
        name: for messages.
        decoding: the rules.
        notes: counts changes to the image that its owner may want to know about.

    Returns:
        uint8 [3, H, W], possibly a view with other strides.

    Raises:
        SourceError: the file is damaged, is not an image, or needs a rule that was not given.
    """
    try:
        with open_image(data) as image:
            facts = facts_of(image)
            if refusal := _refusal(facts, decoding):
                raise SourceError(f"{name} {refusal}")
            image.load()
            if facts.sixteen:
                image = _eight_bits(image, data)
                notes[SIXTEEN] += 1
            rgb = _to_rgb(image, name, decoding.alpha, notes)
            if facts.several:
                notes[FIRST_PICTURE] += 1
            if facts.rotated:
                notes[ROTATED] += 1
                if facts.format == "TIFF":
                    rgb = rgb.transpose(_UNDO_TIFF_ROTATION[facts.orientation])
            if decoding.resize is not None and decoding.resolution is not None:
                rgb = resize_image(rgb, decoding.resize, decoding.resolution)
            return _planes(rgb)
    except SourceError:
        raise
    except (MemoryError, Image.DecompressionBombError) as error:
        raise SourceError(f"{name} is too large to decode safely: {_first_line(error)}") from error
    except Exception as error:  # on damaged files Pillow's decoders raise exceptions of any type
        raise SourceError(f"{name} cannot be read: {_reason(error, data)}") from error


def facts_of(image: Image.Image) -> Facts:
    """Return an opened image's properties; call this before its pixels are loaded."""
    orientation = 1
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        orientation = image.tag_v2.get(ExifTags.Base.Orientation, 1)
    elif image.info.keys() & {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    width, height = image.size
    if isinstance(image, TiffImagePlugin.TiffImageFile) and orientation in (5, 6, 7, 8):
        width, height = height, width  # Pillow reports the rotated size
    return Facts(
        # MPO is Pillow's name for a JPEG in which other pictures follow the first.
        format="JPEG" if image.format == "MPO" else image.format or "unknown",
        mode=image.mode,
        size=(height, width),
        # To count the frames of a TIFF or GIF, Pillow reads all of them: a minute for 60,000.
        several=getattr(image, "is_animated", False),
        sixteen=image.mode.startswith("I;16") or any(map(_has_16_bits, getattr(image, "tile", []))),
        transparency=image.has_transparency_data,
        orientation=orientation,
    )


def open_image(data: bytes) -> Image.Image:
    """Open an image in one of the supported formats; only its header is read."""
    return Image.open(io.BytesIO(data), formats=_FORMATS)


def pil_to_rgb(image: Image.Image, name: str, alpha: str | None = None) -> NDArray[np.uint8]:
    """Convert an image in memory by the rules for files: uint8 [3, H, W].

    Raises:
        SourceError: the image is transparent and `alpha` is None, or its mode has more than 8 bits.
    """
    if image.mode.startswith("I") or image.mode == "F":
        raise SourceError(f"{name} has pixels of mode {image.mode}; 8-bit images are needed")
    return _planes(_to_rgb(image, name, alpha, Counter()))


def _planes(rgb: Image.Image) -> NDArray[np.uint8]:
    planes: NDArray[np.uint8] = np.asarray(rgb).transpose(2, 0, 1)
    return planes


def _refusal(facts: Facts, decoding: Decoding) -> str | None:
    height, width = facts.size
    if height * width * _bytes_per_pixel(facts) > _MOST_MEMORY:
        return (
            f"is too large to decode safely: its {height:,} × {width:,} pixels (height × width) would take "
            f"more than {_MOST_MEMORY / 1e9:.1f} GB of memory; make it smaller first"
        )
    if facts.several and facts.format != "JPEG":
        return "has several frames; only still images are taken"
    if facts.sixteen and decoding.bits is None:
        return "has 16 bits per channel; --bits 8 scales it by 1/257"
    if facts.mode == "F" or (facts.mode == "I" and not facts.sixteen):
        return f"has {'floating-point' if facts.mode == 'F' else '32-bit'} pixels; 8-bit images are needed"
    return None


def _bytes_per_pixel(facts: Facts) -> int:
    """Return what decoding takes at its peak, rounded up: Pillow's copies of an image and ours."""
    if facts.sixteen:
        return 32
    return 24 if facts.transparency else 11


def _to_rgb(image: Image.Image, name: str, alpha: str | None, notes: Counter[str]) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    # A palette may hold alpha in bytes or name one transparent color; so may L and RGB.
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    opacity = rgba.getchannel("A")
    if opacity.getextrema() == (255, 255):
        notes[OPAQUE] += 1
        return rgba.convert("RGB")
    if alpha is None:
        raise SourceError(
            f"{name} has transparent pixels; --alpha white or black composites it on that color, "
            "--alpha drop keeps the colors as stored"
        )
    notes[TRANSPARENT] += 1
    if alpha == "drop":
        return rgba.convert("RGB")
    ground = Image.new("RGBA", rgba.size, alpha)
    return Image.alpha_composite(ground, rgba).convert("RGB")


def _eight_bits(image: Image.Image, data: bytes) -> Image.Image:
    """Scale 16 bits by 1/257, rounded: 0 to 128 become 0, 129 becomes 1, 65535 becomes 255.

    Pillow keeps 16 bits only for grey images and reads the upper byte of others. Those are read a second
    time with the two bytes of each sample swapped. Pillow scales a color PPM itself, with the same rounding.
    """
    if image.format == "PPM" and not image.mode.startswith("I"):
        return image
    if "transparency" in image.info:
        raise ValueError("one transparent color among 16-bit ones is not supported")
    if image.mode.startswith("I"):
        samples = np.asarray(image).astype(np.uint32)
    else:
        with open_image(data) as twin:
            assert isinstance(twin, ImageFile.ImageFile)
            rawmode = _rawmode(twin.tile[0])
            twin.tile = [_with_rawmode(tile, _exchanged(rawmode)) for tile in twin.tile]
            twin.load()
            lower = np.asarray(twin).astype(np.uint32)
        if rawmode == "LA;16B":
            samples = lower[..., ::2] * 256 + lower[..., 1::2]
        else:
            samples = np.asarray(image) * np.uint32(256) + lower
    return Image.fromarray(((samples + 128) // 257).astype(np.uint8))


def _exchanged(rawmode: str) -> str:
    if rawmode == "LA;16B":
        return "RGBA"  # the same number of bytes: grey's upper and lower byte, then alpha's
    native = "L" if sys.byteorder == "little" else "B"
    layout, order = rawmode[:-1], rawmode[-1:].replace("N", native)
    if layout not in ("RGB;16", "RGBA;16"):
        raise ValueError(f"16-bit samples in the layout {rawmode} are not supported")
    return layout + ("L" if order == "B" else "B")


def _rawmode(tile: Any) -> str:
    args = tile[3]
    return str(args[0] if isinstance(args, tuple) and args else args)


def _has_16_bits(tile: Any) -> bool:
    decoder, args = tile[0], tile[3]
    # For a PPM whose maximum is not 255 or 65535, Pillow's own decoder takes that maximum as an argument.
    return ";16" in _rawmode(tile) or (
        decoder.startswith("ppm") and isinstance(args, tuple) and args[-1] > 255
    )


def _with_rawmode(tile: Any, rawmode: str) -> Any:
    args = (rawmode, *tile[3][1:]) if isinstance(tile[3], tuple) else rawmode
    return getattr(tile, "_make", tuple)((*tile[:3], args))  # a bare tuple before Pillow 11


def _reason(error: Exception, data: bytes) -> str:
    if isinstance(error, UnidentifiedImageError):
        if data[4:8] == b"ftyp" and data[8:12] in _AVIF_BRANDS and not _avif():
            return "it is an AVIF image, which this Pillow cannot decode; pip install 'pillow>=11.3'"
        return (
            "it is not a PNG, JPEG, WebP, BMP, TIFF, GIF, AVIF or PPM image, or is damaged at its beginning"
        )
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]
