"""Score one item of a run: the reals at a resolution, or a checkpoint under every requested protocol."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pgmetrics.errors import OptionError, PgmetricsError, SampleError, SourceError
from pgmetrics.evaluation.options import Options
from pgmetrics.growth.checkpoints import AT_FINAL, AT_STAGE, Snapshot, open_snapshot
from pgmetrics.runtime.progress import Progress
from pgmetrics.sources.base import ImageSource
from pgmetrics.sources.resolve import open_source
from pgmetrics.sources.stage import AtStage
from pgmetrics.sources.wrappers import Wrapped

if TYPE_CHECKING:
    from pgmetrics.features.base import FeatureExtractor
    from pgmetrics.metrics.base import Metric
    from pgmetrics.results import Results

_DESCRIBED = ("fingerprint", "metrics", "count", "height", "width")


class Unreadable(PgmetricsError):
    """A checkpoint cannot be scored, because its images cannot be made; other checkpoints may be fine."""


@dataclass(frozen=True)
class Task:
    """An item of the scores file that is still to be scored.

    Attributes:
        item: the item as it will be stored.
        snapshot: the checkpoint; None if the reals are scored among themselves.
    """

    item: Mapping[str, Any]
    snapshot: Snapshot | None

    @property
    def label(self) -> str:
        """The item's label."""
        label: str = self.item["label"]
        return label


@dataclass(frozen=True)
class Scored:
    """The rows and provenance that an item's line in the scores file holds besides the item."""

    rows: list[dict[str, Any]]
    provenance: dict[str, Any]


