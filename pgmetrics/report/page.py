"""The page about a scored run: one HTML file that needs nothing else, not even the network.

Its style and script are inside, named by their digests in a content security policy that allows
nothing else. Equal scores and checkpoints give equal bytes: the page holds no dates.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from html import escape as escape_html
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any

from pgmetrics import __version__
from pgmetrics.errors import OptionError, printable
from pgmetrics.metrics import registry
from pgmetrics.metrics.outputs import Aim, Output
from pgmetrics.metrics.registry import in_order, output
from pgmetrics.report import gallery, svg
from pgmetrics.report.gallery import Images, Progress
from pgmetrics.report.plots import Plot, in_words, need_matplotlib, plots, shared_key
from pgmetrics.report.run_curves import (
    CONFIDENCE,
    Change,
    Curve,
    Growth,
    Point,
    Snapshot,
    Stage,
    is_deviation,
    is_floor,
    protocol_family,
    read_growth,
    stage_changes,
    variety_beside_reals,
    whole,
)
from pgmetrics.results import tables
from pgmetrics.results.files import write_whole
from pgmetrics.runtime.files import check_writable
from pgmetrics.uncertainty import verdicts

ALPHA = 0.01
"""Level of the tests between stages."""

_WIDE, _NARROW = (500.0, 300.0), (340.0, 270.0)
_IN_CARDS = 4
_TEXT_COLUMNS = ("run", "subject", "metric", "stderr_kind", "protocol")


def write_report(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    real: object | None = None,
    loader: str | None = None,
    show_reals: bool = True,
    samples: int = 32,
    seed: int | None = None,
    series: str | None = None,
    progress: Progress | None = None,
) -> list[str]:
    """Write the page about a run that `pgmetrics growth` has scored.

    Args:
        run: its directory, or the store in it.
        out: the file to write.
        real: where the real images are; without it the page shows none. The store is not asked.
        loader: of checkpoints that were scored with one, see `gallery.gather`. The store is not asked.
        show_reals: whether real images may be on the page.
        samples: images in a grid.
        seed: of the samples' latents and of the choice of reals; that of the scores if left out.
        series: which one of the store; the one that was written to last if left out.
        progress: called with (what, done, total).

    Returns:
        What is missing on the page, and why.

    Raises:
        StateError: the store is damaged, or holds no checkpoint.
        SourceError: `real` is given and cannot be opened.
        PgmetricsError: there is no store, the file cannot be written, or matplotlib is missing.
    """
    content, notes = make_report(
        run,
        out,
        real=real,
        loader=loader,
        show_reals=show_reals,
        samples=samples,
        seed=seed,
        series=series,
        progress=progress,
    )
    write_whole(out, content)
    return notes


def make_report(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    real: object | None = None,
    loader: str | None = None,
    show_reals: bool = True,
    samples: int = 32,
    seed: int | None = None,
    series: str | None = None,
    progress: Progress | None = None,
) -> tuple[bytes, list[str]]:
    """The page that `write_report` writes, and what is missing on it; `out` is checked before the work."""
    need_matplotlib()
    if Path(os.path.realpath(out)).suffix.lower() not in (".html", ".htm"):
        raise OptionError(f"{os.fspath(out)}: the page is written to a file.html")
    check_writable(out)
    growth = read_growth(run, series)
    images = gallery.gather(
        growth,
        real=real,
        loader=loader,
        show_reals=show_reals,
        count=samples,
        seed=seed,
        progress=progress,
    )
    return to_html(growth, images, progress).encode("utf-8", "backslashreplace"), images.notes


def to_html(growth: Growth, images: Images, progress: Progress | None = None) -> str:
    """The page as text."""
    style, script = (_resource(name) for name in ("page.css", "page.js"))
    sections = {
        "Growth": _plots(growth, progress),
        "Samples": _samples(images),
        "Neighbors": _neighbors(images),
        "Numbers": _numbers(growth),
        "Protocol": _protocol(growth, images),
    }
    shown = {name: body for name, body in sections.items() if body}
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    body = "\n".join(f'<section id="{name.lower()}">{content}</section>' for name, content in shown.items())
    links = "".join(f'<li><a href="#{name.lower()}">{name}</a></li>' for name in ("Stages", *shown))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">
<meta name="generator" content="pgmetrics {__version__}">
<title>{escape(growth.name)} · scores across growth</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<a class="skip" href="#stages">To the scores</a>
<div class="wrap">
{_header(growth)}
<nav aria-label="Sections"><ul>{links}</ul></nav>
<main>
<section id="stages">{_stages(growth, images)}</section>
{body}
</main>
<footer>Made by pgmetrics {__version__} from series <code>{escape(growth.series)}</code>.</footer>
</div>
<script>{script}</script>
</body>
</html>
"""


