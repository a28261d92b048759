"""The state of a training run: one safetensors file from which it goes on as if it had never stopped.

Everything random is a function of the seed and of the images shown, so networks, average, optimisers
and a few numbers are all there is to remember. Checkpoints, which are for sampling, are other files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pgmetrics.errors import StateError
from pgmetrics.files import dump_json, parse_json
from pgmetrics.functional.finite import not_finite
from reference_models.progan.checkpoint import written_atomically

FORMAT_VERSION = 1
_HEADER_KEY = "progan-state"


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """Where a run stands between two looks at the schedule.

    Attributes:
        images_shown: so far.
        skipped: steps left out because a gradient was not finite.
        tensors: everything else, by name, on the CPU.
    """

    images_shown: int
    skipped: int
    tensors: Mapping[str, Tensor]


def save(path: Path, state: TrainingState) -> None:
    """Write a state, whole or not at all.

    Raises:
        PgmetricsError: it cannot be written.
    """
    header = {
        "format_version": FORMAT_VERSION,
        "images_shown": state.images_shown,
        "skipped": state.skipped,
    }
    with written_atomically(path) as aside:
        save_file(dict(state.tensors), aside, {_HEADER_KEY: dump_json(header)})


def load(path: Path) -> TrainingState:
    """The state that `save` wrote.

    Raises:
        StateError: the file is damaged, of another version or no state at all, or a value is NaN or infinite.
    """
    try:
        with safe_open(path, "pt") as file:
            header = parse_json((file.metadata() or {})[_HEADER_KEY])
            version = header["format_version"]
            if version != FORMAT_VERSION:
                raise StateError(f"{path} has format version {version}; this version reads {FORMAT_VERSION}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            if bad := not_finite(tensors.items()):
                raise StateError(f"{path}: {bad}; the training had diverged, or the file is damaged")
            return TrainingState(
                images_shown=int(header["images_shown"]), skipped=int(header["skipped"]), tensors=tensors
            )
    except OSError as error:
        raise StateError(f"{path} cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise StateError(f"{path} was cut short or damaged: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, StateError):
            raise
        raise StateError(f"{path} is no state of a training run") from error
