"""The type of functions that report progress; the command lines show it."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with a description of the work, the amount done so far, and the total amount."""
