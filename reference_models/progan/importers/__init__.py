"""Turn networks of other ProGANs into checkpoints of ours."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pgmetrics.errors import OptionError, SourceError
from pgmetrics.runtime.files import open_regular, sha256
from reference_models.progan.model.foreign_files import GZIP, TORCH_BEFORE_ZIP, ZIP

if TYPE_CHECKING:
    from reference_models.progan.importers.imported import Imported
    from reference_models.progan.model.checkpoint import Checkpoint

Layout = Literal[
    "original", "ptrblck", "interfacegan", "gandissect", "genforce", "gan-zoo", "mmgen", "akanimax",
    "aladdinpersson",
]  # fmt: skip
# A name that a PyTorch file of each layout has, for the message where none is found.
_MARKS: Mapping[Layout, str] = {
    "ptrblck": "features.0.conv.weight",
    "interfacegan": "layer1.wscale.bias",
    "gandissect": "layer1.wscale.b",
    "genforce": "layer0.weight",
    "gan-zoo": "formatLayer",
    "mmgen": "noise2feat",
    "akanimax": "rgb_converters",
    "aladdinpersson": "prog_blocks",
}

_GROWTH = 20
_SNAPSHOT = re.compile(r"network-snapshot-(\d{6})\.pkl(?:\.gz)?")


def import_network(
    path: Path,
    out: Path,
    *,
    which: Literal["Gs", "G"] = "Gs",
    licence: str = "unknown",
    images_shown: int | None = None,
    resolution: int | None = None,
) -> tuple[Checkpoint, Layout]:
    """Write a checkpoint of ours with a generator of somebody else's file.

    What the file does not say is left unknown: of the training options in the checkpoint's
    configuration none is the file's, classes are named by their numbers and equally frequent.

    Args:
        path: an official pickle, or a PyTorch file of a layout in docs/importing.md.
        out: of the checkpoint; its directory exists.
        which: "Gs" for the averaged generator, "G" for the one in training.
        licence: under which the weights may be used.
        images_shown: real images shown in training; if None, what the file or the original's own
            file name says, else unknown.
        resolution: of the stage at which images are made, fully faded in; if None, what the file
            says, else the last stage that was trained, as the layers' biases tell.

    Returns:
        What the checkpoint says about itself, and the layout of the file.

    Raises:
        SourceError: the file cannot be read, has no layout that is known, or holds a network that
            ours cannot be.
        OptionError: `out` is the file itself, or the network has no layers of that resolution.
        PgmetricsError: the checkpoint cannot be written.
    """
    from reference_models.progan.model import checkpoint as checkpoints

    if out.exists() and out.samefile(path):
        raise OptionError(f"{out} is the file to import; its checkpoint needs a name of its own")
    try:
        data = _bytes(path)
        layout, imported = _read(_unzipped(data), which, resolution)
        generator = imported.generator()
    except (SourceError, OptionError) as error:
        raise SourceError(f"{path} cannot be imported: {error}") from error
    if resolution is not None:
        if resolution not in imported.config.resolutions:
            raise OptionError(
                f"{path} has no layers for {resolution} x {resolution}; it grows to "
                f"{imported.config.resolution} x {imported.config.resolution}"
            )
        imported = replace(imported, resolution=resolution, alpha=1.0)
    images_shown = imported.images_shown if images_shown is None else images_shown
    if images_shown is None:
        named = _SNAPSHOT.fullmatch(path.name)
        images_shown = int(named[1]) * 1000 if named else None
    classes = imported.config.label_size
    facts = checkpoints.Checkpoint(
        config=imported.config,
        images_shown=images_shown,
        resolution=imported.resolution,
        alpha=imported.alpha,
        data_fingerprint=checkpoints.IMPORTED + sha256(data).hexdigest(),
        licence=licence,
        label_names=tuple(str(k) for k in range(classes)),
        label_distribution=(1 / classes,) * classes if classes else (),
    )
    checkpoints.save(out, facts, generator)
    return facts, layout


def _bytes(path: Path) -> bytes:
    from reference_models.progan.importers.unpickling import MAX_BYTES

    try:
        with open_regular(path) as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SourceError(error.strerror or str(error)) from error
    if len(data) > MAX_BYTES:
        raise SourceError(f"it has more than {MAX_BYTES:,} bytes, and no ProGAN comes near that")
    return data


def _unzipped(data: bytes) -> bytes:
    """What a gzip file holds; anything else as it is."""
    if not data.startswith(GZIP):
        return data
    reader = zlib.decompressobj(31)
    # Weights hardly shrink, so whatever grows much further is no network.
    most = _GROWTH * len(data) + 2**16
    try:
        out = reader.decompress(data, most)
    except zlib.error as error:
        raise SourceError("its gzip data are damaged") from error
    if reader.unconsumed_tail:
        raise SourceError(f"its gzip data grow to more than {_GROWTH} times their size, as no network's do")
    if not reader.eof:
        raise SourceError("its gzip data are cut short")
    return out


def _read(data: bytes, which: Literal["Gs", "G"], resolution: int | None) -> tuple[Layout, Imported]:
    if not data.startswith((ZIP, TORCH_BEFORE_ZIP)):
        # Pickles of protocols 0 and 1 have no mark of their own, but begin with a tuple, list or name.
        if data[:1] != b"\x80" and not (data[:1] in (b"(", b"]", b"c") and data.endswith(b".")):
            raise SourceError("it is neither a pickle nor a PyTorch file")
        from reference_models.progan.importers import official

        return "original", official.read(data, which)
    from reference_models.progan.importers import akanimax, aladdinpersson, chained, gan_zoo, genforce, mmgen
    from reference_models.progan.importers.torch_files import OTHERWISE, read_torch

    content = read_torch(data)
    if dialect := chained.dialect(content):
        return dialect, chained.read(content, which)
    if gan_zoo.recognizes(content):
        return "gan-zoo", gan_zoo.read(content, which)
    if genforce.recognizes(content):
        return "genforce", genforce.read(content, which)
    if mmgen.recognizes(content):
        return "mmgen", mmgen.read(content, which)
    if akanimax.recognizes(content):
        return "akanimax", akanimax.read(content, which)
    if aladdinpersson.recognizes(content):
        return "aladdinpersson", aladdinpersson.read(content, which, resolution)
    marks = ", ".join(f"{mark} ({name})" for name, mark in _MARKS.items())
    raise SourceError(f"it is a PyTorch file of no layout that is known; looked for {marks}; {OTHERWISE}")
