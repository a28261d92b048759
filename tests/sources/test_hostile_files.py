"""Files that claim more than they hold, or unpack to far more, are refused soon and in little memory."""

import io
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from pgmetrics.errors import SourceError
from pgmetrics.sources import folder as folder_module
from pgmetrics.sources import open_source
from pgmetrics.sources.decode import Decoding, decode, quiet_pillow
from tests.helpers.image_files import encoded, pixels, write, write_zip

PNG = encoded(pixels(1)[0])


def claiming(path, name, data, method=8, size=None, stored=None, offset=None, crc=0):
    """A zip of a.png and one more member, whose entry in the table of contents claims other numbers."""
    write_zip(path, {"a.png": PNG, name: b""})
    with zipfile.ZipFile(path) as archive:
        first, second = archive.infolist()
    local = path.read_bytes()[: second.header_offset]
    begin = len(local)
    local += struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", 45, 0, method, 0, 0, crc, 0, 0, len(name), 0)
    local += name.encode() + data
    entries = b""
    for entry, claims in (
        (first, (len(PNG), len(PNG), 0)),
        (
            second,
            (
                0 if size is None else size,
                len(data) if stored is None else stored,
                begin if offset is None else offset,
            ),
        ),
    ):
        extra = struct.pack("<HHQQQ", 1, 24, *claims)
        packing, check = (0, entry.CRC) if entry is first else (method, crc)
        entries += struct.pack(
            "<4sHHHHHHIIIHHHHHII", b"PK\x01\x02", 45, 45, 0, packing, 0, 0, check,
            2**32 - 1, 2**32 - 1, len(entry.filename), len(extra), 0, 0, 0, 0, 2**32 - 1,
        ) + entry.filename.encode() + extra  # fmt: skip
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 2, 2, len(entries), len(local), 0)
    path.write_bytes(local + entries + end)
    return path


def deflated(data):
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def peak_of(call):
    """The most bytes that Python's allocations held during a call."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"stored": 2**60}, "too many for an image"),
        ({"stored": 2**64 - 1}, "too many for an image"),
        ({"size": 2**31}, "too many for an image"),
        ({"stored": 2**20}, "lies beyond the zip's"),
        ({"offset": 2**63 + 5}, "lies beyond the zip's"),
    ],
)
def test_a_zip_that_claims_what_it_cannot_hold_is_refused(tmp_path, claims, reason):
    # 2^64 - 1 bytes, and an offset of 2^63, raised OverflowError; 2^60 bytes raised MemoryError.
    path = claiming(tmp_path / "set.zip", "b.png", deflated(PNG), **claims)
    with pytest.raises(SourceError, match=reason):
        open_source(path).batch([0, 1])


def test_a_member_that_claims_no_bytes_is_not_unpacked(tmp_path):
    # zlib takes a limit of 0 for none: 3 MB became 3 GB.
    path = claiming(tmp_path / "set.zip", "b.png", deflated(bytes(2**27)), size=0)
    source = open_source(path)

    def read():
        with pytest.raises(SourceError, match=r"b\.png in .*its checksum in the zip is wrong"):
            source.read_file(1)

    assert peak_of(read) < 2**24


@pytest.mark.parametrize("where", ["directory", "zip", "zip that claims less"])
def test_files_larger_than_any_image_are_refused(tmp_path, monkeypatch, where):
    monkeypatch.setattr(folder_module, "_LARGEST_FILE", 2**20)
    monkeypatch.setattr(folder_module, "_PIECE", 2**18)
    labels = b" " * 2**24
    if where == "directory":
        path = write(tmp_path / "set", {"a.png": PNG, "dataset.json": labels})
    elif where == "zip":
        path = write_zip(tmp_path / "set.zip", {"a.png": PNG, "dataset.json": labels}, zipfile.ZIP_DEFLATED)
    else:
        path = claiming(tmp_path / "set.zip", "dataset.json", deflated(labels), size=2**21)

    def read():
        with pytest.raises(SourceError, match=r"dataset\.json.* cannot be read: .*more than 1,048,576 bytes"):
            open_source(path)

    assert peak_of(read) < 2**23
    large = write(tmp_path / "large", {"a.png": PNG + bytes(2**21)})
    with pytest.raises(SourceError, match=r"a\.png in .* cannot be read: it has more than 1,048,576 bytes"):
        open_source(large).batch([0])


def test_an_npz_with_gigabytes_behind_its_images_is_refused(tmp_path):
    # They were all unpacked before the checksum was found wrong: 16 seconds for 2 MB.
    file = io.BytesIO()
    np.save(file, np.zeros((4, 16, 16, 3), np.uint8))
    path = write_zip(
        tmp_path / "set.npz", {"arr_0.npy": file.getvalue() + bytes(2**20)}, zipfile.ZIP_DEFLATED
    )
    with pytest.raises(SourceError, match=r"set\.npz is damaged: its header announces .* are packed in it"):
        open_source(path)


@pytest.mark.parametrize(("mode", "side"), [("RGB", 11_300), ("1", 11_300), ("RGBA", 7_700), ("I;16", 6_700)])
def test_images_that_take_gigabytes_are_refused_before_they_are_decoded(mode, side):
    # PNGs of half a megabyte took 1.7 to 5.4 GB.
    header = struct.pack(">IIBBBBB", side, side, *_PNG_TYPES[mode], 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    with (
        pytest.raises(SourceError, match=r"^a is too large to decode safely: .* pixels .* 1\.4 GB"),
        quiet_pillow(),
    ):
        decode(data, "a", Decoding(bits=8, alpha="drop"), {})


_PNG_TYPES = {"RGB": (8, 2), "1": (1, 0), "RGBA": (8, 6), "I;16": (16, 0)}


@pytest.mark.parametrize("suffix", [".tif", ".gif"])
def test_frames_are_not_counted(suffix, monkeypatch):
    # Pillow reads every frame to count them: 46 seconds for a TIFF of 60,000.
    frames = [Image.fromarray(image) for image in pixels(3)]
    data = encoded(frames[0], suffix, save_all=True, append_images=frames[1:])

    def count(image):
        raise AssertionError("all frames were read")

    for plug_in in ("TiffImagePlugin.TiffImageFile", "GifImagePlugin.GifImageFile"):
        monkeypatch.setattr(f"PIL.{plug_in}.n_frames", property(count))
    with pytest.raises(SourceError, match=r"^a has several frames; only still images are taken$"):
        decode(data, "a", Decoding(), {})
