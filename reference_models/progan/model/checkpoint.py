"""Checkpoints: one safetensors file with an averaged generator and everything needed to sample it.

The header holds JSON: format version, configuration, images shown, the stage, labels, the conversion to
bytes, the fingerprint of the training images, and the license. Reading it does not need torch and is safe for
untrusted files: there is no pickle, every field is checked, and so are the digests of header and tensors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgmetrics.errors import OptionError, SourceError, printable
from pgmetrics.runtime.files import dump_json, parse_json, written_atomically
from reference_models.progan.model import foreign_files
from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.seal import Header, read_header, sealed, tensors_are_intact

if TYPE_CHECKING:
    from reference_models.progan.model.networks import Generator

FORMAT_VERSION = 1
# How the fingerprint of the training images of an imported network begins.
IMPORTED = "unknown; imported from a file of sha256 "
VALUE_RANGE = (-1.0, 1.0)
ROUNDING = "round(127.5 * x + 127.5), saturated"
_HEADER_KEY = "progan"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The description of a generator in its checkpoint.

    Attributes:
        config: configuration of the run.
        images_shown: number of real images that the discriminator was shown; None if unknown, as for most
            networks of other projects.
        resolution, alpha: the stage at which samples are made.
        data_fingerprint: fingerprint of the training images.
        licence: the license of the weights.
        label_names: names of the classes; empty for an unconditional network.
        label_distribution: relative frequency of each class in the training images.
    """

    config: ProGANConfig
    images_shown: int | None
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
        if self.images_shown is not None and not 0 <= self.images_shown < 2**63:
            raise OptionError(f"images_shown is a count, not {self.images_shown}")
        if not all(0 <= frequency <= 1 for frequency in self.label_distribution):
            raise OptionError("frequencies of labels are between 0 and 1, and others are given")
        total = math.fsum(self.label_distribution)
        if self.label_distribution and not math.isclose(total, 1, abs_tol=1e-6):
            raise OptionError(f"frequencies of labels sum to 1, not to {total:g}")

    @property
    def is_imported(self) -> bool:
        """Whether another project trained it, so that of its training nothing is known."""
        return self.data_fingerprint.startswith(IMPORTED)

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
        """Return the checkpoint that `to_json` described.

        Raises:
            OptionError: the format version differs, or a field is missing, of a wrong type or out of range.
        """
        if not isinstance(data, dict):
            raise OptionError("its header holds no JSON object")
        version = data.get("format_version")
        if version != FORMAT_VERSION:
            raise OptionError(f"it has format version {version}; this version reads {FORMAT_VERSION}")
        made_as = {"value_range": list(VALUE_RANGE), "rounding": ROUNDING}
        for name, value in made_as.items():
            if data.get(name, value) != value:
                raise OptionError(f"its {name} is {data[name]}, and samples are made with {value}")
        return cls(
            config=ProGANConfig.from_json(_field(data, "config", dict)),
            images_shown=_count(data, "images_shown"),
            resolution=_field(data, "resolution", int),
            alpha=float(_field(data, "alpha", (int, float))),
            data_fingerprint=_field(data, "data_fingerprint", str),
            licence=_field(data, "licence", str),
            label_names=tuple(_list_field(data, "label_names", str)),
            label_distribution=tuple(map(float, _list_field(data, "label_distribution", (int, float)))),
        )


