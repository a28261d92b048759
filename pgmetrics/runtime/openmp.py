"""How the threads of one operation wait for each other; importing this loads no numerical library."""

from __future__ import annotations

import os


def sleep_while_waiting() -> None:
    """Let OpenMP's threads sleep while they wait for each other, unless the environment says otherwise.

    torch cuts an operation into equal parts, one for each thread. By default a thread that has finished
    its part spins until the others have, for milliseconds, and so occupies the core on which the system
    could run a thread that another program keeps from its own. Beside a process that takes one of two
    cores, training was many times slower for that. Asleep, a thread leaves its core to the late one.

    Parts and threads stay the same, and so does every bit of a result. This has an effect only before
    torch is imported, since OpenMP reads the environment once; processes started later inherit it.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
