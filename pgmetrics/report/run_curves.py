"""Arrange the scores of a run as stages, and as a curve of each metric over the images shown."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from pgmetrics.errors import PgmetricsError, StateError
from pgmetrics.metrics.error_kinds import degrees_of_freedom
from pgmetrics.metrics.registry import in_order, output
from pgmetrics.results import Results, read_results, run_scores
from pgmetrics.uncertainty.intervals import Difference, independent_difference, interval
from pgmetrics.uncertainty.randomization import holm
from pgmetrics.uncertainty.verdicts import Score, Variety, variety, verdict

CONFIDENCE = 0.95


@dataclass(frozen=True)
class ScoredCheckpoint:
    """A checkpoint that was scored.

    Attributes:
        label: the `run` of its rows.
        kind: "checkpoint" or "untrained".
        file: path relative to the run's directory.
        digest: SHA-256 of the file when it was scored.
        images_shown, resolution, alpha: its position in training.
    """

    label: str
    kind: str
    file: str
    digest: str
    images_shown: int
    resolution: int
    alpha: float


@dataclass(frozen=True)
class ScoredStage:
    """The part of training at one resolution, as inferred from the checkpoints.

    Attributes:
        resolution: side of the images in pixels.
        start, stop: images shown at the last checkpoints of the previous stage and of this stage. Trainers
            write a checkpoint at each change of stage, so these are the exact ends of the stage.
        faded: images shown at the first checkpoint after the fade; `start` if nothing faded in.
        last: the last checkpoint of the stage.
    """

    resolution: int
    start: int
    stop: int
    faded: int
    last: ScoredCheckpoint


@dataclass(frozen=True)
class Point:
    """A number with its interval.

    Attributes:
        row: the row of the results.
        snapshot: the checkpoint that was scored; None for the reals.
        low, high: ends of the 95 % interval, or one standard deviation to each side if the error's kind
            ends with "(sd)"; None without an error.
    """

    row: Mapping[str, Any]
    snapshot: ScoredCheckpoint | None
    low: float | None
    high: float | None

    @property
    def value(self) -> float:
        """The raw value."""
        value: float = self.row["value"]
        return value


@dataclass(frozen=True)
class Curve:
    """One metric at one level under one protocol, over a run.

    Attributes:
        metric, level, protocol: as in the rows.
        points: points of the trained checkpoints, by images shown.
        untrained: point of the untrained network, or None if it was not scored.
        reals: score of the reals by resolution: the floor, or the reals' own score for metrics of one set.
            A run that is scored at its final resolution has only one.
    """

    metric: str
    level: int | None
    protocol: str
    points: tuple[Point, ...]
    untrained: Point | None
    reals: Mapping[int, Point]

    @property
    def last(self) -> Point:
        """The point of the checkpoint that was trained longest."""
        return self.points[-1]

    @property
    def last_real(self) -> Point | None:
        """The score of the reals to compare that checkpoint with, if there is one."""
        assert self.last.snapshot is not None
        return self.real_at(self.last.snapshot.resolution)

    def at(self, snapshot: ScoredCheckpoint) -> Point | None:
        """Return the point of a checkpoint, or None if it has none."""
        return next((point for point in self.points if point.snapshot == snapshot), None)

    def real_at(self, resolution: int) -> Point | None:
        """Return the score of the reals to compare a checkpoint of that resolution with, or None."""
        if self.at_final and self.reals:
            return self.reals[max(self.reals)]
        return self.reals.get(resolution)

    @property
    def at_final(self) -> bool:
        """Whether all points were scored at the same resolution and can be compared."""
        return not self.protocol.startswith("at-stage")


@dataclass(frozen=True)
class Growth:
    """A scored run.

    Attributes:
        name: name of the run's directory.
        folder: the run's directory.
        results: all rows, in the order of `run_scores.load`.
        snapshots: the trained checkpoints, by images shown.
        untrained: the untrained network, or None if it was not scored.
        final_resolution: the resolution that the run grows to, in pixels.
        settings: everything that affects a number of the series.
        series: id of the series.
    """

    name: str
    folder: Path
    results: Results
    snapshots: tuple[ScoredCheckpoint, ...]
    untrained: ScoredCheckpoint | None
    final_resolution: int
    settings: Mapping[str, Any]
    series: str

    @property
    def seed(self) -> int:
        """The seed of the scores."""
        return int(self.settings.get("seed", 0))

    @property
    def loader(self) -> str | None:
        """Name of the function that opened the checkpoints; shown only, never imported."""
        return self.settings.get("loader")

    @property
    def real_name(self) -> str | None:
        """Name of the real images; shown only, never opened.

        It is the last part of their path, because a page must not reveal local directories.
        """
        spec = self.settings.get("real_spec")
        return None if spec is None else spec.rpartition("/")[2]

    @property
    def reading(self) -> dict[str, Any]:
        """The options of `open_source` with which the real images were read."""
        return {name: self.settings.get(name) for name in ("resize", "alpha", "bits")}

    @property
    def protocols(self) -> list[str]:
        """The protocol families of the rows about generated images, sorted: "at-final" is first."""
        found = dict.fromkeys(
            protocol_family(row["protocol"]) for row in self.results.rows if row["subject"] == "fake"
        )
        return sorted(found)

    @property
    def stages(self) -> list[ScoredStage]:
        """The stages in the order of training; a run that does not grow has one."""
        stages: list[ScoredStage] = []
        for resolution in dict.fromkeys(one.resolution for one in self.snapshots):
            mine = [one for one in self.snapshots if one.resolution == resolution]
            start = stages[-1].stop if stages else 0
            whole = [one.images_shown for one in mine if one.alpha >= 1]
            fades = bool(stages) or any(one.alpha < 1 for one in mine)
            faded = (whole[0] if whole else mine[-1].images_shown) if fades else start
            stages.append(ScoredStage(resolution, start, mine[-1].images_shown, faded, mine[-1]))
        return stages

    def curves(self, protocol: str) -> list[Curve]:
        """Return the curves of one protocol family: by metric, from the finest level to the mean."""
        rows = [row for row in self.results.rows if protocol_family(row["protocol"]) == protocol]
        keys = dict.fromkeys(
            (row["metric"], row["level"], row["protocol"]) for row in rows if row["subject"] == "fake"
        )
        order = in_order([metric for metric, _, _ in keys])
        curves = [self._curve(rows, *key) for key in keys]
        curves.sort(key=lambda curve: (order.index(curve.metric), -(curve.level or 0)))
        return [curve for curve in curves if curve.points]

    def real_spans(self, curve: Curve) -> list[tuple[int, int, Point]]:
        """Return the reals' scores as (start, stop, point): each applies from start to stop images shown."""
        stages = self.stages
        if curve.at_final:
            real = curve.real_at(self.final_resolution)
            return [] if real is None else [(0, stages[-1].stop, real)]
        found = [(stage.start, stage.stop, curve.real_at(stage.resolution)) for stage in stages]
        return [(start, stop, real) for start, stop, real in found if real is not None]

    def _curve(
        self, rows: Sequence[Mapping[str, Any]], metric: str, level: int | None, protocol: str
    ) -> Curve:
        known = {one.label: one for one in self.snapshots}
        points: list[Point] = []
        reals: dict[int, Point] = {}
        untrained = None
        for row in rows:
            if (row["metric"], row["level"], row["protocol"]) != (metric, level, protocol):
                continue
            if row["subject"] == "real":
                reals.setdefault(self._resolution(row), _point(row, None))
            elif row["run"] in known:
                points.append(_point(row, known[row["run"]]))
            elif self.untrained is not None and row["run"] == self.untrained.label:
                untrained = _point(row, self.untrained)
        points.sort(key=lambda point: _place(point.snapshot))
        return Curve(metric, level, protocol, tuple(points), untrained, reals)

    def _resolution(self, row: Mapping[str, Any]) -> int:
        item = self.results.item(row["run"]) or {}
        return int(item.get("resolution", self.final_resolution))


