"""How often 95 % intervals hold the expectation, and how often the test calls equal sets different.

    python -m benchmarks.coverage --out results/coverage.jsonl --repetitions 1000

Every repetition draws reals R, fakes A and B from one distribution, and fakes C from another. All images are
independent. For each metric it computes the value of A and the differences B - A and C - A with their
intervals, and the p-value of A against B. An interval should cover the mean over all repetitions, which is
the expectation at this number of images. In the cases "alike" the fakes have the distribution of the reals,
in "kid near" one close to it. In the cases "new directions" every repetition draws its own directions, and
the printed error includes images and directions.

The cases of `TAILS` examine small p-values, which decide a verdict at 0.01:

- "given": A and B are sets of the same distribution, scored against given moments, and compared as rows of
  results with errors from five to ten groups.
- "symmetric": A and B are scored against the same reals. Their distributions differ, but by symmetry both are
  equally far from that of the reals.
- "blurred": A has the distribution of the reals, and B is A with less variance, so it is farther from the
  reals. A p-value counts if its difference favors B.

Another --seed is another simulation, which can confirm a choice that was based on the first. Repetitions that
the file already holds are skipped. docs/uncertainty.md has the table.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from math import sqrt
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from pgmetrics.metrics.base import Estimate, Metric, Side, State
from pgmetrics.metrics.frechet import FrechetDistance
from pgmetrics.metrics.inception_score import InceptionScore
from pgmetrics.metrics.kid import KernelInceptionDistance
from pgmetrics.metrics.moments import MomentsState
from pgmetrics.metrics.ms_ssim import MultiScaleSSIM
from pgmetrics.metrics.prdc import PRDC
from pgmetrics.metrics.swd import SlicedWasserstein
from pgmetrics.runtime import seeding
from pgmetrics.runtime.blocks import Block, FeatureBlock
from pgmetrics.runtime.files import dump_json, parse_json
from pgmetrics.runtime.seeding import Stream
from pgmetrics.uncertainty import intervals, randomization

SIDE = 32
WIDTH = 32
REACH = NormalDist().inv_cdf(0.975)

_R, _A, _B, _C = range(4)


@dataclass(frozen=True)
class Case:
    """One simulated case: a metric, the number of images and the distribution of the fakes.

    Attributes:
        name: name in the file and in the table.
        metric: the metric.
        num_images: images of each of the four sets.
        like: name of the distribution of A and B; "alike" is that of the reals.
        pixels: True if the sets are images, False if they are features.
        new_seeds: whether every repetition draws its own directions and patches. Influences hold the
            directions fixed, so such a case examines only the printed error, and differences whose
            expectation is 0 for any directions.
    """

    name: str
    metric: Metric
    num_images: int
    like: str
    pixels: bool
    new_seeds: bool = False


TAILS = ("given", "symmetric", "blurred")
"""What the names of cases begin with that are about rare p-values."""

_SWD: dict[str, Any] = {"patches_per_image": 16, "directions": 16, "repeats": 2}


def cases() -> list[Case]:
    """Return all cases of the table."""
    made = [Case("kid near", KernelInceptionDistance(network="custom"), 400, "near", False)]
    for word in ("unlike", "alike"):
        made += [
            Case(f"swd {word}", SlicedWasserstein(**_SWD), 128, word, True),
            Case(
                f"swd {word}, new directions", SlicedWasserstein(**_SWD, error="both"), 128, word, True, True
            ),
            Case(f"ms-ssim {word}", MultiScaleSSIM(), 160, word, True),
            Case(f"fd {word}", FrechetDistance(keep_rows=True), 640, word, False),
            Case(f"is {word}", InceptionScore(splits=10, error="images", network="custom"), 400, word, False),
            Case(f"kid {word}", KernelInceptionDistance(network="custom"), 400, word, False),
            Case(f"prdc {word}", PRDC(network="custom"), 400, word, False),
        ]
    own = FrechetDistance(), FrechetDistance(keep_rows=True), KernelInceptionDistance(network="custom")
    made += [Case(f"given fd {n}", own[0], n, "symmetric", False) for n in (257, 320, 640, 2500)]
    made += [Case("symmetric fd", own[1], 400, "symmetric", False)]
    made += [Case("symmetric kid", own[2], 256, "symmetric", False)]
    made += [Case("symmetric prdc", PRDC(network="custom"), 256, "symmetric", False)]
    made += [Case(f"blurred fd {n}", own[1], n, "blurred", False) for n in (40, 64, 128, 400)]
    made += [Case("blurred kid", own[2], 256, "blurred", False)]
    return made


def blotches(rng: seeding.Generator, n: int, rough: float, spread: float) -> torch.Tensor:
    """Draw images of blotches and grain with varying contrast and color: uint8 [n, 3, 32, 32].

    Args:
        rng: random generator.
        n: number of images.
        rough: share of the grain.
        spread: spread of the contrasts.
    """
    coarse = rng.standard_normal((n, 3, SIDE // 8, SIDE // 8)).repeat(8, axis=2).repeat(8, axis=3)
    coarse = (coarse + np.roll(coarse, 2, 2) + np.roll(coarse, 2, 3) + np.roll(coarse, 5, 3)) / 2
    fine = rng.standard_normal((n, 3, SIDE, SIDE))
    contrast = np.exp(spread * rng.standard_normal((n, 1, 1, 1)))
    color = rng.standard_normal((n, 3, 1, 1))
    made = 128 + contrast * (30 * coarse + 40 * rough * fine) + 20 * color
    return torch.from_numpy(made.clip(0, 255).astype(np.uint8))


def features(rng: seeding.Generator, n: int, scale: float, shift: float) -> torch.Tensor:
    """Draw skewed, correlated and heavy-tailed rows, as features are: float32 [n, 32]."""
    mixing = seeding.generator(0, Stream.RESAMPLING).standard_normal((WIDTH, WIDTH)) / sqrt(WIDTH)
    rows = rng.standard_normal((n, WIDTH)) * np.exp(0.2 * rng.standard_normal((n, 1))) @ mixing
    made = np.maximum(scale * rows + 0.3 + shift, 0)
    return torch.from_numpy(made.astype(np.float32))


_BLOTCHES = {"alike": (1.0, 0.15), "unlike": (0.6, 0.2), "worse": (0.4, 0.25)}
_FEATURES = {"alike": (1.0, 0.0), "near": (1.06, 0.03), "unlike": (1.25, 0.2), "worse": (1.5, 0.3)}


def halves(rng: seeding.Generator, n: int, change: int | None = None) -> torch.Tensor:
    """Draw rows of two independent halves, of which one may be scaled and shifted: float32 [n, 32]."""
    made = torch.cat([features(rng, n, 1.0, 0.0)[:, : WIDTH // 2] for _ in range(2)], dim=1)
    if change is not None:
        part = made[:, change * WIDTH // 2 : (change + 1) * WIDTH // 2]
        part.copy_(1.1 * part + 0.03)
    return made


def tail_sets(case: Case, rngs: Sequence[seeding.Generator]) -> list[torch.Tensor]:
    """Draw the sets R, A and B of a case of `TAILS`."""
    n, kind = case.num_images, case.name.partition(" ")[0]
    if kind == "given":
        return [halves(rng, n, 0) for rng in rngs[:3]]
    real = halves(rngs[_R], n)
    if kind == "blurred":
        a = halves(rngs[_A], n)
        return [real, a, 0.98 * a]
    return [real, halves(rngs[_A], n, 0), halves(rngs[_B], n, 1)]


def tail_repetition(case: Case, rngs: Sequence[seeding.Generator]) -> list[Row]:
    """Return the rows of one repetition of a case of `TAILS`: the difference B - A and its p-value."""
    real, a, b = tail_sets(case, rngs)
    fakes = [filled(case, "fake", one, 0) for one in (a, b)]
    if case.name.startswith("given"):
        mean, covariance = _population()
        key = replace(fakes[0].key, side="real")
        given = MomentsState.from_moments(mean, covariance, key)
        rows = [asdict(case.metric.compute(real=given, fake=one)[0][0]) | {"seed": 0} for one in fakes]
        found = [intervals.independent_difference(*rows)]
    else:
        found = randomization.paired_differences(
            case.metric, filled(case, "real", real, 0), *fakes, permutations=1
        )
    return [
        ["B - A", one.metric, one.level, one.difference, one.stderr, one.p_difference, one.df]
        for one in found
        if one.stderr is not None
    ]


@functools.cache
def _population() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Estimate mean and covariance of the distribution of the reals of `TAILS` from 200,000 draws."""
    rows = halves(seeding.generator(0, Stream.RESAMPLING, 99), 200_000).double().numpy()
    return rows.mean(0), np.cov(rows.T)


