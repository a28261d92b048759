"""Statistics in place of real images: our own files and those of other tools."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgmetrics.errors import OptionError, StateError
from pgmetrics.metrics.base import Metric, State
from pgmetrics.metrics.moments import MomentsState
from pgmetrics.metrics.registry import METRICS
from pgmetrics.prepared.moments_npz import holds_moments, holds_moments_only, read_moments, write_moments
from pgmetrics.prepared.state_files import (
    StoredStates,
    check_made_alike,
    check_states_destination,
    holds_states,
    save_states,
)
from pgmetrics.runtime.files import resolved

if TYPE_CHECKING:
    from typing import TypeGuard

_SCHEME = "statistics:"
_COLLECTED = "the result of collect()"

logger = logging.getLogger("pgmetrics")


class CollectedStates:
    """What `collect` returned, with the interface of `StoredStates`.

    Attributes:
        about: the description that `collect` returned beside the states.
    """

    def __init__(self, states: Mapping[str, State], about: Mapping[str, Any]) -> None:
        self.about = dict(about)
        self._states = states

    @property
    def names(self) -> list[str]:
        """Names of the states."""
        return list(self._states)

    def key(self, name: str) -> dict[str, Any]:
        """How a state was made, in the form of `StateKey.to_dict`."""
        return self._states[name].key.to_dict()

    def load(self, name: str, like: State) -> State:
        """Return a state, if it was made as the fresh state `like` would be.

        Raises:
            StateError: it was made differently; the message gives both values.
        """
        check_made_alike(_COLLECTED, self.key(name), like)
        return self._states[name]


class StoredReals:
    """Real sides from states that were made before: a directory of `save_statistics`, or those of `collect`.

    Attributes:
        name: path of the directory, or what messages call the states.
        knows_images: whether it records the images and their order.
    """

    knows_images = True

    def __init__(self, name: str, stored: StoredStates | CollectedStates) -> None:
        self._stored = stored
        self.name = name

    def holds(self, name: str) -> bool:
        """Whether there is a state of this name."""
        return name in self._stored.names

    def source(self, name: str) -> str:
        """The fingerprint of a state's images; empty if there is no such state."""
        return str(self._stored.key(name)["source"]) if self.holds(name) else ""

    def fill(self, name: str, fresh: State, metric: Metric) -> State:
        """Load the state of this name, if it was made as `fresh` would be.

        Raises:
            StateError: there is no such state, or it was made differently; the message gives both values.
        """
        if not self.holds(name):
            made_by = (
                f"pgmetrics.collect(SOURCE, [{metric.prepared_by!r}])"
                if isinstance(self._stored, CollectedStates)
                else f"pgmetrics stats SOURCE --metrics {metric.prepared_by} --out FILE.pgstats"
            )
            raise StateError(
                f"{self.name} holds {', '.join(self._stored.names)}; {metric.name} needs {name} here: "
                f"{made_by} makes it"
            )
        return self._stored.load(name, fresh)

    def describe(self) -> dict[str, Any]:
        """For the provenance."""
        about = self._stored.about
        made_of = about.get("source")
        # The identity in the order of the listing, as in results; a state holds that in the order taken.
        known = made_of if isinstance(made_of, dict) else {}
        images = {name: known[name] for name in ("fingerprint", "metrics") if name in known}
        fingerprint = next(map(self.source, self._stored.names), "")
        return {"name": self.name, "fingerprint": fingerprint, **images, "about": about}


class MomentsReals:
    """Real moments from another tool's npz, which suffice for Fréchet distances alone.

    The file does not record its network and resizer; the user has to know them.

    Attributes:
        name: path of the file.
        knows_images: always False, since the file does not record its images.
    """

    knows_images = False

    def __init__(self, path: str) -> None:
        self.name = path
        self._mean, self._covariance = read_moments(path)

    def holds(self, name: str) -> bool:
        """Whether the state of this name consists of moments."""
        return name.startswith("moments-")

    def source(self, name: str) -> str:
        """The path of the file, which stands for its images."""
        return self.name

    def fill(self, name: str, fresh: State, metric: Metric) -> State:
        """Return a state with the file's moments.

        Raises:
            StateError: the metric needs more than moments.
        """
        if not metric.keeps_moments:
            made = "more" if metric.prepared_by == metric.name else "the features of every image"
            raise StateError(
                f"{self.name} holds a mean and a covariance (mu, sigma), enough to score with "
                f"{' and '.join(_of_moments())}; {metric.name} needs {made} here: give the images, or what "
                f"pgmetrics stats SOURCE --metrics {metric.prepared_by} makes of them"
            )
        return MomentsState.from_moments(self._mean, self._covariance, fresh.key)

    def describe(self) -> dict[str, Any]:
        """For the provenance."""
        return {"name": self.name, "fingerprint": "", "features": len(self._mean)}


