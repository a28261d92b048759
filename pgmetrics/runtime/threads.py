"""How the CPU's cores are shared out."""

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
    """The function of every task, in order, each torch operation in one thread.

    The operations here are so short that two threads on one of them wait for each other more than
    they work: beside a busy neighbor, such as a decoding process, that was ten times slower than
    one thread. Whole tasks in Python threads do not wait.

    Args:
        function: releases the interpreter for most of its time.
        tasks: pieces of work that do not depend on each other.
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
    """NumPy's and SciPy's products and factorizations in one thread each, for the time being."""
    with _blas().limit(limits=1, user_api="blas"):
        yield


@cache
def _blas() -> ThreadpoolController:
    """Finding the loaded libraries takes milliseconds, so once."""
    return ThreadpoolController()


@cache
def _keep_freed_memory() -> None:
    """Let the C library reuse blocks of some megabytes instead of asking the system for fresh pages.

    glibc gives freed blocks back as soon as they are larger than the largest it has seen freed, and
    clearing fresh pages takes as long as the arithmetic on them. So it is shown a large one, whose
    pages are never touched; above 32 MB it would not learn.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)


@contextmanager
def _one_thread_per_operation() -> Iterator[int]:
    """Gives the number of threads torch had; the setting is the process's, so calls take turns."""
    with _setting:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield before
        finally:
            torch.set_num_threads(before)
