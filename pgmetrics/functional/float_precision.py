"""float32 that is float32, and float64 where there is some."""

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
    """Keep TF32 and bfloat16 products out of float32 arithmetic, whatever the caller has set.

    The settings are the process's: the first of several threads takes them, the last gives them back.
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
    """The rows in float64, on the CPU where their device (MPS) has none."""
    return (rows.cpu() if rows.device.type == "mps" else rows).double()