def open_statistics(spec: object) -> StoredReals | MomentsReals | None:
    """Open statistics: a directory of states, what `collect` returned, or an npz of mu and sigma.

    Anything else is None.

    ADM's reference files hold images, and moments of a larger set: the images are used, unless
    `statistics:PATH` asks for the moments.

    Raises:
        StateError: `statistics:PATH` holds no statistics, or they cannot be read.
    """
    if _is_collected(spec):
        states, about = spec
        return StoredReals(_COLLECTED, CollectedStates(states, about))
    if not isinstance(spec, (str, os.PathLike)):
        return None
    text = os.fsdecode(os.fspath(spec))
    asked = text.startswith(_SCHEME) and not os.path.lexists(text)
    path = text.removeprefix(_SCHEME) if asked else text
    if holds_states(path) or path.rstrip("/").endswith(".pgstats"):
        return StoredReals(path, StoredStates(path))
    if holds_moments(path) if asked else holds_moments_only(path):
        return MomentsReals(path)
    if not asked and holds_moments(path):
        logger.info(
            f"{path} holds images, and moments of these or more images; its images are used "
            f"({_SCHEME}{path} uses the moments)"
        )
    if asked:
        raise StateError(
            f"{path} holds no statistics: a .pgstats directory or an npz of mu and sigma is needed"
        )
    return None


def _is_collected(spec: object) -> TypeGuard[tuple[Mapping[str, State], Mapping[str, Any]]]:
    """Whether that is a pair of states by name and their description, as `collect` returns it."""
    if not (isinstance(spec, tuple) and len(spec) == 2 and all(isinstance(part, dict) for part in spec)):
        return False
    states = spec[0]
    return bool(states) and all(isinstance(state, State) for state in states.values())


def save_statistics(
    states: Mapping[str, State], path: str | os.PathLike[str], about: Mapping[str, Any] | None = None
) -> None:
    """Write the result of `collect`: `NAME.pgstats`, or `NAME.npz` with only mu and sigma.

    pytorch-fid, clean-fid and EDM read such an npz; ADM's evaluator also needs moments of a second layer.

    Raises:
        OptionError: the suffix is unknown, or an npz was asked for states that are not moments.
        StateError: the path exists and holds something else.
        PgmetricsError: the files cannot be written.
    """
    if _suffix(path) == ".npz":
        only = list(states.values())
        if len(only) != 1 or not isinstance(only[0], MomentsState):
            names = " or ".join(_of_moments())
            raise OptionError(f"an npz holds the moments of {names} alone, not {', '.join(states)}")
        moments = only[0].moments()
        write_moments(path, moments.mean.cpu().numpy(), moments.covariance().cpu().numpy())
    else:
        save_states(states, path, about)


def check_statistics_destination(path: str | os.PathLike[str], metrics: Sequence[Metric]) -> None:
    """Refuse a path that `save_statistics` could not write, before a long computation.

    Raises:
        OptionError: the suffix is unknown, or an npz was asked for more than one metric of moments.
        StateError: the path exists and holds something else, or its directory is missing.
    """
    target = Path(path)
    if _suffix(path) == ".npz":
        if len(metrics) != 1 or not metrics[0].keeps_moments:
            names = " or ".join(_of_moments())
            raise OptionError(f"{target} holds the moments of {names} alone; write NAME.pgstats for others")
        if os.path.isdir(resolved(target)):
            raise StateError(f"{target} is a directory")
    else:
        check_states_destination(target)
    if not target.absolute().parent.is_dir():
        raise StateError(f"{target} cannot be written: there is no directory {target.absolute().parent}")
    if not os.access(target.absolute().parent, os.W_OK | os.X_OK):
        raise StateError(f"{target} cannot be written: no permission in {target.absolute().parent}")


def _of_moments() -> list[str]:
    """The metrics to which a mean and a covariance are enough."""
    return [name for name, declared in METRICS.items() if declared.load()().keeps_moments]


def _suffix(path: str | os.PathLike[str]) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in (".pgstats", ".npz"):
        raise OptionError(f"{os.fspath(path)}: statistics are written as NAME.pgstats or NAME.npz")
    return suffix
