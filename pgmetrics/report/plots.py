"""Plots of a scored run with Matplotlib: each metric against the images shown.

A plot is drawn with a `Look`, which sets colors and sizes. The page uses the same plots as inline SVG
with the colors of its style sheet (`svg.py`); papers use PNG, SVG or PDF.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pgmetrics.errors import OptionError, PgmetricsError, printable
from pgmetrics.metrics.registry import output
from pgmetrics.report.run_curves import Curve, Growth, Point, is_deviation, is_floor, whole
from pgmetrics.results import tables
from pgmetrics.runtime.files import safe_name, write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# Above this ratio of the largest to the smallest value, a linear axis flattens the curve near the floor.
_LOGARITHMIC_FROM = 6.0
_DOTS_PER_INCH = 220
_POINTS_PER_INCH = 72
_LINE_HEIGHT = 14.0
_LEFT, _RIGHT = 44, 82
_CHARACTER = 6.5
_CROWDED = 14
# Text from a scores file is drawn literally: a dollar sign starts no formula, and LaTeX is not used.
_PLAIN_TEXT: Any = {"text.parse_math": False, "text.usetex": False}


@dataclass(frozen=True)
class Look:
    """The colors of a plot by role, and its size.

    Attributes:
        width, height: size of the figure in points of 1/72 inch; text is 11 to 12 points high.
        titled: whether the title is drawn; the page has titles of its own.
        ink, muted, rule, fade, real, curve: colors of text, secondary text, thin lines, fade regions,
            the score of the reals, and the curve of a whole metric.
        levels: colors of the levels, from the finest to the coarsest.
    """

    width: float = 460
    height: float = 300
    titled: bool = True
    ink: str = "#1b1f24"
    muted: str = "#5a6672"
    rule: str = "#d5dae0"
    fade: str = "#eceff3"
    real: str = "#2f7d4f"
    curve: str = "#1b4f91"
    levels: tuple[str, ...] = (
        "#1b4f91", "#0f7c8a", "#3c7d3a", "#8a7200", "#b4540a", "#b0304f", "#7b3fa0",
    )  # fmt: skip


@dataclass(frozen=True)
class Plot:
    """One plot of a run.

    Attributes:
        name: stem of file names, such as `swd-at-final`; a safe file name whatever a metric's name is.
        title: the plotted number, with its unit.
        protocol: the protocol family of its numbers.
        curves: the curves to draw; several curves are the levels of one metric.
        growth: the run.
    """

    name: str
    title: str
    protocol: str
    curves: tuple[Curve, ...]
    growth: Growth

    @property
    def metric(self) -> str:
        """The name of the metric in rows of results."""
        return self.curves[0].metric

    @property
    def by_level(self) -> bool:
        """Whether there is a curve for each level, rather than one curve for the whole metric."""
        return self.curves[0].level is not None

    @property
    def logarithmic(self) -> bool:
        """Whether the value axis is logarithmic: the metric permits it, and its values span a large ratio."""
        if not output(self.metric).logarithmic:
            return False
        points = [p for curve in self.curves for p in (*_all_points(curve), *curve.reals.values())]
        values = [point.value for point in points]
        lows = [point.low for point in points if point.low is not None]
        return min([*values, *lows]) > 0 and max(values) > _LOGARITHMIC_FROM * min(values)

    @property
    def description(self) -> str:
        """Text alternative of the plot, for screen readers."""
        parts = [f"{self.title} against images shown, {in_words(self.protocol)}."]
        for curve in self.curves:
            first, last = curve.points[0], curve.last
            name = "" if curve.level is None else f"Level {curve.level}: "
            text = f"{name}{_said(first)} after {_shown(first):,} images"
            if last is not first:
                text += f", {_said(last)} after {_shown(last):,}"
            real = curve.last_real
            if real is not None:
                text += f"; {real_name(curve.metric)} {_said(real)}"
            if curve.untrained is not None:
                text += f"; untrained network {_said(curve.untrained)}"
            parts.append(text + ".")
        return printable(" ".join(parts))

    @property
    def key(self) -> str:
        """Sentences that explain the marks of the plot."""
        kinds = dict.fromkeys(
            (tables.spread(point.row["stderr_kind"]), is_deviation(point.row))
            for curve in self.curves
            for point in curve.points
            if point.low is not None
        )
        marks = [
            f"± one {kind}" if deviation else f"95% intervals, from the {kind}" for kind, deviation in kinds
        ]
        parts = [f"Bars: {' or '.join(marks)}." if marks else ""]
        if any(curve.reals for curve in self.curves):
            parts.append(f"{'Dashed' if self.by_level else 'Green'}: {real_name(self.metric)}.")
        parts.append("Logarithmic axis." if self.logarithmic else "")
        return " ".join(filter(None, parts))

    def draw(self, look: Look) -> Figure:
        """Draw the figure without pyplot, so that no window opens and pyplot does not keep the figure."""
        from matplotlib import rc_context

        with rc_context(_PLAIN_TEXT):
            return self._drawn(look)

    def _drawn(self, look: Look) -> Figure:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(look.width / _POINTS_PER_INCH, look.height / _POINTS_PER_INCH))
        figure.patch.set_facecolor("none")
        top = 34 + (22 if look.titled else 0)
        left, right, bottom = _LEFT, _RIGHT, 40
        axes = figure.add_axes(
            (
                left / look.width,
                bottom / look.height,
                (look.width - left - right) / look.width,
                (look.height - top - bottom) / look.height,
            )
        )
        axes.patch.set_facecolor("none")
        _draw_stages(axes, self.growth, look)
        labels: list[_Label] = []
        colors = _spaced(look.levels, len(self.curves)) if self.by_level else [look.curve]
        for i, (curve, color) in enumerate(zip(self.curves, colors, strict=True)):
            _draw_reals(axes, self, curve, color if self.by_level else look.real, banded=not self.by_level)
            _draw_curve(axes, curve, color, _MARKERS[i % len(_MARKERS)])
            labels += _labels(self, curve, look, color)
        _scale_axes(axes, self)
        _dress(axes, self, look)
        _write_labels(axes, labels)
        return figure


def plots(growth: Growth) -> list[Plot]:
    """Return all plots of a run: for each protocol, each metric, followed by its levels if it has several."""
    found = []
    for protocol in growth.protocols:
        curves = growth.curves(protocol)
        for curve in whole(curves):
            title = printable(output(curve.metric).heading)
            levels = tuple(c for c in curves if c.metric == curve.metric and c.level is not None)
            mean = ", mean over levels" if levels else ""
            name = safe_name(f"{curve.metric}-{protocol}")
            found.append(Plot(name, title + mean, protocol, (curve,), growth))
            if len(levels) > 1:
                name = safe_name(f"{curve.metric}-levels-{protocol}")
                found.append(Plot(name, f"{title} by level", protocol, levels, growth))
    return found


def shared_key(growth: Growth) -> str:
    """Return sentences that explain the marks shared by all plots of a run."""
    text = ""
    if any(stage.faded > stage.start for stage in growth.stages):
        text = "Shaded, and a ramp on the ruler above: a resolution fades in. "
    if any(one.alpha < 1 for one in growth.snapshots):
        text += "Hollow: scored within a fade. "
    if growth.untrained is not None:
        text += "Hollow at 0: the untrained network. "
    return text.strip()


def save_plots(
    growth: Growth, folder: str | os.PathLike[str], format: str = "png", look: Look | None = None
) -> list[Path]:
    """Write all plots of a run into a directory, which is created if necessary.

    Args:
        growth: the run.
        folder: the directory.
        format: "png" (220 dpi), "svg" or "pdf".
        look: colors and size; defaults to a look for papers.

    Returns:
        The files, in the order of `plots`. The same scores give identical bytes.

    Raises:
        OptionError: the format is not one of these.
        PgmetricsError: Matplotlib is not installed, or a file cannot be written.
    """
    if format not in FORMATS:
        raise OptionError(f"plots are written as {', '.join(FORMATS)}, not {format!r}")
    need_matplotlib()
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PgmetricsError(f"{place} cannot be made: {error.strerror or error}") from error
    written = []
    for plot in plots(growth):
        path = place / f"{plot.name}.{format}"
        write_whole(path, render(plot.draw(look or Look()), format, opaque=format == "png"))
        written.append(path)
    return written


def render(figure: Figure, format: str, *, opaque: bool = False, text_as_paths: bool = True) -> bytes:
    """Return a figure as the bytes of a file, reproducibly: without dates and random ids."""
    from matplotlib import rc_context

    undated: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(format, {})
    settings: Any = {
        **_PLAIN_TEXT,
        "svg.hashsalt": "pgmetrics",
        "svg.fonttype": "path" if text_as_paths else "none",
        "pdf.fonttype": 42,
    }
    file = io.BytesIO()
    with rc_context(settings):
        figure.savefig(
            file,
            format=format,
            dpi=_DOTS_PER_INCH if format == "png" else _POINTS_PER_INCH,
            facecolor="white" if opaque else "none",
            metadata=undated,
        )
    return file.getvalue()


def need_matplotlib() -> None:
    """Refuse before any work if Matplotlib is missing.

    Raises:
        PgmetricsError: Matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise PgmetricsError("plots need matplotlib; pip install matplotlib brings it") from error