# The headline.


def _header(growth: Growth) -> str:
    curves = growth.curves(growth.protocols[0])
    by_level = {curve.metric for curve in curves if curve.level is not None}
    tiles = "".join(_tile(curve, curve.metric in by_level) for curve in list(whole(curves))[:8])
    counts = sorted({row["n_fake"] for row in growth.results.rows if row["n_fake"]})
    count = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    stages = growth.stages
    facts = [
        f"{len(growth.snapshots)} checkpoints",
        f"{stages[0].resolution}×{stages[0].resolution} to {stages[-1].resolution}×{stages[-1].resolution}"
        if len(stages) > 1
        else f"{stages[0].resolution}×{stages[0].resolution}",
        f"scored with {count} images each, {in_words(growth.protocols[0])}",
    ]
    return f"""<header>
<p class="eyebrow">Scores across growth</p>
<h1>{escape(growth.name)}</h1>
<p class="lede">{escape(headline(growth))}</p>
<p class="muted">{escape(" · ".join(facts))}</p>
<dl class="tiles">{tiles}</dl>
</header>"""


def headline(growth: Growth) -> str:
    """How good the last checkpoint is, in a sentence or two."""
    curves = {curve.metric: curve for curve in whole(growth.curves(growth.protocols[0]))}
    # A distance to the reals if there is one, else the first that says how good a set is.
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


def _tile(curve: Curve, is_mean: bool) -> str:
    last, real, metric = curve.last, curve.last_real, curve.metric
    number = output(metric).number
    title = output(metric).heading + (", mean" if is_mean else "")
    against = []
    if real is not None:
        name = "floor" if is_floor(metric) else "real images"
        against.append(f"{name} <b>{number(real.value)}</b>")
    if word := _beside_reals(curve, last):
        against.append(word)
    if curve.untrained is not None:
        against.append(f"untrained {number(curve.untrained.value)}")
    return (
        f'<div class="tile"><dt>{escape(title)}</dt><dd><span class="big">'
        f'{number(last.value)}</span> <span class="err">{_reach(last)}</span></dd>'
        f'<dd class="against">{"<br>".join(against)}</dd></div>'
    )


def _reach(point: Point) -> str:
    """Half of the interval, as ±."""
    if point.high is None:
        return ""
    kind = " (sd)" if is_deviation(point.row) else ""
    return f"± {output(point.row['metric']).number(point.high - point.value)}{kind}"


# Stages.


def _stages(growth: Growth, images: Images) -> str:
    protocol = growth.protocols[0]
    curves = list(whole(growth.curves(protocol)))[:_IN_CARDS]
    changes = stage_changes(growth, curves, ALPHA)
    samples = {panel.snapshot: panel.samples for panel in images.panels}
    befores = [None, *growth.stages]
    cards = [
        _card(stage, before, curves, changes, samples.get(stage.last))
        for before, stage in zip(befores, growth.stages, strict=False)
    ]
    return f"""<h2>Stage by stage</h2>
<p class="muted">The last checkpoint of each resolution, {escape(in_words(protocol))}; ± is the \
{CONFIDENCE:.0%} interval.</p>
<ul class="stages">{"".join(cards)}</ul>
{_about_tests(changes)}"""


def _about_tests(changes: Mapping[tuple[str, int], Change]) -> str:
    if not changes:
        return ""
    of_variety = " and ".join(one.title for one in registry.outputs() if one.better.aim is Aim.REALS)
    text = "Changes are from the end of the stage before, with their 95% interval. "
    if any(change.verdict for change in changes.values()):
        text += (
            '<b class="better">Better</b> and <b class="worse">worse</b> are said where a normal test finds '
            f"a difference at α = {ALPHA} over all {len(changes)} of these comparisons (Holm); of "
            f"{of_variety}, less and more varied. "
        )
    if any(change.difference.p_value is None for change in changes.values()):
        text += "Nothing is tested where no error over images is known, as with one over directions. "
    return (
        f'<p class="note">{text}All checkpoints share latents and real images; '
        "<code>pgmetrics compare</code> makes the paired test, which sees more.</p>"
    )


