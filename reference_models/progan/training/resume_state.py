"""The state of a training run: one safetensors file from which the run resumes as if it had never stopped.

All random draws are functions of the seed and of the number of images shown. Hence the networks, the averaged
generator, the optimizers and a few numbers are a complete state. Checkpoints are other files, for sampling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from pgmetrics.errors import StateError
from pgmetrics.functional.finite import not_finite
from pgmetrics.runtime.files import dump_json, parse_json, written_atomically
from reference_models.progan.model.seal import read_header, sealed, tensors_are_intact

FORMAT_VERSION = 1
_HEADER_KEY = "progan-state"


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """The state of a run between two schedule updates.

    Attributes:
        images_shown: real images shown to the discriminator so far.
        skipped: number of steps skipped so far because a gradient was not finite.
        tensors: all networks and optimizer moments, by name, on the CPU.
    """

    images_shown: int
    skipped: int
    tensors: Mapping[str, Tensor]


def save(path: Path, state: TrainingState) -> None:
    """Write a state atomically.

    Raises:
        PgmetricsError: the file cannot be written.
    """
    header = {
        "format_version": FORMAT_VERSION,
        "images_shown": state.images_shown,
        "skipped": state.skipped,
    }
    with written_atomically(path) as aside, aside.open("wb") as file:
        file.writelines(sealed(serialize(dict(state.tensors), {_HEADER_KEY: dump_json(header)})))


def load(path: Path) -> TrainingState:
    """Read a state that `save` wrote.

    Raises:
        StateError: the file is damaged, of another format version or not a state, or a value is NaN or
            infinite. Digests of header and tensors reveal damage; states of earlier versions have no digests.
    """
    try:
        # Read the header before safetensors opens the file, which would wait forever on a pipe.
        sealed_header = read_header(path, _HEADER_KEY)
        if sealed_header is not None and not (
            sealed_header.intact and tensors_are_intact(path, sealed_header)
        ):
            raise StateError(
                f"{path} was cut short or damaged: its SHA-256 is another one than when it was written"
            )
        with safe_open(path, "pt") as file:
            header = parse_json((file.metadata() or {})[_HEADER_KEY])
            version = header["format_version"]
            if version != FORMAT_VERSION:
                raise StateError(f"{path} has format version {version}; this version reads {FORMAT_VERSION}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            if bad := not_finite(tensors.items()):
                raise StateError(f"{path}: {bad}; the training had diverged, or the file is damaged")
            return TrainingState(
                images_shown=_count(header["images_shown"]),
                skipped=_count(header["skipped"]),
                tensors=tensors,
            )
    except OSError as error:
        raise StateError(f"{path} cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise StateError(f"{path} was cut short or damaged: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, StateError):
            raise
        raise StateError(f"{path} is no state of a training run") from error


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError("a count is a whole number from 0 upwards")
    return value