def real_name(metric: str) -> str:
    """Return the name of the reals' score of a metric."""
    return "floor (real against real)" if is_floor(metric) else "real images"


def in_words(protocol: str) -> str:
    """Describe at which resolution a protocol family scores checkpoints."""
    return {
        "at-final": "every checkpoint enlarged to the final resolution",
        "at-stage": "every checkpoint at its own stage's resolution",
    }.get(protocol, f"protocol {protocol}")


# Drawing.


def _draw_stages(axes: Axes, growth: Growth, look: Look) -> None:
    """Draw stages as a ruler above the axes, with a ramp for each fade, and shade the fades below it."""
    stages = growth.stages
    above = axes.get_xaxis_transform()
    ruler, height = 1.03, 0.045
    scale = (look.width - _LEFT - _RIGHT) / (stages[-1].stop or 1)
    widths = [(stage.stop - stage.start) * scale for stage in stages]
    names = [f"{stage.resolution}×{stage.resolution}" for stage in stages]
    if any(wide < _CHARACTER * (len(name) + 1) for wide, name in zip(widths, names, strict=True)):
        names = [str(stage.resolution) for stage in stages]
    for i, stage in enumerate(stages):
        if stage.faded > stage.start:
            axes.axvspan(stage.start, stage.faded, facecolor=look.fade, linewidth=0, zorder=0)
        if i:
            axes.axvline(stage.start, color=look.rule, linewidth=0.8, zorder=0.5)
        axes.fill(
            [stage.start, stage.faded, stage.stop, stage.stop],
            [ruler, ruler + height, ruler + height, ruler],
            facecolor=look.rule,
            edgecolor="none",
            transform=above,
            clip_on=False,
        )
        if widths[i] >= _CHARACTER * (len(names[i]) + 1):
            axes.text(
                (stage.start + stage.stop) / 2,
                ruler + height + 0.015,
                names[i],
                transform=above,
                ha="center",
                va="bottom",
                fontsize=11,
                color=look.muted,
            )


