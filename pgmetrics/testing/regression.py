"""Check scores against a recorded baseline, within noise, for the fixture `metric_regression`."""

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
    """The value of the fixture `metric_regression`.

    Attributes:
        directory: directory of the baselines of a test module.
        test: the test's id.
        record: whether baselines are recorded instead of checked.
        recorded: paths of the baselines that were recorded.
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
        """Fail if a number differs from its baseline by more than noise, or by more than its tolerance.

        Noise includes the errors of the baseline and of the new score: a number may differ from its baseline
        by t standard errors of the difference. t is chosen so that an unchanged model fails with probability
        `significance` over all rows together. The errors are over images, so an unchanged model passes with
        other samples. A number without such an error fails, unless it has a tolerance. MS-SSIM is reported,
        but fails the test only if `metrics` or `tolerances` names it.

        Args:
            scored: `Results`, or generated images to score: a checkpoint, an array or any other source that
                `pgmetrics.evaluate` accepts.
            metrics: metrics to score images with ("swd" and "ms-ssim" by default), or the metrics of the
                results to check (all by default).
            real: the real images to compare with.
            num_images: number of images per set.
            tolerances: for each metric, how far its raw numbers may differ, instead of noise.
            name: name of the baseline, for a test that checks several.
            significance: probability that noise alone fails the test.
            allow_better: whether a number that improved by more than noise passes; MS-SSIM improves
                towards the reals' own value.
            options: any other options of `evaluate`.

        Returns:
            The results that were checked.
        """
        path = self._baseline(name)
        # Checked before anything is scored, which may take hours.
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
        """Return all results, and the results to check."""
        given = {key: value for key, value in options.items() if value is not None}
        if not isinstance(scored, Results):
            chosen: Sequence[str | Metric] = metrics or DEFAULT
            if given.get("preset") is None:
                chosen = _over_images(chosen)
            found = evaluate(given.pop("real", None), scored, chosen, **given)
            # Scores of the reals among themselves do not depend on the model.
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
    """Return the numbers that are named directly or through their metrics."""
    return [number for name in _names(metrics) for number in named(name) or (name,)]


def _over_images(metrics: Sequence[str | Metric]) -> list[Metric]:
    """Return the metrics with errors over images.

    Metrics given as objects rather than by name keep their errors.
    """
    made = [one for one in metrics if not isinstance(one, str)]
    return [
        one
        if any(one is given for given in made)
        or any(is_over_images(kind) for number in one.outputs for kind in number.errors[:1])
        else one.with_error("images")
        for one in find_metrics(metrics)
    ]


def _lasting(results: Results) -> Results:
    """Remove what differs between machines or from run to run: labels, times and paths."""
    kept = {row["run"]: _kept(provenance_of(results, row["run"])) for row in results.rows}
    if len(kept) > 1:
        return replace(results, provenance={"runs": kept})
    return replace(results, provenance=next(iter(kept.values()), {})).with_run("baseline")


def _kept(provenance: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: provenance[key] for key in ("parameters", "networks", "versions") if key in provenance}
    sources = {}
    for side, source in provenance.get("sources", {}).items():
        # The generated images are expected to change.
        identity = () if side.startswith("fake") else ("fingerprint", "metrics")
        wanted = (*identity, "height", "width")
        sources[side] = {key: source[key] for key in wanted if key in source}
    return {**kept, "sources": sources} if sources else kept


@dataclass(frozen=True)
class _Line:
    """A number, its baseline, the allowed distance between them, and whether the number passes."""

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
    """Compare results with a baseline.

    Args:
        baseline, results: the recorded results and the new results.
        tolerances, significance, allow_better: as in `check`.
        asked: numbers that the user named.
        whole: all new results, in which the reals' own values are looked up.

    Returns:
        A line about the metrics that the test checks, and a report of all numbers. The report is empty if
        the test passes.
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
    # Bonferroni correction over all rows in which noise may fail the test.
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
    """Return which of the metrics may fail the test.

    These are all metrics except MS-SSIM, whose goal is the reals' own value; it may fail the test if named.
    """
    asked = [
        metric
        for metric in dict.fromkeys(metrics)
        if metric in named or output(metric).better.aim is not Aim.REALS
    ]
    return Gate(tuple(asked), tuple(metric for metric in dict.fromkeys(metrics) if metric not in asked))


def _about(gate: Gate) -> str:
    return gate.line("in metrics=[…]")


def _score_of_reals(place: Place, *tables: tuple[Results, Mapping[Place, Row]]) -> Score | None:
    """Return the score of the reals in the first of the results that knows it.

    The new results are given first, then the baseline.
    """
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
        # A score of the reals does not depend on the model, so it is neither better nor worse.
        verdict = "moved"
    else:
        verdict, better = _moved(difference, reals, significance)
        passes = better and allow_better
    return _Line(_title(place, levels), place[2], values[0], values[1], reach, verdict, passes)


def _moved(difference: Difference, reals: Score | None, significance: float) -> tuple[str, bool]:
    """Return the verdict on a number that moved too far, and whether it improved."""
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
    """Return rows by everything that must match the baseline; the run is ignored if there is only one."""
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
    """Return the settings that differ between the baseline and the results, each once."""
    before, now = (Scores.by_run(one) for one in (baseline, results))
    if len(before) == len(now) == 1:
        now = dict(zip(before, now.values(), strict=True))
    pairs = [(before[run], now[run]) for run in before if run in now]
    return list(dict.fromkeys(setting for pair in pairs for setting in differing_settings(*pair)))


def _is_known_to_be_no_score(metric: str) -> bool:
    return is_declared(metric) and not output(metric).is_score


def _standard_errors(reaches: Mapping[Place, float], noise: Mapping[Place, Difference]) -> str:
    """Describe the allowed noise in standard errors; few degrees of freedom allow more of them."""
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
