"""Read the header of an npy file without Python's parser (NumPy enhancement proposal 1)."""

import re
from typing import IO, Any

import numpy as np

_HEADER = re.compile(
    r"\{'descr': '(?P<dtype>[<>|=]?[A-Za-z]\d*)', 'fortran_order': (?P<fortran>True|False), "
    r"'shape': \((?P<shape>(\d+L?, ?)*(\d+L?,?)?)\),? ?\} *\n?"
)
_LONGEST = 10_000


def read_npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the shape, whether the order is Fortran's, and the dtype; the stream then is at the first element.

    NumPy's own reader parses the header as Python code, and Python 3.11's parser raises SystemError when the
    garbage collector runs code that parses, too. Structured dtypes are refused: no file of images, features
    or statistics has one.

    Raises:
        ValueError: the file does not begin with the header of a plain array; the message completes
            "FILE cannot be read: ...".
    """
    major, minor = np.lib.format.read_magic(stream)
    if (major, minor) not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"npy version {major}.{minor} is unknown")
    width = 2 if major == 1 else 4
    length = int.from_bytes(stream.read(width), "little")
    if length > _LONGEST:
        raise ValueError(f"its npy header claims {length:,} bytes")
    text = stream.read(length).decode("latin1")
    header = _HEADER.fullmatch(text)
    if len(text) < length or header is None:
        raise ValueError("its npy header is not that of a plain array")
    shape = tuple(int(side) for side in re.sub("[ L]", "", header["shape"]).split(",") if side)
    try:
        dtype = np.dtype(header["dtype"])
    except TypeError as error:
        raise ValueError(f"its npy header names an unknown dtype, {header['dtype']}") from error
    return shape, header["fortran"] == "True", dtype
