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
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pgmetrics import journal, uncertainty
from pgmetrics.errors import OptionError, StateError
from pgmetrics.evaluation import observe
from pgmetrics.files import dump_json
from pgmetrics.metrics.base import Metric
from pgmetrics.metrics.fid import FrechetDistance
from pgmetrics.metrics.registry import metric as find_metric
from pgmetrics.planning import Progress
from pgmetrics.presets import PRESETS
from pgmetrics.results import Results, read_results
from pgmetrics.results.files import check_destination, write_whole
from pgmetrics.results.tables import metrics_in_order, style
from pgmetrics.sources.resolve import open_source
from pgmetrics.uncertainty import HIGHER_IS_BETTER, OVER_IMAGES, Difference

if TYPE_CHECKING:
    import pandas as pd

Key = tuple[str, "int | None", "str | None"]  # metric, level, protocol
Verdict = Literal["better", "worse", "different", "within noise", "undecided"]

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
    "test",
    "verdict",
    "n_real",
    "n_fake",
)
FORMATS = ("table", "csv", "json", "markdown")
RESULT_SUFFIXES = (".json", ".csv", ".jsonl", ".parquet")

# They decide how many images are taken, which the counts say, or what an error is taken over.
_HARMLESS_PARAMETERS = ("num_images", "num_pairs", "error", "keep_rows")
_READING = ("mirror", "preset", "resolution", "resize", "alpha", "bits")
_ABSENT = "-"
_WITH_OTHER_ERRORS = frozenset({"swd", "is", "precision", "recall", "density", "coverage"})

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
class Comparison:
    """What differs between A and B, by how much more than noise.

    Attributes:
        a, b: what the two are called.
        rows: dictionaries with the keys of `COLUMNS`, one per metric and level, values raw:
            `difference` is b - a, `low` to `high` its interval, `p_holm` the p-value after Holm's
            correction over the rows. `verdict` is of B against A: "better" or "worse"
            where p_holm is at most `judging.significance` and the interval leaves out 0; "different"
            where only the first holds (the sets differ, and which is nearer to the reals is open),
            or the number has no good direction; else "within noise"; "undecided" where there is no
            sound p-value.
        settings: in which the ways that the two were scored differ.
        notes: sentences that a reader must know.
        provenance: how the comparison came about.
    """

    a: str
    b: str
    rows: tuple[dict[str, Any], ...]
    settings: tuple[Setting, ...] = ()
    judging: Judging = Judging()
    notes: tuple[str, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.to_table()

    @property
    def comparable(self) -> bool:
        """Whether the two were scored alike."""
        return not any(setting.matters for setting in self.settings)

    @property
    def worse(self) -> bool:
        """Whether B is worse than A in any row."""
        return any(row["verdict"] == "worse" for row in self.rows)

    @property
    def decided(self) -> bool:
        """Whether any row has a verdict."""
        return any(row["verdict"] != "undecided" for row in self.rows)

    def to_pandas(self) -> pd.DataFrame:
        """The rows: counts and levels are nullable integers, what is missing is NaN."""
        import pandas as pd

        frame = pd.DataFrame(list(self.rows), columns=list(COLUMNS))
        numbers = ("a", "b", "difference", "stderr", "low", "high", "p_value", "p_holm")
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
        return "\n".join([aligned(_grid(self), "lrrrrrl"), "", *_captions(self)]) + "\n"

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
        write_whole(path, self.to_text(check_destination(path)).encode())


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
            both results have, if left out.
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
    """

    name: str
    rows: Mapping[Key, Mapping[str, Any]]
    provenance: Mapping[str, Any]

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
        return cls(called, rows, provenance_of(results, label))

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
            found.append(Setting(setting, _shown(value), _shown(other), matters))
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
            # The mirroring itself is a setting of its own; its coins come from the seed.
            images = re.sub(r"\+mirror,seed=\d+", "+mirror", source.get("fingerprint", ""))
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
    differences, protocols = [], []
    for key in sorted(a.rows.keys() & b.rows.keys(), key=lambda key: _place(key, common)):
        rows = a.rows[key], b.rows[key]
        differences.append(uncertainty.independent_difference(*rows, judging.confidence))
        protocols.append(key[2])
        if differences[-1].p_value is None and HIGHER_IS_BETTER.get(key[0]) is not None:
            notes.append(f"{key[0]} is undecided: {why_undecided(*rows)}")
    judged = _judged(differences, protocols, judging.significance)
    return _told(Comparison(a.name, b.name, judged, settings, judging, _once(notes)))


def why_undecided(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    """Why two rows of results cannot be told apart from noise, and the way out."""
    kinds = list(dict.fromkeys(row["stderr_kind"] if row["stderr"] is not None else None for row in (a, b)))
    if set(kinds) <= OVER_IMAGES and a["seed"] != b["seed"]:
        return (
            f"its error holds for the directions of one seed, and the seeds are {a['seed']} and {b['seed']}"
        )
    what = " and ".join(f"one over {kind}" if kind else "none" for kind in kinds)
    way_out = " score with --error images, or" if a["metric"] in _WITH_OTHER_ERRORS else ""
    return f"it takes errors over images, and the results hold {what};{way_out} compare the images themselves"


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
    notes: list[str] = []
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
        notes += [
            f"{each.metric} is undecided: there is no test of it"
            for each in found
            if each.p_value is None and HIGHER_IS_BETTER.get(each.metric) is not None
        ]
    if progress is not None:
        progress("comparing", total, total)
    notes += _too_few(differences, judging)
    provenance = {**observed.provenance, "permutations": judging.permutations}
    rows = _judged(differences, protocols, judging.significance)
    return _told(Comparison(name(fakes[0]), name(fakes[1]), rows, (), judging, _once(notes), provenance))


def _too_few(differences: Sequence[Difference], judging: Judging) -> list[str]:
    """A sentence if even the clearest difference could not be told from noise."""
    tested = [one for one in differences if one.p_value is not None]
    # MS-SSIM swaps pairs of images. A swap of all changes the sign alone, so two in 2^n reach furthest.
    swapped = [(one.n_fake or 0) // (2 if one.metric == "ms-ssim" else 1) for one in tested]
    least = max([1 / (1 + judging.permutations), *(2.0 ** (1 - n) for n in swapped)])
    if least * len(tested) <= judging.significance:
        return []
    return [
        "no difference can be told from noise here: with so few images or permutations p is at least "
        f"{least:.2g}, and Holm's correction for {len(tested)} rows multiplies it by as much"
    ]


def _paired(one: str | Metric, preset: str | None) -> Metric:
    """The metric, remembering images one by one where it would keep their sums alone."""
    if preset is not None and preset not in PRESETS:
        raise OptionError(f"there is no preset {preset!r}; there are {', '.join(PRESETS)}")
    found = PRESETS[preset].metric(one) if preset else find_metric(one)
    return dataclasses.replace(found, keep_rows=True) if isinstance(found, FrechetDistance) else found


def _judged(
    differences: Sequence[Difference], protocols: Sequence[str | None], significance: float
) -> tuple[dict[str, Any], ...]:
    """A row with its verdict for each difference; fid-bias and its like are no scores."""
    pairs = [
        (one, protocol)
        for one, protocol in zip(differences, protocols, strict=True)
        if one.p_value is not None or HIGHER_IS_BETTER.get(one.metric) is not None
    ]
    tested = [one.p_value for one, _ in pairs if one.p_value is not None]
    corrected = iter(uncertainty.holm(tested))
    rows = []
    for one, protocol in pairs:
        p_holm = None if one.p_value is None else next(corrected)
        row = {**dataclasses.asdict(one), "protocol": protocol, "p_holm": p_holm}
        row["verdict"] = _verdict(one, p_holm, significance)
        rows.append({column: row[column] for column in COLUMNS})
    return tuple(rows)


def _verdict(one: Difference, p_holm: float | None, significance: float) -> Verdict:
    if p_holm is None:
        return "undecided"
    if p_holm > significance:
        return "within noise"
    higher_is_better = HIGHER_IS_BETTER.get(one.metric)
    # The test of images asks whether the sets are alike; sets that differ may be as far from the reals.
    open_ended = one.low is not None and one.high is not None and one.low <= 0 <= one.high
    if higher_is_better is None or open_ended:
        return "different"
    return "better" if (one.difference > 0) == higher_is_better else "worse"


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
    grid = [["", "A", "B", "B - A", interval, "p", "verdict"]]
    for row in comparison.rows:
        look = style(row["metric"])
        a, b = (format(row[one] * look.scale, look.format) for one in ("a", "b"))
        difference, low, high = (
            _ABSENT if row[one] is None else format(row[one] * look.scale, f"+{look.format}")
            for one in ("difference", "low", "high")
        )
        span = _ABSENT if row["low"] is None else f"{low} to {high}"
        p = _ABSENT if row["p_holm"] is None else f"{row['p_holm']:.4f}"
        grid.append([_title(row, comparison.rows), a, b, difference, span, p, row["verdict"]])
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
    lines = [f"A: {comparison.a}", f"B: {comparison.b}"]
    counts = {row["n_fake"] for row in comparison.rows if row["n_fake"]}
    if counts:
        low, high = min(counts), max(counts)
        lines.append(f"{low:,} images of each" if low == high else f"{low:,} to {high:,} images of each")
    tests = dict.fromkeys(row["test"] for row in comparison.rows if row["p_holm"] is not None)
    explained = {
        "swaps of pairs": "an exact test that swaps the images of a place",
        "normal": "the normal distribution, as of independent draws",
    }
    tested = sum(row["p_holm"] is not None for row in comparison.rows)
    if tests:
        how = " and ".join(explained.get(test, test) for test in tests)
        over = f", corrected for {tested} rows (Holm)" if tested > 1 else ""
        lines.append(
            f"p by {how}{over}; B is called better or worse where p ≤ {comparison.judging.significance:g} "
            "and the interval leaves out 0"
        )
        if any(row["verdict"] == "different" for row in comparison.rows):
            lines.append("different: the sets are not alike, and which is better is open")
    return lines


def _markdown(grid: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in grid]