def _field(data: Mapping[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    if name not in data:
        raise OptionError(f"its header has no {name}")
    if not isinstance(data[name], kind) or isinstance(data[name], bool):
        raise OptionError(f"its header has a field of the wrong type: {name} is {str(data[name])[:60]!r}")
    return data[name]


def _count(data: Mapping[str, Any], name: str) -> int | None:
    """A count, or None where the header says that it is unknown."""
    if name in data and data[name] is None:
        return None
    value: int = _field(data, name, int)
    return value


def _list_field(data: Mapping[str, Any], name: str, kind: type | tuple[type, ...]) -> list[Any]:
    return [_field({name: each}, name, kind) for each in _field(data, name, list)]


def save(path: Path, checkpoint: Checkpoint, generator: Generator) -> None:
    """Write a checkpoint atomically.

    Blocks beyond the checkpoint's resolution are untrained and are omitted.

    Args:
        path: path of the file, in an existing directory.
        checkpoint: the description of the generator.
        generator: the averaged generator.
    """
    from safetensors.torch import save as serialize

    tensors = {
        name: tensor.detach().to("cpu").contiguous()
        for name, tensor in generator.state_dict().items()
        if resolution_of(name) <= checkpoint.resolution
    }
    with written_atomically(path) as aside, aside.open("wb") as file:
        file.writelines(sealed(serialize(tensors, {_HEADER_KEY: dump_json(checkpoint.to_json())})))


def inspect(path: Path) -> Checkpoint:
    """Read the header of a checkpoint.

    Raises:
        SourceError: there is no such file, it is not a ProGAN checkpoint, or it is incomplete or damaged.
    """
    return _inspect(path)[0]


def _inspect(path: Path) -> tuple[Checkpoint, Header]:
    header = _read_header(path)
    if header is None:
        raise SourceError(
            foreign_files.advise(path) or f"{path} is not a ProGAN checkpoint; `progan train` writes those"
        )
    if header.found_bytes != header.expected_bytes:
        raise SourceError(
            f"{path} should have {header.expected_bytes:,} bytes and has {header.found_bytes:,}; it was cut "
            "short or damaged, so copy it again"
        )
    if not header.intact:
        raise SourceError(
            f"{path} is damaged: its header is not what was written, by its SHA-256; copy it again"
        )
    try:
        checkpoint = Checkpoint.from_json(parse_json(header.text))
    except ValueError as error:
        raise SourceError(f"{path} cannot be read as a ProGAN checkpoint: {error}") from error
    if others := sorted(header.dtypes - {"F32"}):
        raise SourceError(
            f"{path} holds tensors of type {printable(others[0])[:20]}; those of a generator are F32, so it "
            "was written by something else"
        )
    for name, shape in _telling_shapes(checkpoint).items():
        if header.shapes.get(name, shape) != shape:
            raise _unfit(path, name)
    return checkpoint, header


def _telling_shapes(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    """Return the shapes of some tensors that together contain every width of the network.

    With them a header that declares an absurdly large network is refused early and without torch.
    """
    config = checkpoint.config
    entered = config.latent_size + config.label_size
    shapes: dict[str, tuple[int, ...]] = {"block4.dense.weight": (16 * config.feature_maps(4), entered)}
    for resolution in config.resolutions:
        shapes[f"to_rgb{resolution}.weight"] = (config.channels, config.feature_maps(resolution), 1, 1)
    return shapes


def _unfit(path: Path, name: str) -> SourceError:
    return SourceError(
        f"{path} holds tensors that do not fit its configuration, first {name}; "
        "it was written by something else"
    )


def describe(path: Path) -> dict[str, Any]:
    """Return a checkpoint's images_shown, resolution, alpha and final_resolution.

    images_shown is None where it is unknown.

    Raises:
        SourceError: as for `inspect`.
    """
    checkpoint = inspect(path)
    return {
        "images_shown": checkpoint.images_shown,
        "resolution": checkpoint.resolution,
        "alpha": checkpoint.alpha,
        "final_resolution": checkpoint.config.resolution,
    }


def recognizes(path: Path) -> bool:
    """Whether a file is a ProGAN checkpoint, judged by its header; damaged checkpoints count."""
    try:
        return path.is_file() and _read_header(path) is not None
    except SourceError:
        return False


def load(path: Path) -> tuple[Checkpoint, Generator]:
    """Load a checkpoint and its generator on the CPU, in evaluation mode.

    Raises:
        SourceError: as for `inspect`; or the tensors differ from those that were written, do not fit the
            configuration, or hold NaN or infinite values.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from pgmetrics.functional.finite import not_finite
    from reference_models.progan.model.networks import Generator

    checkpoint, header = _inspect(path)
    with torch.device("meta"):
        layout = Generator(checkpoint.config).state_dict()
    needed = {
        name: tuple(tensor.shape)
        for name, tensor in layout.items()
        if resolution_of(name) <= checkpoint.resolution
    }
    if header.shapes != needed:
        raise _unfit(path, min(set(needed.items()) ^ set(header.shapes.items()))[0])
    try:
        if not tensors_are_intact(path, header):
            raise SourceError(
                f"{path} is damaged: its tensors are not what was written, by their SHA-256; copy it again"
            )
        tensors = load_file(path)
    except SafetensorError as error:
        raise SourceError(f"{path} cannot be read: {error}") from error
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error
    if bad := not_finite(tensors.items()):
        raise SourceError(f"{path}: {bad}; the training had diverged, or the file is damaged")
    generator = Generator(checkpoint.config)
    generator.load_state_dict(tensors, strict=False)
    assert all(tensor.dtype == torch.float32 for tensor in generator.state_dict().values())
    return checkpoint, generator.eval().requires_grad_(False)


def checkpoints(run_dir: Path) -> list[Path]:
    """List the checkpoints of a run in the order of training."""
    return sorted((run_dir / "checkpoints").glob("*.safetensors"))


def stage_checkpoints(run_dir: Path) -> list[Path]:
    """List the last checkpoint of each resolution, from 4 x 4 on."""
    last: dict[int, Path] = {}
    for path in checkpoints(run_dir):
        last[inspect(path).resolution] = path
    return [last[resolution] for resolution in sorted(last)]


def _read_header(path: Path) -> Header | None:
    try:
        return read_header(path, _HEADER_KEY)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error


def resolution_of(parameter: str) -> int:
    """Return the resolution of a generator's parameter: 64 for `block64.conv0.weight`."""
    return int("".join(c for c in parameter.split(".")[0] if c.isdigit()))
