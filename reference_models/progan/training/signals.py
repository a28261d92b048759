"""Ctrl-C and SIGTERM as requests to stop after the step, where stopping in the midst of one would lose it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop and has saved where it stands.

    Attributes:
        images_shown: where that is.
        exit_code: what a shell expects of a program that such a signal ended: 130 after Ctrl-C, 143
            after SIGTERM.
    """

    def __init__(self, images_shown: int, exit_code: int = 128 + signal.SIGINT) -> None:
        super().__init__(f"stopped at {images_shown:,} images")
        self.images_shown = images_shown
        self.exit_code = exit_code


@contextmanager
def stop_requests() -> Iterator[Callable[[], int | None]]:
    """Meanwhile the first Ctrl-C or SIGTERM only asks for a stop; a second one does what it always does.

    Signals reach a process's main thread alone, so in others there are no requests, and a signal that
    is ignored, as under nohup, stays so.

    Yields:
        Gives the exit code that the last request stands for, or None where there was none.
    """
    asked: list[int] = []
    before: dict[int, Any] = {}
    owner = os.getpid()

    def ask(number: int, frame: FrameType | None) -> None:
        signal.signal(number, before[number])
        if os.getpid() == owner:
            asked.append(128 + number)
        else:  # a forked child inherits this, and nobody asks it for anything
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