@dataclass
class Scorer:
    """Scores the items of one run, one after the other; networks and reals are opened only once.

    Attributes:
        real: the real images, as `open_source` takes them.
        metrics: names, or metrics with parameters of their own.
        protocols: a selection of `PROTOCOLS`.
        options: the options of `evaluate`.
        loader: see `open_snapshot`.
        error: source of the standard errors, see `metrics.registry.with_error`; None for each metric's own.
    """

    real: object
    metrics: Sequence[str | Metric]
    protocols: Sequence[str]
    options: Options
    loader: str | None
    error: str | None
    _opened: dict[str, Any] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        # Another process opens its own networks and reals.
        return {**self.__dict__, "_opened": {}}

    @property
    def source(self) -> ImageSource:
        """The real images, at the final resolution."""
        if "real" not in self._opened:
            try:
                self._opened["real"] = open_source(self.real, **self.options.reading)
            except SourceError as error:
                self._refuse_statistics(error)
                raise
        source: ImageSource = self._opened["real"]
        return source

    def _refuse_statistics(self, error: SourceError) -> None:
        from pgmetrics.prepared.statistics import open_statistics

        if (given := open_statistics(self.real)) is not None:
            raise OptionError(
                f"{given.name} holds statistics; a run's stages are compared with real images shrunk and "
                "faded as training did, and these with each other: give the images. What is remembered of "
                "them is kept beside the scores"
            ) from error

    @property
    def final_resolution(self) -> int:
        """Side of the real images in pixels.

        Raises:
            SourceError: they are not square.
        """
        height, width = self.source.resolution
        if height != width:
            raise SourceError(f"{self.source.name} has images of {height} × {width}; stages are square")
        return height

    @property
    def chosen(self) -> list[Metric]:
        """The metrics with all their parameters."""
        from pgmetrics.evaluation.setup import choose_metrics

        return choose_metrics(self.metrics, self.options, self.error)

    @property
    def networks(self) -> dict[str, FeatureExtractor]:
        """The feature networks that the metrics use, opened once for all items."""
        if "networks" not in self._opened:
            from pgmetrics.evaluation.setup import open_networks

            self._opened["networks"] = open_networks(self.chosen, self.options)
        opened: dict[str, FeatureExtractor] = self._opened["networks"]
        return opened

    def settings(self) -> dict[str, Any]:
        """Return all settings that can change a number of the series."""
        return {
            "metrics": {metric.name: metric.parameters for metric in self.chosen},
            "protocols": list(self.protocols),
            "num_images": self.options.num_images,
            "seed": self.options.seed,
            "real": self.source.fingerprint,
            "networks": {name: network.fingerprint for name, network in self.networks.items()},
            "mirror": bool(self.options.mirror),
            "preset": self.options.preset,
            **self.options.reading,
            "loader": self.loader,
        }

    def score(self, task: Task, progress: Progress | None = None) -> Scored:
        """Score an item and return its rows with their provenance.

        Raises:
            Unreadable: the checkpoint's images cannot be made.
            PgmetricsError: anything else that `evaluate` refuses.
        """
        found: dict[str, Results] = {}
        notes: list[str] = []
        for protocol in self.protocols:
            if task.snapshot is None and protocol == AT_FINAL and not self._fully_grown(task):
                continue
            if protocol == AT_STAGE and AT_FINAL in found and self._alike(task):
                found[protocol] = _renamed(found[AT_FINAL], AT_FINAL, AT_STAGE)
                continue
            defined, left_out = self._defined(task, protocol)
            notes += [f"{protocol}: {note}" for note in left_out]
            if defined:
                found[protocol] = self._evaluate(task, protocol, defined, progress)
                notes += [f"{protocol}: {note}" for note in found[protocol].provenance["notes"]]
        subject = "real" if task.snapshot is None else "fake"
        rows = [row for results in found.values() for row in results.rows if row["subject"] == subject]
        return Scored(rows, self._provenance(task, found, notes))

    def _fully_grown(self, task: Task) -> bool:
        return bool(task.item["resolution"] == self.final_resolution)

    def _alike(self, task: Task) -> bool:
        """Whether both protocols give the same images: the stage is the final one and fully faded in."""
        return self._fully_grown(task) and task.item.get("alpha", 1.0) == 1

    def _side(self, task: Task, protocol: str) -> int:
        side: int = self.final_resolution if protocol == AT_FINAL else task.item["resolution"]
        return side

    def _defined(self, task: Task, protocol: str) -> tuple[list[Metric], list[str]]:
        """Return the metrics that are defined at the resolution, and why the others are left out."""
        side = self._side(task, protocol)
        defined, left_out = [], []
        for one in self.chosen:
            try:
                one.check_resolution(side, side)
                defined.append(one)
            except SampleError as error:
                # A metric that is undefined at the final resolution is refused rather than left out.
                if side == self.final_resolution:
                    raise
                left_out.append(f"{one.name} is left out: {error}")
        return defined, left_out

    def _evaluate(
        self, task: Task, protocol: str, metrics: Sequence[Metric], progress: Progress | None
    ) -> Results:
        from pgmetrics.evaluation.api import evaluate

        side, faded = self._side(task, protocol), task.item.get("alpha", 1.0) if protocol == AT_STAGE else 1.0
        real = self.source
        if side != self.final_resolution or faded < 1:
            real = AtStage(real, side, faded)
        fake = None if task.snapshot is None else self._open(task.snapshot, protocol)
        # Reals of a fade are used only once, so caching them gains nothing. Without num_images, the floor
        # splits the reals into halves where no other item does, and sums over other parts differ in rounding.
        once = faded < 1 or (task.snapshot is None and self.options.num_images is None)
        # The images and networks are already open, so the options for opening them no longer apply.
        used: dict[str, Any] = dict.fromkeys([*self.options.reading, "weights", "form", "precision"])
        options = replace(self.options, **used, networks=self.networks)
        with _without_warnings():
            return evaluate(
                real,
                fake,
                metrics,
                floor=task.snapshot is None and any(one.two_sided for one in metrics),
                protocol=protocol,
                run=task.label,
                progress=progress,
                **vars(replace(options, cache=None) if once else options),
            )

    def _open(self, snapshot: Snapshot, protocol: str) -> ImageSource:
        try:
            source = open_snapshot(snapshot, protocol, self.options.seed, self.loader, self.final_resolution)
        except PgmetricsError as error:
            raise Unreadable(str(error)) from error
        asked = self.options.num_images
        if asked is not None and len(source) < asked:
            raise Unreadable(f"it gives {len(source):,} images; num_images asks for {asked:,}")
        side = self.final_resolution if protocol == AT_FINAL else snapshot.resolution or self.final_resolution
        if source.resolution != (side, side):
            height, width = source.resolution
            raise Unreadable(f"it gives images of {height} × {width} {protocol}, not of {side} × {side}")
        return _Guarded(source)

    def _provenance(self, task: Task, found: Mapping[str, Results], notes: list[str]) -> dict[str, Any]:
        """Return how the rows were computed, without anything that differs if the work is repeated."""
        from pgmetrics.evaluation.provenance import versions

        sources: dict[str, Any] = {}
        device = None
        for protocol, results in found.items():
            # Leave out names, which are paths of one machine, and notes about files, which are missing if
            # the reals' states come from the cache.
            sources[protocol] = {
                side: {name: source[name] for name in _DESCRIBED if name in source}
                for side, source in results.provenance["sources"].items()
            }
            device = results.provenance["device"]
        return {
            "notes": list(dict.fromkeys(note.replace(self.source.name, "--real") for note in notes)),
            "sources": sources,
            "networks": {name: dict(network.protocol) for name, network in self.networks.items()},
            "device": device,
            "versions": versions(installed=True),
        }


class _Guarded(Wrapped):
    """A checkpoint's images; any refusal while they are read becomes `Unreadable`."""

    def __init__(self, source: ImageSource) -> None:
        super().__init__(source)

    def _read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        try:
            return super()._read(indices)
        except PgmetricsError as error:
            raise Unreadable(str(error)) from error


def _renamed(results: Results, old: str, new: str) -> Results:
    """Return the same rows under another protocol; the network after the protocol's name is kept."""
    rows = tuple({**row, "protocol": new + row["protocol"].removeprefix(old)} for row in results.rows)
    return replace(results, rows=rows)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Hide an evaluation's warnings: they are stored with its rows, and the session logs each only once."""

    def silent(record: logging.LogRecord) -> bool:
        return record.levelno > logging.WARNING

    logger = logging.getLogger("pgmetrics")
    logger.addFilter(silent)
    try:
        yield
    finally:
        logger.removeFilter(silent)


def relative(path: Path, run: Path) -> str:
    """Return a checkpoint's path relative to its run, which is the same on every machine."""
    return Path(os.path.relpath(path, run)).as_posix()
