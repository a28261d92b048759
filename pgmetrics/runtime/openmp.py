"""Set how OpenMP threads wait for each other. Importing this module loads no numerical library."""

from __future__ import annotations

import os


def sleep_while_waiting() -> None:
    """Let OpenMP's threads sleep while they wait for each other, unless the environment says otherwise.

    torch divides an operation into equal parts, one per thread. By default, a thread that has finished its
    part spins for milliseconds until the others have finished, too. It thereby occupies a core that a late
    thread could use, whose own core another program keeps busy. Beside a process that occupied one of two
    cores, this made training many times slower. A sleeping thread leaves its core to the late one.

    The parts and threads are the same, and so is every bit of a result. This has an effect only before torch
    is imported, since OpenMP reads the environment once. Processes that are started later inherit it.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
