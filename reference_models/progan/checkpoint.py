"""Checkpoints: one safetensors file that holds an averaged generator and all one needs to sample it.

The header carries JSON: format version, configuration, images shown, the stage, labels, how
values become bytes, what it was trained on and under which licence. Reading it needs neither
torch nor trust: there is no pickle in the file.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgmetrics.errors import OptionError, PgmetricsError, SourceError
from pgmetrics.files import dump_json, parse_json
from reference_models.progan.config import ProGANConfig

if TYPE_CHECKING:
    from reference_models.progan.networks import Generator

FORMAT_VERSION = 1
VALUE_RANGE = (-1.0, 1.0)
ROUNDING = "round(127.5 * x + 127.5), saturated"
_HEADER_KEY = "progan"
# A header is kilobytes; the format itself allows no more than this.
_MAX_HEADER_BYTES = 100_000_000


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a checkpoint says about its generator.

    Attributes:
        config: of the run.
        images_shown: real images the discriminator had been shown.
        resolution, alpha: the stage; samples are made there.
        data_fingerprint: of the images it was trained on.
        licence: under which the weights may be used.
        label_names: of the classes; empty for an unconditional network.
        label_distribution: how often each class occurs in the training images.
    """

    config: ProGANConfig
    images_shown: int
    resolution: int
    alpha: float
    data_fingerprint: str
    licence: str
    label_names: tuple[str, ...] = ()
    label_distribution: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.resolution not in self.config.resolutions or not 0 <= self.alpha <= 1:
            raise OptionError(
                f"a stage of resolution {self.resolution} and alpha {self.alpha} is none of a network "
                f"that grows to {self.config.resolution}"
            )
        if not len(self.label_names) == len(self.label_distribution) == self.config.label_size:
            raise OptionError(
                f"a network of {self.config.label_size} classes needs as many label names and frequencies, "
                f"not {len(self.label_names)} and {len(self.label_distribution)}"
            )

    def to_json(self) -> dict[str, Any]:
        """The header's JSON."""
        return {
            "format_version": FORMAT_VERSION,
            "config": self.config.to_json(),
            "images_shown": self.images_shown,
            "resolution": self.resolution,
            "alpha": self.alpha,
            "label_names": list(self.label_names),
            "label_distribution": list(self.label_distribution),
            "value_range": list(VALUE_RANGE),
            "rounding": ROUNDING,
            "data_fingerprint": self.data_fingerprint,
            "licence": self.licence,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Checkpoint:
        """The checkpoint that `to_json` described.

        Raises:
            OptionError: of another format version, or a field is missing or out of range.
        """
        version = data.get("format_version")
        if version != FORMAT_VERSION:
            raise OptionError(f"it has format version {version}; this version reads {FORMAT_VERSION}")
        try:
            return cls(
                config=ProGANConfig.from_json(data["config"]),
                images_shown=int(data["images_shown"]),
                resolution=int(data["resolution"]),
                alpha=float(data["alpha"]),
                data_fingerprint=str(data["data_fingerprint"]),
                licence=str(data["licence"]),
                label_names=tuple(str(name) for name in data["label_names"]),
                label_distribution=tuple(float(p) for p in data["label_distribution"]),
            )
        except KeyError as error:
            raise OptionError(f"its header has no {error.args[0]}") from error
        except (TypeError, ValueError) as error:
            if isinstance(error, OptionError):
                raise
            raise OptionError(f"its header has a field of the wrong type: {error}") from error


def save(path: Path, checkpoint: Checkpoint, generator: Generator) -> None:
    """Write a checkpoint, whole or not at all.

    Blocks beyond the checkpoint's resolution have not been trained and are left out.

    Args:
        path: of the file; its directory exists.
        checkpoint: describes the generator.
        generator: the averaged one.
    """
    from safetensors.torch import save as serialize

    tensors = {
        name: tensor.detach().to("cpu").contiguous()
        for name, tensor in generator.state_dict().items()
        if resolution_of(name) <= checkpoint.resolution
    }
    with written_atomically(path) as aside:
        aside.write_bytes(serialize(tensors, {_HEADER_KEY: dump_json(checkpoint.to_json())}))


@contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` once it is complete and on the disk.

    Raises:
        PgmetricsError: it cannot be written, as on a full disk; nothing half-written is left.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    with refusing_unwritable(path):
        try:
            yield aside
            with aside.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)


@contextmanager
def refusing_unwritable(path: Path) -> Iterator[None]:
    """Tell in one line that a file cannot be written, and why.

    Raises:
        PgmetricsError: in place of what the system or safetensors raised.
    """
    from safetensors import SafetensorError

    try:
        yield
    except OSError as error:
        raise PgmetricsError(f"{path} cannot be written: {error.strerror or error}") from error
    except SafetensorError as error:
        raise PgmetricsError(f"{path} cannot be written: {error}") from error


def inspect(path: Path) -> Checkpoint:
    """What a checkpoint says about itself; reads only its header.

    Raises:
        SourceError: there is no such file, it is no checkpoint of ours, or it is incomplete.
    """
    header = _read_header(path)
    if header is None:
        raise SourceError(f"{path} is no ProGAN checkpoint; `progan train` writes those")
    metadata, expected_bytes = header
    size = path.stat().st_size
    if size != expected_bytes:
        raise SourceError(
            f"{path} should have {expected_bytes:,} bytes and has {size:,}; it was cut short or "
            "damaged, so copy it again"
        )
    try:
        return Checkpoint.from_json(parse_json(metadata))
    except ValueError as error:
        raise SourceError(f"{path} cannot be read as a ProGAN checkpoint: {error}") from error


def describe(path: Path) -> dict[str, Any]:
    """Where in its run a checkpoint stands: images_shown, resolution, alpha and final_resolution.

    Raises:
        SourceError: as `inspect`.
    """
    checkpoint = inspect(path)
    return {
        "images_shown": checkpoint.images_shown,
        "resolution": checkpoint.resolution,
        "alpha": checkpoint.alpha,
        "final_resolution": checkpoint.config.resolution,
    }


def recognises(path: Path) -> bool:
    """Whether a file is a ProGAN checkpoint, by its header alone; damaged ones included."""
    try:
        return path.is_file() and _read_header(path) is not None
    except SourceError:
        return False


def load(path: Path) -> tuple[Checkpoint, Generator]:
    """A checkpoint and its generator, on the CPU, in evaluation mode.

    Raises:
        SourceError: as `inspect`, its tensors are not those its configuration needs, or one holds NaN or
            infinite values.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from pgmetrics.functional.finite import not_finite
    from reference_models.progan.networks import Generator

    checkpoint = inspect(path)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error
    generator = Generator(checkpoint.config)
    needed = {
        name: tensor.shape
        for name, tensor in generator.state_dict().items()
        if resolution_of(name) <= checkpoint.resolution
    }
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if found != needed:
        differing = sorted(set(needed.items()) ^ set(found.items()))
        raise SourceError(
            f"{path} holds tensors that do not fit its configuration, first {differing[0][0]}; "
            "it was written by something else"
        )
    if bad := not_finite(tensors.items()):
        raise SourceError(f"{path}: {bad}; the training had diverged, or the file is damaged")
    generator.load_state_dict(tensors, strict=False)
    assert all(tensor.dtype == torch.float32 for tensor in generator.state_dict().values())
    return checkpoint, generator.eval().requires_grad_(False)


def checkpoints(run_dir: Path) -> list[Path]:
    """The checkpoints of a run, in the order of training."""
    return sorted((run_dir / "checkpoints").glob("*.safetensors"))


def stage_checkpoints(run_dir: Path) -> list[Path]:
    """The last checkpoint of each resolution, from 4 x 4 on: what a plot over growth needs."""
    last: dict[int, Path] = {}
    for path in checkpoints(run_dir):
        last[inspect(path).resolution] = path
    return [last[resolution] for resolution in sorted(last)]


def _read_header(path: Path) -> tuple[str, int] | None:
    """Our JSON in the header and the size the file should have; None where it is not ours.

    The layout: eight bytes of length, little-endian, then that much JSON, then the tensors.
    """
    try:
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= min(_MAX_HEADER_BYTES, path.stat().st_size):
                return None
            header = parse_json(file.read(length))
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError:
        return None
    try:
        metadata = header.pop("__metadata__")[_HEADER_KEY]
        end = max(tensor["data_offsets"][1] for tensor in header.values())
        return str(metadata), 8 + length + int(end)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError):
        return None


def resolution_of(parameter: str) -> int:
    """The stage that a generator's parameter comes with: 64 for `block64.conv0.weight`."""
    return int("".join(c for c in parameter.split(".")[0] if c.isdigit()))
