"""Format results as tables for people: text, Markdown, HTML, LaTeX, and the layout of the paper's Table 1.

Values are raw in data. Tables scale some of them, such as SWD by 1000 as in the paper.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pgmetrics.errors import markdown_text, printable
from pgmetrics.metrics.registry import in_order, output
from pgmetrics.results.reals import Items, variety_of
from pgmetrics.uncertainty.verdicts import Variety, beside_reals

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, Any]
Key = tuple[str, str | None, int | None]

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "C_T": "$C_T$",
    "×10³": r"$\times 10^3$",
    "×": r"$\times$",
    "∞": r"$_\infty$",
    "±": r"$\pm$",
    **{sign: "\\" + sign for sign in "&%$#_{}"},
}


class Column(NamedTuple):
    """A column: one metric under one protocol at one level; `level` is "" for a metric without levels."""

    title: str
    level: str
    key: Key


class Line(NamedTuple):
    """A line of a table: the rows of one run, subject and seed by column; None where a score is missing."""

    label: str
    rows: list[Row | None]

    @property
    def cells(self) -> list[str]:
        """The printed text of each column."""
        return ["-" if row is None else cell(row) for row in self.rows]


def no_item(run: str) -> None:
    """Return None: the lookup of items for tables without the provenance of a scores file."""
    return None


def cell(row: Row) -> str:
    """Format the value and the standard error of a row."""
    number = output(row["metric"]).number
    value = number(row["value"])
    return value if row["stderr"] is None else f"{value} ± {number(row['stderr'])}"


def layout(rows: Sequence[Row]) -> tuple[list[Column], list[Line]]:
    """Return the header, and a line for each (run, subject, seed): the reals first, then in order of rows."""
    header = [column for metric, protocol in _series(rows) for column in _columns_of(metric, protocol, rows)]
    groups: dict[tuple[Any, ...], dict[Key, Row]] = {}
    for row in rows:
        mine = groups.setdefault((row["run"], row["subject"], row["seed"]), {})
        mine[row["metric"], row["protocol"], row["level"]] = row
    reals_first = sorted(groups, key=lambda group: group[1] != "real")
    labels = _labels(reals_first, {group: {key[0] for key in groups[group]} for group in groups})
    lines = [
        Line(label, [groups[group].get(column.key) for column in header])
        for label, group in zip(labels, reals_first, strict=True)
    ]
    return header, lines


def to_text(rows: Sequence[Row], item: Items = no_item) -> str:
    """Format rows as text with aligned columns, followed by the captions."""
    header, lines = layout(rows)
    # A metric's name is printed once, above the first of its columns; the levels are printed below it.
    names = [
        "" if i and header[i - 1].title == column.title else column.title for i, column in enumerate(header)
    ]
    grid = [["", *names], ["", *(column.level for column in header)]]
    grid += [[line.label, *line.cells] for line in lines]
    grid = [list(map(printable, row)) for row in grid]
    if not any(grid[1]):
        del grid[1]
    widths = [max(len(row[i]) for row in grid) for i in range(len(grid[0]))]
    text = [
        "  ".join([name.ljust(widths[0]), *map(str.rjust, cells, widths[1:])]).rstrip()
        for name, *cells in grid
    ]
    return "\n".join([*text, "", *captions(rows, item)]) + "\n"


def to_markdown(rows: Sequence[Row], item: Items = no_item) -> str:
    """Format rows as a Markdown table with the captions below it."""
    header, lines = layout(rows)
    grid = [
        ["", *(f"{column.title} {column.level}".rstrip() for column in header)],
        [":--", *("--:" for _ in header)],
        *([line.label, *line.cells] for line in lines),
    ]
    text = ["| " + " | ".join(markdown_text(cell) for cell in row) + " |" for row in grid]
    return "\n".join([*text, "", "<br>\n".join(captions(rows, item))]) + "\n"


def to_html(rows: Sequence[Row], item: Items = no_item) -> str:
    """Format rows as an HTML table element with captions, for notebooks; all text is escaped."""
    header, lines = layout(rows)
    heads = "".join(
        f'<th colspan="{last - first + 1}">{_html(title)}</th>' for title, first, last in _spans(header)
    )
    head = [f"<tr><th></th>{heads}</tr>"]
    if any(column.level for column in header):
        head.append(f"<tr><th></th>{''.join(f'<th>{_html(column.level)}</th>' for column in header)}</tr>")
    body = [
        f"<tr><th>{_html(line.label)}</th>{''.join(f'<td>{_html(cell)}</td>' for cell in line.cells)}</tr>"
        for line in lines
    ]
    caption = "<br>".join(map(_html, captions(rows, item)))
    text = [
        *("<table>", f"<caption>{caption}</caption>"),
        *("<thead>", *head, "</thead>"),
        *("<tbody>", *body, "</tbody>", "</table>"),
    ]
    return "\n".join(text)


def to_latex(rows: Sequence[Row], item: Items = no_item) -> str:
    """Format rows as a tabular with booktabs rules; the captions are comments above it."""
    header, lines = layout(rows)
    spans = _spans(header)
    titles = [
        _latex(title) if first == last else rf"\multicolumn{{{last - first + 1}}}{{c}}{{{_latex(title)}}}"
        for title, first, last in spans
    ]
    rules = [rf"\cmidrule(lr){{{first + 2}-{last + 2}}}" for _, first, last in spans if header[first].level]
    text = [
        r"% needs \usepackage{booktabs}",
        *(f"% {caption}" for caption in captions(rows, item)),
        rf"\begin{{tabular}}{{l{'r' * len(header)}}}",
        r"\toprule",
        _latex_line(["", *titles]),
        *([" ".join(rules), _latex_line(["", *(column.level for column in header)])] if rules else []),
        r"\midrule",
        *(_latex_line([_latex(line.label), *map(_latex_cell, line.cells)]) for line in lines),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(text) + "\n"


def paper_table(rows: Sequence[Row]) -> pd.DataFrame:
    """Return the layout of the paper's Table 1: a line per run, and columns by (metric, level)."""
    import pandas as pd

    header, lines = layout(rows)
    values = [
        [None if row is None else row["value"] * output(row["metric"]).scale for row in line.rows]
        for line in lines
    ]
    names = pd.MultiIndex.from_arrays(
        [[column.title for column in header], [column.level for column in header]]
    )
    frame: pd.DataFrame = pd.DataFrame(
        values, index=[line.label for line in lines], columns=names, dtype="float64"
    )
    return frame


