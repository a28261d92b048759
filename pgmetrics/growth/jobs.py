"""Score items in several processes at once; outcomes come in the order of the items."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pgmetrics.errors import OptionError, PgmetricsError
from pgmetrics.growth.scoring import Scored, Scorer, Task
from pgmetrics.runtime.workers import NotSendable, Pool, WorkerDied, sendable


@dataclass
class _Scoring:
    """The function that a worker process applies to items."""

    scorer: Scorer
    threads: int | None

    def __call__(self, task: Task) -> Scored | PgmetricsError:
        if self.threads is not None:
            import torch

            # Libraries may round differently for another number of threads.
            torch.set_num_threads(self.threads)
        try:
            return self.scorer.score(task)
        except PgmetricsError as error:
            return error


def score_in_processes(
    scorer: Scorer, tasks: Sequence[Task], jobs: int, devices: Sequence[str]
) -> Iterator[tuple[Task, Scored | PgmetricsError]]:
    """Yield each item with its outcome, in the order of the items.

    The first item is finished before the others begin, because it prepares the reals for them. If the
    iterator is closed early, unfinished items are lost.

    Args:
        scorer: scores the items; it is copied into each process.
        tasks: the items.
        jobs: number of processes.
        devices: devices, assigned to the processes in turn.

    Raises:
        OptionError: the scorer holds something that cannot be sent to another process.
        PgmetricsError: a process died.
    """
    torch = sys.modules.get("torch")
    threads = None if torch is None else torch.get_num_threads()
    placed = (
        replace(scorer, options=replace(scorer.options, device=devices[i % len(devices)]))
        for i in range(jobs)
    )
    try:
        answering = [sendable(_Scoring(each, threads)) for each in placed]
    except NotSendable as error:
        raise OptionError(
            f"jobs={jobs} needs images, metrics and networks that other processes can open ({error}); "
            "name files, or take jobs=1"
        ) from error
    with Pool(answering, "scoring") as pool:
        for part in (tasks[:1], tasks[1:]):
            answers = pool.answers(part, ahead=len(part))
            for task in part:
                try:
                    outcome: Scored | PgmetricsError = next(answers)
                except WorkerDied as error:
                    raise PgmetricsError(
                        f"a process that scored {task.label} died ({error}); the system may have run out of "
                        "memory: take fewer jobs or images"
                    ) from error
                yield task, outcome
