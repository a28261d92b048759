"""Prepare the content of each section of the page about a run; the templates arrange it.

Text is not escaped here, because the templates escape all of it. Numbers are formatted here, so that
templates only decide the layout.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from pgmetrics.metrics import registry
from pgmetrics.metrics.outputs import Aim
from pgmetrics.metrics.registry import in_order, output
from pgmetrics.report import gallery, svg
from pgmetrics.report.gallery import Images
from pgmetrics.report.plots import Plot, in_words, plots, shared_key
from pgmetrics.report.run_curves import (
    Change,
    Curve,
    Growth,
    Point,
    ScoredCheckpoint,
    ScoredStage,
    is_deviation,
    is_floor,
    protocol_family,
    stage_changes,
    variety_beside_reals,
    whole,
)
from pgmetrics.results import tables
from pgmetrics.runtime.progress import Progress
from pgmetrics.uncertainty import verdicts

ALPHA = 0.01
"""Significance level of the tests between stages."""

_WIDE, _NARROW = (500.0, 300.0), (340.0, 270.0)
_IN_TILES, _IN_CARDS = 8, 4


@dataclass(frozen=True)
class Picture:
    """A PNG of a grid of images in base64, its size in pixels, and a description for `alt`."""

    png: str
    width: int
    height: int
    alt: str


def _picture(pixels: gallery.Pixels, columns: int, alt: str) -> Picture:
    png, width, height = gallery.png_grid(pixels, columns)
    return Picture(base64.b64encode(png).decode(), width, height, alt)


# The headline.


@dataclass(frozen=True)
class Tile:
    """A tile in the header: one metric of the last checkpoint.

    Attributes:
        title, value, reach: the title, the value, and half the width of its interval as ±.
        against: comparisons, each a text and a number; either can be "".
    """

    title: str
    value: str
    reach: str
    against: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class HeaderSection:
    """The top of the page: a sentence about the run, a few facts, and a tile for each metric."""

    lede: str
    facts: tuple[str, ...]
    tiles: tuple[Tile, ...]


def header(growth: Growth) -> HeaderSection:
    """Prepare the top of the page."""
    protocol, stages = growth.protocols[0], growth.stages
    counts = sorted({row["n_fake"] for row in growth.results.rows if row["n_fake"]})
    count = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    sides = _square(stages[0].resolution)
    if len(stages) > 1:
        sides += f" to {_square(stages[-1].resolution)}"
    facts = (
        f"{len(growth.snapshots)} checkpoints",
        sides,
        f"scored with {count} images each, {in_words(protocol)}",
    )
    curves = growth.curves(protocol)
    by_level = {curve.metric for curve in curves if curve.level is not None}
    tiles = [_tile(curve, curve.metric in by_level) for curve in list(whole(curves))[:_IN_TILES]]
    return HeaderSection(headline(growth), facts, tuple(tiles))


def headline(growth: Growth) -> str:
    """Return a sentence about the quality of the last checkpoint."""
    curves = {curve.metric: curve for curve in whole(growth.curves(growth.protocols[0]))}
    # Prefer a score for which lower is better, a distance to the reals; otherwise take the first score.
    scores = [declared for name in in_order(list(curves)) if (declared := output(name)).is_score]
    about = next((one for one in scores if one.better.aim is Aim.LOWER), scores[0] if scores else None)
    if about is None:
        return f"After {growth.snapshots[-1].images_shown:,} images."
    metric, number = about.name, about.number
    curve = curves[metric]
    last, real, untrained = curve.last, curve.last_real, curve.untrained
    assert last.snapshot is not None
    text = f"After {last.snapshot.images_shown:,} images, {about.heading} is {number(last.value)}"
    if real is not None:
        score = number(real.value)
        if is_floor(metric) and real.value > 0:
            text += (
                f": {last.value / real.value:.1f} times the {score} that real images score among themselves"
            )
        else:
            text += f", where real images score {score}"
            if word := _beside_reals(curve, last):
                text += f": {word}"
    if real is not None and untrained is not None and is_floor(metric) and untrained.value > real.value:
        way = (untrained.value - last.value) / (untrained.value - real.value)
        if way > 0:
            text += f", and {way:.0%} of the way there from the untrained network"
        else:
            text += f", and no nearer than the untrained network's {number(untrained.value)}"
    return text + "."


def _tile(curve: Curve, is_mean: bool) -> Tile:
    last, real, metric = curve.last, curve.last_real, curve.metric
    number = output(metric).number
    title = output(metric).heading + (", mean" if is_mean else "")
    against = []
    if real is not None:
        name = "floor" if is_floor(metric) else "real images"
        against.append((name, number(real.value)))
    if word := _beside_reals(curve, last):
        against.append((word, ""))
    if curve.untrained is not None:
        against.append((f"untrained {number(curve.untrained.value)}", ""))
    return Tile(title, number(last.value), _reach(last), tuple(against))


def _reach(point: Point) -> str:
    """Format half the width of a point's interval as ±."""
    if point.high is None:
        return ""
    kind = " (sd)" if is_deviation(point.row) else ""
    return f"± {output(point.row['metric']).number(point.high - point.value)}{kind}"


