"""Modules that people name as `module:name`: imported, and imported once more to see what chance decides."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import os
import sys
from importlib.machinery import SourceFileLoader
from typing import Any

from pgmetrics.runtime import seeding

logger = logging.getLogger("pgmetrics")


def import_from_here(module: str) -> Any:
    """Import a module, also from the current directory; raises whatever that raises."""
    # A console script does not look into the current directory, where a user's module mostly is.
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        return importlib.import_module(module)
    finally:
        sys.path.remove(here)


def named_anew(text: str) -> Any:
    """What `module:name` names in a second copy of its module, which was imported before.

    What the module made of chance when it was imported is another thing in the copy.

    Returns:
        None where there can be no second copy, as of compiled modules; a warning says so.
    """
    module, _, name = text.partition(":")
    try:
        spec = importlib.util.find_spec(module)
        if spec is None or not isinstance(spec.loader, SourceFileLoader):
            raise ImportError("it is no source file")
        found: Any = importlib.util.module_from_spec(spec)
        with seeding.global_generators_elsewhere():
            spec.loader.exec_module(found)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # whatever a stranger's module raises when it runs again
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        _warn_once(
            f"{text}: {module} cannot be imported twice ({reason}): it was not seen whether what it makes "
            "when it is imported is the same in each process"
        )
        return None
    return found


@functools.cache
def _warn_once(sentence: str) -> None:
    """Of a loader, not for each checkpoint again."""
    logger.warning(sentence)
