"""States on disk: a directory of arrays and a JSON manifest, made aside and renamed; no pickle."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pgmetrics.blocks import IndexSet
from pgmetrics.errors import StateError
from pgmetrics.files import dump_json, parse_json
from pgmetrics.metrics.base import State

FORMAT = 2
_MANIFEST = "manifest.json"


def save_states(
    states: Mapping[str, State], path: str | os.PathLike[str], about: Mapping[str, Any] | None = None
) -> None:
    """Write states to the directory `path`, replacing states that are there.

    Nothing appears under that name before everything is written.

    Args:
        states: by the names under which they will be found.
        path: the directory, by custom `NAME.pgstats`.
        about: plain values for a reader of the manifest, such as versions and the source's name.

    Raises:
        StateError: something that holds no states has the name, or the disk refuses.
    """
    target = Path(path)
    check_states_destination(target)
    manifest: dict[str, Any] = {"format": FORMAT, "about": dict(about or {}), "states": {}}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = _beside(target)
        aside.mkdir()
        try:
            for name, state in states.items():
                manifest["states"][name] = {
                    "key": state.key.to_dict(),
                    "seen": state.seen.intervals,
                    "arrays": _save_arrays(state, name, aside),
                }
            (aside / _MANIFEST).write_text(dump_json(manifest, indent=1))
            _put_in_place(aside, target)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
    except OSError as error:
        raise StateError(f"cannot write the statistics {target}: {error.strerror or error}") from error


def check_states_destination(path: str | os.PathLike[str]) -> None:
    """Refuse a name that `save_states` could not give to its directory.

    Raises:
        StateError: something that holds no states has it.
    """
    target = Path(path)
    if os.path.lexists(target) and not (target / _MANIFEST).exists():
        raise StateError(f"{target} exists and holds no statistics of ours; it will not be overwritten")


class StoredStates:
    """What `save_states` wrote; arrays are read when a state is loaded, and large ones stay on disk.

    Attributes:
        path: the directory.
        about: what its maker wrote about it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read the manifest.

        Raises:
            StateError: the directory holds no states, or a damaged manifest.
        """
        self.path = Path(path)
        manifest = _read_manifest(self.path)
        self.about: dict[str, Any] = manifest["about"]
        self._states: dict[str, Any] = manifest["states"]

    @property
    def names(self) -> list[str]:
        """Of the states there are."""
        return list(self._states)

    def key(self, name: str) -> dict[str, Any]:
        """How a state was made, as `StateKey.to_dict` gives it."""
        found: dict[str, Any] = self._states[name]["key"]
        return found

    def load(self, name: str, like: State) -> State:
        """Read a state into one that its metric has just made.

        Args:
            name: one of `names`.
            like: a fresh state of the metric, side, seed, size, source and network that are expected.

        Returns:
            `like`, filled.

        Raises:
            StateError: there is none of that name, it is damaged or was made differently; the
                message gives both values.
        """
        if name not in self._states:
            raise StateError(f"{self.path} holds no {name}; it holds {', '.join(self._states)}")
        stored = self._states[name]
        for part, value in like.key.to_dict().items():
            found = stored["key"].get(part)
            if found != value:
                raise StateError(
                    f"{self.path} was made differently: {part} is {found}, {value} was asked for"
                )
        arrays = {
            array: self._array(f"{name}.{array}.npy", described)
            for array, described in stored["arrays"].items()
        }
        try:
            like.restore(arrays, IndexSet((a, b) for a, b in stored["seen"]))
        except KeyError as error:
            raise StateError(f"{self.path} is damaged: the array {error} is missing") from error
        return like

    def _array(self, file: str, described: Mapping[str, Any]) -> np.ndarray[Any, Any]:
        try:
            # Copy on write: the file is never changed, and torch takes the array without a warning.
            array: np.ndarray[Any, Any] = np.load(self.path / file, mmap_mode="c", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise StateError(f"{self.path} is damaged: {file} cannot be read ({error})") from error
        if list(array.shape) != described["shape"] or array.dtype.str != described["dtype"]:
            raise StateError(
                f"{self.path} is damaged: {file} is {array.dtype.str} {list(array.shape)}, "
                f"its manifest says {described['dtype']} {described['shape']}"
            )
        return array


def holds_states(path: str | os.PathLike[str]) -> bool:
    """Whether this is a directory that `save_states` wrote."""
    return (Path(path) / _MANIFEST).is_file()


def save_state(state: State, path: str | os.PathLike[str]) -> None:
    """Write one state to the directory `path`; as `save_states`."""
    save_states({state.key.kind: state}, path)


def load_state(path: str | os.PathLike[str], like: State) -> State:
    """Read the state that `save_state` wrote into a fresh one; as `StoredStates.load`."""
    return StoredStates(path).load(like.key.kind, like)


def _save_arrays(state: State, name: str, directory: Path) -> dict[str, Any]:
    described = {}
    for array_name, array in state.arrays().items():
        np.save(directory / f"{name}.{array_name}.npy", array, allow_pickle=False)
        described[array_name] = {"shape": array.shape, "dtype": array.dtype.str}
    return described


def _put_in_place(aside: Path, target: Path) -> None:
    if not target.exists():
        aside.rename(target)
        return
    # Two renames: for a moment neither is there, but never half of one.
    old = _beside(target)
    target.rename(old)
    aside.rename(target)
    shutil.rmtree(old)


def _beside(target: Path) -> Path:
    # Not tempfile: its directories are private to the user, and the renamed one would stay so.
    return target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.tmp")


def _read_manifest(directory: Path) -> dict[str, Any]:
    try:
        manifest = parse_json((directory / _MANIFEST).read_text())
        if manifest["format"] != FORMAT:
            raise StateError(
                f"{directory} has format {manifest['format']}; this version reads format {FORMAT}"
            )
        complete = all({"key", "seen", "arrays"} <= set(state) for state in manifest["states"].values())
        if not complete:
            raise KeyError("key, seen or arrays")
        return {"about": dict(manifest["about"]), "states": dict(manifest["states"])}
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StateError(f"{directory} holds no statistics: there is no {_MANIFEST} in it") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, StateError):
            raise
        raise StateError(f"{directory} is damaged: its {_MANIFEST} cannot be read ({error})") from error
