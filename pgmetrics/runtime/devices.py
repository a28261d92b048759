"""Choose the torch device that a name stands for."""

from __future__ import annotations

import torch

from pgmetrics.errors import OptionError


def pick_device(name: str) -> torch.device:
    """Return the device of this name; "auto" is CUDA if available, else the CPU.

    Raises:
        OptionError: this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise OptionError(f"device {name!r} is none of auto, cpu, cuda, cuda:N, mps") from error
    here = {
        "cpu": device.index in (None, 0),
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not here.get(device.type, False):
        raise OptionError(
            f"device {name!r} is not available here (CUDA devices: {torch.cuda.device_count()}); "
            "device=auto takes what there is"
        )
    return device