def read_growth(run: str | os.PathLike[str], series: str | None = None) -> Growth:
    """Read the scores of a run.

    Args:
        run: a directory that `pgmetrics growth` has scored, or the scores file in it.
        series: id of a series of the scores file; defaults to the series that was written last.

    Raises:
        StateError: the scores file holds no checkpoint, or is damaged.
        PgmetricsError: there is no scores file.
    """
    store = run_scores.store_path(run)
    results = read_results(run, series)
    items = [about["item"] for about in results.provenance.get("runs", {}).values() if "item" in about]
    snapshots = [_snapshot(item) for item in items if item["kind"] in ("checkpoint", "untrained")]
    trained = sorted((one for one in snapshots if one.kind == "checkpoint"), key=_place)
    if not any(
        row["subject"] == "fake" and row["run"] in {one.label for one in trained} for row in results.rows
    ):
        raise StateError(
            f"{store} holds no score of a checkpoint; pgmetrics growth {store.parent} --real SOURCE adds them"
        )
    folder = store.resolve().parent
    settings = results.provenance.get("settings", {})
    _check_settings(settings, store)
    return Growth(
        name=folder.name,
        folder=folder,
        results=results,
        snapshots=tuple(trained),
        untrained=next((one for one in snapshots if one.kind == "untrained"), None),
        final_resolution=max(item.get("final_resolution", item["resolution"]) for item in items),
        settings=settings,
        series=results.provenance.get("series", ""),
    )


@dataclass(frozen=True)
class Change:
    """How a metric changed from the end of one stage to the end of the next.

    Attributes:
        difference: the difference of the two scores, with its test.
        verdict: the result of `verdicts.verdict`, or "" without a test.
    """

    difference: Difference
    verdict: str


