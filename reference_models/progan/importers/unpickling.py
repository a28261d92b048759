"""Read pickles as plain data: nothing in them is imported, called or built.

A pickle is a program for a small stack machine, and the ordinary loader calls whatever that program
names. This machine can only put values together. It admits the few names that a network needs,
records a call of one of them instead of making it, and refuses every other name and opcode. All
protocols from 0 to 5 are read, as Python 3 writes them.

Source: the structure of the published network pickles, and the opcodes of Python's `pickletools`.
"""

from __future__ import annotations

import pickletools
import warnings
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
_NUMBERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")


class Global(Enum):
    """The names a pickle may refer to."""

    NETWORK = "tfutil.Network"
    RECONSTRUCT = "numpy reconstruct"
    FROMBUFFER = "numpy frombuffer"  # protocol 5
    SCALAR = "numpy scalar"
    NDARRAY = "numpy.ndarray"
    DTYPE = "numpy.dtype"
    NEW_OBJECT = "copyreg._reconstructor"  # an object, in protocols 0 and 1
    OBJECT = "object"
    ENCODE = "_codecs.encode"  # bytes, in protocols 0 to 2
    BYTES = "bytes"


_ADMITTED: dict[tuple[str, str], Global] = {
    ("tfutil", "Network"): Global.NETWORK,
    ("numpy", "ndarray"): Global.NDARRAY,
    ("numpy", "dtype"): Global.DTYPE,
    ("_codecs", "encode"): Global.ENCODE,
}
# NumPy 2 renamed its module numpy.core, and Python 3 these two.
_ADMITTED |= {
    (f"numpy.{core}.{module}", name): meant
    for core in ("core", "_core")
    for module, name, meant in (
        ("multiarray", "_reconstruct", Global.RECONSTRUCT),
        ("multiarray", "scalar", Global.SCALAR),
        ("numeric", "_frombuffer", Global.FROMBUFFER),
    )
}
_ADMITTED |= {(module, "_reconstructor"): Global.NEW_OBJECT for module in ("copyreg", "copy_reg")}
_ADMITTED |= {
    (module, meant.value): meant
    for module in ("builtins", "__builtin__")
    for meant in (Global.OBJECT, Global.BYTES)
}
_CALLABLE = (Global.RECONSTRUCT, Global.FROMBUFFER, Global.SCALAR, Global.DTYPE)


@dataclass(eq=False)
class Made:
    """The record of a call that was not made.

    Attributes:
        maker: what would have been called.
        arguments: of the call.
        state: what the object would have been restored from.
    """

    maker: Global
    arguments: tuple[object, ...]
    state: object = None


def loads(data: bytes) -> object:
    """Return the value that a pickle describes, made of Python's plain types, `Global` and `Made`.

    Raises:
        SourceError: it is damaged or too large, names anything that is not admitted, or does
            anything but put values together.
    """
    if len(data) > MAX_BYTES:
        raise SourceError(f"it has {len(data):,} bytes; networks have at most {MAX_BYTES:,}")
    machine = _Machine()
    try:
        # pickletools warns about deprecated escape sequences before we refuse them.
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
        # Raised by pickletools, an empty stack and an empty memo, in this order.
        raise SourceError("its pickle is damaged or was cut short") from error
    raise AssertionError("pickletools ends at STOP or raises")


