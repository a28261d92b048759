"""Score a training run, checkpoint after checkpoint, into a scores file that survives interruption."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgmetrics import results
from pgmetrics._version import __version__
from pgmetrics.errors import OptionError, PgmetricsError, SourceError, check_number
from pgmetrics.evaluation.options import Options, SharedOptions, listed, takes_options
from pgmetrics.growth.checkpoints import (
    AT_FINAL,
    AT_STAGE,
    PROTOCOLS,
    UNTRAINED,
    Finder,
    Skipped,
    Snapshot,
    digest,
)
from pgmetrics.growth.jobs import score_in_processes
from pgmetrics.growth.scoring import Scored, Scorer, Task, Unreadable, relative
from pgmetrics.metrics.registry import DEFAULT
from pgmetrics.results import Results, run_scores
from pgmetrics.results.run_scores import Entry, Journal
from pgmetrics.runtime.files import dump_json, locked, parse_json, refusing_unwritable
from pgmetrics.runtime.heartbeat import Listener
from pgmetrics.runtime.progress import Progress
from pgmetrics.runtime.workers import MOST_WORKERS
from pgmetrics.sources.base import IDENTITY, LARGEST_SIDE

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pgmetrics.metrics.base import Metric

FINISHED = "finished.json"
"""A file of this name in a run's directory marks training as finished."""

WORK = ".growth"
"""Subdirectory of a run for the lock and the cached states of the reals; removed when all is scored."""


logger = logging.getLogger("pgmetrics")


@takes_options(SharedOptions)
def score_run(
    run: str | os.PathLike[str],
    real: object,
    metrics: Sequence[str | Metric] = DEFAULT,
    *,
    protocols: Sequence[str] = (AT_FINAL,),
    untrained: bool = False,
    floor: bool = True,
    jobs: int = 1,
    device: str = "auto",
    pattern: str | None = None,
    loader: str | None = None,
    final_resolution: int | None = None,
    error: str | None = None,
    cache: str | os.PathLike[str] | None = None,
    watch: bool = False,
    poll_seconds: float = 5.0,
    progress: Progress | None = None,
    **options: Unpack[SharedOptions],
) -> tuple[Results, list[Skipped]]:
    """Score every checkpoint of a training run that has not been scored yet.

    All checkpoints get the same latents, patches and reals, so that differences between them are paired.
    Each finished item is appended as a line to the run's `scores.jsonl` (see `results.run_scores`). If the
    call is killed at any moment, repeating it resumes and produces a byte-identical file. Other settings
    start a new series in the file; device, jobs and workers are not settings in this sense.

    Args:
        run: the run's directory.
        real: the real images at the final resolution, as in `evaluate`; statistics are refused.
        metrics: names, or metrics with parameters of their own.
        protocols: `at-final` repeats a stage's pixels up to the final resolution, as published; `at-stage`
            uses the stage's own resolution, with the reals shrunk to it and faded as in training. Metrics
            that are not defined at a stage's resolution are left out there, with a note.
        untrained: also score the network before training.
        floor: first score the reals among themselves, at each resolution that occurs.
        jobs: number of items scored at the same time, each in its own process; the scores do not change.
        device: as in `evaluate`; several, separated by commas, share the items.
        pattern, loader: for checkpoints of other projects, see `Finder` and `open_snapshot`.
        final_resolution: the resolution that the run grows to, if its checkpoints give another one. Networks
            of other projects may know only their own stage.
        error: source of the standard errors if a metric offers a choice: "images", "directions" or "both";
            by default that of the metric.
        cache: directory that keeps the preprocessed reals for other runs; by default they are kept in the
            run's directory until everything is scored. "off" keeps nothing.
        watch: score new checkpoints as they appear, until all are scored and training is over, or until
            Ctrl-C. Training is over when the file `finished.json` is in the run's directory, or when
            `heartbeat.json`, which `progan train` writes every few seconds, has not changed for a minute.
        poll_seconds: interval between two searches of the directory.
        progress: called with (what, items done, total items).
        options: any of `Options`; the seed also determines the latents.

    Returns:
        The series as a table, and the checkpoints that could not be read, each with the reason. The next
        call tries these again.

    Raises:
        SourceError: there is no checkpoint, or the reals cannot be read.
        OptionError: an option has an invalid value, or another process is scoring the run.
        PgmetricsError: `evaluate` refuses something, or the scores file cannot be written.
    """
    unknown = sorted(set(protocols) - set(PROTOCOLS))
    if unknown or not protocols:
        raise OptionError(
            f"a protocol is {' or '.join(PROTOCOLS)}, not {', '.join(unknown) or 'none at all'}"
        )
    check_number("poll_seconds", poll_seconds, 0, 86_400)
    check_number("jobs", jobs, 1, MOST_WORKERS, whole=True)
    place = Path(run)
    if final_resolution is not None:
        check_number("final_resolution", final_resolution, 4, LARGEST_SIDE, whole=True)
    finder = Finder(place, pattern, final_resolution)
    kept = place / WORK / "reals" if cache is None else None if cache == "off" else Path(cache)
    scorer = Scorer(
        real=real,
        metrics=listed(metrics),
        protocols=[one for one in PROTOCOLS if one in protocols],
        options=Options(**options, device=device.split(",")[0], cache=kept),
        loader=loader,
        error=error,
    )
    session = _ScoringSession(
        place, finder, scorer, pattern, untrained, floor, jobs, device.split(","), progress
    )
    if watch:
        session.follow(poll_seconds)
    else:
        session.catch_up()
    return session.results(), session.skipped