def _draw_reals(axes: Axes, plot: Plot, curve: Curve, color: str, *, banded: bool) -> None:
    """Draw the score of the reals across the stages that it applies to, with its interval if `banded`."""
    scale = _scale_of(curve)
    for start, stop, real in plot.growth.real_spans(curve):
        if banded and real.low is not None and real.high is not None:
            axes.fill_between(
                [start, stop],
                real.low * scale,
                real.high * scale,
                facecolor=color,
                alpha=0.22,
                linewidth=0,
                zorder=1,
            )
        axes.plot(
            [start, stop],
            [real.value * scale] * 2,
            color=color,
            linewidth=1.1,
            linestyle="-" if banded else (0, (4, 3)),
            zorder=1.5,
        )


def _draw_curve(axes: Axes, curve: Curve, color: str, marker: str) -> None:
    """Connect comparable points; draw a bar and a marker for each point.

    Markers of the untrained network and of checkpoints within a fade are hollow.
    """
    scale = _scale_of(curve)
    for points in _comparable(curve):
        shown = [_shown(point) for point in points]
        axes.plot(shown, [point.value * scale for point in points], color=color, linewidth=1.6, zorder=3)
    for point in _all_points(curve):
        if point.snapshot is None:
            continue
        x = _shown(point)
        if point.low is not None and point.high is not None:
            low, high = point.low * scale, point.high * scale
            axes.plot([x, x], [low, high], color=color, linewidth=1.1, zorder=3.5, solid_capstyle="butt")
        solid = point is not curve.untrained and point.snapshot.alpha >= 1
        axes.plot(
            [x],
            [point.value * scale],
            linestyle="none",
            marker=marker,
            markersize=5.5 if len(curve.points) <= _CROWDED else 3.8,
            markerfacecolor=color if solid else "none",
            markeredgecolor=color,
            markeredgewidth=1.2,
            zorder=4,
            clip_on=False,
            gid=printable(f"point:{point.row['run']}: {_said(point)}"),
        )


