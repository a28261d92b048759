"""Files of mean and covariance (`mu`, `sigma`), as pytorch-fid, clean-fid, EDM and ADM write them."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pgmetrics.errors import StateError
from pgmetrics.runtime.files import check_regular, open_regular, written_atomically

_NAMES = ("mu", "sigma")

# Raised for a damaged or encrypted archive, another compression method, and a header that declares more
# values than memory can hold.
_UNREADABLE = (
    OSError, ValueError, EOFError, KeyError, SyntaxError, TypeError, MemoryError, OverflowError,
    RuntimeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def holds_moments(path: str | os.PathLike[str]) -> bool:
    """Whether a file is an npz with arrays called mu and sigma."""
    return set(_NAMES) <= _members(path)


def holds_moments_only(path: str | os.PathLike[str]) -> bool:
    """Whether a file is such an npz without images, which ADM's files call arr_0."""
    return holds_moments(path) and "arr_0" not in _members(path)


def read_moments(path: str | os.PathLike[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Read mean [D] and covariance [D, D], float64; such a file does not hold the number of images.

    Raises:
        StateError: the file cannot be read, or holds other arrays.
    """
    try:
        # Opened here, since numpy does not close a damaged file.
        with open_regular(path) as opened, np.load(opened, allow_pickle=False) as file:
            mean, covariance = (np.asarray(file[name]) for name in _NAMES)
    except _UNREADABLE as error:
        raise StateError(f"{os.fspath(path)} holds no mu and sigma that can be read ({error})") from error
    fits = mean.ndim == 1 and mean.size > 0 and covariance.shape == (mean.size, mean.size)
    # Conversion to float64 would drop the imaginary part of a complex covariance.
    if not fits or (mean.dtype.kind, covariance.dtype.kind) != ("f", "f"):
        raise StateError(
            f"{os.fspath(path)}: mu [D] and sigma [D, D] of floats are expected; they are "
            f"{mean.dtype} {list(mean.shape)} and {covariance.dtype} {list(covariance.shape)}"
        )
    return mean.astype(np.float64), covariance.astype(np.float64)


def write_moments(
    path: str | os.PathLike[str], mean: NDArray[np.float64], covariance: NDArray[np.float64]
) -> None:
    """Write an npz of `mu` and `sigma` atomically.

    Raises:
        PgmetricsError: the file cannot be written.
    """
    with written_atomically(Path(path)) as aside, aside.open("wb") as file:
        np.savez(file, mu=mean, sigma=covariance)


def _members(path: str | os.PathLike[str]) -> set[str]:
    try:
        check_regular(path)
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        return set()
