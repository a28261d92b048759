"""Import modules that users name as `module:name`; a second import shows what they make at random."""

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
    """Import a module, also from the current directory; any exception of the import is passed on."""
    # A console script does not search the current directory, where a user's module usually is.
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        return importlib.import_module(module)
    finally:
        sys.path.remove(here)


def named_anew(text: str) -> Any:
    """Import a second copy of a module and return what `module:name` names in it.

    Whatever the module makes at random when it is imported differs in the copy.

    Returns:
        The object; None, with a warning, if there can be no second copy, as of a compiled module.
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
    except Exception as error:  # a user's module may raise anything when it runs again
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        _warn_once(
            f"{text}: {module} cannot be imported twice ({reason}): it was not seen whether what it makes "
            "when it is imported is the same in each process"
        )
        return None
    return found


@functools.cache
def _warn_once(sentence: str) -> None:
    """Log a warning once, not again for each checkpoint that the same loader opens."""
    logger.warning(sentence)
