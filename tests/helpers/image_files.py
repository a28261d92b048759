"""Image files made for the tests, small and known pixel by pixel."""

import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def pixels(n, height=8, width=8, seed=0):
    """Different images of every value: uint8 [n, height, width, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), np.uint8)


def encoded(image, suffix=".png", **options):
    """The bytes of a file holding an array or a PIL image."""
    file = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(file, {".jpg": "JPEG", ".tif": "TIFF"}.get(suffix, suffix[1:].upper()), **options)
    return file.getvalue()


def write(folder: Path, contents: dict[str, bytes]) -> Path:
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def write_zip(path: Path, contents: dict[str, bytes], method=zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def png_of_16_bits(samples):
    """A PNG that Pillow cannot write: uint16 [H, W, C], C of 1 to 4, every row with another filter."""
    height, width, channels = samples.shape
    color_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    raw = samples.astype(">u2").tobytes()
    stride = width * channels * 2
    step = channels * 2
    rows = bytearray()
    for y in range(height):
        row = np.frombuffer(raw[y * stride : (y + 1) * stride], np.uint8)
        above = np.frombuffer(raw[(y - 1) * stride : y * stride], np.uint8) if y else np.zeros_like(row)
        left = np.concatenate([np.zeros(step, np.uint8), row[:-step]])
        kind = y % 3
        rows.append(kind)
        rows += (row - (0, left, above)[kind]).astype(np.uint8).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(rows))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
