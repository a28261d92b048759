"""Scores against a recorded baseline, within noise: what the fixture `metric_regression` is."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from pgmetrics.comparison.compare import why_undecided
from pgmetrics.comparison.result import Gate, aligned
from pgmetrics.comparison.scores import Scores, provenance_of
from pgmetrics.comparison.settings import Setting, differing_settings
from pgmetrics.errors import OptionError, StateError
from pgmetrics.evaluation.api import evaluate
from pgmetrics.metrics.base import Metric
from pgmetrics.metrics.error_kinds import is_over_images
from pgmetrics.metrics.outputs import Aim
from pgmetrics.metrics.registry import DEFAULT, find_metrics, is_declared, named, output
from pgmetrics.results import Results, read_results
from pgmetrics.results.reals import row_of_reals
from pgmetrics.runtime.files import safe_name
from pgmetrics.testing import REGEN
from pgmetrics.uncertainty import verdicts
from pgmetrics.uncertainty.intervals import Difference, independent_difference, interval
from pgmetrics.uncertainty.verdicts import Score

logger = logging.getLogger("pgmetrics")

Row = Mapping[str, Any]
Place = tuple[str, str, str, "int | None", "str | None"]  # run, subject, metric, level, protocol


@dataclass
class MetricRegression:
    """What the fixture `metric_regression` is.

    Attributes:
        directory: of the baselines of a test module.
        test: the test's id.
        record: whether baselines are recorded instead of checked.
        recorded: paths of those that were.
    """

    directory: Path
    test: str
    record: bool
    recorded: list[str]
    _used: set[Path] = field(default_factory=set)

    def check(
        self,
        scored: Results | object,
        metrics: Sequence[str | Metric] | None = None,
        *,
        real: object | None = None,
        num_images: int | None = None,
        tolerances: Mapping[str, float] | None = None,
        name: str | None = None,
        significance: float = 0.01,
        allow_better: bool = False,
        **options: Any,
    ) -> Results:
        """Fail if a number has moved from its baseline by more than noise, or by more than its tolerance.

        Noise is that of both sides: a number may be t standard errors of the difference from its
        baseline, t so large that of unchanged models a share `significance` fails, all rows together.
        The errors are over images: an unchanged model passes with other samples. A number without such an
        error fails, too. MS-SSIM is shown, and fails the test only if `metrics` or `tolerances` names it.

        Args:
            scored: `Results`, or generated images, which are then scored: a checkpoint, an array or
                whatever else `pgmetrics.evaluate` takes.
            metrics: to score images with, "swd" and "ms-ssim" if left out; or which of the results'.
            real: the real images to compare with.
            num_images: of each side.
            tolerances: by metric, how far its raw numbers may move, in place of noise.
            name: of the baseline, where a test checks several.
            significance: how often noise alone may fail the test.
            allow_better: whether a number that has improved beyond noise passes, too; MS-SSIM improves
                towards the reals' own value.
            options: any other of `evaluate`.

        Returns:
            The results that were checked.
        """
        path = self._baseline(name)
        # Before anything is scored, which may take hours.
        if not self.record and not path.exists():
            pytest.fail(
                f"there is no baseline {os.path.relpath(path)}; pytest {REGEN} {self.test!r} records one",
                pytrace=False,
            )
        whole, results = self._results(scored, metrics, {"real": real, "num_images": num_images, **options})
        if self.record:
            path.parent.mkdir(parents=True, exist_ok=True)
            _lasting(results).save(path)
            self.recorded.append(os.path.relpath(path))
            return results
        asked = _numbers_of(metrics or ())
        gate, report = _compare(
            read_results(path), results, tolerances or {}, significance, allow_better, asked, whole
        )
        logger.info(gate)
        if report:
            pytest.fail(f"{self.test} against {os.path.relpath(path)}\n\n{report}", pytrace=False)
        return results

    def _results(
        self, scored: object, metrics: Sequence[str | Metric] | None, options: Mapping[str, Any]
    ) -> tuple[Results, Results]:
        """All results, and those to be checked."""
        given = {key: value for key, value in options.items() if value is not None}
        if not isinstance(scored, Results):
            chosen: Sequence[str | Metric] = metrics or DEFAULT
            if given.get("preset") is None:
                chosen = _over_images(chosen)
            found = evaluate(given.pop("real", None), scored, chosen, **given)
            # What the reals score among themselves is no matter of the model's.
            return found, replace(found, rows=tuple(row for row in found.rows if row["subject"] == "fake"))
        if given:
            raise OptionError(f"results hold their numbers; {', '.join(given)} goes with images to be scored")
        if metrics is None:
            return scored, scored
        names = _numbers_of(metrics)
        if missing := [one for one in metrics if not any(name in scored for name in _numbers_of([one]))]:
            raise OptionError(f"the results hold no {', '.join(sorted(_names(missing)))}")
        chosen_rows = tuple(row for row in scored.rows if row["metric"] in names)
        return scored, Results(chosen_rows, scored.provenance)

    def _baseline(self, name: str | None) -> Path:
        text = self.test.partition("::")[2].replace("::", ".")
        path = self.directory / f"{safe_name(text if name is None else f'{text}.{name}')}.json"
        if path in self._used:
            pytest.fail(f"{self.test} checks twice; give each check a name of its own", pytrace=False)
        self._used.add(path)
        return path


def _names(metrics: Sequence[str | Metric]) -> list[str]:
    return [one if isinstance(one, str) else one.name for one in metrics]


def _numbers_of(metrics: Sequence[str | Metric]) -> list[str]:
    """The numbers that are asked for by their own names or by those of their metrics."""
    return [number for name in _names(metrics) for number in named(name) or (name,)]


def _over_images(metrics: Sequence[str | Metric]) -> list[Metric]:
    """The metrics, errors of those that were named over images where they would be over something else."""
    made = [one for one in metrics if not isinstance(one, str)]
    return [
        one
        if any(one is given for given in made)
        or any(is_over_images(kind) for number in one.outputs for kind in number.errors[:1])
        else one.with_error("images")
        for one in find_metrics(metrics)
    ]


def _lasting(results: Results) -> Results:
    """Without what differs between machines or from run to run: labels, times and places."""
    kept = {row["run"]: _kept(provenance_of(results, row["run"])) for row in results.rows}
    if len(kept) > 1:
        return replace(results, provenance={"runs": kept})
    return replace(results, provenance=next(iter(kept.values()), {})).with_run("baseline")


def _kept(provenance: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: provenance[key] for key in ("parameters", "networks", "versions") if key in provenance}
    sources = {}
    for side, source in provenance.get("sources", {}).items():
        # The generated images are what changes.
        identity = () if side.startswith("fake") else ("fingerprint", "metrics")
        wanted = (*identity, "height", "width")
        sources[side] = {key: source[key] for key in wanted if key in source}
    return {**kept, "sources": sources} if sources else kept


@dataclass(frozen=True)
class _Line:
    """A number beside its baseline, how far it may be from it, and whether the test passes with it."""

    title: str
    metric: str
    baseline: float | None
    value: float | None
    reach: float | None
    verdict: str
    passes: bool

    def cells(self) -> list[str]:
        number = output(self.metric).number
        baseline, value = ("-" if one is None else number(one) for one in (self.baseline, self.value))
        band = "-"
        if self.baseline is not None and self.reach is not None:
            low, high = (number(self.baseline + sign * self.reach) for sign in (-1, 1))
            band = f"{low} to {high}"
        return [self.title, baseline, value, band, self.verdict]


def _compare(
    baseline: Results,
    results: Results,
    tolerances: Mapping[str, float],
    significance: float,
    allow_better: bool,
    asked: Collection[str] = (),
    whole: Results | None = None,
) -> tuple[str, str]:
    """Which metrics are asked, and what has moved, as a table with the reasons; empty if nothing has.

    Args:
        baseline, results: rows before and now.
        tolerances, significance, allow_better: as in `check`.
        asked: numbers that the user named.
        whole: all results, in which the reals' own values are looked up.
    """
    before, now = _places(baseline), _places(results)
    if unknown := set(tolerances) - {place[2] for place in (*before, *now)}:
        raise OptionError(f"a tolerance is given for {', '.join(sorted(unknown))}, which was not scored")
    settings = _settings(baseline, results)
    places = [
        place
        for place in dict.fromkeys((*before, *now))
        if place[2] in tolerances or not _is_known_to_be_no_score(place[2])
    ]
    gate = _gate([place[2] for place in places], {*asked, *tolerances})
    differences = {
        place: independent_difference(before[place], now[place]) for place in before if place in now
    }
    noise = {
        place: one
        for place, one in differences.items()
        if place in places and place[2] not in tolerances and one.stderr is not None
    }
    # In any of so many rows (Bonferroni).
    confidence = 1 - significance / max(sum(place[2] in gate.asked for place in noise), 1)
    reaches = {place: interval(0.0, one.stderr or 0.0, confidence, one.df)[1] for place, one in noise.items()}
    lines = []
    for place in places:
        line = _line(
            place,
            {other[3] for other in places if other[2] == place[2]},
            (before.get(place), now.get(place)),
            differences.get(place),
            reaches.get(place, tolerances.get(place[2])),
            _score_of_reals(place, (whole or results, now), (baseline, before)),
            significance,
            allow_better,
        )
        lines.append(line if place[2] in gate.asked else _not_asked(line))
    alike = not any(setting.matters for setting in settings)
    if alike and gate.asked and all(line.passes for line in lines):
        return _about(gate), ""
    return _about(gate), _report(lines, settings, _standard_errors(reaches, noise), significance, gate)


def _gate(metrics: Sequence[str], named: Collection[str]) -> Gate:
    """Which of the metrics may fail the test: all but MS-SSIM, and that if it is named."""
    asked = [
        metric
        for metric in dict.fromkeys(metrics)
        if metric in named or output(metric).better.aim is not Aim.REALS
    ]
    return Gate(tuple(asked), tuple(metric for metric in dict.fromkeys(metrics) if metric not in asked))


def _about(gate: Gate) -> str:
    return gate.line("in metrics=[…]")


def _score_of_reals(place: Place, *tables: tuple[Results, Mapping[Place, Row]]) -> Score | None:
    """What the reals score themselves, now or, if that is not known, when the baseline was recorded."""
    for results, rows in tables:
        row = rows.get(place)
        if row is None or row["subject"] != "fake":
            continue
        real = row_of_reals(row, results.rows, results.item)
        if real is not None:
            return Score.of(real)
    return None


def _line(
    place: Place,
    levels: Collection[int | None],
    rows: tuple[Row | None, Row | None],
    difference: Difference | None,
    reach: float | None,
    reals: Score | None,
    significance: float,
    allow_better: bool,
) -> _Line:
    before, now = rows
    passes = False
    values = [None if row is None else float(row["value"]) for row in rows]
    if before is None or now is None or difference is None:
        verdict = "not in the baseline" if before is None else "no longer scored"
    elif reach is None:
        verdict = f"cannot tell: {why_undecided(before, now)}"
    elif abs(difference.difference) <= reach:
        verdict, passes = "within", True
    elif place[1] == "real":
        # A score of the reals is no merit of the model's.
        verdict = "moved"
    else:
        verdict, better = _moved(difference, reals, significance)
        passes = better and allow_better
    return _Line(_title(place, levels), place[2], values[0], values[1], reach, verdict, passes)


def _moved(difference: Difference, reals: Score | None, significance: float) -> tuple[str, bool]:
    """What is said of a number that has moved by more than it may, and whether that is an improvement."""
    metric, (a, b) = difference.metric, difference.scores
    found = verdicts.verdict(metric, a, b, p_value=0.0, reals=reals, significance=significance)
    near = None if reals is None else verdicts.nearer(a, b, reals, significance)
    better = verdicts.effect(metric, found, reals, near) == "better"
    return "moved" if found == "different" else found, better


def _not_asked(line: _Line) -> _Line:
    return replace(line, passes=True, verdict=line.verdict if line.passes else f"{line.verdict}, not asked")


def _report(
    lines: Sequence[_Line], settings: Sequence[Setting], noise: str, significance: float, gate: Gate
) -> str:
    grid = [["metric", "baseline", "value", "allowed", "verdict"], *(line.cells() for line in lines)]
    parts = [aligned(grid, "lrrrl"), _about(gate)]
    if not gate.asked:
        parts.append("a test that asks no metric must not pass: metrics=[…] names what it asks")
    if noise:
        parts.append(
            f"allowed: {noise} of the difference, so that noise alone fails 1 run in "
            f"{1 / significance:,.0f}, or the tolerance that was given"
        )
    if settings:
        table = [["setting", "baseline", "now", "moves numbers"]]
        table += [[one.name, one.a, one.b, "yes" if one.matters else "no"] for one in settings]
        parts.append(aligned(table, "llll"))
    else:
        parts.append("scored as the baseline was: no setting differs")
    if any(line.verdict.startswith("cannot tell") and not line.passes for line in lines):
        parts.append("where an error over images is missing, tolerances={'metric': …} says what may move")
    parts.append(f"if that is meant, pytest {REGEN} records it")
    return "\n\n".join(parts)


def _places(results: Results) -> dict[Place, Row]:
    """Rows by all that must agree; a single run needs no name."""
    runs = {row["run"] for row in results.rows}
    places: dict[Place, Row] = {}
    for row in results.rows:
        run = row["run"] if len(runs) > 1 else ""
        place = (run, row["subject"], row["metric"], row["level"], row["protocol"])
        if place in places:
            raise StateError(f"the results hold {_title(place)} at several seeds; check them one by one")
        places[place] = row
    return places


def _settings(baseline: Results, results: Results) -> list[Setting]:
    """In what the baseline was scored differently, each once."""
    before, now = (Scores.by_run(one) for one in (baseline, results))
    if len(before) == len(now) == 1:
        now = dict(zip(before, now.values(), strict=True))
    pairs = [(before[run], now[run]) for run in before if run in now]
    return list(dict.fromkeys(setting for pair in pairs for setting in differing_settings(*pair)))


def _is_known_to_be_no_score(metric: str) -> bool:
    return is_declared(metric) and not output(metric).is_score


def _standard_errors(reaches: Mapping[Place, float], noise: Mapping[Place, Difference]) -> str:
    """How many of them a number may move, more where they come from few groups."""
    found = [reach / error for place, reach in reaches.items() if (error := noise[place].stderr)]
    if not found:
        return ""
    low, high = f"{min(found):.2f}", f"{max(found):.2f}"
    return f"{low if low == high else f'{low} to {high}'} standard errors"


def _title(place: Place, levels: Collection[int | None] = ()) -> str:
    run, subject, metric, level, _ = place
    title = output(metric).heading + (f" {level or 'Avg'}" if len(levels) > 1 else "")
    if subject == "real":
        title += " (reals)"
    return f"{run}: {title}" if run else title
