"""Pickles read as plain data: what is in them is neither imported, called nor built.

A pickle is a program for a small stack machine, and the ordinary loader calls whatever that program
names. Here the program runs on a machine that can only put values together: of five names it
knows, it records the call and does not make it, and everything else ends the reading.

Source: the structure of the published network pickles, and the opcodes of Python's `pickletools`.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from math import prod
from typing import TYPE_CHECKING

from pgmetrics.errors import SourceError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# The largest published file has 280 MB and some 5,000 opcodes.
MAX_BYTES = 1 << 31
MAX_OPCODES = 200_000


class Global(Enum):
    """The names a pickle may refer to."""

    NETWORK = "tfutil.Network"
    RECONSTRUCT = "numpy reconstruct"
    SCALAR = "numpy scalar"
    NDARRAY = "numpy.ndarray"
    DTYPE = "numpy.dtype"


_ADMITTED: Mapping[tuple[str, str], Global] = {
    ("tfutil", "Network"): Global.NETWORK,
    ("numpy.core.multiarray", "_reconstruct"): Global.RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): Global.RECONSTRUCT,
    ("numpy.core.multiarray", "scalar"): Global.SCALAR,
    ("numpy._core.multiarray", "scalar"): Global.SCALAR,
    ("numpy", "ndarray"): Global.NDARRAY,
    ("numpy", "dtype"): Global.DTYPE,
}
_CALLABLE = (Global.RECONSTRUCT, Global.SCALAR, Global.DTYPE)


@dataclass(eq=False)
class Made:
    """The record of a call that was not made: who would have made what, from which state."""

    maker: Global
    arguments: tuple[object, ...]
    state: object = None


def loads(data: bytes) -> object:
    """The value that a pickle describes, of Python's plain types, `Global` and `Made`.

    Raises:
        SourceError: it is damaged or too large, names anything but the five globals, or does
            anything but put values together.
    """
    if len(data) > MAX_BYTES:
        raise SourceError(f"it has {len(data):,} bytes; networks have at most {MAX_BYTES:,}")
    machine = _Machine()
    try:
        # Of texts in a form that Python no longer likes, pickletools warns before we refuse them.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
                if count >= MAX_OPCODES:
                    raise SourceError(
                        f"its pickle has more than {MAX_OPCODES:,} steps; networks have thousands"
                    )
                if opcode.name == "STOP":
                    return machine.stack.pop()
                machine.step(opcode.name, argument)
    except SourceError:
        raise
    except (ValueError, IndexError, KeyError) as error:
        # In this order: what pickletools does not understand, an empty stack, an empty memo.
        raise SourceError("its pickle is damaged or was cut short") from error
    raise AssertionError("pickletools ends at STOP or raises")


class _Machine:
    """A stack, the stacks below the marks, and the memo."""

    def __init__(self) -> None:
        self.stack: list[object] = []
        self.below: list[list[object]] = []
        self.memo: dict[int, object] = {}

    def step(self, name: str, argument: object) -> None:
        """Do one opcode.

        Raises:
            SourceError: it is none of those that put plain values together.
            IndexError, KeyError: it takes what is not there.
        """
        match name:
            case "PROTO" | "FRAME":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                self.stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case (
                "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT"
                | "SHORT_BINUNICODE" | "BINUNICODE" | "SHORT_BINBYTES" | "BINBYTES" | "BINBYTES8"
            ):  # fmt: skip
                self.stack.append(argument)
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.stack[-1]
            case "BINPUT" | "LONG_BINPUT":
                assert isinstance(argument, int)
                self.memo[argument] = self.stack[-1]
            case "BINGET" | "LONG_BINGET":
                assert isinstance(argument, int)
                self.stack.append(self.memo[argument])
            case "GLOBAL":
                self.stack.append(_global(*str(argument).split(" ", 1)))
            case "STACK_GLOBAL":
                attribute, module = self.stack.pop(), self.stack.pop()
                self.stack.append(_global(module, attribute))
            case "REDUCE" | "NEWOBJ":
                self._record(name)
            case "BUILD":
                self._build()
            case _:
                self._container(name)

    def _container(self, name: str) -> None:
        match name:
            case "MARK":
                self.below.append(self.stack)
                self.stack = []
            case "EMPTY_TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                n = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}[name]
                self.stack.append(tuple(reversed([self.stack.pop() for _ in range(n)])))
            case "TUPLE":
                items = tuple(self._above_mark())
                self.stack.append(items)
            case "EMPTY_LIST":
                self.stack.append([])
            case "EMPTY_DICT":
                self.stack.append({})
            case "APPEND":
                self._extend([self.stack.pop()])
            case "APPENDS":
                self._extend(self._above_mark())
            case "SETITEM":
                self._update(list(reversed([self.stack.pop(), self.stack.pop()])))
            case "SETITEMS":
                self._update(self._above_mark())
            case _:
                raise SourceError(f"its pickle uses {name}, which no network's does; nothing of it was run")

    def _above_mark(self) -> list[object]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def _extend(self, items: list[object]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise SourceError("its pickle appends to what is no list")
        target.extend(items)

    def _update(self, items: list[object]) -> None:
        target = self.stack[-1]
        keys, values = items[::2], items[1::2]
        # Other keys would be hashed, and the hash of nested tuples has no limit to its depth.
        if not isinstance(target, dict) or len(keys) != len(values) or not all(type(k) is str for k in keys):
            raise SourceError("its pickle has a dictionary whose keys are no texts")
        target.update(zip(keys, values, strict=True))

    def _record(self, name: str) -> None:
        arguments, maker = self.stack.pop(), self.stack.pop()
        wanted = (Global.NETWORK,) if name == "NEWOBJ" else _CALLABLE
        if maker not in wanted or not isinstance(maker, Global) or not isinstance(arguments, tuple):
            raise SourceError("its pickle calls what no network's does; nothing of it was run")
        self.stack.append(Made(maker, arguments))

    def _build(self) -> None:
        state, made = self.stack.pop(), self.stack[-1]
        if not isinstance(made, Made) or made.state is not None:
            raise SourceError("its pickle gives a state to what takes none; nothing of it was run")
        made.state = state


def _global(module: object, name: object) -> Global:
    if not isinstance(module, str) or not isinstance(name, str):
        raise SourceError("its pickle names a global by what is no text")
    if (module, name) == ("network", "Network"):
        raise SourceError(
            "it is a network of the Theano version, which the original's own TensorFlow version converts; "
            "import what that writes"
        )
    if (module, name) not in _ADMITTED:
        raise SourceError(
            f"its pickle asks for {shown(f'{module}.{name}')}, which no network needs; nothing of it was run"
        )
    return _ADMITTED[module, name]


def shown(text: str) -> str:
    """A foreign text in quotes, on one line and no longer than is good for a message."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def float32_array(value: object, name: str) -> NDArray[np.float32]:
    """The array or the single number that a record describes.

    Args:
        value: as `loads` gives it.
        name: of the variable, for the message.

    Raises:
        SourceError: it describes no array of float32, or one of another size than its data.
    """
    import numpy as np

    match value:
        case Made(Global.SCALAR, (dtype, bytes(data)), None):
            shape: tuple[object, ...] = ()
            fortran: object = False
        case Made(
            Global.RECONSTRUCT,
            (Global.NDARRAY, (0,), b"b"),
            (1, tuple(shape), dtype, bool(fortran), bytes(data)),
        ):
            pass
        case _:
            dtype = None
    match dtype:
        case Made(Global.DTYPE, ("f4", *_), (_, "<", None, None, None, *_)):
            pass
        case _:
            raise SourceError(f"its {shown(name)} is no array of little-endian float32 numbers")
    sides = [side for side in shape if isinstance(side, int) and 0 < side <= len(data)]
    if len(sides) != len(shape) or len(sides) > 4 or 4 * prod(sides) != len(data):
        raise SourceError(
            f"its {shown(name)} has another size than its {len(data):,} bytes of data; the file is damaged"
        )
    array: NDArray[np.float32] = np.frombuffer(data, "<f4").reshape(sides, order="F" if fortran else "C")
    return array