def drawn(case: Case, which: int, rng: seeding.Generator) -> torch.Tensor:
    """Draw one of the sets R, A, B and C."""
    like = "alike" if which == _R else "worse" if which == _C else case.like
    if case.pixels:
        return blotches(rng, case.num_images, *_BLOTCHES[like])
    return features(rng, case.num_images, *_FEATURES[like])


Row = list[Any]
"""What is looked at, metric, level, value, standard error, p-value; of `TAILS` also degrees of freedom."""


def filled(case: Case, side: Side, images: torch.Tensor, seed: int) -> State:
    """Return the state of the metric after all images of a set."""
    state = case.metric.new_state(side, resolution=(SIDE, SIDE), seed=seed)
    step = 64
    for start in range(0, len(images), step):
        part = images[start : start + step]
        state.update(Block(start, part) if case.pixels else FeatureBlock(start, part))
    return state


def repetition(case: Case, number: int, seed: int = 0) -> list[Row]:
    """Return the rows of one repetition.

    Args:
        case: case of the table.
        number: number of the repetition.
        seed: seed of the simulation.
    """
    name = seeding.text_key(case.name)
    rngs = [seeding.generator(seed, Stream.RESAMPLING, *name, number, which) for which in range(5)]
    if case.name.startswith(TAILS):
        return tail_repetition(case, rngs)
    own = int(rngs[4].integers(2**31))
    sets = [drawn(case, which, rng) for which, rng in enumerate(rngs[:4])]
    metric_seed = own if case.new_seeds else 0
    real = filled(case, "real", sets[_R], metric_seed) if case.metric.two_sided else None
    a, b, c = (filled(case, "fake", images, metric_seed) for images in sets[_A:])
    numbers = [_numbers(case.metric, real, fake) for fake in (a, b, c)]
    parts = [
        {(one.metric, one.level): one for one in case.metric.influences(real=real, fake=fake)}
        for fake in (a, b, c)
    ]
    p_values = randomization.swap_test(case.metric, real, a, b, seed=own, permutations=199)
    rows: list[Row] = [["printed", *place, e.value, e.stderr, None] for place, e in numbers[0].items()]
    for place, mine in numbers[0].items():
        error = intervals.stderr(parts[0][place]) if place in parts[0] else None
        if not case.new_seeds:
            rows.append(["value", *place, mine.value, error, None])
        for what, other in (("B - A", _B), ("C - A", _C)):
            if case.new_seeds and other == _C:
                continue
            difference = numbers[other - _A][place].value - mine.value
            if place in parts[0]:
                error = intervals.stderr_of_difference(parts[0][place], parts[other - _A][place])
            rows.append([what, *place, difference, error, p_values.get(place) if other == _B else None])
    return rows