class _Machine:
    """Execute opcodes on a stack, the stacks below the marks, and the memo."""

    def __init__(self) -> None:
        self.stack: list[object] = []
        self.below: list[list[object]] = []
        self.memo: dict[int, object] = {}

    def step(self, name: str, argument: object) -> None:
        """Execute one opcode.

        Raises:
            SourceError: the opcode does something else than putting plain values together.
            IndexError, KeyError: the opcode takes a value that is not there.
        """
        match name:
            case "PROTO" | "FRAME":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                self.stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case (
                "BININT" | "BININT1" | "BININT2" | "LONG1" | "LONG4" | "BINFLOAT" | "INT" | "LONG" | "FLOAT"
                | "SHORT_BINUNICODE" | "BINUNICODE" | "BINUNICODE8" | "UNICODE"
                | "SHORT_BINBYTES" | "BINBYTES" | "BINBYTES8"
            ):  # fmt: skip
                self.stack.append(argument)
            case "BYTEARRAY8":
                assert isinstance(argument, bytearray)
                self.stack.append(bytes(argument))
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.stack[-1]
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                assert isinstance(argument, int)
                self.memo[argument] = self.stack[-1]
            case "BINGET" | "LONG_BINGET" | "GET":
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
            case "LIST":
                items_of_list = self._above_mark()
                self.stack.append(items_of_list)
            case "DICT":
                pairs = self._above_mark()
                self.stack.append({})
                self._update(pairs)
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
            raise SourceError("its pickle appends to something that is not a list")
        target.extend(items)

    def _update(self, items: list[object]) -> None:
        target = self.stack[-1]
        keys, values = items[::2], items[1::2]
        # Other keys would be hashed, and the hash of nested tuples has no limit to its depth.
        if not isinstance(target, dict) or len(keys) != len(values) or not all(type(k) is str for k in keys):
            raise SourceError("its pickle has a dictionary whose keys are not text")
        target.update(zip(keys, values, strict=True))

    def _record(self, name: str) -> None:
        arguments, maker = self.stack.pop(), self.stack.pop()
        match name, maker, arguments:
            case "NEWOBJ", Global.NETWORK, ():
                self.stack.append(Made(Global.NETWORK, ()))
            case "REDUCE", Global.NEW_OBJECT, (Global.NETWORK, Global.OBJECT, None):
                self.stack.append(Made(Global.NETWORK, ()))
            case "REDUCE", Global.ENCODE, (str(text), "latin1"):
                self.stack.append(text.encode("latin1"))
            case "REDUCE", Global.BYTES, ():
                self.stack.append(b"")
            case "REDUCE", Global() as called, tuple(given) if called in _CALLABLE:
                self.stack.append(Made(called, given))
            case _:
                raise SourceError(
                    "its pickle makes a call that no network's pickle makes; nothing of it was run"
                )

    def _build(self) -> None:
        state, made = self.stack.pop(), self.stack[-1]
        if not isinstance(made, Made) or made.state is not None:
            raise SourceError("its pickle gives a state to an object that takes none; nothing of it was run")
        made.state = state


def _global(module: object, name: object) -> Global:
    if not isinstance(module, str) or not isinstance(name, str):
        raise SourceError("its pickle names a global by something that is not text")
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
    """Quote a foreign text for a message: on one line, and shortened to 60 characters."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def float32_array(value: object, name: str) -> NDArray[np.float32]:
    """Return the array or the single number that a record describes.

    Args:
        value: as `loads` gives it.
        name: of the variable, for the message.

    Raises:
        SourceError: it describes no array of float32, or one whose size is not that of its data.
    """
    import numpy as np

    fortran: object = False
    shape: tuple[object, ...] = ()
    match value:
        case Made(Global.SCALAR, (dtype, bytes(data)), None):
            pass
        case Made(
            Global.RECONSTRUCT,
            (Global.NDARRAY, (0,), b"b"),
            (1, tuple(shape), dtype, bool(fortran), bytes(data)),
        ):
            pass
        case Made(Global.FROMBUFFER, (bytes(data), dtype, tuple(shape), ("C" | "F") as order), None):
            fortran = order == "F"
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


def plain_number(value: object) -> object:
    """Return a number of NumPy's as Python's own; anything else as it is.

    Args:
        value: as `loads` gives it.
    """
    import numpy as np

    match value:
        case Made(Global.SCALAR, (Made(Global.DTYPE, (code, *_), (_, order, *_)), bytes(data)), None):
            pass
        case _:
            return value
    if code not in _NUMBERS or order not in ("<", "|"):
        return value
    kind = np.dtype(f"{order}{code}")
    return np.frombuffer(data, kind)[0].item() if len(data) == kind.itemsize else value
