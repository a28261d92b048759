"""Time training and scoring next to a process that keeps one core busy, with spinning and sleeping threads.

    python -m benchmarks.busy_neighbor
    python -m benchmarks.busy_neighbor --turns 9 --work "train 8x8" --work "train 32x32"

The threads of one operation wait for each other. By default OpenMP lets them spin; `progan`, `pgmetrics` and
the demo let them sleep (`pgmetrics.runtime.openmp`). Each of the two policies runs in its own process, which
works with and without the busy neighbor in turns. The benchmark needs POSIX signals.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

from benchmarks.timing import machine, take_turns

_WAYS = {"spinning": None, "asleep": "passive"}
"""OMP_WAIT_POLICY of each way to wait."""


def _training(side: int) -> Callable[[], object]:
    """Return a function that makes four steps of each network of tiny-32."""
    import torch

    from reference_models.progan.data.training_images import TrainingImages
    from reference_models.progan.model.presets import preset
    from reference_models.progan.training.speed import noise_images, stage_at
    from reference_models.progan.training.trainer import Trainer

    config = preset("tiny-32")
    images = TrainingImages(noise_images(config), config, workers=0)
    trainer = Trainer(config, images, torch.device("cpu"))
    return lambda: trainer.run(stage_at(config, side))


def _evaluation(metric: str, count: int, weights: str | None = None) -> Callable[[], object]:
    """Return a function that evaluates a metric on 64 x 64 images of noise in memory."""
    import pgmetrics
    from pgmetrics.runtime.seeding import Stream, generator

    shape = 2, count, 3, 64, 64
    real, fake = generator(0, Stream.SYNTHETIC).integers(0, 256, shape, dtype=np.uint8)
    return lambda: pgmetrics.evaluate(real, fake, [metric], weights=weights, allow_unverified_weights=True)


def _fid(folder: Path) -> Callable[[], object]:
    from benchmarks.random_weights import write_inception

    return _evaluation("fid", 16, str(write_inception(folder / "inception.pth")))


_WORK: dict[str, Callable[[Path], Callable[[], object]]] = {
    "train 4x4": lambda _: _training(4),
    "train 8x8": lambda _: _training(8),
    "train 16x16": lambda _: _training(16),
    "train 32x32": lambda _: _training(32),
    "swd of 2 x 512": lambda _: _evaluation("swd", 512),
    "fid of 2 x 16": _fid,
}
"""What is timed, by name; each is given a folder that lasts as long as the process."""


def _answer(name: str) -> None:
    """Do the work once for every line on standard input; this is the main function of a timed process."""
    logging.disable()  # silence the warning about FID of few images
    with tempfile.TemporaryDirectory() as folder:
        work = _WORK[name](Path(folder))
        for _ in sys.stdin:
            work()
            print(flush=True)


@contextmanager
def _process(name: str, policy: str | None) -> Iterator[Callable[[], object]]:
    """Start a process, and yield a function that makes it do the work once."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_WAIT", "GOMP_", "KMP_"))}
    if policy is not None:
        environment["OMP_WAIT_POLICY"] = policy
    program = f"from benchmarks.busy_neighbor import _answer; _answer({name!r})"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        to_process, from_process = process.stdin, process.stdout
        assert to_process is not None
        assert from_process is not None

        def once() -> None:
            to_process.write("\n")
            to_process.flush()
            if not from_process.readline():
                raise click.ClickException(f"{name} ended with an error")

        yield once


@contextmanager
def _neighbor() -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that keeps one core busy unless it is stopped; it is stopped at first."""
    with subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) as process:
        process.send_signal(signal.SIGSTOP)
        try:
            yield process
        finally:
            process.kill()


def _beside(neighbor: subprocess.Popen[bytes], work: Callable[[], object]) -> Callable[[], None]:
    """Return a function that does the work while the neighbor runs."""

    def run() -> None:
        neighbor.send_signal(signal.SIGCONT)
        work()
        neighbor.send_signal(signal.SIGSTOP)

    return run


@contextmanager
def _load(cores: list[float]) -> Iterator[None]:
    """Append the mean number of cores that other programs used during the block; Linux only."""
    stat = Path("/proc/stat")
    if not stat.exists():
        yield
        return

    def seconds() -> float:
        """Return the busy seconds of all processors, except those of this process and its ended children."""
        user, nice, system, _, _, irq, softirq, *_ = map(int, stat.read_text().split("\n")[0].split()[1:])
        return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4])

    before, start = seconds(), time.perf_counter()
    yield
    cores.append((seconds() - before) / (time.perf_counter() - start))


@click.command()
@click.option("--work", "names", multiple=True, type=click.Choice(list(_WORK)), help="All by default.")
@click.option("--turns", default=5, show_default=True)
def main(names: tuple[str, ...], turns: int) -> None:
    """Print a table of seconds, alone and beside the neighbor, for each way to wait."""
    click.echo(f"Medians of {turns} turns, in seconds (fastest to slowest). {machine()}.\n")
    click.echo(
        "| work | threads wait | alone | beside | speed kept | times faster than spinning, alone | beside |"
    )
    click.echo("|:--|:--|--:|--:|--:|--:|--:|")
    others: list[float] = []
    with _load(others):
        for name in tqdm(names or _WORK, unit=" work"):
            for row in _measured(name, turns):
                tqdm.write(row)
    if others:
        click.echo(f"\nOther programs took {others[0]:.1f} cores meanwhile.")


def _measured(name: str, turns: int) -> list[str]:
    """Time one kind of work, and return its rows of the table."""
    with ExitStack() as stack:
        neighbor = stack.enter_context(_neighbor())
        contestants: dict[str, Callable[[], object]] = {}
        for way, policy in _WAYS.items():
            work = stack.enter_context(_process(name, policy))
            contestants |= {f"{way} alone": work, f"{way} beside": _beside(neighbor, work)}
        timings = take_turns(contestants, turns)
    rows = []
    for way in _WAYS:
        alone, beside = (timings[f"{way} {where}"] for where in ("alone", "beside"))
        times = " | ".join(f"{t.median:.2f} ({t.fastest:.2f} to {t.slowest:.2f})" for t in (alone, beside))
        gained = " | ".join(
            f"{timing.times_faster_than(timings[f'spinning {where}']):.1f}"
            for timing, where in ((alone, "alone"), (beside, "beside"))
        )
        rows.append(f"| {name} | {way} | {times} | {beside.times_faster_than(alone):.0%} | {gained} |")
    return rows


if __name__ == "__main__":
    main()
