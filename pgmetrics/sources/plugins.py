"""Sources of other packages, registered as entry points of the group `pgmetrics.sources`."""

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
    """The object behind an entry point of the group `pgmetrics.sources`, whose name is the scheme."""

    def recognizes(self, path: Path) -> bool:
        """Whether a file belongs to this plug-in, judged by its content."""

    def open_source(self, path: str, options: dict[str, str]) -> ImageSource:
        """Open the images of `SCHEME:PATH,key=value`."""

    def describe(self, path: Path) -> Mapping[str, Any]:
        """Return a checkpoint's `images_shown`, `resolution`, `alpha` and `final_resolution`.

        This method is optional. With it training runs can be scored; `open_source` must then take the options
        `at` (`stage` or `final`: the checkpoint's own resolution, or enlarged to the final one) and `seed`.
        `images_shown` may be None, which is unknown. It raises a SourceError if the file is damaged.
        """

    def advise(self, path: Path) -> str | None:
        """Say how a file that the plug-in cannot open is made into one that it can.

        This method is optional. It returns one line that names the file, or None.
        """


class PluginCheckpoint(NamedTuple):
    """A checkpoint that a plug-in can sample, and its progress in training.

    Attributes:
        plugin: name of the plug-in.
        images_shown: real images shown in training until it was written; None if unknown.
        resolution: side of its images in pixels.
        alpha: how far that resolution is faded in; 1 outside fades.
        final_resolution: resolution at the end of training.
    """

    plugin: Plugin
    images_shown: int | None
    resolution: int
    alpha: float
    final_resolution: int


def checkpoint(path: Path) -> PluginCheckpoint | None:
    """Describe a file by the plug-in that recognizes it; None if there is no such plug-in.

    Raises:
        SourceError: the file is a damaged checkpoint.
    """
    for plugin in map(load_plugin, installed_plugins().values()):
        if not hasattr(plugin, "describe"):
            continue
        with refusing_damaged(path.name):
            if plugin.recognizes(path):
                return _checkpoint(plugin, plugin.describe(path))
    return None


def _checkpoint(plugin: Plugin, facts: Mapping[str, Any]) -> PluginCheckpoint:
    resolution, final = (operator.index(facts[name]) for name in ("resolution", "final_resolution"))
    shown = None if facts["images_shown"] is None else operator.index(facts["images_shown"])
    alpha = float(facts["alpha"])
    if not (0 <= (shown or 0) < 2**63 and 1 <= resolution <= final <= LARGEST_SIDE and 0 <= alpha <= 1):
        raise SourceError(
            f"it says that it shows {shown or 0:,} images at {resolution} pixels of {final} and alpha "
            f"{alpha:g}, which no training does"
        )
    return PluginCheckpoint(plugin, shown, resolution, alpha, final)


def advice(path: Path) -> str | None:
    """Return a plug-in's advice on a file that no plug-in can open; None if no plug-in knows the file."""
    for plugin in map(load_plugin, installed_plugins().values()):
        if hasattr(plugin, "advise"):
            with refusing_damaged(path.name):
                if text := plugin.advise(path):
                    return text
    return None


@contextmanager
def refusing_damaged(name: str) -> Iterator[None]:
    """Turn exceptions that a file's content causes while it is read into refusals.

    Parsers of damaged and hostile files raise nearly anything: a header may be a list, a number infinite, a
    size beyond any memory. Exceptions that no content causes, such as a NameError, keep their traceback.

    Args:
        name: the file's name, for the message.

    Raises:
        SourceError: instead of the exception, unless that was a refusal already.
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
    """Import the object behind an entry point.

    Raises:
        SourceError: the import fails.
    """
    try:
        return cast(Plugin, point.load())
    except (ImportError, AttributeError) as error:
        raise SourceError(f"the plug-in {point.name}: ({point.value}) cannot be loaded: {error}") from error
