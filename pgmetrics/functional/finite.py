"""A check of named tensors for NaN and infinite values."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def not_finite(tensors: Iterable[tuple[str, Tensor]]) -> str | None:
    """Name the first tensor with a value that is NaN or infinite; None if all values are finite.

    Args:
        tensors: names and tensors of any shape and dtype; tensors of integers are finite.

    Returns:
        A message: "its conv.weight holds values that are not finite (3 of 864, the first at [0, 1, 2, 0])".
    """
    for name, tensor in tensors:
        if tensor.is_floating_point() or tensor.is_complex():
            finite = torch.isfinite(tensor)
            if not bool(finite.all()):
                places = torch.nonzero(~finite)
                at = f", the first at {places[0].tolist()}" if tensor.ndim else ""
                return (
                    f"its {name} holds values that are not finite ({len(places):,} of {tensor.numel():,}{at})"
                )
    return None
