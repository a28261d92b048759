"""Evaluations, growths and trainings that are ended half way and entered again, each in a process of its own.

`python interrupted.py PLACE` prints a line of JSON for each: what was done, what held the images, with or
without a cache, how it was ended, the exit codes of both times, and digests of the files that came out.

It is ended by SIGKILL, as by kill -9, where no handler runs; training is stopped by SIGTERM, too, which it
answers.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pgmetrics
from pgmetrics import SlicedWasserstein
from pgmetrics.growth import score_run
from pgmetrics.sources import open_source
from reference_models.progan.training.signals import Interrupted
from reference_models.progan.training.train import train
from tests.helpers.configs import TO_8
from tests.helpers.forks import content_of_run, in_a_fork, warm_up
from tests.helpers.growing_run import write_run
from tests.helpers.image_files import encoded, pixels, write, write_zip
from tests.helpers.toy_network import ToyNetwork

SIDE = 32
SWD = SlicedWasserstein(patches_per_image=16, directions=8, repeats=1)
# 4 until 16, fading to 8 until 32, 8 until 48; a look is 8 images. At 24 the fade is half done.
STRAIGHT, KILL, STOP = "straight", "kill", "stop"
SIGNALS = {STRAIGHT: None, KILL: signal.SIGKILL, STOP: signal.SIGTERM}
Work = Callable[[str, Path, Path | None, Callable[..., None]], None]


def evaluate(real: str, out: Path, cache: Path | None, moment: Callable[..., None]) -> None:
    """Score images; the moment is when the reals have been read and the generated ones are."""

    def progress(what: str, done: int, total: int) -> None:
        if what == "fake images" and done:
            moment()

    fake = pixels(24, 4, 4, seed=4).repeat(SIDE // 4, 1).repeat(SIDE // 4, 2)
    metrics = [SWD, "ms-ssim", "fid"]
    found = pgmetrics.evaluate(
        real, fake, metrics, networks={"inception": ToyNetwork()}, run="r", num_images=20, workers=0,
        cache=cache, progress=progress,
    )  # fmt: skip
    found.save(out / "scores.csv")


def grow(real: str, out: Path, cache: Path | None, moment: Callable[..., None]) -> None:
    """Score the checkpoints of a run; the moment is after the second of three."""

    def progress(what: str, done: int, total: int) -> None:
        if done == 3:  # the floor, and two checkpoints
            moment()

    score_run(
        out, real, [SWD, "fid"], num_images=8, networks={"inception": ToyNetwork()}, workers=0, device="cpu",
        cache=cache or "off", progress=progress,
    )  # fmt: skip


def learn(real: str, out: Path, cache: Path | None, moment: Callable[..., None]) -> None:
    """Train; the moment is in the midst of a fade, past the last state that is saved by itself."""
    images = open_source(real, resolution=TO_8.resolution, resize="box")
    train(
        images, out, TO_8, workers=0, state_images=16,
        report=lambda progress: moment() if progress.images_shown == 24 else None,
    )  # fmt: skip


WORKS: dict[str, Work] = {"evaluate": evaluate, "growth": grow, "train": learn}


def do(work: Work, real: str, out: Path, cache: Path | None, ended_by: int | None) -> int:
    """Do it in a process of its own, which a signal ends at its moment; the exit code."""
    moments: list[int] = []

    def moment() -> None:
        if ended_by is not None and not moments:
            moments.append(1)
            os.kill(os.getpid(), ended_by)

    def whole() -> int:
        try:
            work(real, out, cache, moment)
        except Interrupted as stopped:
            return stopped.exit_code
        return 0

    return in_a_fork(whole)


def digests(out: Path, real: str) -> dict[str, str]:
    """Digests of all files that came out, but for where the reals lie, which a run's scores repeat."""
    contents = content_of_run(out)
    if "scores.jsonl" in contents:
        contents["scores.jsonl"] = contents["scores.jsonl"].replace(json.dumps(real).encode(), b'"REAL"')
    return {name: hashlib.sha256(repr(content).encode()).hexdigest() for name, content in contents.items()}


def holders(place: Path) -> dict[str, str]:
    """The same images in a folder and in containers."""
    images = pixels(24, 4, 4, seed=3).repeat(SIDE // 4, 1).repeat(SIDE // 4, 2)
    files = {f"{index}.png": encoded(image) for index, image in enumerate(images)}
    write(place / "folder", files)
    write_zip(place / "set.zip", files)
    return {"folder": str(place / "folder"), "zip": str(place / "set.zip")}


def main(place: Path) -> None:
    """Do all of it."""
    warm_up()
    logging.disable()
    real = holders(place)
    run = write_run(place / "run", moments=((100, 4, 1.0), (200, 8, 1.0), (300, 32, 0.5)), untrained=False)
    for work, holder, cached, how in matrix(real):
        out, cache = place / "out", place / "cache"
        for left in (out, cache):
            shutil.rmtree(left, ignore_errors=True)
        shutil.copytree(run, out) if work == "growth" else out.mkdir()
        job = WORKS[work], real[holder], out, cache if cached else None
        exits = [do(*job, SIGNALS[how])] + ([] if how == STRAIGHT else [do(*job, None)])
        told = {"work": work, "holder": holder, "cached": cached, "how": how, "exits": exits}
        print(json.dumps({**told, "files": digests(out, real[holder])}), flush=True)


def matrix(real: dict[str, str]) -> Iterator[tuple[str, str, bool, str]]:
    """All that is done: work, holder, whether with a cache, and how it ends."""
    for holder in real:
        yield "evaluate", holder, False, STRAIGHT  # where nothing is kept, an end leaves nothing
        yield from (("evaluate", holder, True, how) for how in (STRAIGHT, KILL))
        yield from (("growth", holder, cached, how) for cached in (False, True) for how in (STRAIGHT, KILL))
        yield from (("train", holder, False, how) for how in (STRAIGHT, KILL, STOP))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