def _beside_reals(curve: Curve, point: Point) -> str:
    """Return how varied the images are compared with the reals; "" if unknown or not measured."""
    found = variety_beside_reals(curve, point, ALPHA)
    return "" if found is None else verdicts.beside_reals(found)


def _square(resolution: int) -> str:
    return f"{resolution}×{resolution}"


# Stages.


@dataclass(frozen=True)
class StageScore:
    """The value of a metric at the end of a stage.

    Attributes:
        title: the title of the metric.
        value: the formatted value, or "" if the metric is undefined at this resolution.
        reach: half the width of its interval as ±.
        beside: how varied the images are compared with the reals, or "".
        change: the change since the previous stage, or "" if the two cannot be compared.
        verdict: the verdict on that change, or "".
    """

    title: str
    value: str = ""
    reach: str = ""
    beside: str = ""
    change: str = ""
    verdict: str = ""


@dataclass(frozen=True)
class StageCard:
    """A card about a stage: its resolution, the images shown at its ends, samples and final scores."""

    side: str
    start: int
    stop: int
    picture: Picture | None
    scores: tuple[StageScore, ...]


@dataclass(frozen=True)
class StagesSection:
    """The section of the stages.

    Attributes:
        protocol: description of the protocol of the scores.
        cards: one card per stage.
        compared: number of scores that are compared with the previous stage.
        of_variety: titles of the numbers that measure variety, joined by "and".
        judged: whether any comparison has a verdict.
        untested: whether any comparison has no test.
        alpha: family-wise significance level of the tests.
    """

    protocol: str
    cards: tuple[StageCard, ...]
    compared: int
    of_variety: str
    judged: bool
    untested: bool
    alpha: float = ALPHA


def stages_section(growth: Growth, images: Images) -> StagesSection:
    """Prepare a card for each stage, about its last checkpoint."""
    protocol = growth.protocols[0]
    curves = list(whole(growth.curves(protocol)))[:_IN_CARDS]
    changes = stage_changes(growth, curves, ALPHA)
    samples = {panel.snapshot: panel.samples for panel in images.panels}
    befores = [None, *growth.stages]
    cards = [
        _card(stage, before, curves, changes, samples.get(stage.last))
        for before, stage in zip(befores, growth.stages, strict=False)
    ]
    return StagesSection(
        in_words(protocol),
        tuple(cards),
        compared=len(changes),
        of_variety=" and ".join(one.title for one in registry.outputs() if one.better.aim is Aim.REALS),
        judged=any(change.verdict for change in changes.values()),
        untested=any(change.difference.p_value is None for change in changes.values()),
    )


def _card(
    stage: ScoredStage,
    before: ScoredStage | None,
    curves: Sequence[Curve],
    changes: Mapping[tuple[str, int], Change],
    samples: gallery.Pixels | None,
) -> StageCard:
    side = _square(stage.resolution)
    picture = None
    if samples is not None:
        picture = _picture(samples[:8], 4, f"{min(8, len(samples))} samples of the {side} stage")
    scores = [
        _stage_score(curve, stage, before, changes.get((curve.metric, stage.resolution))) for curve in curves
    ]
    return StageCard(side, stage.start, stage.stop, picture, tuple(scores))