def _numbers(metric: Metric, real: State | None, fake: State) -> dict[tuple[str, int | None], Estimate]:
    estimates, _ = metric.compute(real=real, fake=fake)
    return {(one.metric, one.level): one for one in estimates if one.subject == "fake"}


def _one_thread() -> None:
    # Each operation is so small that several threads would mostly wait for each other.
    torch.set_num_threads(1)
    threadpool_limits(1)


def _work(task: tuple[int, int, int]) -> tuple[str, int, list[Row]]:
    case = cases()[task[0]]
    return case.name, task[1], repetition(case, *task[1:])


def simulate(
    path: Path, repetitions: int, names: Sequence[str] | None = None, processes: int = 2, seed: int = 0
) -> None:
    """Run the repetitions of the seed that the file does not hold yet, and append them."""
    done = {(line["case"], line["repetition"]) for line in read(path, seed)}
    tasks = [
        (index, number, seed)
        for index, case in enumerate(cases())
        if names is None or case.name in names
        for number in range(repetitions)
        if (case.name, number) not in done
    ]
    if path.exists() and not path.read_bytes().endswith(b"\n"):
        # Terminate an incomplete last line, so that the next row begins on its own line.
        with open(path, "a") as file:
            file.write("\n")
    context = multiprocessing.get_context("spawn")
    with open(path, "a") as file, context.Pool(processes, _one_thread) as pool:
        for name, number, rows in pool.imap_unordered(_work, tasks, chunksize=8):
            line = {"case": name, "seed": seed, "repetition": number, "rows": rows}
            file.write(dump_json(line) + "\n")
            file.flush()


