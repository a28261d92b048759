"""PyTorch files of other ProGANs, read as tensors and plain values alone."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from pgmetrics.errors import SourceError
from reference_models.progan.importers.unpickling import shown


class GanZooConfig:
    """Stands in for the class of GAN-zoo's configuration: its attributes and nothing else."""


# torch finds a class by these, and the file asks for it by where it lives in that project.
GanZooConfig.__module__ = "models.utils.config"
GanZooConfig.__name__ = GanZooConfig.__qualname__ = "BaseConfig"


def read_torch(data: bytes) -> Mapping[str, object]:
    """What `torch.save` wrote, if it was a dictionary of tensors and plain values.

    Raises:
        SourceError: it was not, or the file is damaged.
    """
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([GanZooConfig]):
            # Files from before 2020 make torch warn about its own storages.
            warnings.simplefilter("ignore")
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    # torch raises by whatever it stumbled over, and advises to read the file unsafely.
    except Exception as error:
        raise SourceError(
            "torch reads no plain tensors from it: it is damaged, or holds code, which was not run"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise SourceError(f"it holds a {type(content).__name__} where layouts that are known have names")
    return content


def weight(state: Mapping[str, object], name: str, dims: int) -> Tensor:
    """A tensor of a state dictionary.

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
        raise SourceError(f"its {shown(name)} has shape {list(tensor.shape)}, which its layer has not")
    return tensor.detach()


def refuse_others(state: Mapping[str, object], known: set[str]) -> None:
    """Tell of a tensor that the layout does not have.

    Raises:
        SourceError: there is one.
    """
    others = sorted(set(state) - known)
    if others:
        raise SourceError(f"it has {shown(others[0])}, which this layout has not")
