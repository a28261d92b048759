"""States on disk: a directory of arrays and a JSON manifest, written atomically, without pickle.

The manifest holds the SHA-256 of every array's file, and `manifest.sha256` that of the manifest, in the
format of sha256sum. Both are verified whenever a state is read, so that a damaged file is refused and never
scored. Only regular files in the directory itself are opened.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pgmetrics.errors import StateError
from pgmetrics.metrics.base import State, StateKey
from pgmetrics.runtime.blocks import IndexSet
from pgmetrics.runtime.files import (
    dump_json,
    open_regular,
    parse_json,
    refusing_unwritable,
    resolved,
    sha256,
    written_atomically,
)
from pgmetrics.runtime.npy_headers import read_npy_header
from pgmetrics.runtime.threads import share_out

FORMAT = 3
"""Formats before 3 had no digests; those before 2 had other arrays."""

_MANIFEST = "manifest.json"
_SEAL = "manifest.sha256"
_LARGEST_MANIFEST = 2**26


def save_states(
    states: Mapping[str, State], path: str | os.PathLike[str], about: Mapping[str, Any] | None = None
) -> None:
    """Write states to the directory `path`, replacing existing states.

    The directory appears only when everything is written.

    Args:
        states: the states by name.
        path: the directory, by convention `NAME.pgstats`.
        about: plain values for a reader of the manifest, such as versions and the source's name.

    Raises:
        StateError: `path` exists and holds no states.
        PgmetricsError: the directory cannot be written.
    """
    target = Path(path)
    check_states_destination(target)
    manifest: dict[str, Any] = {"format": FORMAT, "about": dict(about or {}), "states": {}}
    with refusing_unwritable(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with written_atomically(target, directory=True) as aside:
        for name, state in states.items():
            manifest["states"][name] = {
                "key": state.key.to_dict(),
                "seen": state.seen.intervals,
                "arrays": _save_arrays(state, name, aside),
            }
        text = dump_json(manifest, indent=1).encode()
        (aside / _MANIFEST).write_bytes(text)
        (aside / _SEAL).write_bytes(_seal(text))


def check_states_destination(path: str | os.PathLike[str]) -> None:
    """Refuse a path that `save_states` could not write.

    Raises:
        StateError: the path exists and holds no states.
        PgmetricsError: no directory can have such a name.
    """
    resolved(path)
    target = Path(path)
    if os.path.lexists(target) and not holds_states(target):
        raise StateError(f"{target} exists and holds no statistics of ours; it will not be overwritten")


class StoredStates:
    """A directory written by `save_states`; loading a state reads its arrays, and large ones stay on disk.

    Attributes:
        path: the directory.
        about: the plain values that `save_states` was given.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read the manifest.

        Raises:
            StateError: the directory holds no states, or a damaged manifest.
        """
        self.path = Path(path)
        manifest = _read_manifest(self.path)
        self.about, self._states = _with_current_names(manifest["about"], manifest["states"])

    @property
    def names(self) -> list[str]:
        """Names of the states."""
        return list(self._states)

    def key(self, name: str) -> dict[str, Any]:
        """How a state was made, in the form of `StateKey.to_dict`."""
        key: dict[str, Any] = self._states[name]["key"]
        return key

    def load(self, name: str, like: State) -> State:
        """Read a state into a fresh one.

        Args:
            name: one of `names`.
            like: a fresh state of the expected metric, side, seed, size, source and network.

        Returns:
            `like`, filled.

        Raises:
            StateError: there is no such state, it is damaged, or it was made differently; the message gives
                both values.
        """
        if name not in self._states:
            raise StateError(f"{self.path} holds no {name}; it holds {', '.join(self._states)}")
        stored = self._states[name]
        check_made_alike(str(self.path), stored["key"], like)
        # The digests of large arrays take a second per 1.5 GB, so threads compute them in parallel.
        arrays = dict(zip(stored["arrays"], share_out(self._array, self._files(name)), strict=True))
        try:
            like.restore(arrays, IndexSet((a, b) for a, b in stored["seen"]))
        except StateError as error:
            raise _damaged(self.path, f"{name}: {error}") from error
        return like

    def _files(self, name: str) -> list[tuple[str, Mapping[str, Any]]]:
        state = self._states[name]
        return [
            (_file_name(state.get("files", name), array), described)
            for array, described in state["arrays"].items()
        ]

    def _array(self, stored: tuple[str, Mapping[str, Any]]) -> NDArray[Any]:
        """Map the array of a file into memory after checking it against the manifest.

        Raises:
            StateError: the file differs from the manifest, or is not a regular file of this directory.
        """
        name, described = stored
        try:
            with open_regular(self.path / name, follow_links=False) as file:
                shape, fortran_order, dtype = _read_header(file)
                if list(shape) != described["shape"] or dtype.str != described["dtype"]:
                    raise _damaged(
                        self.path,
                        f"{name} is {dtype.str} {list(shape)}, its manifest says {described['dtype']} "
                        f"{described['shape']}",
                    )
                start = file.tell()
                file.seek(0)
                if sha256(file).hexdigest() != described["sha256"]:
                    raise _damaged(self.path, f"{name} is not the file that was written, by its SHA-256")
                # Copy on write: the file never changes, and torch accepts the array without a warning.
                return np.memmap(file, dtype, "c", start, shape, "F" if fortran_order else "C")
        except OSError as error:
            raise _damaged(self.path, f"{name} cannot be read ({error.strerror or error})") from error
        except (ValueError, OverflowError) as error:
            if isinstance(error, StateError):
                raise
            raise _damaged(self.path, f"{name} cannot be read ({error})") from error


def check_made_alike(name: str, key: Mapping[str, Any], like: State) -> None:
    """Refuse a state that was made in another way than a fresh one would be.

    Args:
        name: what the message calls the state.
        key: of the state, in the form of `StateKey.to_dict`.
        like: the fresh state.

    Raises:
        StateError: naming the first difference, with both values.
    """
    for part, value in like.key.to_dict().items():
        if (found := key.get(part)) != value:
            raise StateError(f"{name} was made differently: {part} is {found}, {value} was asked for")


def holds_states(path: str | os.PathLike[str]) -> bool:
    """Whether `save_states` wrote this directory."""
    # Path.is_file raises for a name that is too long.
    return os.path.isfile(os.path.join(path, _MANIFEST))


def save_state(state: State, path: str | os.PathLike[str]) -> None:
    """Write one state to the directory `path`; see `save_states`."""
    save_states({state.key.kind: state}, path)


def load_state(path: str | os.PathLike[str], like: State) -> State:
    """Read the state that `save_state` wrote into a fresh one; see `StoredStates.load`."""
    return StoredStates(path).load(like.key.kind, like)


def _save_arrays(state: State, name: str, directory: Path) -> dict[str, Any]:
    described = {}
    for array_name, array in state.arrays().items():
        path = directory / _file_name(name, array_name)
        np.save(path, array, allow_pickle=False)
        with path.open("rb") as file:
            digest = sha256(file).hexdigest()
        described[array_name] = {"shape": array.shape, "dtype": array.dtype.str, "sha256": digest}
    return described


def _file_name(state: str, array: str) -> str:
    return f"{state}.{array}.npy"


def _read_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of an npy file up to the array: shape, whether in Fortran order, and dtype."""
    shape, fortran_order, dtype = read_npy_header(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    return shape, fortran_order, dtype


def _seal(manifest: bytes) -> bytes:
    """Return the output of `sha256sum manifest.json`, so that `sha256sum -c` can check it."""
    return f"{sha256(manifest).hexdigest()}  {_MANIFEST}\n".encode()


def _read_manifest(directory: Path) -> dict[str, Any]:
    try:
        with open_regular(directory / _MANIFEST, follow_links=False) as file:
            text = file.read(_LARGEST_MANIFEST)
        manifest = parse_json(text)
        version = manifest["format"]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StateError(f"{directory} holds no statistics: there is no {_MANIFEST} in it") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise _damaged(directory, f"its {_MANIFEST} cannot be read ({reason})") from error
    if version in range(1, FORMAT):
        raise StateError(
            f"{directory} has format {version} of an earlier version, whose arrays have no digests; "
            "make it again with pgmetrics stats"
        )
    if version != FORMAT:
        raise StateError(f"{directory} has format {version}; this version reads format {FORMAT}")
    if _read_seal(directory) != _seal(text):
        raise _damaged(directory, f"its {_MANIFEST} is not what was written, by its SHA-256 in {_SEAL}")
    if not _well_formed(manifest):
        raise _damaged(directory, f"a part of its {_MANIFEST} is missing or of another kind")
    return {"about": manifest["about"], "states": manifest["states"]}


def _with_current_names(
    about: Mapping[str, Any], states: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Convert a manifest to this version's names: version 0.1 called a custom network `own`."""
    networks = about.get("networks")
    renamed_about = dict(about)
    if isinstance(networks, dict) and "own" in networks:
        renamed_about["networks"] = {
            {"own": "custom"}.get(name, name): found for name, found in networks.items()
        }
    renamed_states = {}
    for name, state in states.items():
        network = state["key"]["network"]
        if not (isinstance(network, str) and network.startswith("own:")):
            renamed_states[name] = state
            continue
        key = state["key"] | {"network": "custom:" + network.removeprefix("own:")}
        if isinstance(key["kind"], str):
            key["kind"] = key["kind"].replace("-own-", "-custom-")
        # The files keep their names.
        renamed_states[name.replace("-own-", "-custom-")] = state | {"key": key, "files": name}
    return renamed_about, renamed_states


def _read_seal(directory: Path) -> bytes:
    try:
        with open_regular(directory / _SEAL, follow_links=False) as file:
            return file.read(1000)
    except OSError as error:
        raise _damaged(directory, f"its {_SEAL} cannot be read ({error.strerror or error})") from error


def _damaged(directory: Path, why: str) -> StateError:
    return StateError(f"{directory} is damaged: {why}; copy it again, or make it again with pgmetrics stats")


_KEY = {field.name for field in fields(StateKey)}


def _well_formed(manifest: Mapping[str, Any]) -> bool:
    states = manifest.get("states")
    return (
        isinstance(manifest.get("about"), dict)
        and isinstance(states, dict)
        and all(_is_state(name, state) for name, state in states.items())
    )


def _is_state(name: str, state: Any) -> bool:
    if not isinstance(state, dict) or not isinstance(state.get("key"), dict) or set(state["key"]) != _KEY:
        return False
    seen, arrays = state.get("seen"), state.get("arrays")
    return (
        isinstance(seen, list)
        and all(_is_interval(part) for part in seen)
        and isinstance(arrays, dict)
        # The name must be that of a file in the directory itself, without path separators.
        and all(_file_name(name, array) == os.path.basename(_file_name(name, array)) for array in arrays)
        and all(_is_description(described) for described in arrays.values())
    )


def _is_interval(part: Any) -> bool:
    return (
        isinstance(part, list)
        and len(part) == 2
        and all(type(i) is int for i in part)
        and 0 <= part[0] < part[1]
    )


def _is_description(described: Any) -> bool:
    return (
        isinstance(described, dict)
        and isinstance(described.get("shape"), list)
        and isinstance(described.get("dtype"), str)
        and isinstance(described.get("sha256"), str)
    )
