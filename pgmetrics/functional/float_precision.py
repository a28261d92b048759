"""Disable TF32 and bfloat16 matrix products; use float64 where the device supports it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_lock = threading.Lock()
_inside = 0
_callers: tuple[str, bool] = ("highest", False)


@contextmanager
def exact_float32() -> Iterator[None]:
    """Disable TF32 and bfloat16 products in float32 arithmetic, regardless of the caller's settings.

    The settings belong to the process: the first of several threads changes them, the last restores them.
    """
    global _inside, _callers
    with _lock:
        if _inside == 0:
            _callers = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
            torch.set_float32_matmul_precision("highest")
            torch.backends.cudnn.allow_tf32 = False
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                precision, allow_tf32 = _callers
                torch.set_float32_matmul_precision(precision)
                torch.backends.cudnn.allow_tf32 = allow_tf32


def double(rows: Tensor) -> Tensor:
    """Convert rows to float64, on the CPU if their device (MPS) has no float64."""
    return (rows.cpu() if rows.device.type == "mps" else rows).double()
