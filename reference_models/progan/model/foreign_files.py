"""Recognize network files of other projects by their first bytes, and say how they become checkpoints."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

from pgmetrics.errors import printable
from pgmetrics.runtime.files import open_regular

ZIP = b"PK\x03\x04"
# What torch.save wrote before 2020: a pickle of this number.
TORCH_BEFORE_ZIP = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
GZIP = b"\x1f\x8b"
_HEAD = 4096


def advise(path: Path) -> str | None:
    """Say in one line what a network file of another project is, and which command imports it.

    Returns:
        None where the file is none, or cannot be read.
    """
    try:
        with open_regular(path) as file:
            head = file.read(_HEAD)
    except OSError:
        return None
    if head.startswith(GZIP):
        head = _unzipped(head)
    if head.startswith(TORCH_BEFORE_ZIP) or (head.startswith(ZIP) and _is_torch_zip(path)):
        kind = "is a pickled torch file, which is not opened since it could run any code"
    elif b"tfutil" in head and b"Network" in head:
        kind = "is a network pickle of the original ProGAN"
    else:
        return None
    name = printable(str(path))
    return f"{name} {kind}; `progan import {name} --out NAME.safetensors` makes a checkpoint of a ProGAN"


def _unzipped(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(31).decompress(head, _HEAD)
    except zlib.error:
        return b""


def _is_torch_zip(path: Path) -> bool:
    """Whether torch.save wrote a zip file; TorchScript and torch.export write others."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
    return any(name.endswith("/data.pkl") for name in names) and not any("/code/" in name for name in names)
