"""Sources that other packages offer, found by the entry points of the group `pgmetrics.sources`."""

from __future__ import annotations

import importlib.metadata
import operator
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from pgmetrics.errors import PgmetricsError, SourceError
from pgmetrics.sources.base import LARGEST_SIDE, ImageSource

ENTRY_POINTS = "pgmetrics.sources"


class Plugin(Protocol):
    """What an entry point of the group `pgmetrics.sources` names, its own name being the scheme."""

    def recognizes(self, path: Path) -> bool:
        """Whether a file is one of its own, judged by what is in it."""

    def open_source(self, path: str, options: dict[str, str]) -> ImageSource:
        """The images of `SCHEME:PATH,key=value`."""

    def describe(self, path: Path) -> Mapping[str, Any]:
        """Where a checkpoint stands: `images_shown`, `resolution`, `alpha`, `final_resolution`.

        May be left out. A plug-in that has it lets training runs be scored, and its `open_source` takes
        `at` (`stage` or `final`: the checkpoint's own resolution, or enlarged to the final one) and `seed`.
        It raises a SourceError where the file is damaged.
        """


class Checkpoint(NamedTuple):
    """A file that a plug-in can sample, and where it stands.

    Attributes:
        plugin: whose it is.
        images_shown: of the training, when it was written.
        resolution: of its images, in pixels.
        alpha: how far that resolution is faded in, 1 outside of fades.
        final_resolution: that it will have grown to.
    """

    plugin: Plugin
    images_shown: int
    resolution: int
    alpha: float
    final_resolution: int


def checkpoint(path: Path) -> Checkpoint | None:
    """What a plug-in says about a file; None if it is no checkpoint of any that describes its own.

    Raises:
        SourceError: it is one, and damaged.
    """
    for plugin in map(load_plugin, installed_plugins().values()):
        if not hasattr(plugin, "describe"):
            continue
        with refusing_damaged(path.name):
            if plugin.recognizes(path):
                return _checkpoint(plugin, plugin.describe(path))
    return None


def _checkpoint(plugin: Plugin, facts: Mapping[str, Any]) -> Checkpoint:
    names = ("images_shown", "resolution", "final_resolution")
    shown, resolution, final = (operator.index(facts[name]) for name in names)
    alpha = float(facts["alpha"])
    if not (0 <= shown < 2**63 and 1 <= resolution <= final <= LARGEST_SIDE and 0 <= alpha <= 1):
        raise SourceError(
            f"it says that it shows {shown:,} images at {resolution} pixels of {final} and alpha {alpha:g}, "
            "which no training does"
        )
    return Checkpoint(plugin, shown, resolution, alpha, final)


@contextmanager
def refusing_damaged(name: str) -> Iterator[None]:
    """Make a refusal of whatever the code that reads somebody's file raises because of its content.

    Parsers of damaged and hostile files raise nearly anything: a header may be a list, a number
    infinite, a size beyond any memory. What no content causes, such as a misspelled name in the
    code, keeps its traceback.

    Args:
        name: of the file, for the message.

    Raises:
        SourceError: in place of what was raised, unless that was a refusal already.
    """
    try:
        yield
    except (PgmetricsError, AssertionError, NameError, ImportError):
        raise
    except OSError as error:
        raise SourceError(f"{name} cannot be read: {error.strerror or error}") from error
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise SourceError(f"{name} is damaged, or of another kind: {reason[:300]}") from error


def installed_plugins() -> dict[str, importlib.metadata.EntryPoint]:
    """Find the entry points of the group `pgmetrics.sources`, by name."""
    return {point.name: point for point in importlib.metadata.entry_points(group=ENTRY_POINTS)}


def load_plugin(point: importlib.metadata.EntryPoint) -> Plugin:
    """Import what an entry point names.

    Raises:
        SourceError: the import fails.
    """
    try:
        return cast(Plugin, point.load())
    except (ImportError, AttributeError) as error:
        raise SourceError(f"the plug-in {point.name}: ({point.value}) cannot be loaded: {error}") from error
