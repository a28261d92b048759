"""Write the page about a scored run: one HTML file that loads no other file and needs no network.

The style and the script are inline. A content security policy names their digests and blocks everything
else. The page holds no dates, so the same scores and checkpoints give identical bytes.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from functools import cache
from html import escape
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pgmetrics._version import __version__
from pgmetrics.errors import OptionError, printable
from pgmetrics.report import gallery, sections
from pgmetrics.report.gallery import Images
from pgmetrics.report.plots import need_matplotlib
from pgmetrics.report.run_curves import CONFIDENCE, Growth, read_growth
from pgmetrics.runtime.files import check_writable, resolved, sha256, write_whole
from pgmetrics.runtime.progress import Progress

SavePage = Callable[[str, bytes], None]
"""A function of a file name and its content that writes the file."""


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
    save: SavePage = write_whole,
) -> list[str]:
    """Write the page about a run that `pgmetrics growth` has scored.

    Args:
        run: the directory of the run, or the scores file in it.
        out: the HTML file to write.
        real: source of the real images; if left out, the page shows none. A source that the scores file names
            is not opened.
        loader: loader of checkpoints that were scored with one, see `gallery.gather`. A loader that the
            scores file names is not used.
        show_reals: whether the page may show real images.
        samples: number of images in a grid.
        seed: seed of the samples' latents and of the choice of reals; defaults to the seed of the scores.
        series: id of a series of the scores file; defaults to the series that was written last.
        progress: called with (what, done, total).
        save: writes the page; called with the file name and the content after everything was checked.

    Returns:
        Sentences that explain what is missing on the page, and why.

    Raises:
        StateError: the scores file is damaged, or holds no checkpoint.
        SourceError: `real` is given and cannot be opened.
        OptionError: the suffix of `out` is not .html or .htm.
        PgmetricsError: there is no scores file, the page cannot be written, or matplotlib is missing.
    """
    need_matplotlib()
    if resolved(out).suffix.lower() not in (".html", ".htm"):
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
    save(os.fspath(out), to_html(growth, images, progress).encode("utf-8", "backslashreplace"))
    return images.notes


def to_html(growth: Growth, images: Images, progress: Progress | None = None) -> str:
    """Render the page as text."""
    style, script = (_resource(name) for name in ("page.css", "page.js"))
    # Sections are in the order of the page; each template is named after its section.
    content = {
        "Stages": sections.stages_section(growth, images),
        "Growth": sections.plots_section(growth, progress),
        "Samples": sections.samples_section(images),
        "Neighbors": sections.neighbors_section(images),
        "Numbers": sections.numbers_section(growth),
        "Protocol": sections.protocol_section(growth),
    }
    return (
        _templates()
        .get_template("page.html.j2")
        .render(
            name=growth.name,
            series=growth.series,
            version=__version__,
            style=style,
            script=script,
            style_digest=_digest(style),
            script_digest=_digest(script),
            confidence=f"{CONFIDENCE:.0%}",
            header=sections.header(growth),
            sections={name: section for name, section in content.items() if section is not None},
        )
    )


@cache
def _templates() -> Environment:
    """Load the templates; everything that they print is escaped, and an unknown name is an error."""
    environment = Environment(
        loader=PackageLoader("pgmetrics.report"),
        autoescape=True,
        finalize=_printed,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["thousands"] = "{:,}".format
    return environment


def _printed(value: Any) -> Any:
    """Escape a value for the page; values that a template marks as safe are unchanged.

    Autoescaping alone would keep control characters and changes of the writing direction, so `printable`
    replaces them before HTML is escaped.
    """
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return Markup(escape(printable(value)))


def _resource(name: str) -> str:
    return resources.files("pgmetrics.report").joinpath(name).read_text("utf-8")


def _digest(content: str) -> str:
    return "sha256-" + base64.b64encode(sha256(content.encode()).digest()).decode()
