"""Bound what torch.load can take of time and memory, before it reads a file of somebody else's.

Reading with `weights_only` runs no code, but 780 bytes can keep it busy for years: a tuple of a tuple twice,
and so on, has 2**n parts for its hash as a dictionary's key, and a list of that kind for the text of torch's
own refusal. A zip's deflated members unpack to a thousand times their size.

Source: the file formats of torch.save, and the opcodes of Python's `pickletools`.
"""

from __future__ import annotations

import io
import pickletools
import tarfile
import warnings
import zipfile
from typing import IO

from pgmetrics.errors import SourceError
from reference_models.progan.importers.unpickling import MAX_OPCODES
from reference_models.progan.model.foreign_files import ZIP

# A training checkpoint has some 10,000 values, in at most ten levels.
_MOST_PARTS = 5_000_000
_MOST_LEVELS = 64
_CHARACTERS_PER_PART = 64
# Before 2020 torch.save wrote as many pickles one behind another.
_PICKLES = 5
_STORE = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")
_RECALL = ("GET", "BINGET", "LONG_BINGET")
# How many values an opcode takes from the stack to put one back, or to put them into the one below;
# None means those above the mark.
_MAKES = {
    "TUPLE": None, "LIST": None, "DICT": None, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "REDUCE": 2,
    "NEWOBJ": 2, "BINPERSID": 1,
}  # fmt: skip
_FILLS = {"APPEND": 1, "APPENDS": None, "SETITEM": 2, "SETITEMS": None, "BUILD": 1}


def check_bounds(data: bytes) -> None:
    """Refuse a PyTorch file that torch.load could read for hours or into gigabytes.

    Raises:
        SourceError: it is damaged, or takes far more than networks do.
    """
    try:
        if data.startswith(ZIP):
            pickles = _pickles_of_zip(data)
        else:
            _refuse_tar(data)
            pickles = [io.BytesIO(data)] * _PICKLES
        for pickle in pickles:
            _check_pickle(pickle)
    except SourceError:
        raise
    except Exception as error:  # zipfile and pickletools raise exceptions of any type on damaged files
        raise SourceError(
            "torch reads no plain tensors from it: it is damaged, or no file that torch.save writes"
        ) from error


def _pickles_of_zip(data: bytes) -> list[IO[bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise SourceError("its members are deflated, as torch.save never writes; load and save it anew")
        # Members could be the same bytes under a thousand names.
        if sum(member.file_size for member in members) > len(data):
            raise SourceError("its members have more bytes than the file; it is damaged")
        if len({member.filename for member in members}) < len(members):
            raise SourceError("it has two members of one name; it is damaged")
        return [io.BytesIO(archive.read(each)) for each in members if each.filename.endswith(".pkl")]


def _refuse_tar(data: bytes) -> None:
    """Refuse a tar, which torch would read in place of the pickles that it begins with."""
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:"):
            pass
    except tarfile.TarError:
        return
    raise SourceError("it is a tar, which torch.save has not written since 2017")


def _check_pickle(file: IO[bytes]) -> None:
    """Follow a pickle's opcodes without making its values, and refuse it if they have too many parts."""
    values = _Values()
    with warnings.catch_warnings():
        # pickletools warns about deprecated escape sequences.
        warnings.simplefilter("ignore")
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count >= MAX_OPCODES:
                raise SourceError(f"its pickle has more than {MAX_OPCODES:,} steps; networks have thousands")
            if opcode.name == "STOP":
                break
            values.step(opcode, argument)
    values.check()


class _Values:
    """The values of a pickle by number, with those that each holds, and the stack of the opcodes."""

    def __init__(self) -> None:
        self._parts: list[int] = []
        self._held: list[list[int]] = []
        self._stack: list[int] = []
        self._marks: list[int] = []
        self._memo: dict[object, int] = {}

    def step(self, opcode: pickletools.OpcodeInfo, argument: object) -> None:
        """Follow one opcode.

        Raises:
            SourceError: torch does not write it.
            LookupError: it takes a value that is not there.
        """
        name = opcode.name
        if name in ("PROTO", "FRAME"):
            return
        if name == "MARK":
            self._marks.append(len(self._stack))
        elif name in _STORE:
            self._memo[len(self._memo) if name == "MEMOIZE" else argument] = self._stack[-1]
        elif name in _RECALL:
            self._stack.append(self._memo[argument])
        elif name in _MAKES:
            self._make(self._taken(_MAKES[name]))
        elif name in _FILLS:
            items = self._taken(_FILLS[name])
            self._held[self._stack[-1]] += items
        elif not opcode.stack_before and len(opcode.stack_after) == 1:
            length = len(argument) if isinstance(argument, (str, bytes, bytearray)) else 0
            self._make([], 1 + length // _CHARACTERS_PER_PART)
        else:
            raise SourceError(f"its pickle uses {name}, which torch.save does not write")

    def check(self) -> None:
        """Refuse values that have too many parts or levels where each is written out in full.

        Raises:
            SourceError: they have, or one holds itself.
        """
        parts, levels = list(self._parts), [0] * len(self._parts)
        waiting = [0] * len(self._parts)
        holders: list[list[int]] = [[] for _ in self._parts]
        for value, held in enumerate(self._held):
            waiting[value] = len(held)
            for inner in held:
                holders[inner].append(value)
        # From those that hold nothing outwards; what is never reached holds itself.
        ready = [value for value, count in enumerate(waiting) if not count]
        total = 0
        for value in ready:
            total += parts[value]
            if total > _MOST_PARTS or levels[value] > _MOST_LEVELS:
                raise SourceError("its values are nested far deeper, or repeat far more, than any network's")
            for holder in holders[value]:
                parts[holder] += parts[value]
                levels[holder] = max(levels[holder], levels[value] + 1)
                waiting[holder] -= 1
                if not waiting[holder]:
                    ready.append(holder)
        if len(ready) < len(parts):
            raise SourceError("it holds a value that holds itself, as no network's does")

    def _taken(self, count: int | None) -> list[int]:
        start = self._marks.pop() if count is None else len(self._stack) - count
        if not 0 <= start <= len(self._stack):
            raise IndexError("a value is missing")
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _make(self, held: list[int], parts: int = 1) -> None:
        self._stack.append(len(self._held))
        self._held.append(held)
        self._parts.append(parts)