def _stage_score(
    curve: Curve, stage: ScoredStage, before: ScoredStage | None, change: Change | None
) -> StageScore:
    point = curve.at(stage.last)
    title = output(curve.metric).heading
    if point is None:
        return StageScore(title)
    score = StageScore(
        title, output(curve.metric).number(point.value), _reach(point), _beside_reals(curve, point)
    )
    if change is None or before is None:
        return score
    return replace(score, change=_moved(change, before.resolution), verdict=change.verdict)


def _moved(change: Change, before: int) -> str:
    found = change.difference
    text = f"{_signed(found.metric, found.difference)} since {_square(before)}"
    if found.low is not None and found.high is not None:
        text += f" ({_signed(found.metric, found.low)} to {_signed(found.metric, found.high)})"
    return text


def _signed(metric: str, value: float) -> str:
    sign = "−" if value < 0 else "+"
    return sign + output(metric).number(abs(value))


# Plots.


@dataclass(frozen=True)
class Figure:
    """A plot: its title, which way is better, its SVG for wide and for narrow screens, and its key."""

    title: str
    direction: str
    wide: str
    narrow: str
    key: str


@dataclass(frozen=True)
class FigureGroup:
    """The plots of one protocol family, with its name and its description."""

    protocol: str
    meaning: str
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class PlotsSection:
    """The section of the plots: the key shared by all plots, and the plots by protocol family."""

    key: str
    groups: tuple[FigureGroup, ...]


def plots_section(growth: Growth, progress: Progress | None) -> PlotsSection:
    """Draw every metric against the images shown."""
    drawn = plots(growth)
    figures: dict[str, list[Figure]] = {}
    for number, plot in enumerate(drawn):
        if progress is not None:
            progress("drawing", number, len(drawn))
        figures.setdefault(plot.protocol, []).append(_figure(plot, number))
    groups = [FigureGroup(name, in_words(name), tuple(group)) for name, group in figures.items()]
    return PlotsSection(shared_key(growth), tuple(groups))


def _figure(plot: Plot, number: int) -> Figure:
    return Figure(
        plot.title,
        output(plot.metric).better.in_words,
        wide=svg.inline(plot, f"p{number}w", *_WIDE, kind="wide"),
        narrow=svg.inline(plot, f"p{number}n", *_NARROW, kind="narrow"),
        key=plot.key,
    )


# Images.


@dataclass(frozen=True)
class Grid:
    """A grid of images with a title."""

    title: str
    picture: Picture


@dataclass(frozen=True)
class SamplePanel:
    """Grids of a stage's samples and of reals at its resolution, with the resolution and the images shown."""

    side: str
    images_shown: int
    grids: tuple[Grid, ...]


@dataclass(frozen=True)
class SamplesSection:
    """The section of the samples.

    Attributes:
        count: number of latents.
        seed: seed of the latents.
        with_reals: whether real images are shown next to the samples.
        panels: one panel per stage.
        notes: sentences that explain what is missing, and why.
    """

    count: int
    seed: int
    with_reals: bool
    panels: tuple[SamplePanel, ...]
    notes: tuple[str, ...]


def samples_section(images: Images) -> SamplesSection | None:
    """Prepare the samples of every stage and the notes on missing ones; None if there are neither."""
    if not images.panels and not images.notes:
        return None
    first = images.panels[0] if images.panels else None
    return SamplesSection(
        count=0 if first is None else len(first.samples),
        seed=images.seed,
        with_reals=first is not None and first.reals is not None,
        panels=tuple(_panel(panel) for panel in images.panels),
        notes=tuple(images.notes),
    )


def _panel(panel: gallery.Panel) -> SamplePanel:
    side = _square(panel.samples.shape[-1])
    grids = [_grid("Samples", panel.samples, f"samples at {side} pixels")]
    if panel.reals is not None:
        title = f"Real images, averaged down to {side}" if panel.coarse else "Real images"
        if panel.snapshot.alpha < 1:
            title += f" and faded as in training, α = {panel.snapshot.alpha:.2f}"
        grids.append(_grid(title, panel.reals, f"real images at {side} pixels"))
    return SamplePanel(side, panel.snapshot.images_shown, tuple(grids))


def _grid(title: str, pixels: gallery.Pixels, alt: str) -> Grid:
    return Grid(title, _picture(pixels, 8, f"{len(pixels)} {alt}"))


