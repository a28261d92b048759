"""The table of a comparison: its rows, its formats and its captions."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pgmetrics.comparison.settings import ABSENT, Setting
from pgmetrics.errors import OptionError, check_number, markdown_text, printable
from pgmetrics.metrics.outputs import Aim
from pgmetrics.metrics.registry import output
from pgmetrics.results.files import check_destination, csv_text
from pgmetrics.runtime.files import dump_json, write_whole
from pgmetrics.uncertainty import verdicts

if TYPE_CHECKING:
    import pandas as pd

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
_COUNTS = ("level", "n_real", "n_fake")
_TEXTS = ("metric", "protocol", "test", "verdict", "a_beside_reals", "b_beside_reals", "nearer")
FORMATS = ("table", "csv", "json", "markdown")


@dataclass(frozen=True)
class Judging:
    """The parameters that decide whether a difference is noise.

    Attributes:
        significance: probability of calling any row better or worse if all differences are noise.
        confidence: confidence level of each interval by itself.
        permutations: number of random swaps in the test of two sets of images.
        seed: seed of the swaps.

    Raises:
        OptionError: a parameter is out of its range.
    """

    significance: float = 0.01
    confidence: float = 0.95
    permutations: int = 9999
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("significance", "confidence"):
            check_number(f"{name}, a probability,", getattr(self, name), 0, 1, open_low=True, open_high=True)
        check_number("permutations of a test", self.permutations, 1, 10**8, whole=True)


@dataclass(frozen=True)
class Gate:
    """The decision of `--fail-if-worse` about a comparison.

    Attributes:
        asked: the metrics that it depends on: all that improve in one direction, and MS-SSIM if it is named.
        not_asked: the other metrics that have rows.
        worse: the asked metrics in which B is worse; for MS-SSIM, farther from the reals' own value.
        undecided: the asked metrics with an undecided row and no row that is better or worse, each with the
            reason and the fix.
    """

    asked: tuple[str, ...] = ()
    not_asked: tuple[str, ...] = ()
    worse: tuple[str, ...] = ()
    undecided: Mapping[str, str] = field(default_factory=dict)

    @property
    def decided(self) -> bool:
        """Whether any metric is asked and all asked metrics are decided."""
        return bool(self.asked) and not self.undecided

    def line(self, naming: str = "with --metrics") -> str:
        """Say which metrics are asked, which are not, and how to include the others."""
        text = f"gate: {', '.join(self.asked) or 'no metric'}"
        if self.not_asked:
            them = "it" if len(self.not_asked) == 1 else "them"
            text += f"; not asked: {', '.join(self.not_asked)} (name {them} {naming} to include {them})"
        return text


@dataclass(frozen=True)
class Comparison:
    """The differences between A and B, with intervals, p-values and verdicts.

    Attributes:
        a, b: the names of the two.
        rows: dictionaries with the keys of `COLUMNS` and raw values, one per metric and level.
            `difference` is b - a, and `low` to `high` is its interval. `p_holm` is the p-value after Holm's
            correction over the rows. `p_difference`, corrected likewise, is the p-value of the hypothesis
            that the number has equal expectations for A and B, whose distributions may differ. `verdict`
            judges B against A, see `verdicts.verdict`: "better" or "worse" if both p-values are at most
            `judging.significance`, for MS-SSIM "less varied" or "more varied" (than A) instead; "different"
            if only `p_holm` is, or if it is open which set is better; "undecided" without a sound p-value;
            otherwise "within noise". `reals` and `reals_stderr` are the reals' own score and its error, if
            the verdict depends on them. For MS-SSIM, `a_beside_reals` and `b_beside_reals` say whether a set
            is "as varied", "less varied" or "more varied" than the reals, and `nearer` says which set is
            nearer to them.
        settings: the settings that differ between the scoring of A and of B.
        notes: sentences that a reader must know.
        provenance: provenance of the comparison.
        gate: the decision of `--fail-if-worse`.
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
        """Whether A and B were scored without a difference in settings that change numbers."""
        return not any(setting.matters for setting in self.settings)

    @property
    def worse(self) -> bool:
        """Whether B is worse than A in a metric that the gate asks."""
        return bool(self.gate.worse)

    @property
    def decided(self) -> bool:
        """Whether the gate asks any metric and all metrics that it asks are decided."""
        return self.gate.decided

    def to_pandas(self) -> pd.DataFrame:
        """Return the rows as a frame: counts and levels are nullable integers, missing values are NaN."""
        import pandas as pd

        frame = pd.DataFrame(list(self.rows), columns=list(COLUMNS))
        numbers = [name for name in COLUMNS if name not in (*_COUNTS, *_TEXTS)]
        types = dict.fromkeys(_COUNTS, "Int64") | dict.fromkeys(numbers, "float64")
        tidy: pd.DataFrame = frame.astype(types)
        return tidy

    def to_csv(self) -> str:
        """Return the rows as CSV with raw values; missing values are empty."""
        return csv_text(COLUMNS, self.rows)

    def to_json(self) -> str:
        """Return everything as one JSON object."""
        return dump_json(dataclasses.asdict(self), indent=1, ensure_ascii=False) + "\n"

    def to_table(self) -> str:
        """Return an aligned table for people, with SWD times 1000 as in the paper."""
        grid = _grid(self)
        return "\n".join([aligned(grid, f"l{'r' * (len(grid[0]) - 2)}l"), "", *_captions(self)]) + "\n"

    def to_markdown(self) -> str:
        """Return the table of `to_table` in Markdown."""
        head, *body = _grid(self)
        marks = [":--", *("--:" for _ in head[2:]), ":--"]
        return "\n".join([*_markdown([head, marks, *body]), "", "<br>\n".join(_captions(self))]) + "\n"

    def explanation(self, format: str = "table") -> str:
        """Return the settings in which the two differ, as an aligned table or in Markdown."""
        if not self.settings:
            return "A and B were scored alike: no setting differs.\n"
        grid = [["setting", "A", "B", "moves numbers"]]
        grid += [[one.name, one.a, one.b, "yes" if one.matters else "no"] for one in self.settings]
        if format == "markdown":
            return "\n".join(_markdown([grid[0], [":--"] * 4, *grid[1:]])) + "\n"
        return aligned(grid, "llll") + "\n"

    def to_text(self, format: str) -> str:
        """Return the comparison as `table`, `csv`, `json` or `markdown`.

        Raises:
            OptionError: there is no such format.
        """
        if format not in FORMATS:
            raise OptionError(f"comparisons are written as {', '.join(FORMATS)}, not {format!r}")
        text: str = getattr(self, f"to_{format}")()
        return text

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file atomically, in the format of its suffix: .csv, .json, .md or .txt.

        Raises:
            OptionError: the suffix is another.
            PgmetricsError: the file cannot be written; the message says why.
        """
        write_whole(path, self.to_text(check_destination(path)).encode("utf-8", "backslashreplace"))


# Tables for people.


def aligned(grid: Sequence[Sequence[str]], sides: str) -> str:
    """Align the cells of each column to the left (l) or right (r), as `sides` says letter by letter."""
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
    """Return the header, and the cells of each row, as text."""
    interval = f"{comparison.judging.confidence:.0%} interval".replace("%", " %")
    beside = any(row["reals"] is not None for row in comparison.rows)
    grid = [["", "A", "B", *(["reals"] if beside else []), "B - A", interval, "p", "verdict"]]
    for row in comparison.rows:
        number = output(row["metric"]).number
        a, b = number(row["a"]), number(row["b"])
        own = ABSENT if row["reals"] is None else number(row["reals"])
        difference, low, high = (
            ABSENT if row[column] is None else number(row[column], "+")
            for column in ("difference", "low", "high")
        )
        span = ABSENT if row["low"] is None else f"{low} to {high}"
        p = ABSENT if row["p_holm"] is None else _p(row["p_holm"])
        cells = [a, b, *([own] if beside else []), difference, span, p, _in_full(row)]
        grid.append([row_title(row, comparison.rows), *cells])
    return grid


def _p(value: float) -> str:
    """Format a p-value for people; it is never shown as 0."""
    return f"{value:.4f}" if value >= 0.0001 else "<0.0001"


def row_title(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Name a row for people: the metric with its unit, and the level if there are several."""
    mine = [other for other in rows if other["metric"] == row["metric"]]
    title = output(row["metric"]).heading
    if len({other["protocol"] for other in mine}) > 1:
        title += f" ({row['protocol']})"
    levels = {other["level"] for other in mine}
    return f"{title} {row['level'] or 'Avg'}" if len(levels) > 1 else title


def _captions(comparison: Comparison) -> list[str]:
    """Return lines that explain A and B, the numbers of images and p."""
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
    """Return the verdict of B against A and, for MS-SSIM, how varied B is beside the reals."""
    text: str = row["verdict"]
    if text in ("less varied", "more varied"):
        text += " than A"
    beside = row["b_beside_reals"]
    return f"{text}; {verdicts.beside_reals(beside)}" if beside else text


def _is_of_variety(row: Mapping[str, Any]) -> bool:
    return output(row["metric"]).better.aim is Aim.REALS


def _about_variety(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Say how varied A and B are beside the reals."""
    title = row_title(row, rows)
    if row["a_beside_reals"] is None or row["b_beside_reals"] is None:
        return f"{title}: neither way is better; the reals' own value is the measure, which --real gives"
    text = f"{title}: A is {verdicts.beside_reals(row['a_beside_reals'])}, B is {row['b_beside_reals']}"
    return f"{text}; {row['nearer']} is nearer to them" if row["nearer"] else text


def _markdown(grid: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(markdown_text(cell) for cell in line) + " |" for line in grid]