def _card(
    stage: Stage,
    before: Stage | None,
    curves: Sequence[Curve],
    changes: Mapping[tuple[str, int], Change],
    samples: gallery.Pixels | None,
) -> str:
    side = f"{stage.resolution}×{stage.resolution}"
    picture = ""
    if samples is not None:
        alt = f"{min(8, len(samples))} samples of the {side} stage"
        picture = _picture(samples[:8], 4, alt)
    rows = []
    for curve in curves:
        point = curve.at(stage.last)
        title = escape(output(curve.metric).heading)
        if point is None:
            rows.append(f'<dt>{title}</dt><dd class="muted">undefined here</dd>')
            continue
        value = output(curve.metric).number(point.value)
        beside = f" {word}" if (word := _beside_reals(curve, point)) else ""
        rows.append(
            f'<dt>{title}</dt><dd><b>{value}</b> <span class="muted">{_reach(point)}{beside}</span></dd>'
        )
        change = changes.get((curve.metric, stage.resolution))
        if change is not None and before is not None:
            rows.append(f'<dd class="change">{_change(change, before.resolution)}</dd>')
    return (
        f'<li class="stage"><header><h3>{side}</h3><span>{stage.start:,} – {stage.stop:,} images</span>'
        f"</header>{picture}<dl>{''.join(rows)}</dl></li>"
    )


def _beside_reals(curve: Curve, point: Point) -> str:
    """How varied the images are beside the reals, where the metric says so."""
    found = variety_beside_reals(curve, point, ALPHA)
    return "" if found is None else verdicts.beside_reals(found)


def _change(change: Change, before: int) -> str:
    found = change.difference
    text = f"{_signed(found.metric, found.difference)} since {before}×{before}"
    if found.low is not None and found.high is not None:
        text += f" ({_signed(found.metric, found.low)} to {_signed(found.metric, found.high)})"
    if change.verdict in ("better", "worse"):
        return f'{text}: <span class="{change.verdict}">{change.verdict}</span>'
    return f"{text}: {change.verdict}" if change.verdict else text


def _signed(metric: str, value: float) -> str:
    sign = "−" if value < 0 else "+"
    return sign + output(metric).number(abs(value))


# Plots.


def _plots(growth: Growth, progress: Progress | None) -> str:
    drawn = plots(growth)
    text = f'<h2>Over the images shown</h2><p class="note">{escape(shared_key(growth))}</p>'
    number = 0
    for protocol, mine in groupby(drawn, key=lambda plot: plot.protocol):
        text += f'<h3 class="protocol">{escape(protocol)} <small>{escape(in_words(protocol))}</small></h3>'
        text += '<div class="figures">'
        for plot in mine:
            if progress is not None:
                progress("drawing", number, len(drawn))
            text += _figure(plot, number)
            number += 1
        text += "</div>"
    return text


def _figure(plot: Plot, number: int) -> str:
    wide = svg.inline(plot, f"p{number}w", *_WIDE).replace('class="plot"', 'class="plot wide"', 1)
    narrow = svg.inline(plot, f"p{number}n", *_NARROW).replace('class="plot"', 'class="plot narrow"', 1)
    return f"""<figure><div class="heading"><h3>{escape(plot.title)}</h3>\
<span>{output(plot.metric).better.in_words}</span></div>
{wide}
{narrow}
<figcaption>{escape(plot.key)}</figcaption></figure>"""


# Images.


def _samples(images: Images) -> str:
    if not images.panels:
        return _remarks("<h2>Samples</h2>", images.notes)
    beside = "" if images.panels[0].reals is None else ", beside real images made as coarse"
    parts = [
        f'<h2>Samples of every stage</h2><p class="muted">The same {len(images.panels[0].samples)} latents '
        f"(seed {images.seed}) at the end of each stage{beside}. Not selected.</p>"
    ]
    for panel in images.panels:
        side = panel.samples.shape[-1]
        size, shown = f"{side}×{side}", panel.snapshot.images_shown
        parts.append(f'<div class="grids"><h3>{size} <small>after {shown:,} images</small></h3>')
        parts.append(_grid("Samples", panel.samples, f"samples at {size} pixels"))
        if panel.reals is not None:
            title = f"Real images, averaged down to {size}" if panel.coarse else "Real images"
            if panel.snapshot.alpha < 1:
                title += f" and faded as in training, α = {panel.snapshot.alpha:.2f}"
            parts.append(_grid(title, panel.reals, f"real images at {size} pixels"))
        parts.append("</div>")
    return _remarks("".join(parts), images.notes)


def _grid(title: str, pixels: gallery.Pixels, alt: str) -> str:
    picture = _picture(pixels, 8, f"{len(pixels)} {alt}")
    return f"<figure><figcaption>{title}</figcaption>{picture}</figure>"


