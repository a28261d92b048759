"""Is B better than A, or is it noise? Two generated sets, or two results, metric by metric."""

from __future__ import annotations

import csv
import dataclasses
import io
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, hypot, log2
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgmetrics import journal, uncertainty, verdicts
from pgmetrics.error_kinds import is_over_images
from pgmetrics.errors import OptionError, StateError
from pgmetrics.evaluation import observe
from pgmetrics.files import dump_json
from pgmetrics.metrics.base import Metric, State
from pgmetrics.metrics.fid import FrechetDistance
from pgmetrics.metrics.registry import metric as find_metric
from pgmetrics.planning import Progress
from pgmetrics.presets import PRESETS
from pgmetrics.printable import markdown_text, printable
from pgmetrics.results import Results, read_results
from pgmetrics.results.files import check_destination, write_whole
from pgmetrics.results.reals import row_of_reals
from pgmetrics.results.tables import metrics_in_order, style
from pgmetrics.sources.base import IDENTITY
from pgmetrics.sources.resolve import open_source
from pgmetrics.uncertainty import Difference
from pgmetrics.verdicts import Aim, Score, Verdict

if TYPE_CHECKING:
    import pandas as pd

Key = tuple[str, "int | None", "str | None"]  # metric, level, protocol

COLUMNS = (
    "metric",
    "level",
    "protocol",
    "a",
    "b",
    "difference",
    "stderr",
    "low",
    "high",
    "p_value",
    "p_holm",
    "p_difference",
    "test",
    "verdict",
    "n_real",
    "n_fake",
    "reals",
    "reals_stderr",
    "a_beside_reals",
    "b_beside_reals",
    "nearer",
)
FORMATS = ("table", "csv", "json", "markdown")
RESULT_SUFFIXES = (".json", ".csv", ".jsonl", ".parquet")

# They decide how many images are taken, which the counts say, or what an error is taken over.
_HARMLESS_PARAMETERS = ("num_images", "num_pairs", "error", "keep_rows")
_READING = ("mirror", "preset", "resolution", "resize", "alpha", "bits")
_ABSENT = "-"
_WITH_OTHER_ERRORS = frozenset({"swd", "is", "precision", "recall", "density", "coverage"})
_UNTESTED = frozenset({"fid-infinity"})

_NO_ERROR = "the sets differ, and so few images give no error to tell which is better; give more images"

logger = logging.getLogger("pgmetrics")


@dataclass(frozen=True)
class Setting:
    """Something in which the ways that A and B were scored differ.

    Attributes:
        name: of the setting, with its metric where it belongs to one.
        a, b: its values, as text.
        matters: whether it moves numbers, so that no difference between A and B means anything.
    """

    name: str
    a: str
    b: str
    matters: bool

    @classmethod
    def of(cls, name: str, values: Sequence[Sequence[object]], matters: bool = True) -> Setting:
        """Several values on each side, each shown once."""
        a, b = (" ".join(map(_shown, dict.fromkeys(one))) or _ABSENT for one in values)
        return cls(name, a, b, matters)


@dataclass(frozen=True)
class Judging:
    """How a difference is told from noise.

    Attributes:
        significance: probability of calling any of the rows better or worse though all is noise.
        confidence: of the intervals, each by itself.
        permutations: random swaps of the test of two sets of images.
        seed: of them.

    Raises:
        OptionError: one is out of its range.
    """

    significance: float = 0.01
    confidence: float = 0.95
    permutations: int = 9999
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("significance", "confidence"):
            if not 0 < getattr(self, name) < 1:
                raise OptionError(f"{name} is a probability between 0 and 1, not {getattr(self, name)}")
        if self.permutations < 1:
            raise OptionError(f"a test needs at least 1 permutation, not {self.permutations}")


@dataclass(frozen=True)
class Gate:
    """What `--fail-if-worse` asks of a comparison, and the answer.

    Attributes:
        asked: metrics that it asks: all that improve in one direction, and MS-SSIM where it is named.
        not_asked: metrics that have rows and are not asked.
        worse: those of the asked in which B is worse; of MS-SSIM, farther from the reals' own value.
        undecided: those of the asked of which no row is decided, each with the reason and the fix.
    """

    asked: tuple[str, ...] = ()
    not_asked: tuple[str, ...] = ()
    worse: tuple[str, ...] = ()
    undecided: Mapping[str, str] = field(default_factory=dict)

    @property
    def decided(self) -> bool:
        """Whether something is asked, and all of it is decided."""
        return bool(self.asked) and not self.undecided

    def line(self, naming: str = "with --metrics") -> str:
        """Which metrics are asked and which are not, and how the others are."""
        text = f"gate: {', '.join(self.asked) or 'no metric'}"
        if self.not_asked:
            them = "it" if len(self.not_asked) == 1 else "them"
            text += f"; not asked: {', '.join(self.not_asked)} (name {them} {naming} to include {them})"
        return text