def captions(rows: Sequence[Row], item: Items = no_item) -> list[str]:
    """Return captions for each metric: its number of images, the source of its ± and the sets' variety.

    Args:
        rows: the rows of the table.
        item: returns the item of a run label in a scores file.
    """
    lines = []
    for metric in dict.fromkeys(metric for metric, _ in _series(rows)):
        mine = [row for row in rows if row["metric"] == metric]
        counts = {row[n] for row in mine for n in ("n_real", "n_fake")} - {None}
        kinds = dict.fromkeys(row["stderr_kind"] for row in mine if row["stderr"] is not None)
        parts = []
        if counts:
            low, high = min(counts), max(counts)
            parts.append(f"{low:,} images" if low == high else f"{low:,} to {high:,} images")
        if kinds:
            parts.append("± " + " or ".join(map(spread, kinds)))
        if parts:
            lines.append(printable(f"{output(metric).heading}: {', '.join(parts)}"))
        lines += _varieties(metric, mine, item)
    return lines


def _varieties(metric: str, rows: Sequence[Row], item: Items) -> Iterator[str]:
    """Yield for each protocol which sets are less, equally or more varied than the reals.

    Yields nothing for metrics that do not measure variety.
    """
    several = len({row["run"] for row in rows if row["subject"] == "fake"}) > 1
    for protocol in dict.fromkeys(row["protocol"] for row in rows):
        found: dict[Variety, list[str]] = {}
        for row in rows:
            if row["protocol"] == protocol and (word := variety_of(row, rows, item)) is not None:
                found.setdefault(word, []).append(row["run"] if several else row["subject"])
        names = dict.fromkeys(row["protocol"] for row in rows)
        title = output(metric).heading + (f" ({protocol})" if len(names) > 1 else "")
        if found:
            yield f"{title}: " + "; ".join(
                f"{beside_reals(word)}: {', '.join(dict.fromkeys(labels))}" for word, labels in found.items()
            )


def spread(kind: str | None) -> str:
    """Describe a ±: a standard error of the value, or a standard deviation if its kind ends with "(sd)"."""
    over = (kind or "").removesuffix(" (sd)")
    return f"standard {'error' if over == kind else 'deviation'} over {over}"


def _series(rows: Sequence[Row]) -> list[tuple[str, str | None]]:
    """Return the (metric, protocol) pairs in order; numbers of different protocols never share a column."""
    found = dict.fromkeys((row["metric"], row["protocol"]) for row in rows)
    order = in_order([metric for metric, _ in found])
    return sorted(found, key=lambda pair: order.index(pair[0]))


def _columns_of(metric: str, protocol: str | None, rows: Sequence[Row]) -> Iterator[Column]:
    """Yield the columns of a metric, from the finest level to the coarsest, then the mean over levels."""
    title = output(metric).heading
    if len({row["protocol"] for row in rows if row["metric"] == metric}) > 1:
        title = f"{title} ({protocol})"
    levels = {row["level"] for row in rows if (row["metric"], row["protocol"]) == (metric, protocol)}
    for level in sorted(levels - {None}, reverse=True):
        yield Column(title, str(level), (metric, protocol, level))
    if None in levels:
        yield Column(title, "Avg" if len(levels) > 1 else "", (metric, protocol, None))


def _labels(groups: Sequence[tuple[Any, ...]], metrics: Mapping[tuple[Any, ...], set[str]]) -> list[str]:
    several_runs = len({run for run, _, _ in groups}) > 1
    one_real = sum(subject == "real" for _, subject, _ in groups) == 1
    several_seeds = len({seed for _, _, seed in groups}) > 1
    labels = []
    for group in groups:
        run, subject, seed = group
        if subject == "real":
            of_one_set = all(output(metric).of_one_set for metric in metrics[group])
            label = "real" if of_one_set else "real (floor)"
            if several_runs and not one_real:
                label = f"{run}: {label}"
        else:
            label = run if several_runs else subject
        if several_seeds:
            label = f"{label}, seed {seed}"
        labels.append(label)
    return labels


def _spans(header: Sequence[Column]) -> list[tuple[str, int, int]]:
    """Group adjacent columns with the same title; return each title with its first and last column."""
    spans: list[tuple[str, int, int]] = []
    for i, column in enumerate(header):
        if spans and spans[-1][0] == column.title:
            spans[-1] = (column.title, spans[-1][1], i)
        else:
            spans.append((column.title, i, i))
    return spans


def _html(text: str) -> str:
    return html.escape(printable(text))


def _latex(text: str) -> str:
    # A single pass, so that the output of a replacement is not replaced again.
    return re.sub("|".join(map(re.escape, _LATEX)), lambda found: _LATEX[found[0]], printable(text))


def _latex_cell(text: str) -> str:
    if text == "-":
        return "--"
    return re.sub(r"^-", "$-$", _latex(text))


def _latex_line(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} \\\\"