def _remarks(text: str, notes: Sequence[str]) -> str:
    if not notes:
        return "" if text == "<h2>Samples</h2>" else text
    return text + "".join(f'<p class="note">{escape(note)}</p>' for note in notes)


def _neighbors(images: Images) -> str:
    near = images.near
    if near is None:
        return ""
    items = []
    for i, sample in enumerate(near.samples):
        cells = [f'<figure class="sample">{_picture(sample[None], 1, f"sample {i}")}'
                 f"<figcaption>sample {i}</figcaption></figure>"]  # fmt: skip
        for rank, (pixels, distance) in enumerate(zip(near.nearest[i], near.distances[i], strict=True)):
            alt = f"real image, neighbor {rank + 1} of sample {i}"
            cells.append(
                f"<figure>{_picture(pixels[None], 1, alt)}<figcaption>{distance:.1f}</figcaption></figure>"
            )
        items.append(f"<li>{''.join(cells)}</li>")
    closest = float(near.distances[:, 0].min())
    return f"""<h2>Nearest real images</h2>
<p class="muted">For samples of the last checkpoint, the nearest of {near.searched:,} real images in pixel \
space at the final resolution. The numbers are root mean square differences in grey levels. The closest \
pair here is {closest:.1f} apart; real images lie {near.usual:.1f} from their nearest other one (median), a \
copy would lie near 0. Pixels see copies, not likeness.</p>
<ul class="near">{"".join(items)}</ul>"""


def _picture(pixels: gallery.Pixels, columns: int, alt: str) -> str:
    png, width, height = gallery.png_grid(pixels, columns)
    data = base64.b64encode(png).decode()
    return f'<img alt="{escape(alt)}" width="{width}" height="{height}" src="data:image/png;base64,{data}">'


# Numbers.


def _numbers(growth: Growth) -> str:
    rows = growth.results.rows
    csv = base64.b64encode(growth.results.to_csv().encode()).decode()
    name = "".join(c if c.isalnum() or c in "-_." else "-" for c in growth.name).strip("-") or "run"
    metrics = in_order([row["metric"] for row in rows])
    options = "".join(f'<option value="{escape(one)}">{escape(one)}</option>' for one in metrics)
    scaled = " and ".join(one.heading for one in registry.outputs() if one.unit)
    shown = {one.label: one.images_shown for one in growth.snapshots}
    if growth.untrained is not None:
        shown[growth.untrained.label] = growth.untrained.images_shown
    head = "".join(
        f'<th scope="col"{_class(column)}>{escape(column.replace("_", " "))}</th>' for column in _DISPLAYED
    )
    body = "".join(_row(row, shown.get(row["run"])) for row in rows)
    return f"""<h2>Numbers</h2>
{"".join(_paper_table(growth, protocol) for protocol in growth.protocols)}
<h3 class="protocol">Every row <small>as stored: raw, without the factors of {scaled}</small></h3>
<div class="tools"><a class="button" download="{name}-scores.csv" \
href="data:text/csv;charset=utf-8;base64,{csv}">Download CSV</a>
<label hidden>Metric <select id="rows-filter"><option value="">all</option>{options}</select></label>
<span class="status" id="rows" role="status"></span></div>
<div class="scroll tall" role="region" aria-label="Table of all rows" tabindex="0">
<table id="scores" data-status="rows" data-filter="metric"><thead><tr>{head}</tr></thead>
<tbody>{body}</tbody></table></div>"""


_DISPLAYED = (
    "run", "images_shown", "subject", "metric", "level", "value", "stderr", "stderr_kind", "n_real", "n_fake",
    "seed", "protocol",
)  # fmt: skip


def _row(row: Mapping[str, Any], images_shown: int | None) -> str:
    cells = []
    for name in _DISPLAYED:
        value = images_shown if name == "images_shown" else row[name]
        if name == "run":
            cells.append(f'<th scope="row" class="text">{escape(str(value))}</th>')
        elif isinstance(value, str):
            cells.append(f'<td class="text">{escape(value)}</td>')
        elif value is None:
            cells.append(f'<td data-v=""{_class(name)}></td>')
        elif isinstance(value, float):
            cells.append(f'<td data-v="{value!r}">{value:.6g}</td>')
        else:
            cells.append(f'<td data-v="{value}">{value if name == "seed" else format(value, ",")}</td>')
    reals = ' class="reals"' if row["subject"] == "real" else ""
    return f"<tr{reals}>{''.join(cells)}</tr>"


def _class(column: str) -> str:
    return ' class="text"' if column in _TEXT_COLUMNS else ""


