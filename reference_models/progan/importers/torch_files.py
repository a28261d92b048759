"""Read PyTorch files of other ProGANs as tensors and plain values alone."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from pgmetrics.errors import SourceError
from reference_models.progan.importers.torch_bounds import check_bounds
from reference_models.progan.importers.unpickling import shown

# Images of 2048 x 2048, as far as a configuration goes.
MOST_BLOCKS = 10
# How networks are scored whose layout is not known, such as those of rosinality or nashory.
OTHERWISE = "a function of yours can make its images: pgmetrics growth --loader MODULE:NAME"


class GanZooConfig:
    """Stand in for the class of GAN-zoo's configuration: hold its attributes and do nothing."""


# torch finds a class by these, and the file asks for it by where it lives in that project.
GanZooConfig.__module__ = "models.utils.config"
GanZooConfig.__name__ = GanZooConfig.__qualname__ = "BaseConfig"


def read_torch(data: bytes) -> Mapping[str, object]:
    """Read what `torch.save` wrote, if it was a dictionary of tensors and plain values.

    Raises:
        SourceError: it was not, or the file is damaged or would take hours or gigabytes to read.
    """
    check_bounds(data)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([GanZooConfig]):
            # Files from before 2020 make torch warn about its own storages.
            warnings.simplefilter("ignore")
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    # torch raises by whatever it stumbled over, and advises to read the file unsafely.
    except Exception as error:
        raise SourceError(
            "torch reads no plain tensors from it: it is damaged, or holds code, which was not run; if you "
            f"trust it, save its state_dict alone, or {OTHERWISE}"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise SourceError(
            f"it holds a {type(content).__name__} where layouts that are known have names; {OTHERWISE}"
        )
    return content


def tensors_of(content: Mapping[str, object]) -> Mapping[str, object]:
    """Return the state dictionary of a file that holds one, or the file itself."""
    inner = content.get("state_dict")
    return inner if isinstance(inner, dict) else content


def weight(state: Mapping[str, object], name: str, dims: int) -> Tensor:
    """Return a float32 tensor of a state dictionary.

    Raises:
        SourceError: it is missing, no float32 tensor, of other dimensions, or larger than its data.
    """
    if name not in state:
        raise SourceError(f"it lacks the tensor {name}")
    tensor = state[name]
    if (
        not isinstance(tensor, Tensor)
        or tensor.dtype != torch.float32
        or tensor.layout != torch.strided
        or tensor.device.type != "cpu"
    ):
        raise SourceError(f"its {shown(name)} is no float32 tensor")
    # A view can repeat one number without end.
    if tensor.dim() != dims or 0 in tensor.shape or tensor.numel() * 4 > tensor.untyped_storage().nbytes():
        raise SourceError(f"its {shown(name)} has shape {list(tensor.shape)}, which its layer does not have")
    return tensor.detach()


def count(state: Mapping[str, object], name: str, most: int = MOST_BLOCKS) -> int:
    """Count the tensors of a numbered name, from 0 on.

    Args:
        state: of names and tensors.
        name: such as "output{}.weight".
        most: that a network can have.

    Raises:
        SourceError: there is none, or there are more.
    """
    n = 0
    while name.format(n) in state:
        n += 1
        if n > most:
            raise SourceError(
                f"it has more than {most} tensors {shown(name.format('N'))}; no network has that"
            )
    if not n:
        raise SourceError(f"it lacks the tensor {name.format(0)}")
    return n


def scalar(state: Mapping[str, object], name: str, default: float) -> float:
    """Return a number of a state dictionary.

    Args:
        state: of names and tensors.
        name: of the number.
        default: where the name is missing.

    Raises:
        SourceError: it is no tensor of one finite number.
    """
    if name not in state:
        return default
    held = state[name]
    if not isinstance(held, Tensor) or held.layout != torch.strided or held.device.type != "cpu":
        raise SourceError(f"its {shown(name)} is not a number")
    if held.numel() != 1 or held.is_complex() or not math.isfinite(held.item()):
        raise SourceError(f"its {shown(name)} is no finite number")
    return float(held)


def refuse_trained(which: Literal["Gs", "G"]) -> None:
    """Refuse to look for a second generator in a file of one.

    Raises:
        SourceError: the generator in training is asked for.
    """
    if which == "G":
        raise SourceError("it holds one generator, the averaged one, and --which G asks for the other")


def refuse_others(state: Mapping[str, object], known: set[str]) -> None:
    """Refuse a tensor that the layout does not have.

    Raises:
        SourceError: there is one.
    """
    others = sorted(map(str, set(state) - known))
    if others:
        raise SourceError(f"it has {shown(others[0])}, which this layout does not have")