def read(path: Path, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Read the repetitions of a seed from the file; incomplete lines are skipped."""
    if not path.exists():
        return
    for text in path.read_text().splitlines():
        try:
            line = parse_json(text)
        except ValueError:
            continue
        if line["seed"] == seed:
            yield line


@dataclass(frozen=True)
class Summary:
    """Summary of one score or difference of a case over all repetitions.

    Attributes:
        covered: share of the intervals that cover the mean over all repetitions.
        deviation: standard deviation of the values over the repetitions.
        stderr: root mean square of the standard errors.
        alarms: share of p-values of at most 0.05; None without p-values.
    """

    case: str
    what: str
    metric: str
    level: int | None
    repetitions: int
    mean: float
    covered: float | None
    deviation: float
    stderr: float | None
    alarms: float | None


def summarize(lines: Iterable[dict[str, Any]]) -> list[Summary]:
    """Summarize each score and difference, in the order of the cases."""
    found: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    order = {case.name: index for index, case in enumerate(cases())}
    lines = sorted(lines, key=lambda line: (order.get(line["case"], len(order)), line["repetition"]))
    for line in lines:
        for row in line["rows"]:
            found[(line["case"], *row[:3])].append(row[3:])
    return [_summary(key, rows) for key, rows in found.items() if not key[0].startswith(TAILS)]


@dataclass(frozen=True)
class Tail:
    """The frequencies of small p-values in one case of `TAILS`.

    Attributes:
        shares: shares of repetitions with p at most 0.05, 0.01 and 0.001; in "blurred" only those count whose
            difference favors B.
        normal: the same shares if the difference over its standard error were normal.
    """

    case: str
    metric: str
    repetitions: int
    mean: float
    deviation: float
    stderr: float
    df: float
    shares: tuple[float, ...]
    normal: tuple[float, ...]


LEVELS = 0.05, 0.01, 0.001


def tails(lines: Iterable[dict[str, Any]]) -> list[Tail]:
    """Summarize each case of `TAILS`, in their order."""
    found: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    order = {case.name: index for index, case in enumerate(cases())}
    for line in sorted(lines, key=lambda line: (order.get(line["case"], len(order)), line["repetition"])):
        if line["case"].startswith(TAILS):
            for row in line["rows"]:
                found[(line["case"], row[1])].append(row[3:])
    return [_tail(key, np.array(rows, float)) for key, rows in found.items()]


def _tail(key: tuple[str, str], rows: NDArray[np.float64]) -> Tail:
    differences, errors, p_values, df = rows.T
    wrong = np.ones(len(rows), bool)
    if key[0].startswith("blurred"):
        wrong = differences < 0
    reached = np.abs(differences) / np.maximum(errors, np.finfo(float).tiny)
    return Tail(
        *key,
        repetitions=len(rows),
        mean=float(differences.mean()),
        deviation=float(differences.std(ddof=1)) if len(rows) > 1 else 0.0,
        stderr=sqrt(float((errors**2).mean())),
        df=float(df.mean()),
        shares=tuple(float((wrong & (p_values <= level)).mean()) for level in LEVELS),
        normal=tuple(
            float((wrong & (reached >= NormalDist().inv_cdf(1 - level / 2))).mean()) for level in LEVELS
        ),
    )


def table_of_tails(found: Iterable[Tail]) -> str:
    """Return the table of the cases of `TAILS` in Markdown."""
    lines = [
        "| case | number | n | mean of B - A | deviation | mean stderr | df | p ≤ 0.05 | ≤ 0.01 | ≤ 0.001 "
        "| normal: ≤ 0.05 | ≤ 0.01 | ≤ 0.001 |",
        "| :-- | :-- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for one in found:
        shares = " | ".join(f"{share:.2%}" for share in (*one.shares, *one.normal))
        lines.append(
            f"| {one.case} | {one.metric} | {one.repetitions:,} | {one.mean:.3g} | {one.deviation:.3g} "
            f"| {one.stderr:.3g} | {one.df:.0f} | {shares} |"
        )
    return "\n".join(lines)


def _summary(key: tuple[Any, ...], rows: list[Row]) -> Summary:
    values = np.array([row[0] for row in rows], float)
    errors = np.array([np.nan if row[1] is None else row[1] for row in rows], float)
    p_values = np.array([np.nan if row[2] is None else row[2] for row in rows], float)
    # The expected difference between sets of the same distribution is known: 0.
    expected = 0.0 if key[1] == "B - A" else float(values.mean())
    sound = bool(np.isfinite(errors).all())
    return Summary(
        *key,
        repetitions=len(rows),
        mean=float(values.mean()),
        covered=float((np.abs(values - expected) <= REACH * errors).mean()) if sound else None,
        deviation=float(values.std(ddof=1)) if len(values) > 1 else 0.0,
        stderr=sqrt(float((errors**2).mean())) if sound else None,
        alarms=float((p_values <= 0.05).mean()) if np.isfinite(p_values).all() else None,
    )


def table(found: Iterable[Summary]) -> str:
    """Return the table of the other cases in Markdown."""

    def show(x: float | None, form: str) -> str:
        return "" if x is None else format(x, form)

    lines = [
        "| case | of | number | n | mean | 95 % intervals hold | deviation | mean stderr | p ≤ 0.05 |",
        "| :-- | :-- | :-- | --: | --: | --: | --: | --: | --: |",
    ]
    for one in found:
        name = one.metric if one.level is None else f"{one.metric} {one.level}"
        lines.append(
            f"| {one.case} | {one.what} | {name} | {one.repetitions:,} | {one.mean:.4g} "
            f"| {show(one.covered, '.1%')} | {one.deviation:.3g} | {show(one.stderr, '.3g')} "
            f"| {show(one.alarms, '.1%')} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON Lines; continued if it is there")
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--case", action="append", help=f"some of: {', '.join(c.name for c in cases())}")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the simulated sets")
    given = parser.parse_args(arguments)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    simulate(given.out, given.repetitions, given.case, given.processes, given.seed)
    lines = list(read(given.out, given.seed))
    print(table(summarize(lines)))
    print()
    print(table_of_tails(tails(lines)))


if __name__ == "__main__":
    main()