def _scale_axes(axes: Axes, plot: Plot) -> None:
    """Set the limits of the axes, with a margin, and ticks at round numbers."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

    stop = plot.growth.stages[-1].stop or 1
    axes.set_xlim(-0.015 * stop, 1.015 * stop)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10], integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _thousands(x)))
    low, high = _range(plot)
    if plot.logarithmic:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.18, high * 1.12)
        axes.yaxis.set_major_locator(FixedLocator(_round_numbers(low / 1.18, high * 1.12)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    else:
        air = 0.07 * (high - low or abs(high) or 1)
        axes.set_ylim(low - air if low < 0 or low > 0.35 * high else min(0.0, low), high + air)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))


def _dress(axes: Axes, plot: Plot, look: Look) -> None:
    """Style the axes: a line below the plot, a faint horizontal grid, no box, and the titles."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(look.muted)
    axes.spines["bottom"].set_linewidth(0.8)
    axes.grid(axis="y", color=look.rule, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", color=look.muted, labelcolor=look.muted, labelsize=11, length=3)
    axes.tick_params(axis="y", length=0, labelcolor=look.muted, labelsize=11)
    axes.set_xlabel("images shown", color=look.muted, fontsize=11, labelpad=4)
    if look.titled:
        axes.set_title(plot.title, loc="left", color=look.ink, fontsize=12, fontweight="bold", pad=38)
        axes.set_title(
            output(plot.metric).better.in_words, loc="right", color=look.muted, fontsize=10, pad=38
        )


class _Label(NamedTuple):
    value: float
    text: str
    color: str
    bold: bool


def _labels(plot: Plot, curve: Curve, look: Look, color: str) -> list[_Label]:
    """Return the labels to the right of the axes: the last number of a curve, and that of the reals."""
    scale = _scale_of(curve)
    name = "" if curve.level is None else f"{curve.level}: "
    last = output(curve.metric).number(curve.last.value)
    labels = [_Label(curve.last.value * scale, name + last, color, True)]
    real = curve.last_real
    if real is not None and not plot.by_level:
        kind = "floor" if is_floor(curve.metric) else "real"
        text = f"{kind} {output(curve.metric).number(real.value)}"
        labels.append(_Label(real.value * scale, text, look.real, False))
    return labels


def _write_labels(axes: Axes, labels: Sequence[_Label]) -> None:
    """Write labels to the right of the axes at the height of their values, spread to avoid overlap."""
    height = axes.get_window_extent().height * _POINTS_PER_INCH / axes.figure.dpi
    at = [axes.transData.transform((0, label.value)) for label in labels]
    places = [float(axes.transAxes.inverted().transform(place)[1]) * height for place in at]
    order = sorted(range(len(labels)), key=places.__getitem__)
    free = 0.0
    for i in order:
        places[i] = free = max(places[i], free)
        free += _LINE_HEIGHT
    over = max(free - _LINE_HEIGHT - height, 0)
    for i, label in enumerate(labels):
        axes.text(
            1.025,
            (places[i] - over) / height,
            label.text,
            transform=axes.transAxes,
            ha="left",
            va="center",
            color=label.color,
            fontsize=11,
            fontweight="bold" if label.bold else "normal",
        )


# Helpers.


def _comparable(curve: Curve) -> list[list[Point]]:
    """Group points by the resolution of their scores; lines must not connect different resolutions."""
    if curve.at_final:
        return [list(curve.points)]
    groups: dict[int, list[Point]] = {}
    for point in curve.points:
        assert point.snapshot is not None
        groups.setdefault(point.snapshot.resolution, []).append(point)
    return list(groups.values())


def _all_points(curve: Curve) -> list[Point]:
    return [*([curve.untrained] if curve.untrained else []), *curve.points]


def _range(plot: Plot) -> tuple[float, float]:
    values = []
    for curve in plot.curves:
        for point in [*_all_points(curve), *curve.reals.values()]:
            ends = (point.value, point.low, point.high)
            values += [end * _scale_of(curve) for end in ends if end is not None]
    if plot.logarithmic:
        values = [value for value in values if value > 0]
    return min(values), max(values)


def _round_numbers(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten within a range; or only powers of ten if these exceed 7."""
    exponents = range(floor(log10(low)) - 1, ceil(log10(high)) + 1)
    found = [digit * 10.0**exponent for exponent in exponents for digit in (1, 2, 5)]
    inside = [value for value in found if low <= value <= high]
    if len(inside) > 7:
        inside = [value for value in inside if f"{value:e}".startswith("1")]
    return inside


def _scale_of(curve: Curve) -> float:
    return output(curve.metric).scale


def _shown(point: Point) -> int:
    assert point.snapshot is not None
    return point.snapshot.images_shown


def _said(point: Point) -> str:
    return tables.cell(point.row)


def _thousands(images: float) -> str:
    if abs(images) >= 1e6:
        return f"{images / 1e6:g}M"
    return f"{images / 1e3:g}k" if abs(images) >= 1e3 else f"{images:g}"


def _spaced(colors: Sequence[str], count: int) -> list[str]:
    """Return `count` of the colors, spaced as evenly as possible."""
    if count == 1:
        return [colors[0]]
    return [colors[round(i * (len(colors) - 1) / (count - 1)) % len(colors)] for i in range(count)]
