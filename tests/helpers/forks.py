"""What programs share that do each piece of work in a fork, to kill it as any process is killed.

Such a program imports torch once, and a fork costs a tenth of a second. Forks are for processes without
threads, so it is none of pytest's tests.
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

CRASHED = 70
"""Exit code of a fork whose work raised what nobody expects; its traceback is on standard error."""


def warm_up() -> None:
    """Import what training imports when it first needs it, so that no fork has to."""
    import PIL.PngImagePlugin  # noqa: F401
    import safetensors.torch  # noqa: F401
    import torchvision.utils  # noqa: F401

    torch.set_num_threads(1)
    parameter = torch.nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    torch.optim.Adam([parameter], fused=True).step()


def in_a_fork(work: Callable[[], int]) -> int:
    """Do some work in a process of its own; the exit code it returns, or minus the signal that ended it."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = CRASHED
    try:
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
    return code


def content_of_run(run: Path) -> dict[str, Any]:
    """What must not depend on what happened to a training run: all but its log, and how fast it was."""
    found: dict[str, Any] = {}
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        if path.is_dir() or name == "log.txt":
            continue
        found[name] = path.read_bytes()
        if name == "stats.jsonl":
            rows = [json.loads(line) for line in found[name].splitlines()]
            found[name] = [{key: row[key] for key in row if key != "images_per_second"} for row in rows]
    return found
