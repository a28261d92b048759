"""The pytest plug-in: the fixture `metric_regression`, its option, and markers that skip with a reason.

pytest imports this module at every start, wherever pgmetrics is installed: nothing is imported here but
pytest and the standard library before a test needs more.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pgmetrics.comparison import Setting
    from pgmetrics.metrics.base import Metric
    from pgmetrics.results import Results

REGEN = "--metrics-regen"
BASELINES = "baselines"

_MARKERS = (
    "needs_weights(network, ...): skip where the weights of a network such as inception are not here",
    "needs_data(path, ..., env=NAME): skip where a path, or the one that a variable names, does not exist",
    "needs_gpu: skip where torch finds no GPU",
)
_RECORDED = pytest.StashKey[list[str]]()
_LONGEST_NAME = 120

Row = Mapping[str, Any]
Place = tuple[str, str, str, "int | None", "str | None"]  # run, subject, metric, level, protocol


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that records baselines."""
    group = parser.getgroup("pgmetrics")
    group.addoption(
        REGEN, action="store_true", help="Record the baselines of metric_regression instead of checking them."
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known, so that --strict-markers takes them."""
    config.stash[_RECORDED] = []
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that needs what is not here."""
    for reason in _lacking(item):
        pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Name the baselines that were recorded: they are to be looked at and committed."""
    if recorded := config.stash[_RECORDED]:
        terminalreporter.section("recorded baselines")
        for path in recorded:
            terminalreporter.line(path)


@pytest.fixture
def metric_regression(request: pytest.FixtureRequest) -> MetricRegression:
    """Check scores against those that were recorded, within their noise; see `MetricRegression.check`."""
    node, config = request.node, request.config
    return MetricRegression(
        directory=node.path.parent / BASELINES / node.path.stem,
        test=node.nodeid,
        record=config.getoption(REGEN),
        recorded=config.stash[_RECORDED],
    )


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

        Noise is that of both sides: a number may be z standard errors of the difference from its
        baseline, z so large that of unchanged models a share `significance` fails, all rows together.
        The errors are over images: an unchanged model passes with other samples.

        Args:
            scored: `Results`, or generated images, which are then scored: a checkpoint, an array or
                whatever else `pgmetrics.evaluate` takes.
            metrics: to score images with, "swd" and "ms-ssim" if left out; or which of the results'.
            real: the real images to compare with.
            num_images: of each side.
            tolerances: by metric, how far its raw numbers may move, in place of noise.
            name: of the baseline, where a test checks several.
            significance: how often noise alone may fail the test.
            allow_better: whether a number that has improved beyond noise passes, too.
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
        results = self._results(scored, metrics, {"real": real, "num_images": num_images, **options})
        if self.record:
            path.parent.mkdir(parents=True, exist_ok=True)
            _lasting(results).save(path)
            self.recorded.append(os.path.relpath(path))
            return results
        from pgmetrics.results import read_results

        report = _compare(read_results(path), results, tolerances or {}, significance, allow_better)
        if report:
            pytest.fail(f"{self.test} against {os.path.relpath(path)}\n\n{report}", pytrace=False)
        return results

    def _results(
        self, scored: object, metrics: Sequence[str | Metric] | None, options: Mapping[str, Any]
    ) -> Results:
        from pgmetrics.errors import OptionError
        from pgmetrics.results import Results

        given = {key: value for key, value in options.items() if value is not None}
        if not isinstance(scored, Results):
            from pgmetrics.evaluation import evaluate

            chosen = [_over_images(one, given.get("preset")) for one in metrics or ("swd", "ms-ssim")]
            found = evaluate(given.pop("real", None), scored, chosen, **given)
            # What the reals score among themselves is no matter of the model's.
            return replace(found, rows=tuple(row for row in found.rows if row["subject"] == "fake"))
        if given:
            raise OptionError(f"results hold their numbers; {', '.join(given)} goes with images to be scored")
        if metrics is None:
            return scored
        names = [one if isinstance(one, str) else one.name for one in metrics]
        if missing := set(names) - {row["metric"] for row in scored.rows}:
            raise OptionError(f"the results hold no {', '.join(sorted(missing))}")
        return Results(tuple(row for row in scored.rows if row["metric"] in names), scored.provenance)

    def _baseline(self, name: str | None) -> Path:
        text = self.test.partition("::")[2].replace("::", ".")
        path = self.directory / f"{_file_name(text if name is None else f'{text}.{name}')}.json"
        if path in self._used:
            pytest.fail(f"{self.test} checks twice; give each check a name of its own", pytrace=False)
        self._used.add(path)
        return path


def _lacking(item: pytest.Item) -> Iterator[str]:
    """What a test needs and this machine has not."""
    for marker in item.iter_markers("needs_data"):
        if not marker.args and "env" not in marker.kwargs:
            raise pytest.UsageError(f"{item.nodeid}: needs_data takes a path, or env=NAME")
        for path in marker.args:
            if not (item.config.rootpath / path).exists():
                yield f"needs the data at {path}, which is not there"
        if variable := marker.kwargs.get("env"):
            place = os.environ.get(variable)
            if not place:
                yield f"needs data: set {variable} to where it is"
            elif not os.path.exists(place):
                yield f"needs data: {variable} is {place}, which does not exist"
    for marker in item.iter_markers("needs_weights"):
        if not marker.args:
            raise pytest.UsageError(f"{item.nodeid}: needs_weights takes the name of a network")
        for network in marker.args:
            if not _has_weights(network):
                yield f"needs the weights of {network}, which are not here: see pgmetrics weights {network}"
    if item.get_closest_marker("needs_gpu") and not _has_gpu():
        yield "needs a GPU, and torch finds none"


def _has_weights(network: str) -> bool:
    from pgmetrics.errors import WeightsError
    from pgmetrics.features.weights import locate

    try:
        return locate(network) is not None
    except WeightsError:
        return False


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available() or torch.backends.mps.is_available()


def _over_images(one: str | Metric, preset: str | None) -> str | Metric:
    """The metric, its error over images where it would be over something else."""
    if preset is not None or not isinstance(one, str):
        return one
    from pgmetrics.metrics.inception_score import InceptionScore
    from pgmetrics.metrics.registry import metric
    from pgmetrics.metrics.swd import SlicedWasserstein

    found = metric(one)
    if isinstance(found, (SlicedWasserstein, InceptionScore)):
        return replace(found, error="images")
    return found


def _lasting(results: Results) -> Results:
    """Without what differs between machines or from run to run: labels, times and places."""
    from pgmetrics.comparison import provenance_of

    kept = {row["run"]: _kept(provenance_of(results, row["run"])) for row in results.rows}
    if len(kept) > 1:
        return replace(results, provenance={"runs": kept})
    return replace(results, provenance=next(iter(kept.values()), {})).with_run("baseline")


def _kept(provenance: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: provenance[key] for key in ("parameters", "networks", "versions") if key in provenance}
    sources = {}
    for side, source in provenance.get("sources", {}).items():
        # The generated images are what changes.
        wanted = ("height", "width") if side == "fake" else ("fingerprint", "height", "width")
        sources[side] = {key: source[key] for key in wanted if key in source}
    return {**kept, "sources": sources} if sources else kept


@dataclass(frozen=True)
class _Line:
    """A number beside its baseline, and how far it may be from it."""

    title: str
    metric: str
    baseline: float | None
    value: float | None
    reach: float | None
    verdict: str

    def cells(self) -> list[str]:
        from pgmetrics.results.tables import number

        baseline, value = (
            "-" if one is None else number(self.metric, one) for one in (self.baseline, self.value)
        )
        band = "-"
        if self.baseline is not None and self.reach is not None:
            low, high = (number(self.metric, self.baseline + sign * self.reach) for sign in (-1, 1))
            band = f"{low} to {high}"
        return [self.title, baseline, value, band, self.verdict]


def _compare(
    baseline: Results,
    results: Results,
    tolerances: Mapping[str, float],
    significance: float,
    allow_better: bool,
) -> str:
    """What has moved, as a table with the reasons; empty if nothing has."""
    from pgmetrics.errors import OptionError

    before, now = _places(baseline), _places(results)
    if unknown := set(tolerances) - {place[2] for place in (*before, *now)}:
        raise OptionError(f"a tolerance is given for {', '.join(sorted(unknown))}, which was not scored")
    settings = _settings(baseline, results)
    errors = {place: _error(before[place], now[place], tolerances) for place in before if place in now}
    noisy = [place for place, error in errors.items() if error is not None and place[2] not in tolerances]
    z = _quantile(significance, len(noisy))
    lines = []
    for place in dict.fromkeys((*before, *now)):
        if _no_score(place[2]) and place[2] not in tolerances:
            continue
        reach = tolerances.get(place[2])
        if reach is None and errors.get(place) is not None:
            reach = z * (errors[place] or 0.0)
        levels = {other[3] for other in (*before, *now) if other[2] == place[2]}
        lines.append(_line(place, levels, before.get(place), now.get(place), reach))
    alike = not any(setting.matters for setting in settings)
    passing = {"within", "better"} if allow_better else {"within"}
    failed = [line for line in lines if line.verdict not in passing]
    if alike and not failed:
        return ""
    return _report(lines, settings, f"{z:.2f} standard errors" if noisy else "", significance)


def _line(
    place: Place, levels: Collection[int | None], before: Row | None, now: Row | None, reach: float | None
) -> _Line:
    from pgmetrics.uncertainty import HIGHER_IS_BETTER

    values = [None if row is None else float(row["value"]) for row in (before, now)]
    if before is None or now is None:
        verdict = "not in the baseline" if before is None else "no longer scored"
    elif reach is None:
        verdict = f"cannot tell: {_why(before, now)}"
    elif abs(now["value"] - before["value"]) <= reach:
        verdict = "within"
    else:
        higher, rose = HIGHER_IS_BETTER.get(place[2]), now["value"] > before["value"]
        # A score of the reals is no merit of the model's.
        good = None if higher is None or place[1] == "real" else rose == higher
        verdict = "moved" if good is None else "better" if good else "worse"
    return _Line(_title(place, levels), place[2], values[0], values[1], reach, verdict)


def _report(lines: Sequence[_Line], settings: Sequence[Setting], noise: str, significance: float) -> str:
    from pgmetrics.comparison import aligned

    grid = [["metric", "baseline", "value", "allowed", "verdict"], *(line.cells() for line in lines)]
    parts = [aligned(grid, "lrrrl")]
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
    if any("cannot tell" in line.verdict for line in lines):
        parts.append("where an error over images is missing, tolerances={'metric': …} says what may move")
    parts.append(f"if that is meant, pytest {REGEN} records it")
    return "\n\n".join(parts)


def _places(results: Results) -> dict[Place, Row]:
    """Rows by all that must agree; a single run needs no name."""
    from pgmetrics.errors import StateError

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
    from pgmetrics.comparison import Scores, differing_settings

    before, now = (Scores.by_run(one) for one in (baseline, results))
    if len(before) == len(now) == 1:
        now = dict(zip(before, now.values(), strict=True))
    pairs = [(before[run], now[run]) for run in before if run in now]
    return list(dict.fromkeys(setting for pair in pairs for setting in differing_settings(*pair)))


def _error(before: Row, now: Row, tolerances: Mapping[str, float]) -> float | None:
    from pgmetrics.uncertainty import independent_difference

    return None if before["metric"] in tolerances else independent_difference(before, now).stderr


def _why(before: Row, now: Row) -> str:
    from pgmetrics.comparison import why_undecided

    return why_undecided(before, now)


def _no_score(metric: str) -> bool:
    from pgmetrics.uncertainty import HIGHER_IS_BETTER

    return metric in HIGHER_IS_BETTER and HIGHER_IS_BETTER[metric] is None


def _quantile(significance: float, rows: int) -> float:
    """Standard errors that noise exceeds in a share of the cases, in any of so many rows (Bonferroni)."""
    from statistics import NormalDist

    return NormalDist().inv_cdf(1 - significance / (2 * max(rows, 1)))


def _title(place: Place, levels: Collection[int | None] = ()) -> str:
    from pgmetrics.results.tables import style

    run, subject, metric, level, _ = place
    title = style(metric).title if len(levels) < 2 else f"{style(metric).title} {level or 'Avg'}"
    if subject == "real":
        title += " (reals)"
    return f"{run}: {title}" if run else title


def _file_name(text: str) -> str:
    """A name that every file system takes, and that no other text gets."""
    safe = re.sub(r"[^\w.\[\]-]+", "_", text, flags=re.ASCII)
    if safe == text and len(text) <= _LONGEST_NAME:
        return text
    return f"{safe[:_LONGEST_NAME]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
