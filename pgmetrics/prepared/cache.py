"""A cache of real sides between runs, keyed by everything that decides their content."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pgmetrics.errors import PgmetricsError, StateError
from pgmetrics.metrics.base import State
from pgmetrics.prepared.state_files import StoredStates, save_states
from pgmetrics.runtime.files import dump_json, resolved, sha256
from pgmetrics.runtime.spill import cache_directory

logger = logging.getLogger("pgmetrics")

_LARGEST = 2**30
_SHOWN = 60  # characters of a value in a log message


class Cache:
    """A directory of states, one entry for each way a state can be made.

    An entry's name is a digest of everything that decides its content: the identity of the images in the
    order in which they are taken, the metric's parameters, seed, size, and the network's weights and
    preprocessing.
    The cache removes nothing by itself, and any entry may be deleted at any time.

    Attributes:
        path: the directory, created with the first entry.
        frugal: store only features of networks, up to 1 GiB per state: descriptors of pixels are large and
            quickly recomputed.
    """

    def __init__(self, path: str | os.PathLike[str], *, frugal: bool = False) -> None:
        resolved(path)
        self.path = Path(path)
        self.frugal = frugal

    @classmethod
    def default(cls) -> Cache:
        """Return a frugal cache in PGMETRICS_CACHE, or else in `pgmetrics` in the user's cache directory."""
        return cls(cache_directory(), frugal=True)

    def takes(self, state: State) -> bool:
        """Whether the cache stores states of this kind."""
        return not self.frugal or bool(state.key.network)

    def fetch(self, name: str, state: State, part: tuple[int, int]) -> bool:
        """Fill a fresh state from its entry if there is one; log a hit, or a miss with its reason.

        Args:
            name: the state's name, for messages and to find similar entries.
            state: a fresh state, whose key describes how it would be made.
            part: start and stop in the source's sequence.
        """
        if not self.takes(state):
            return False
        entry = self._entry(name, state, part)
        try:
            StoredStates(entry).load(name, state)
        except StateError as error:
            reason = str(error) if os.path.exists(entry) else self._why_not(name, state, part)
            logger.info(f"cache miss: {name}: {reason}")
            return False
        logger.info(f"cache hit: {name} of {len(state.seen):,} real images from {entry}")
        return True

    def keep(self, name: str, state: State, part: tuple[int, int]) -> None:
        """Write a filled state's entry; a failure is logged as a warning."""
        if not self.takes(state):
            return
        if self.frugal and (size := sum(array.nbytes for array in state.arrays().values())) > _LARGEST:
            logger.info(
                f"not cached: {name} takes {size / 2**30:.1f} GiB, and the default cache stores at most "
                f"{_LARGEST / 2**30:.0f} GiB per state; --cache DIR stores any size"
            )
            return
        try:
            save_states({name: state}, self._entry(name, state, part), {"part": list(part)})
        except PgmetricsError as error:
            logger.warning(f"not cached: {error}")

    def decline(self, network: str) -> None:
        """Log that features of a network of Python code are not cached."""
        logger.info(
            f"not cached: {network} is Python code, whose changes go undetected; features of a TorchScript "
            "or torch.export file are cached"
        )

    def _entry(self, name: str, state: State, part: tuple[int, int]) -> Path:
        made = dump_json([name, state.key.to_dict(), part], sort_keys=True)
        return self.path / f"{name}-{sha256(made.encode()).hexdigest()[:24]}.pgstats"

    def _similar(self, name: str) -> list[Path]:
        # A directory whose name is too long is none; `glob` would raise.
        return sorted(self.path.glob(f"{name}-*.pgstats")) if os.path.isdir(self.path) else []

    def _why_not(self, name: str, state: State, part: tuple[int, int]) -> str:
        """Describe the difference from the most similar entry."""
        wanted = {**state.key.to_dict(), "part": list(part)}
        differences = [
            {key: (stored.get(key), value) for key, value in wanted.items() if stored.get(key) != value}
            for stored in map(_made_of, self._similar(name))
            if stored
        ]
        if not differences:
            return "no state of this kind is cached yet"
        nearest = min(differences, key=lambda difference: ("source" in difference, len(difference)))
        if "source" in nearest:
            return "no state of these images in this order is cached yet"
        return "; ".join(
            f"{key} was {_short(stored)} in the nearest entry and is {_short(value)} now"
            for key, (stored, value) in nearest.items()
        )


def _made_of(entry: Path) -> Mapping[str, Any]:
    try:
        stored = StoredStates(entry)
        return {**stored.key(stored.names[0]), "part": stored.about.get("part")}
    except (StateError, IndexError):
        return {}


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]}…{text[-_SHOWN // 2 :]}"
