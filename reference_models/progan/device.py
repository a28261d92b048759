"""Which device a command computes on."""

from __future__ import annotations

from pgmetrics.errors import OptionError


def resolve(device: str) -> str:
    """A device torch can use; `auto` is CUDA if there is one, else the CPU.

    Raises:
        OptionError: the device is unknown or not there.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise OptionError(f"--device {device} cannot be used here ({reason}); --device auto can") from error
    return device
