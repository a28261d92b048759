"""States on disk: a directory of arrays and a JSON manifest, made aside and renamed; no pickle."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pgmetrics.blocks import IndexSet
from pgmetrics.errors import StateError
from pgmetrics.metrics.base import State

FORMAT = 1
_MANIFEST = "manifest.json"


def save_state(state: State, path: str | os.PathLike[str]) -> None:
    """Write a state to the directory `path`, replacing a state that is there.

    Nothing appears under that name before everything is written.

    Raises:
        StateError: something that is not a state has the name, or the disk refuses.
    """
    target = Path(path)
    if target.exists() and not (target / _MANIFEST).exists():
        raise StateError(f"{target} exists and is not a state; it will not be overwritten")
    arrays = state.arrays()
    manifest = {
        "format": FORMAT,
        "key": state.key.to_dict(),
        "seen": state.seen.intervals,
        "arrays": {name: {"shape": a.shape, "dtype": a.dtype.str} for name, a in arrays.items()},
    }
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            for name, array in arrays.items():
                np.save(aside / f"{name}.npy", array, allow_pickle=False)
            (aside / _MANIFEST).write_text(json.dumps(manifest, indent=1))
            if target.exists():
                # Two renames: for a moment neither is there, but never half of one.
                old = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
                target.rename(old / "state")
                aside.rename(target)
                shutil.rmtree(old)
            else:
                aside.rename(target)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
    except OSError as error:
        raise StateError(f"cannot write the state {target}: {error.strerror or error}") from error


def load_state(path: str | os.PathLike[str], like: State) -> State:
    """Read a state into one that its metric has just made; large arrays stay on disk.

    Args:
        path: a directory that `save_state` wrote.
        like: a fresh state of the metric, side, seed, size and source that are expected.

    Returns:
        `like`, filled.

    Raises:
        StateError: the directory holds no state, a damaged one, or one made differently; the
            message gives both values.
    """
    directory = Path(path)
    manifest = _manifest(directory)
    expected = like.key.to_dict()
    for name, value in expected.items():
        found = manifest["key"].get(name)
        if found != value:
            raise StateError(f"{directory} was made differently: {name} is {found}, {value} was asked for")
    arrays = {}
    for name, described in manifest["arrays"].items():
        try:
            # Copy on write: the file is never changed, and torch takes the array without a warning.
            array = np.load(directory / f"{name}.npy", mmap_mode="c", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise StateError(f"{directory} is damaged: {name}.npy cannot be read ({error})") from error
        if list(array.shape) != described["shape"] or array.dtype.str != described["dtype"]:
            raise StateError(
                f"{directory} is damaged: {name}.npy is {array.dtype.str} {list(array.shape)}, "
                f"its manifest says {described['dtype']} {described['shape']}"
            )
        arrays[name] = array
    try:
        like.restore(arrays, IndexSet((a, b) for a, b in manifest["seen"]))
    except KeyError as error:
        raise StateError(f"{directory} is damaged: the array {error} is missing") from error
    return like


def _manifest(directory: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((directory / _MANIFEST).read_text())
        if manifest["format"] != FORMAT:
            raise StateError(
                f"{directory} has format {manifest['format']}; this version reads format {FORMAT}"
            )
        if not {"key", "seen", "arrays"} <= manifest.keys():
            raise KeyError("key, seen or arrays")
    except FileNotFoundError as error:
        raise StateError(f"{directory} holds no state: there is no {_MANIFEST} in it") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, StateError):
            raise
        raise StateError(f"{directory} is damaged: its {_MANIFEST} cannot be read ({error})") from error
    return dict(manifest)