def _paper_table(growth: Growth, protocol: str) -> str:
    """Numbers as the paper prints them; those of unlike protocols are never in one table."""
    rows = [row for row in growth.results.rows if protocol_family(row["protocol"]) == protocol]
    known = {one.label: one for one in growth.snapshots}
    header, lines = tables.layout(rows)
    titles = "".join(
        f'<th scope="colgroup" colspan="{len(list(columns))}">{escape(title)}</th>'
        for title, columns in groupby(header, key=lambda column: column.title)
    )
    levels = "".join(f'<th scope="col">{escape(column.level)}</th>' for column in header)
    body = "".join(
        f'<tr><th scope="row" class="text">{escape(_readable(line.label, known))}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in line.cells)
        + "</tr>"
        for line in lines
    )
    return f"""<h3 class="protocol">{escape(protocol)} <small>{escape(in_words(protocol))}, in the layout of \
the paper</small></h3>
<div class="scroll" role="region" aria-label="Scores {escape(protocol)}" tabindex="0">
<table class="paper"><thead><tr><td></td>{titles}</tr><tr><td></td>{levels}</tr></thead>
<tbody>{body}</tbody></table></div>
<p class="note">{escape("; ".join(tables.captions(rows, growth.results.item)))}.</p>"""


def _readable(label: str, known: Mapping[str, Snapshot]) -> str:
    """`0000022016-8x8` as people say it; other labels as they are."""
    if label not in known:
        return label
    one = known[label]
    fade = f", α = {one.alpha:.2f}" if one.alpha < 1 else ""
    return f"{one.resolution}×{one.resolution}, {one.images_shown:,}{fade}"


# Protocol.


def _protocol(growth: Growth, images: Images) -> str:
    runs = growth.results.provenance.get("runs", {})
    latest = runs.get(growth.snapshots[-1].label, {})
    # What was asked for is said again, in full, by the settings that came of it.
    settings = {name: value for name, value in growth.settings.items() if name != "asked"}
    if "real_spec" in settings:
        settings["real_spec"] = growth.real_name
    facts = dict(_flat(settings))
    for name in ("device", "versions"):
        facts |= dict(_flat({name: latest[name]})) if name in latest else {}
    notes = [
        f"<li>{escape(_readable(run, {one.label: one for one in growth.snapshots}))}: {escape(note)}</li>"
        for run, about in runs.items()
        for note in about.get("notes", ())
    ]
    remarks = (
        f"<details><summary>Notes of the evaluations ({len(notes)})</summary>"
        f'<ul class="plain">{"".join(notes)}</ul></details>'
        if notes
        else ""
    )
    rows = "".join(
        f"<dt>{escape(name)}</dt><dd><code>{escape(value)}</code></dd>" for name, value in facts.items()
    )
    files = "".join(
        f'<tr><th scope="row" class="text">{escape(one.label)}</th><td>{one.images_shown:,}</td>'
        f"<td>{one.resolution}</td><td>{one.alpha:g}</td>"
        f'<td class="text"><code>{escape(one.digest[:16])}</code></td></tr>'
        for one in (*([growth.untrained] if growth.untrained else []), *growth.snapshots)
    )
    numbers = map(output, in_order([row["metric"] for row in growth.results.rows]))
    meanings = "".join(f"<li>{_meaning(one)}</li>" for one in numbers if one.meaning)
    return f"""<h2>Protocol and provenance</h2>
<ul class="plain">{meanings}<li>The <b>{CONFIDENCE:.0%} intervals</b> are of the expectation at the very \
number of images used, not of the value at infinitely many.</li></ul>
<dl class="facts">{rows}</dl>
{remarks}
<details><summary>Checkpoints</summary>
<div class="scroll" role="region" aria-label="Table of checkpoints" tabindex="0"><table>
<thead><tr><th scope="col" class="text">run</th><th scope="col">images shown</th>\
<th scope="col">resolution</th><th scope="col">alpha</th><th scope="col" class="text">digest</th></tr></thead>
<tbody>{files}</tbody></table></div>
</details>"""


def _meaning(number: Output) -> str:
    """What a number says and what it does not, as HTML."""
    return f"<b>{escape(number.title)}</b> {escape(number.description)}"


def _flat(content: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as dotted names and text."""
    for name, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{name}.")
        elif value is not None and value != {}:
            yield f"{before}{name}", ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def escape(text: str) -> str:
    """Text for the page, safe for HTML and without what would turn the direction of writing."""
    return escape_html(printable(text))


def _resource(name: str) -> str:
    return resources.files("pgmetrics.report").joinpath(name).read_text("utf-8")


def _digest(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