@dataclass(frozen=True)
class NeighborsSection:
    """The section of the real images that are nearest to samples.

    Attributes:
        searched: number of real images that were searched.
        closest: the smallest distance of a sample to a real image.
        usual: the median distance of a real image to its nearest other real image.
        rows: for each sample, a grid with the sample and grids with its nearest reals, titled with their
            distances.
    """

    searched: int
    closest: str
    usual: str
    rows: tuple[tuple[Grid, ...], ...]


def neighbors_section(images: Images) -> NeighborsSection | None:
    """Prepare the nearest real images; None if they were not searched for."""
    near = images.near
    if near is None:
        return None
    rows = []
    for i, sample in enumerate(near.samples):
        row = [Grid(f"sample {i}", _picture(sample[None], 1, f"sample {i}"))]
        for rank, (pixels, distance) in enumerate(zip(near.nearest[i], near.distances[i], strict=True)):
            alt = f"real image, neighbor {rank + 1} of sample {i}"
            row.append(Grid(f"{distance:.1f}", _picture(pixels[None], 1, alt)))
        rows.append(tuple(row))
    closest = float(near.distances[:, 0].min())
    return NeighborsSection(near.searched, f"{closest:.1f}", f"{near.usual:.1f}", tuple(rows))


# Numbers.

_DISPLAYED = (
    "run", "images_shown", "subject", "metric", "level", "value", "stderr", "stderr_kind", "n_real", "n_fake",
    "seed", "protocol",
)  # fmt: skip
_TEXT_COLUMNS = ("run", "subject", "metric", "stderr_kind", "protocol")


@dataclass(frozen=True)
class TableColumn:
    """A column of the table of all rows: its title, and whether it holds text."""

    title: str
    is_text: bool


@dataclass(frozen=True)
class TableCell:
    """A cell: its text, whether its column holds text, and the sort key if it differs from the text."""

    text: str
    is_text: bool
    sorted_by: str | None = None


@dataclass(frozen=True)
class TableRow:
    """A row of the results, beginning with the run's label; `reals` says whether it scores real images."""

    cells: tuple[TableCell, ...]
    reals: bool


@dataclass(frozen=True)
class PaperTable:
    """Scores of one protocol family in the layout of the paper.

    Attributes:
        protocol, meaning: name and description of the protocol family.
        titles: titles of the metrics, each with the number of columns that it spans.
        levels: the level of each column.
        lines: each line's label and cells.
        captions: the captions of the table in one line.
    """

    protocol: str
    meaning: str
    titles: tuple[tuple[str, int], ...]
    levels: tuple[str, ...]
    lines: tuple[tuple[str, tuple[str, ...]], ...]
    captions: str


@dataclass(frozen=True)
class NumbersSection:
    """The section of the numbers.

    Attributes:
        tables: one table per protocol family.
        file_name: name of the CSV file to download.
        csv: content of that file in base64.
        metrics: names of the metrics that have rows.
        scaled: headings, with the factors, of the numbers that tables for people scale.
        columns, lines: columns and lines of the table of all rows.
    """

    tables: tuple[PaperTable, ...]
    file_name: str
    csv: str
    metrics: tuple[str, ...]
    scaled: str
    columns: tuple[TableColumn, ...]
    lines: tuple[TableRow, ...]


def numbers_section(growth: Growth) -> NumbersSection:
    """Prepare the table of all rows and the tables in the layout of the paper."""
    rows = growth.results.rows
    name = "".join(c if c.isalnum() or c in "-_." else "-" for c in growth.name).strip("-") or "run"
    shown = {snapshot.label: snapshot.images_shown for snapshot in _all_snapshots(growth)}
    return NumbersSection(
        tables=tuple(_paper_table(growth, protocol) for protocol in growth.protocols),
        file_name=f"{name}-scores.csv",
        csv=base64.b64encode(growth.results.to_csv().encode()).decode(),
        metrics=tuple(in_order([row["metric"] for row in rows])),
        scaled=" and ".join(one.heading for one in registry.outputs() if one.unit),
        columns=tuple(TableColumn(name.replace("_", " "), name in _TEXT_COLUMNS) for name in _DISPLAYED),
        lines=tuple(_line(row, shown.get(row["run"])) for row in rows),
    )