@dataclass(frozen=True)
class Comparison:
    """What differs between A and B, by how much more than noise.

    Attributes:
        a, b: what the two are called.
        rows: dictionaries with the keys of `COLUMNS`, one per metric and level, values raw:
            `difference` is b - a, `low` to `high` its interval, `p_holm` the p-value after Holm's
            correction over the rows; `p_difference` is that of the hypothesis that the number expects the
            same of A and B, which may be unlike, corrected likewise. `verdict` is of B against A, as
            `verdicts.verdict` gives it: "better" or "worse" where both are at most `judging.significance`;
            "less varied" or "more varied" (than A) in their place for MS-SSIM; "different" where p_holm
            alone is, or which is better is open; else "within noise"; "undecided" where there is no
            sound p-value. `reals` is what the reals score themselves, where that belongs to the verdict,
            with its error; `a_beside_reals` and `b_beside_reals` say of MS-SSIM whether a set is "as
            varied", "less varied" or "more varied" than they are, and `nearer` which of the two is nearer
            to them.
        settings: in which the ways that the two were scored differ.
        notes: sentences that a reader must know.
        provenance: how the comparison came about.
        gate: which metrics `--fail-if-worse` asks, and the answer.
    """

    a: str
    b: str
    rows: tuple[dict[str, Any], ...]
    settings: tuple[Setting, ...] = ()
    judging: Judging = Judging()
    notes: tuple[str, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    gate: Gate = Gate()

    def __str__(self) -> str:
        return self.to_table()

    @property
    def comparable(self) -> bool:
        """Whether the two were scored alike."""
        return not any(setting.matters for setting in self.settings)

    @property
    def worse(self) -> bool:
        """Whether B is worse than A in a metric that the gate asks."""
        return bool(self.gate.worse)

    @property
    def decided(self) -> bool:
        """Whether every metric that the gate asks has a decided row, and it asks any."""
        return self.gate.decided

    def to_pandas(self) -> pd.DataFrame:
        """The rows: counts and levels are nullable integers, what is missing is NaN."""
        import pandas as pd

        frame = pd.DataFrame(list(self.rows), columns=list(COLUMNS))
        numbers = (
            "a",
            "b",
            "difference",
            "stderr",
            "low",
            "high",
            "p_value",
            "p_holm",
            "p_difference",
            "reals",
            "reals_stderr",
        )
        types = dict.fromkeys(("level", "n_real", "n_fake"), "Int64") | dict.fromkeys(numbers, "float64")
        tidy: pd.DataFrame = frame.astype(types)
        return tidy

    def to_csv(self) -> str:
        """The rows, raw values, missing ones empty."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue()

    def to_json(self) -> str:
        """Everything, as one object."""
        return dump_json(dataclasses.asdict(self), indent=1, ensure_ascii=False) + "\n"

    def to_table(self) -> str:
        """Aligned text for people, SWD times 1000 as the paper prints it."""
        grid = _grid(self)
        return "\n".join([aligned(grid, f"l{'r' * (len(grid[0]) - 2)}l"), "", *_captions(self)]) + "\n"

    def to_markdown(self) -> str:
        """The table of `to_table` in Markdown."""
        head, *body = _grid(self)
        marks = [":--", *("--:" for _ in head[2:]), ":--"]
        return "\n".join([*_markdown([head, marks, *body]), "", "<br>\n".join(_captions(self))]) + "\n"

    def explanation(self, format: str = "table") -> str:
        """Every setting in which the two differ: a table, or in Markdown."""
        if not self.settings:
            return "A and B were scored alike: no setting differs.\n"
        grid = [["setting", "A", "B", "moves numbers"]]
        grid += [[one.name, one.a, one.b, "yes" if one.matters else "no"] for one in self.settings]
        if format == "markdown":
            return "\n".join(_markdown([grid[0], [":--"] * 4, *grid[1:]])) + "\n"
        return aligned(grid, "llll") + "\n"

    def to_text(self, format: str) -> str:
        """As `table`, `csv`, `json` or `markdown`.

        Raises:
            OptionError: another format.
        """
        if format not in FORMATS:
            raise OptionError(f"comparisons are written as {', '.join(FORMATS)}, not {format!r}")
        text: str = getattr(self, f"to_{format}")()
        return text

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file in the format its suffix names, whole or not at all: .csv, .json, .md or .txt.

        Raises:
            OptionError: another suffix.
            PgmetricsError: the file cannot be written; the message says why.
        """
        write_whole(path, self.to_text(check_destination(path)).encode("utf-8", "backslashreplace"))


def compare(
    a: object,
    b: object,
    *,
    real: object | None = None,
    metrics: Sequence[str | Metric] | None = None,
    protocol: str | None = None,
    significance: float = 0.01,
    confidence: float = 0.95,
    permutations: int = 9999,
    seed: int = 0,
    explain: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Comparison:
    """Whether B is better than A, worse, or within noise of it, for each metric and level.

    Generated images are compared image by image: with equal latents or inputs at equal places the
    noise that they share cancels, and independent sets are compared as soundly, if less sharply.
    The p-value is that of an exact test: were A and B alike, the images of a place could be swapped.
    Results know their numbers and errors alone, and are compared as independent draws.

    Args:
        a, b: both sources of generated images, as `evaluate` takes them; or both results, as
            `Results` or the path of their file, with `#RUN` behind it where it holds several runs.
        real: the real images, for metrics that compare two sides. Of no use with results.
        metrics: names, or metrics with parameters of their own; "swd" and "ms-ssim", or all that
            both results have, if left out. MS-SSIM belongs to the gate, `Comparison.worse`, only if
            it is named here.
        protocol: compare only rows of this one, such as "at-final", where results hold several.
        significance: the probability of a false alarm over all rows together.
        confidence: of each interval.
        permutations: random swaps of the test; few images are swapped in every way.
        seed: of every random number.
        explain: give settings that differ instead of refusing to compare.
        progress: called with (what, done, total).
        options: any other of `evaluation.Options`, with sources.

    Raises:
        StateError: the results were made under unlike protocols; the message names the first
            setting that differs.
        OptionError: A is of one kind and B of another, or an option has no such value.
        SampleError, SourceError, WeightsError, PgmetricsError: as `evaluate` and `read_results`.
    """
    judging = Judging(significance, confidence, permutations, seed)
    kinds = [is_results(one) for one in (a, b)]
    if all(kinds):
        if options or real is not None:
            given = ", ".join(["real"] * (real is not None) + list(options))
            raise OptionError(f"results hold their numbers; {given} goes with sources of images")
        scores = [Scores.read(one) for one in (a, b)]
        if protocol is not None:
            scores = [one.under(protocol) for one in scores]
        return _compare_results(scores[0], scores[1], metrics, judging, explain)
    if protocol is not None:
        raise OptionError("a protocol is chosen among results; images are compared as they are")
    if any(kinds):
        which = " and ".join(
            f"{name(one)} holds {'results' if kind else 'images'}"
            for one, kind in zip((a, b), kinds, strict=True)
        )
        raise OptionError(f"{which}: compare two results, or two sources with their reals")
    if explain and (unlike := _unlike_sizes(a, b, options)):
        return Comparison(name(a), name(b), (), (unlike,), judging)
    return _compare_images((a, b), real, metrics, judging, progress, options)


def is_results(one: object) -> bool:
    """Whether that means results, rather than images: `Results`, their file, or a scored run's directory."""
    if isinstance(one, Results):
        return True
    if not isinstance(one, (str, os.PathLike)):
        return False
    path, _ = _path_and_run(one)
    return path.suffix.lower() in RESULT_SUFFIXES or (path / journal.FILE_NAME).is_file()


@dataclass(frozen=True)
class Scores:
    """The generated images' rows of one run, and how they came about.

    Attributes:
        name: what the run is called in messages.
        rows: by (metric, level, protocol).
        provenance: empty where the file has no place for it.
        reals: what the reals score themselves beside these rows, as far as the results say so.
    """

    name: str
    rows: Mapping[Key, Mapping[str, Any]]
    provenance: Mapping[str, Any]
    reals: Mapping[Key, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, one: object) -> Scores:
        """The scores that results hold of the one generated set in them, or of the one named by `#RUN`.

        Raises:
            OptionError: there are several and none is named, or the named one is not there.
            StateError, PgmetricsError: as `read_results`.
        """
        if isinstance(one, Results):
            return cls.of(one, name(one))
        assert isinstance(one, (str, os.PathLike))
        path, run = _path_and_run(one)
        return cls.of(read_results(path), os.fspath(one), run)

    @classmethod
    def of(cls, results: Results, called: str, run: str | None = None) -> Scores:
        """The scores of one run of a table.

        Raises:
            OptionError, StateError: as `read`.
        """
        fakes = [row for row in results.rows if row["subject"] == "fake"]
        runs = list(dict.fromkeys(row["run"] for row in fakes))
        if not runs:
            raise StateError(f"{called} holds no scores of generated images")
        if run is None and len(runs) > 1:
            raise OptionError(f"{called} holds {_some(runs)}; name one: {called}#{runs[0]}")
        if run is not None and run not in runs:
            raise OptionError(f"{called}: there is no run {run!r} in it; there are {_some(runs)}")
        label = run or runs[0]
        mine = [row for row in fakes if row["run"] == label]
        rows = {_key(row): row for row in mine}
        if len(rows) < len(mine):
            raise StateError(f"{called} holds scores of {label} at several seeds; compare one of each")
        found = {key: row_of_reals(row, results.rows, results.item) for key, row in rows.items()}
        reals = {key: row for key, row in found.items() if row is not None}
        return cls(called, rows, provenance_of(results, label), reals)

    @classmethod
    def by_run(cls, results: Results) -> dict[str, Scores]:
        """Those of every run in a table; the reals' where there are no generated images."""
        rows: dict[str, dict[Key, Mapping[str, Any]]] = {}
        for row in sorted(results.rows, key=lambda row: str(row["subject"]), reverse=True):
            if row["subject"] == "fake" or _key(row) not in rows.get(row["run"], {}):
                rows.setdefault(row["run"], {})[_key(row)] = row
        return {run: cls(run, mine, provenance_of(results, run)) for run, mine in rows.items()}

    @property
    def metrics(self) -> list[str]:
        """Names in the order of tables."""
        return metrics_in_order([metric for metric, _, _ in self.rows])

    def under(self, protocol: str) -> Scores:
        """Those made under one protocol, with whichever network.

        Raises:
            OptionError: there are none.
        """
        kept = {key: row for key, row in self.rows.items() if _base(key[2]) == protocol}
        if not kept:
            known = dict.fromkeys(_base(key[2]) or "no name" for key in self.rows)
            raise OptionError(f"{self.name} holds no scores {protocol}; it holds those {', '.join(known)}")
        return dataclasses.replace(self, rows=kept)

    def only(self, metrics: Sequence[str]) -> Scores:
        """Those of some metrics."""
        kept = {key: row for key, row in self.rows.items() if key[0] in metrics}
        return dataclasses.replace(self, rows=kept)


def differing_settings(a: Scores, b: Scores) -> list[Setting]:
    """In what A and B were scored differently, what moves numbers first; of the metrics that both have."""
    common = [metric for metric in a.metrics if metric in b.metrics]
    found = [*_row_settings(a, b, common)]
    mine, theirs = (_provenance_settings(one.only(common)) for one in (a, b))
    for setting in mine.keys() & theirs.keys():
        (value, matters), (other, _) = mine[setting], theirs[setting]
        if value != other:
            texts = _shown(value), _shown(other)
            if setting.startswith("real images"):
                texts = _explained(*texts)
            found.append(Setting(setting, *texts, matters))
    order = [*mine]
    found.sort(key=lambda one: (not one.matters, order.index(one.name) if one.name in order else -1))
    return found


def _row_settings(a: Scores, b: Scores, metrics: Sequence[str]) -> Iterator[Setting]:
    """What rows alone tell: protocols, levels, counts and seeds."""
    for metric in metrics:
        mine, theirs = ({key[1:]: row for key, row in one.rows.items() if key[0] == metric} for one in (a, b))
        protocols = [[protocol for _, protocol in keys] for keys in (mine, theirs)]
        shared = dict.fromkeys(one for one in protocols[0] if one in protocols[1])
        if not shared:
            yield Setting.of(f"{metric} protocol", protocols)
        for protocol in shared:
            what = f"{metric} {protocol}" if len(shared) > 1 else metric
            sides = [
                {key[0]: row for key, row in one.items() if key[1] == protocol} for one in (mine, theirs)
            ]
            levels = [sorted((level for level in one if level), reverse=True) for one in sides]
            if levels[0] != levels[1]:
                yield Setting.of(f"{what} levels", levels)
            common = [level for level in sides[0] if level in sides[1]]
            for count, side in (("n_real", "real"), ("n_fake", "generated")):
                if any(sides[0][level][count] != sides[1][level][count] for level in common):
                    numbers = [[_count(one[level][count]) for level in common] for one in sides]
                    yield Setting.of(f"{what} {side} images", numbers)
    seeds = [[row["seed"] for row in one.rows.values()] for one in (a, b)]
    if set(seeds[0]) != set(seeds[1]):
        yield Setting.of("seed", seeds, matters=False)


def _provenance_settings(scores: Scores) -> dict[str, tuple[Any, bool]]:
    """Value of each setting in the provenance, and whether it moves numbers, the weightiest first."""
    provenance = scores.provenance
    parameters = provenance.get("parameters", {})
    known = {name: (parameters[name], True) for name in _READING if name in parameters}
    networks = set()
    for metric, its in parameters.get("metrics", {}).items():
        if not _gives(metric, its, scores.metrics):
            continue
        networks.add(its.get("network"))
        known |= {f"{metric} {name}": (its[name], True) for name in its if name not in _HARMLESS_PARAMETERS}
    two_sided = any(row["n_real"] is not None for row in scores.rows.values())
    protocols = {_base(key[2]) for key in scores.rows}
    for side, source in provenance.get("sources", {}).items():
        if " " in side and side.partition(" ")[2] not in protocols:
            continue
        if side.startswith("real") and two_sided:
            images = _images(source, parameters, scores.metrics)
            known[side.replace("real", "real images", 1)] = (images or source.get("name"), True)
        if "height" in source:
            known[f"{side} resolution"] = (f"{source['height']}x{source['width']}", True)
    for network, its in provenance.get("networks", {}).items():
        if network in networks and isinstance(its, Mapping):
            known |= {f"{network} {name}": (value, True) for name, value in its.items()}
    known |= {f"version of {one}": (v, False) for one, v in provenance.get("versions", {}).items()}
    known |= {name: (provenance[name], False) for name in ("device", "threads") if name in provenance}
    if "block" in parameters:
        known["block"] = (parameters["block"], False)
    return known


def _explained(a: str, b: str) -> tuple[str, str]:
    """Say which of two sets an older version identified; the images themselves may be the same."""
    remark = " (identified by names and times, by an older version; score it again to compare)"
    if a.startswith(IDENTITY) == b.startswith(IDENTITY):
        return a, b
    return (a, b + remark) if a.startswith(IDENTITY) else (a + remark, b)


def _gives(metric: str, parameters: Mapping[str, Any], wanted: Sequence[str]) -> bool:
    """Whether a metric's numbers are among those wanted: prdc gives four, fid the bias of fid too."""
    return bool({metric, *parameters.get("names", ()), *_MORE_NUMBERS.get(metric, ())} & set(wanted))


_MORE_NUMBERS = {"memorisation": ("authpct", "ct"), "fid": ("fid-bias",), "fd": ("fd-bias",)}


def _compare_results(
    a: Scores,
    b: Scores,
    metrics: Sequence[str | Metric] | None,
    judging: Judging,
    explain: bool,
) -> Comparison:
    """Two results, as independent draws."""
    common = [metric for metric in a.metrics if metric in b.metrics]
    notes = [
        f"{one.name} holds {', '.join(more)}, which the other lacks: left out"
        for one in (a, b)
        if metrics is None and (more := [metric for metric in one.metrics if metric not in common])
    ]
    if metrics is not None:
        asked = [one if isinstance(one, str) else one.name for one in metrics]
        for one in (a, b):
            if missing := [metric for metric in asked if metric not in one.metrics]:
                raise OptionError(f"{one.name} holds {', '.join(one.metrics)}, not {', '.join(missing)}")
        common = asked
    if not common:
        raise StateError(
            f"nothing to compare: {a.name} holds {', '.join(a.metrics)}; "
            f"{b.name} holds {', '.join(b.metrics)}"
        )
    a, b = a.only(common), b.only(common)
    notes += [
        f"{one.name} does not say how its numbers were made: JSON has the provenance, and CSV has not"
        for one in (a, b)
        if not one.provenance
    ]
    settings = tuple(differing_settings(a, b))
    if any(setting.matters for setting in settings):
        if not explain:
            raise StateError(_unlike(a.name, b.name, settings, _alike_under(a, b)))
        return Comparison(a.name, b.name, (), settings, judging, tuple(notes))
    differences: list[Difference] = []
    protocols: list[str | None] = []
    reals: list[Score | None] = []
    reasons: dict[str, str] = {}
    for key in sorted(a.rows.keys() & b.rows.keys(), key=lambda key: _place(key, common)):
        rows = a.rows[key], b.rows[key]
        differences.append(uncertainty.independent_difference(*rows, judging.confidence))
        protocols.append(key[2])
        reals.append(_score_of_reals(a, b, key, judging.significance))
        if differences[-1].p_value is None and verdicts.is_score(key[0]):
            reasons[key[0]] = why_undecided(*rows)
    notes += [f"{metric} is undecided: {reason}" for metric, reason in reasons.items()]
    judged = _judged(differences, protocols, judging.significance, reals)
    no_reals = "the reals' own value is not known, or not the same; score both with the same --real SOURCE"
    gate = _gate(judged, reasons, no_reals, named=metrics is not None)
    return _told(Comparison(a.name, b.name, judged, settings, judging, _once(notes), gate=gate))


def _score_of_reals(a: Scores, b: Scores, key: Key, significance: float) -> Score | None:
    """What the reals of both score themselves; None if it is not known, or they are other reals."""
    rows = [one.reals[key] for one in (a, b) if key in one.reals]
    known = [images for one in (a, b) if (images := _real_images(one.provenance, key))]
    if not rows or len(set(known)) > 1:
        return None
    found = [Score.of(row) for row in rows]
    first, last = found[0], found[-1]
    if first == last:
        return first
    # Other seeds take other pairs and halves of the same reals.
    error = hypot(first.stderr or 0.0, last.stderr or 0.0)
    if abs(first.value - last.value) > verdicts.reach(significance) * error:
        return None
    errors = [one.stderr for one in found if one.stderr is not None]
    return Score((first.value + last.value) / 2, max(errors) if len(errors) == len(found) else None)


def _real_images(provenance: Mapping[str, Any], key: Key) -> str | None:
    """Which real images were taken for a row, if the provenance says so."""
    sources = provenance.get("sources", {})
    source = sources.get("real") or sources.get(f"real {_base(key[2])}") or {}
    return _images(source, provenance.get("parameters", {}), [key[0]]) or None


def _images(source: Mapping[str, Any], parameters: Mapping[str, Any], metrics: Sequence[str]) -> str:
    """What identifies the real images that numbers of these metrics are of; empty where nobody said.

    Other metrics may have taken more. Mirroring is a setting of its own; its coins come from the seed.
    """
    every = source.get("fingerprint", "")
    of_metrics = source.get("metrics", {})
    taken = [
        of_metrics.get(metric, every)
        for metric, its in parameters.get("metrics", {}).items()
        if _gives(metric, its, metrics)
    ]
    images = " and ".join(dict.fromkeys(taken or [every]))
    return re.sub(r"\+mirror(:\w+|,seed=\d+)", "+mirror", images)


def why_undecided(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    """Why two rows of results cannot be told apart from noise, and the way out."""
    kinds = list(dict.fromkeys(row["stderr_kind"] if row["stderr"] is not None else None for row in (a, b)))
    if all(map(is_over_images, kinds)) and a["seed"] != b["seed"]:
        return (
            f"its error holds for the directions of one seed, and the seeds are {a['seed']} and {b['seed']}; "
            "score with one --seed, or with pgmetrics evaluate ... --error both"
        )
    if a["metric"] in _UNTESTED:
        return f"there is no test of it; leave {a['metric']} out of the metrics"
    what = " and ".join(f"one over {kind}" if kind else "none" for kind in kinds)
    others = a["metric"] in _WITH_OTHER_ERRORS
    way_out = " score with pgmetrics evaluate ... --error images, or" if others else ""
    return f"it takes errors over images, and the results hold {what};{way_out} compare the images themselves"


def _no_test_of_images(metric: str) -> str:
    """Why a metric of images is undecided, and the fix."""
    fix = f"leave {metric} out of the metrics"
    if metric not in _UNTESTED:
        fix += ", or compare results of pgmetrics evaluate, which hold its error"
    return f"there is no test of it image by image; {fix}"


def _unlike_sizes(a: object, b: object, options: Mapping[str, Any]) -> Setting | None:
    """That the images of two sources differ in size."""
    reading = {key: options.get(key) for key in ("resolution", "resize", "alpha", "bits")}
    sizes = ["{}x{}".format(*open_source(one, **reading).resolution) for one in (a, b)]
    return Setting("resolution", sizes[0], sizes[1], True) if sizes[0] != sizes[1] else None


def _compare_images(
    fakes: tuple[object, object],
    real: object | None,
    metrics: Sequence[str | Metric] | None,
    judging: Judging,
    progress: Progress | None,
    options: Mapping[str, Any],
) -> Comparison:
    """Two generated sets, image by image."""
    chosen = [_paired(one, options.get("preset")) for one in metrics or ("swd", "ms-ssim")]
    observed = observe(real, fakes, chosen, names=("A", "B"), seed=judging.seed, progress=progress, **options)
    differences: list[Difference] = []
    protocols: list[str | None] = []
    reals: list[Score | None] = []
    reasons: dict[str, str] = {}
    total = len(observed.observations)
    for index, one in enumerate(observed.observations):
        if progress is not None:
            progress(f"comparing {one.metric.name}", index, total)
        found = uncertainty.paired_differences(
            one.metric,
            one.real if one.metric.two_sided else None,
            *one.fakes,
            seed=judging.seed,
            permutations=judging.permutations,
            confidence=judging.confidence,
        )
        differences += found
        protocols += [one.protocol] * len(found)
        own = {} if one.metric.two_sided or one.real is None else _scores_of_set(one.metric, one.real)
        reals += [own.get((each.metric, each.level)) for each in found]
        reasons |= {
            each.metric: _no_test_of_images(each.metric)
            for each in found
            if each.p_value is None and verdicts.is_score(each.metric)
        }
    if progress is not None:
        progress("comparing", total, total)
    notes = [*observed.notes, *(f"{metric} is undecided: {reason}" for metric, reason in reasons.items())]
    notes += _too_few(differences, judging)
    provenance = {**observed.provenance, "permutations": judging.permutations}
    rows = _judged(differences, protocols, judging.significance, reals)
    no_reals = "the reals' own value is not known; --real SOURCE gives it"
    gate = _gate(rows, reasons, no_reals, _powerless(differences, judging), named=metrics is not None)
    return _told(
        Comparison(name(fakes[0]), name(fakes[1]), rows, (), judging, _once(notes), provenance, gate)
    )


def _scores_of_set(metric: Metric, reals: State) -> dict[tuple[str, int | None], Score]:
    """What a metric of one set says of the reals, with errors over images."""
    errors = {
        (one.metric, one.level): uncertainty.stderr(one) for one in metric.influences(real=reals, fake=None)
    }
    estimates, _ = metric.compute(real=reals, fake=None)
    return {
        (one.metric, one.level): Score(one.value, errors.get((one.metric, one.level))) for one in estimates
    }


def _too_few(differences: Sequence[Difference], judging: Judging) -> list[str]:
    """A sentence if even the clearest difference could not be told from noise."""
    tested = [one for one in differences if one.p_value is not None]
    least = max((_least_p_value(one, judging) for one in tested), default=0.0)
    if least * len(tested) <= judging.significance:
        return []
    return [
        "no difference can be told from noise here: with so few images or permutations p is at least "
        f"{least:.2g}, and Holm's correction for {len(tested)} rows multiplies it by as much"
    ]


def _powerless(differences: Sequence[Difference], judging: Judging) -> dict[str, str]:
    """The metrics whose test could not have found any difference, each with what would let it."""
    tested = [one for one in differences if one.p_value is not None]
    found = {}
    for one in tested:
        if _least_p_value(one, judging) * len(tested) > judging.significance:
            odds = len(tested) / judging.significance
            images = _swapped_together(one) * (1 + ceil(log2(odds)))
            found[one.metric] = (
                "no difference could be told from noise with so few images or permutations; "
                f"give at least {images} images of each and --permutations {ceil(odds) - 1}"
            )
    return found


def _least_p_value(one: Difference, judging: Judging) -> float:
    """The smallest p-value that swaps of so many images can give."""
    # A swap of all changes the sign alone, so two in 2^n reach furthest.
    swapped = (one.n_fake or 0) // _swapped_together(one)
    return max(1 / (1 + judging.permutations), 2.0 ** (1 - swapped))


def _swapped_together(one: Difference) -> int:
    """Images that a swap takes at once: MS-SSIM swaps its pairs."""
    return 2 if one.metric == "ms-ssim" else 1


def _paired(one: str | Metric, preset: str | None) -> Metric:
    """The metric, remembering images one by one where it would keep their sums alone."""
    if preset is not None and preset not in PRESETS:
        raise OptionError(f"there is no preset {preset!r}; there are {', '.join(PRESETS)}")
    found = PRESETS[preset].metric(one) if preset else find_metric(one)
    return dataclasses.replace(found, keep_rows=True) if isinstance(found, FrechetDistance) else found


def _judged(
    differences: Sequence[Difference],
    protocols: Sequence[str | None],
    significance: float,
    reals: Sequence[Score | None] | None = None,
) -> tuple[dict[str, Any], ...]:
    """A row with its verdict for each difference; fid-bias and its like are no scores.

    Args:
        differences: of B and A.
        protocols: of each difference.
        significance: level of all tests together.
        reals: what the reals score themselves, for each difference; None where it is not known.
    """
    known = reals or [None] * len(differences)
    kept = [
        each
        for each in zip(differences, protocols, known, strict=True)
        if each[0].p_value is not None or verdicts.is_score(each[0].metric)
    ]
    p_values = _corrected([one.p_value for one, _, _ in kept])
    p_differences = _corrected([one.p_difference for one, _, _ in kept])
    rows = []
    for (one, protocol, own), p_holm, p_difference in zip(kept, p_values, p_differences, strict=True):
        adjusted = {"p_holm": p_holm, "p_difference": p_difference}
        row = {**dataclasses.asdict(one), "protocol": protocol, **adjusted}
        row["verdict"] = found = verdicts.verdict(
            one.metric,
            *one.scores,
            p_value=p_holm,
            # A number without an error is not sure to be better.
            p_difference=1.0 if p_difference is None else p_difference,
            reals=own,
            significance=significance,
        )
        row |= _beside_reals(one, found, verdicts.limit(one.metric, own), significance)
        rows.append({column: row[column] for column in COLUMNS})
    return tuple(rows)


def _corrected(p_values: Sequence[float | None]) -> list[float | None]:
    """By Holm, for those that there are."""
    adjusted = iter(uncertainty.holm([p for p in p_values if p is not None]))
    return [None if p is None else next(adjusted) for p in p_values]


def _beside_reals(
    one: Difference, found: Verdict, reals: Score | None, significance: float
) -> dict[str, Any]:
    """The columns about the reals' own value, None where it does not belong to the verdict."""
    a, b = one.scores
    near = None
    if reals is not None and found in ("less varied", "more varied"):
        near = verdicts.nearer(a, b, reals, significance)
    return {
        "reals": None if reals is None else reals.value,
        "reals_stderr": None if reals is None else reals.stderr,
        "a_beside_reals": verdicts.variety(one.metric, a, reals, significance),
        "b_beside_reals": verdicts.variety(one.metric, b, reals, significance),
        "nearer": near,
    }


def _gate(
    rows: Sequence[Mapping[str, Any]],
    reasons: Mapping[str, str],
    no_reals: str,
    powerless: Mapping[str, str] | None = None,
    *,
    named: bool,
) -> Gate:
    """What `--fail-if-worse` asks of the rows.

    Args:
        rows: with their verdicts.
        reasons: why metrics have rows that are undecided, and the fix.
        no_reals: the same of numbers whose goal is the reals' own value, where that is not known.
        powerless: the same of metrics that no test could have decided.
        named: whether the user named the metrics.
    """
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    asked = [metric for metric in metrics if verdicts.is_asked(metric, named)]
    worse, undecided = [], {}
    for metric in asked:
        effects = {_effect(row) for row in rows if row["metric"] == metric}
        if "worse" in effects:
            worse.append(metric)
        elif effects == {"undecided"}:
            of_reals = verdicts.direction(metric).aim is Aim.REALS
            undecided[metric] = reasons.get(metric, no_reals if of_reals else _NO_ERROR)
        elif powerless and metric in powerless:
            undecided[metric] = powerless[metric]
    others = tuple(metric for metric in metrics if metric not in asked and verdicts.is_score(metric))
    return Gate(tuple(asked), others, tuple(worse), undecided)


def _effect(row: Mapping[str, Any]) -> verdicts.Effect:
    """What a row means for a gate that asks its metric."""
    if row["verdict"] == "different" and row["p_difference"] is None:
        # The test of images found a difference, and without an error nothing tells which set is better.
        return "undecided"
    reals = None if row["reals"] is None else Score(row["reals"], row["reals_stderr"])
    return verdicts.effect(row["metric"], row["verdict"], reals, row["nearer"])


def _alike_under(a: Scores, b: Scores) -> str | None:
    """One of several protocols by itself under which both were scored alike, if there is one."""
    mine, theirs = (dict.fromkeys(_base(key[2]) for key in one.rows) for one in (a, b))
    if len(mine) == len(theirs) == 1:
        return None
    for protocol in mine:
        if protocol is not None and protocol in theirs:
            settings = differing_settings(a.under(protocol), b.under(protocol))
            if not any(setting.matters for setting in settings):
                return protocol
    return None


def _unlike(a: str, b: str, settings: Sequence[Setting], alike_under: str | None = None) -> str:
    """The refusal: the first setting that matters, and how many more there are."""
    first, *more = [setting for setting in settings if setting.matters]
    others = f", and {len(more)} more (--explain lists all)" if more else ""
    way_out = f"--protocol {alike_under} takes what was scored alike" if alike_under else "score both alike"
    return (
        f"{a} and {b} were scored differently: {first.name}: {first.a} in A, {first.b} in B{others}; "
        f"{way_out}, or compare their images: pgmetrics compare FAKES FAKES --real SOURCE"
    )


def _told(comparison: Comparison) -> Comparison:
    """The same, its notes given to whoever listens."""
    for note in comparison.notes:
        logger.warning(note)
    return comparison


def provenance_of(results: Results, run: str) -> dict[str, Any]:
    """Of one run of several.

    Of a store the settings are the parameters of all its runs, and a source is called by its side and
    the protocol under which it was scored: "real at-final".
    """
    provenance = results.provenance
    if "runs" not in provenance:
        return provenance
    mine = dict(provenance["runs"].get(run, {}))
    if "settings" not in provenance:
        return mine
    sources = {
        f"{side} {protocol}": source
        for protocol, sides in mine.get("sources", {}).items()
        for side, source in sides.items()
    }
    return {**mine, "parameters": provenance["settings"], "sources": sources}


def _base(protocol: str | None) -> str | None:
    """The protocol without the network that a metric of features adds to it."""
    return None if protocol is None else protocol.partition(",")[0]


def _path_and_run(one: str | os.PathLike[str]) -> tuple[Path, str | None]:
    text = os.fspath(one)
    path, mark, run = text.rpartition("#")
    # What exists is meant, whatever signs its name contains.
    return (Path(path), run) if mark and not os.path.lexists(text) else (Path(text), None)


def name(one: object) -> str:
    """What people call a set or a result: a path as written, else the kind of object."""
    if isinstance(one, (str, os.PathLike)):
        return os.fsdecode(os.fspath(one))
    if isinstance(one, Results):
        runs = dict.fromkeys(row["run"] for row in one.rows if row["subject"] == "fake")
        return next(iter(runs)) if len(runs) == 1 else "the table"
    called = getattr(one, "name", None)
    return called if isinstance(called, str) else type(one).__name__


def _key(row: Mapping[str, Any]) -> Key:
    return row["metric"], row["level"], row["protocol"]


def _place(key: Key, metrics: Sequence[str]) -> tuple[Any, ...]:
    """Metrics in the order given, levels from the finest to the coarsest, then the mean."""
    metric, level, protocol = key
    return metrics.index(metric), protocol or "", -(level or 0)


def _once(notes: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(notes))


def _some(runs: Sequence[str], most: int = 4) -> str:
    names = ", ".join(runs[:most])
    return f"{len(runs)} generated sets: {names}{', ...' if len(runs) > most else ''}"


def _count(n: int | None) -> str:
    return _ABSENT if n is None else f"{n:,}"


def _shown(value: object) -> str:
    return _ABSENT if value is None else str(value)


# Tables for people.


def aligned(grid: Sequence[Sequence[str]], sides: str) -> str:
    """Lines of cells under each other; a column's letter says on which side they meet, l or r."""
    grid = [list(map(printable, line)) for line in grid]
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if side == "l" else cell.rjust(width)
            for cell, width, side in zip(line, widths, sides, strict=True)
        ).rstrip()
        for line in grid
    )


def _grid(comparison: Comparison) -> list[list[str]]:
    """The header, and a line of cells for each row."""
    interval = f"{comparison.judging.confidence:.0%} interval".replace("%", " %")
    beside = any(row["reals"] is not None for row in comparison.rows)
    grid = [["", "A", "B", *(["reals"] if beside else []), "B - A", interval, "p", "verdict"]]
    for row in comparison.rows:
        look = style(row["metric"])
        a, b = (format(row[one] * look.scale, look.format) for one in ("a", "b"))
        own = _ABSENT if row["reals"] is None else format(row["reals"] * look.scale, look.format)
        difference, low, high = (
            _ABSENT if row[one] is None else format(row[one] * look.scale, f"+{look.format}")
            for one in ("difference", "low", "high")
        )
        span = _ABSENT if row["low"] is None else f"{low} to {high}"
        p = _ABSENT if row["p_holm"] is None else f"{row['p_holm']:.4f}"
        cells = [a, b, *([own] if beside else []), difference, span, p, _in_full(row)]
        grid.append([_title(row, comparison.rows), *cells])
    return grid


def _title(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    mine = [other for other in rows if other["metric"] == row["metric"]]
    title = style(row["metric"]).title
    if len({other["protocol"] for other in mine}) > 1:
        title += f" ({row['protocol']})"
    levels = {other["level"] for other in mine}
    return f"{title} {row['level'] or 'Avg'}" if len(levels) > 1 else title


def _captions(comparison: Comparison) -> list[str]:
    """What A and B are, how many images there were, and what p is."""
    lines = [f"A: {printable(comparison.a)}", f"B: {printable(comparison.b)}"]
    counts = {row["n_fake"] for row in comparison.rows if row["n_fake"]}
    if counts:
        low, high = min(counts), max(counts)
        lines.append(f"{low:,} images of each" if low == high else f"{low:,} to {high:,} images of each")
    tests = dict.fromkeys(row["test"] for row in comparison.rows if row["p_holm"] is not None)
    explained = {
        "swaps of pairs": "an exact test that swaps the images of a place",
        "Student's t": "Student's distribution, as of independent draws",
    }
    tested = sum(row["p_holm"] is not None for row in comparison.rows)
    if tests:
        how = " and ".join(explained.get(test, test) for test in tests)
        over = f", corrected for {tested} rows (Holm)" if tested > 1 else ""
        lines.append(
            f"p by {how}{over}; B is called better or worse where p ≤ {comparison.judging.significance:g} "
            "and the difference, by its error over images of A, B and the reals, is as sure"
        )
        if any(row["verdict"] == "different" for row in comparison.rows):
            lines.append("different: the sets are not alike, and which is better is open")
    lines += [_about_variety(row, comparison.rows) for row in comparison.rows if _is_of_variety(row)]
    return lines


def _in_full(row: Mapping[str, Any]) -> str:
    """The verdict of B against A, and of MS-SSIM where B stands beside the reals."""
    text: str = row["verdict"]
    if text in ("less varied", "more varied"):
        text += " than A"
    beside = row["b_beside_reals"]
    return f"{text}; {verdicts.beside_reals(beside)}" if beside else text


def _is_of_variety(row: Mapping[str, Any]) -> bool:
    return verdicts.direction(row["metric"]).aim is Aim.REALS


def _about_variety(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Where A and B stand beside the reals."""
    title = _title(row, rows)
    if row["a_beside_reals"] is None or row["b_beside_reals"] is None:
        return f"{title}: neither way is better; the reals' own value is the measure, which --real gives"
    text = f"{title}: A is {verdicts.beside_reals(row['a_beside_reals'])}, B is {row['b_beside_reals']}"
    return f"{text}; {row['nearer']} is nearer to them" if row["nearer"] else text


def _markdown(grid: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(markdown_text(cell) for cell in line) + " |" for line in grid]