def read_scores(run: str | os.PathLike[str], series: str | None = None) -> Results:
    """Read the scores that `score_run` has stored.

    Args:
        run: the run's directory, or its scores file.
        series: ID of the series; by default the one that was written last.

    Returns:
        The rows of the reals, the untrained network and the checkpoints by images shown; the provenance
        is `{"series": id, "settings": {...}, "runs": {label: {"item": {...}, ...}}}`.

    Raises:
        StateError: the scores file is damaged, or has no such series.
        PgmetricsError: there is no scores file.
    """
    rows, provenance = run_scores.load(run, series)
    return Results(tuple(rows), provenance)


@dataclass
class _ScoringSession:
    """One call of `score_run`: its options, its series, and the checkpoints that it could not read."""

    run: Path
    finder: Finder
    scorer: Scorer
    pattern: str | None
    untrained: bool
    floor: bool
    jobs: int
    devices: Sequence[str]
    progress: Progress | None

    def __post_init__(self) -> None:
        self.skipped: list[Skipped] = []
        self._failed: dict[tuple[str, str], str] = {}
        self._told: set[str] = set()
        self._series: str | None = None
        self._settled = False

    # Finding the items.

    def catch_up(self) -> None:
        """Score the checkpoints that exist now."""
        found = self._look()
        if not found and not self.skipped:
            kinds = "the pattern matches none" if self.pattern else "others than ProGAN's need a --pattern"
            foreign = None if self.pattern else self.finder.advice()
            raise SourceError(f"{self.run} holds no checkpoints; {foreign or kinds}")
        there = [each.label for each in found] + [path.stem for path, _ in self.skipped]
        if self.untrained and UNTRAINED not in there:
            raise SourceError(
                f"{self.run} holds no untrained network: a checkpoint of 0 images, such as `progan train` "
                "writes as untrained.safetensors"
            )
        try:
            self._score(found)
        except PgmetricsError:
            self._tidy()
            raise
        self._tidy()

    def follow(self, poll_seconds: float) -> None:
        """Score checkpoints as they appear, until training is over, or until Ctrl-C."""
        self.scorer.source  # noqa: B018 - refuse bad reals now, not at the first checkpoint
        trainer = Listener(self.run)
        try:
            while True:
                gone = trainer.has_stopped()
                finished = (self.run / FINISHED).exists()
                over = gone or finished
                self.finder.patient = not over
                # Nothing is written before the first checkpoint, since training requires an empty directory.
                new = self.run.is_dir() and self._score(self._look())
                if over and not new:
                    if not finished:
                        logger.warning(
                            f"nobody trains in {self.run} any more, and training is not finished; "
                            "resume training, then repeat this command"
                        )
                    break
                time.sleep(0 if new else poll_seconds)
        except KeyboardInterrupt:
            logger.info("stopped watching; the same command resumes")
        self._tidy()

    def _tidy(self) -> None:
        """Remove the cached states of the reals, unless another process is scoring the run."""
        if (self.run / WORK).exists():
            with suppress(PgmetricsError), _claimed(self.run):
                shutil.rmtree(self.run / WORK, ignore_errors=True)

    def _look(self) -> list[Snapshot]:
        """Return the checkpoints to be scored, and warn of new ones that cannot be read."""
        found, unreadable = self.finder.find()
        failed = [
            (each.path, self._failed[each.label, each.digest])
            for each in found
            if (each.label, each.digest) in self._failed
        ]
        self._skip([*unreadable, *failed])
        return [each for each in found if each.label != UNTRAINED or self.untrained]

    def _skip(self, skipped: list[Skipped]) -> None:
        self.skipped = skipped
        for path, reason in skipped:
            self._tell(f"skipped {relative(path, self.run)}: {reason}")

    def _tell(self, text: str, item: str = "") -> None:
        """Log each warning once; if it concerns several items, only the first one is named before it."""
        if text not in self._told:
            self._told.add(text)
            logger.warning(item + text)

    def _tasks(self, found: Iterable[Snapshot]) -> list[Task]:
        """Return the items in the order of the scores file: a checkpoint follows the floors it needs."""
        final = self.scorer.final_resolution
        if self.scorer.source.left_out is not None:
            self._tell(self.scorer.source.left_out)
        met: set[int] = set()
        tasks = []
        for snapshot in self._fitting(found, final):
            side = snapshot.resolution or final
            for resolution in (final, side) if self.floor else ():
                asked = {AT_STAGE, *([AT_FINAL] if resolution == final else [])} & set(self.scorer.protocols)
                if asked and resolution not in met:
                    met.add(resolution)
                    tasks.append(_floor(resolution, final))
            tasks.append(_task(snapshot, side, final, self.run))
        return tasks

    def _fitting(self, found: Iterable[Snapshot], final: int) -> list[Snapshot]:
        """Return the checkpoints that grow to the reals' resolution; the others are skipped with a warning.

        Raises:
            SourceError: no checkpoint does, so that the reals do not fit the run.
        """
        grown = [(each, max(each.final_resolution or final, each.resolution or final)) for each in found]
        fitting = [each for each, needed in grown if needed == final]
        if grown and not fitting:
            needed = grown[0][1]
            raise SourceError(
                f"{self.scorer.source.name} has images of {final} × {final}, and the run grows to "
                f"{needed} × {needed}; --resize box --resolution {needed} brings them there"
            )
        odd = [
            (
                each.path,
                f"it grows to {needed} × {needed}, and others of the run to {final} × {final}"
                + _as_a_stage(each, final),
            )
            for each, needed in grown
            if needed != final
        ]
        if odd:
            self._skip([*self.skipped, *odd])
        return fitting

    # Scoring the items.

    def _score(self, found: list[Snapshot]) -> bool:
        """Score the items that are not stored yet, and return whether there were any."""
        if not found:
            return False
        tasks = self._tasks(found)
        entries = run_scores.read(self.run) if run_scores.store_path(self.run).exists() else []
        if not self._settled:
            self._series = _series_that_asked(entries, self._asked)
        if not self._remaining(tasks, entries):
            return False
        with _claimed(self.run), Journal(self.run) as store:
            settings = self._settle(store.entries)
            remaining = self._remaining(tasks, store.entries)
            # Close it at once, even after an error, whose traceback would keep the processes running.
            with closing(self._outcomes(remaining)) as outcomes:
                for done, (task, outcome) in enumerate(outcomes, start=1):
                    self._take(task, outcome, settings, store)
                    self._report(task.label, done, len(remaining))
        return bool(remaining)

    def _take(
        self, task: Task, outcome: Scored | PgmetricsError, settings: dict[str, Any], store: Journal
    ) -> None:
        """Store an item's scores, or skip a checkpoint that cannot be read; any other refusal is raised."""
        if isinstance(outcome, Unreadable):
            self._fail(task, outcome)
            return
        if isinstance(outcome, PgmetricsError):
            raise outcome
        assert self._series is not None
        if not any(entry.series == self._series for entry in store.entries):
            store.append(Entry(self._series, {"kind": "settings"}, settings=settings))
        store.append(Entry(self._series, task.item, outcome.rows, outcome.provenance))
        for note in outcome.provenance["notes"]:
            self._tell(note, f"{task.label}, ")

    def _remaining(self, tasks: Sequence[Task], entries: Sequence[Entry]) -> list[Task]:
        """Return the items that are not in the series with this digest and have not failed in this call."""
        held = {entry.label: entry.item.get("digest") for entry in entries if entry.series == self._series}
        return [
            task
            for task in tasks
            if (task.label not in held or held[task.label] != task.item.get("digest"))
            and (task.label, task.item.get("digest")) not in self._failed
        ]

    def _outcomes(self, tasks: Sequence[Task]) -> Generator[tuple[Task, Scored | PgmetricsError]]:
        jobs = min(max(self.jobs, len(self.devices)), len(tasks))
        if jobs > 1:
            yield from score_in_processes(self.scorer, tasks, jobs, self.devices)
            return
        for done, task in enumerate(tasks):

            def report(what: str, part: int, total: int, task: Task = task, done: int = done) -> None:
                self._report(f"{task.label}: {what} {part:,}/{total:,}", done, len(tasks))

            try:
                yield task, self.scorer.score(task, report)
            except PgmetricsError as error:
                yield task, error

    def _fail(self, task: Task, reason: Unreadable) -> None:
        assert task.snapshot is not None
        self._failed[task.label, task.snapshot.digest] = str(reason)
        self._skip([*self.skipped, (task.snapshot.path, str(reason))])

    def _report(self, what: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(what, done, total)

    # Choosing the series.

    def _settle(self, entries: Sequence[Entry]) -> dict[str, Any]:
        """Determine the series from the settings, and return the settings to be stored."""
        settings = self.scorer.settings() | {"pattern": self.pattern}
        self._series = results.run_id(settings).replace("run-", "series-")
        self._settled = True
        if self._series not in {entry.series for entry in entries} and any(
            entry.settings is not None and not str(entry.settings.get("real")).startswith(IDENTITY)
            for entry in entries
        ):
            self._tell(
                "the scores that are there are of an older version, which identified real images by names "
                "and times and took them in another order; a new series begins"
            )
        real = self.scorer.real
        settings["real_spec"] = (
            os.fspath(real) if isinstance(real, (str, os.PathLike)) else type(real).__name__
        )
        asked = self._asked
        # Weights that the options do not name are found, and their digests known, only when they are opened.
        if asked is not None and set(settings["networks"]) <= set(asked["weights"]):
            settings["asked"] = asked
        return settings

    @cached_property
    def _asked(self) -> dict[str, Any] | None:
        """The settings as far as known without loading a library; None if they do not identify the series."""
        options = self.scorer.options
        if options.networks or not all(isinstance(one, str) for one in self.scorer.metrics):
            return None
        weights = options.weights or {}
        files = weights if isinstance(weights, Mapping) else {"inception": weights}
        try:
            digests = {name: digest(Path(file)) for name, file in files.items()}
        except OSError:
            return None  # opening them reports what is wrong
        names = (*options.reading, "mirror", "preset", "form", "precision", "allow_unverified_weights")
        return {
            "pgmetrics": __version__,
            "metrics": list(self.scorer.metrics),
            "protocols": list(self.scorer.protocols),
            "num_images": options.num_images,
            "seed": options.seed,
            "real": self.scorer.source.fingerprint,
            "weights": digests,
            "pattern": self.pattern,
            "loader": self.scorer.loader,
            "error": self.scorer.error,
            **{name: getattr(options, name) for name in names if getattr(options, name)},
        }

    def results(self) -> Results:
        """Return the rows of the series so far."""
        entries = run_scores.read(self.run) if run_scores.store_path(self.run).exists() else []
        if not any(entry.series == self._series for entry in entries):
            return Results((), {"series": self._series, "settings": {}, "runs": {}})
        return read_scores(self.run, self._series)


def _series_that_asked(entries: Sequence[Entry], asked: Mapping[str, Any] | None) -> str | None:
    """Return the series that an identical call has started, or None."""
    known = None if asked is None else parse_json(dump_json(asked))
    for entry in entries:
        if known is not None and entry.settings is not None and entry.settings.get("asked") == known:
            return entry.series
    return None


def _as_a_stage(snapshot: Snapshot, final: int) -> str:
    """Say how to score a checkpoint of a larger run as a stage; empty if its resolution is too large."""
    if (snapshot.resolution or final) > final:
        return ""
    return f"; if it is one of their stages, --final-resolution {final} says so"


def _floor(resolution: int, final: int) -> Task:
    label = f"reals-{resolution}x{resolution}"
    item = {"kind": "floor", "label": label, "resolution": resolution, "final_resolution": final}
    return Task(item, None)


def _task(snapshot: Snapshot, resolution: int, final: int, run: Path) -> Task:
    item = {
        "kind": "untrained" if snapshot.label == UNTRAINED else "checkpoint",
        "label": snapshot.label,
        "file": relative(snapshot.path, run),
        "digest": snapshot.digest,
        "images_shown": snapshot.images_shown,
        "resolution": resolution,
        "alpha": snapshot.alpha,
        "final_resolution": final,
    }
    return Task(item, snapshot)


@contextmanager
def _claimed(run: Path) -> Iterator[None]:
    """Keep other processes from scoring the run at the same time.

    Raises:
        OptionError: another process is scoring the run.
        PgmetricsError: the directory cannot be written.
    """
    with refusing_unwritable(run):
        (run / WORK).mkdir(exist_ok=True)
    with locked(run / WORK / "lock", f"{run} is being scored by another process; wait for it, or end it"):
        yield
