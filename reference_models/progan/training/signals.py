"""Treat Ctrl-C and SIGTERM as requests to stop after the current step, so that no step is lost."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop, and has saved its state.

    Attributes:
        images_shown: real images shown until then.
        exit_code: the exit code by which shells recognize a program ended by such a signal: 130 for
            Ctrl-C, 143 for SIGTERM.
    """

    def __init__(self, images_shown: int, exit_code: int = 128 + signal.SIGINT) -> None:
        super().__init__(f"stopped at {images_shown:,} images")
        self.images_shown = images_shown
        self.exit_code = exit_code


@contextmanager
def stop_requests() -> Iterator[Callable[[], int | None]]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop; a second one has its usual effect.

    Only the main thread of a process receives signals, so other threads see no requests. A signal that
    is ignored, as under nohup, remains ignored.

    Yields:
        A function that returns the exit code of the last request, or None if there was none.
    """
    asked: list[int] = []
    before: dict[int, Any] = {}
    owner = os.getpid()

    def ask(number: int, frame: FrameType | None) -> None:
        signal.signal(number, before[number])
        if os.getpid() == owner:
            asked.append(128 + number)
        else:  # a forked child inherits this handler, but never checks for requests
            os.kill(os.getpid(), number)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if handler is not None and handler != signal.SIG_IGN:
                before[int(number)] = handler
                signal.signal(number, ask)
    try:
        yield lambda: asked[-1] if asked else None
    finally:
        for code, handler in before.items():
            signal.signal(code, handler)
