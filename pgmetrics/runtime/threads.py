"""Divide work over the CPU's cores."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import torch
from threadpoolctl import ThreadpoolController

Task = TypeVar("Task")
Result = TypeVar("Result")

_setting = threading.Lock()


def share_out(
    function: Callable[[Task], Result], tasks: Iterable[Task], *, threads: bool = True
) -> list[Result]:
    """Return the function's results for all tasks in order, with each torch operation in one thread.

    The operations here are so short that two threads of one operation wait for each other longer than they
    work. Beside a busy process, such as a decoder, that was ten times slower than one thread. Python threads
    that each run whole tasks do not wait for each other.

    Args:
        function: releases the interpreter lock for most of its time.
        tasks: independent pieces of work.
        threads: whether to use as many threads as torch would; otherwise one.
    """
    pieces = list(tasks)
    _keep_freed_memory()
    with _one_thread_per_operation() as available:
        workers = min(available, len(pieces)) if threads else 1
        if workers <= 1:
            return [function(piece) for piece in pieces]
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(function, pieces))


@contextmanager
def single_blas() -> Iterator[None]:
    """Within the context, run NumPy's and SciPy's products and factorizations in one thread each."""
    with _blas().limit(limits=1, user_api="blas"):
        yield


@cache
def _blas() -> ThreadpoolController:
    """Find the loaded BLAS libraries once, since that takes milliseconds."""
    return ThreadpoolController()


@cache
def _keep_freed_memory() -> None:
    """Let the C library reuse blocks of some megabytes instead of asking the system for fresh pages.

    glibc returns freed blocks to the system if they are larger than the largest block freed before, and
    clearing fresh pages takes as long as the arithmetic on them. So a large block is freed here, whose pages
    are never touched. glibc does not raise its limit for blocks above 32 MB.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)


@contextmanager
def _one_thread_per_operation() -> Iterator[int]:
    """Set torch to one thread and yield its number before; calls take turns, as the setting is global."""
    with _setting:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield before
        finally:
            torch.set_num_threads(before)