def stage_changes(growth: Growth, curves: Sequence[Curve], alpha: float) -> dict[tuple[str, int], Change]:
    """Return the changes between stages by metric and resolution, for numbers that can be compared.

    The tests treat the two sets as independent. Their p-values are corrected by Holm's method.

    Args:
        growth: the run.
        curves: one curve per metric.
        alpha: family-wise significance level of all tests.
    """
    found: dict[tuple[str, int], tuple[Difference, Score | None]] = {}
    for curve in curves:
        ends = [curve.at(stage.last) for stage in growth.stages] if curve.at_final else []
        for before, now in pairwise(ends):
            if before is not None and now is not None and now.snapshot is not None:
                place = curve.metric, now.snapshot.resolution
                difference = independent_difference(before.row, now.row, CONFIDENCE)
                found[place] = difference, _score(curve.real_at(now.snapshot.resolution))
    tested = [place for place, (difference, _) in found.items() if difference.p_value is not None]
    adjusted = dict(zip(tested, holm([found[place][0].p_value or 0.0 for place in tested]), strict=True))
    return {
        place: Change(difference, _verdict(difference, adjusted.get(place), reals, alpha))
        for place, (difference, reals) in found.items()
    }


def variety_beside_reals(curve: Curve, point: Point, alpha: float) -> Variety | None:
    """Return how varied a point's images are compared with the reals; None if unknown or not measured."""
    assert point.snapshot is not None
    if not curve.at_final and point.snapshot.alpha < 1:
        # The checkpoint was compared with faded reals, whose own value is not known.
        return None
    real = _score(curve.real_at(point.snapshot.resolution))
    score = _score(point)
    return None if score is None else variety(curve.metric, score, real, alpha)


def _verdict(difference: Difference, p_value: float | None, reals: Score | None, alpha: float) -> str:
    if p_value is None:
        return ""
    return verdict(
        difference.metric,
        *difference.scores,
        p_value=p_value,
        reals=reals,
        significance=alpha,
    )


def _score(point: Point | None) -> Score | None:
    """Return a point's value with its error, which is dropped if it was not taken over images."""
    if point is None:
        return None
    return Score.of(point.row)


def protocol_family(protocol: str | None) -> str:
    """Return the part of a protocol before the first comma.

    This is `at-final` in `at-final, inception-2015-12-05 …`; feature metrics append their network.
    """
    return (protocol or "").partition(",")[0]


def whole(curves: Sequence[Curve]) -> Iterator[Curve]:
    """Yield one curve per metric: the mean over levels if the metric has levels."""
    yield from (curve for curve in curves if curve.level is None)


def is_floor(metric: str) -> bool:
    """Return whether a metric's row about the reals is the floor, the score of a perfect generator.

    Otherwise it is the score of the reals themselves.
    """
    return not output(metric).of_one_set


def is_deviation(row: Mapping[str, Any]) -> bool:
    """Return whether a row's ± is a standard deviation rather than a standard error of the value."""
    return str(row["stderr_kind"] or "").endswith("(sd)")


def _point(row: Mapping[str, Any], snapshot: ScoredCheckpoint | None) -> Point:
    if row["stderr"] is None:
        return Point(row, snapshot, None, None)
    if is_deviation(row):
        return Point(row, snapshot, row["value"] - row["stderr"], row["value"] + row["stderr"])
    return Point(row, snapshot, *interval(row["value"], row["stderr"], CONFIDENCE, degrees_of_freedom(row)))


def _snapshot(item: Mapping[str, Any]) -> ScoredCheckpoint:
    if item.get("images_shown", 0) is None:
        raise PgmetricsError(
            f"{item['label']} does not say how many images it was shown, so it has no place on a page or a "
            "plot; import it with --images-shown, and score it again"
        )
    try:
        return ScoredCheckpoint(
            label=str(item["label"]),
            kind=str(item["kind"]),
            file=str(item["file"]),
            digest=str(item["digest"]),
            images_shown=item["images_shown"],
            resolution=item["resolution"],
            alpha=float(item["alpha"]),
        )
    except KeyError as error:
        raise StateError(
            f"the store's item {item.get('label')!r} is incomplete: it has no {error}"
        ) from error


def _check_settings(settings: Mapping[str, Any], store: Path) -> None:
    """Raise StateError if a setting that the page uses has the wrong type or a negative seed."""
    kinds: dict[str, type] = {
        "seed": int, "bits": int, "loader": str, "real_spec": str, "resize": str, "alpha": str,
    }  # fmt: skip
    for name, kind in kinds.items():
        value = settings.get(name)
        if value is not None and type(value) is not kind:
            raise StateError(f"{store} is damaged: its setting {name} is no {kind.__name__}")
    if settings.get("seed", 0) < 0:
        raise StateError(f"{store} is damaged: its setting seed is below 0")


def _place(snapshot: ScoredCheckpoint | None) -> tuple[int, int, float]:
    assert snapshot is not None
    return snapshot.images_shown, snapshot.resolution, snapshot.alpha