def _all_snapshots(growth: Growth) -> list[ScoredCheckpoint]:
    """List the untrained network, if it was scored, and the trained ones."""
    return [*([growth.untrained] if growth.untrained else []), *growth.snapshots]


def _line(row: Mapping[str, Any], images_shown: int | None) -> TableRow:
    content = {**row, "images_shown": images_shown}
    return TableRow(tuple(_cell(name, content[name]) for name in _DISPLAYED), row["subject"] == "real")


def _cell(column: str, value: str | int | float | None) -> TableCell:
    is_text = column in _TEXT_COLUMNS
    if isinstance(value, str):
        return TableCell(value, is_text)
    if value is None:
        return TableCell("", is_text, "")
    if isinstance(value, float):
        return TableCell(f"{value:.6g}", is_text, repr(value))
    return TableCell(str(value) if column == "seed" else f"{value:,}", is_text, str(value))


def _paper_table(growth: Growth, protocol: str) -> PaperTable:
    """Arrange the scores of one protocol family in the layout of the paper."""
    rows = [row for row in growth.results.rows if protocol_family(row["protocol"]) == protocol]
    known = {snapshot.label: snapshot for snapshot in growth.snapshots}
    columns, lines = tables.layout(rows)
    return PaperTable(
        protocol,
        in_words(protocol),
        titles=tuple(
            (title, len(list(spanned)))
            for title, spanned in groupby(columns, key=lambda column: column.title)
        ),
        levels=tuple(column.level for column in columns),
        lines=tuple((_readable(line.label, known), tuple(line.cells)) for line in lines),
        captions="; ".join(tables.captions(rows, growth.results.item)),
    )


def _readable(label: str, known: Mapping[str, ScoredCheckpoint]) -> str:
    """Format the label of a checkpoint, such as `0000022016-8x8`, for people; return others unchanged."""
    if label not in known:
        return label
    snapshot = known[label]
    fade = f", α = {snapshot.alpha:.2f}" if snapshot.alpha < 1 else ""
    return f"{_square(snapshot.resolution)}, {snapshot.images_shown:,}{fade}"


# Protocol.


@dataclass(frozen=True)
class ScoredFile:
    """A checkpoint's file: the label of its rows, its position in training and the start of its digest."""

    label: str
    images_shown: int
    resolution: int
    alpha: str
    digest: str


@dataclass(frozen=True)
class ProtocolSection:
    """The section about how the numbers were computed.

    Attributes:
        meanings: titles of the numbers, each with what it measures and what it misses.
        facts: settings, device and versions by name.
        notes: notes of the evaluations.
        files: the files that were scored.
    """

    meanings: tuple[tuple[str, str], ...]
    facts: Mapping[str, str]
    notes: tuple[str, ...]
    files: tuple[ScoredFile, ...]


def protocol_section(growth: Growth) -> ProtocolSection:
    """Prepare the settings, versions and notes that document how the numbers were computed."""
    runs = growth.results.provenance.get("runs", {})
    latest = runs.get(growth.snapshots[-1].label, {})
    # "asked" holds the options as the user gave them; the resolved settings repeat them in full.
    settings = {name: value for name, value in growth.settings.items() if name != "asked"}
    if "real_spec" in settings:
        settings["real_spec"] = growth.real_name
    facts = dict(_flat(settings))
    for name in ("device", "versions"):
        facts |= dict(_flat({name: latest[name]})) if name in latest else {}
    known = {snapshot.label: snapshot for snapshot in growth.snapshots}
    notes = [
        f"{_readable(run, known)}: {note}" for run, about in runs.items() for note in about.get("notes", ())
    ]
    declared = map(output, in_order([row["metric"] for row in growth.results.rows]))
    return ProtocolSection(
        meanings=tuple((one.title, one.description) for one in declared if one.meaning),
        facts=facts,
        notes=tuple(notes),
        files=tuple(
            ScoredFile(one.label, one.images_shown, one.resolution, f"{one.alpha:g}", one.digest[:16])
            for one in _all_snapshots(growth)
        ),
    )


def _flat(content: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Flatten nested settings into dotted names and their values as text."""
    for name, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{name}.")
        elif value is not None and value != {}:
            yield f"{before}{name}", ", ".join(map(str, value)) if isinstance(value, list) else str(value)
