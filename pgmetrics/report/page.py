"""The page about a scored run: one HTML file that needs nothing else, not even the network.

Its style and script are inside, named by their digests in a content security policy that allows
nothing else. Equal scores and checkpoints give equal bytes: the page holds no dates.
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
"""Writes content into the file of that name."""


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
        run: its directory, or the store in it.
        out: the file to write.
        real: where the real images are; without it the page shows none. The store is not asked.
        loader: of checkpoints that were scored with one, see `gallery.gather`. The store is not asked.
        show_reals: whether real images may be on the page.
        samples: images in a grid.
        seed: of the samples' latents and of the choice of reals; that of the scores if left out.
        series: which one of the store; the one that was written to last if left out.
        progress: called with (what, done, total).
        save: writes the page's bytes into the file of that name; all else was checked before.

    Returns:
        What is missing on the page, and why.

    Raises:
        StateError: the store is damaged, or holds no checkpoint.
        SourceError: `real` is given and cannot be opened.
        PgmetricsError: there is no store, the file cannot be written, or matplotlib is missing.
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
    # In the order of the page; a section's template is called like it.
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
    """Load the templates; all that they print is escaped, and an unknown name is an error."""
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
    """Escape a value for the page; what a template marks as safe is unchanged.

    Autoescaping alone would keep control characters and changes of the writing direction, which `printable`
    has to replace before HTML is escaped.
    """
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return Markup(escape(printable(value)))


def _resource(name: str) -> str:
    return resources.files("pgmetrics.report").joinpath(name).read_text("utf-8")


def _digest(content: str) -> str:
    return "sha256-" + base64.b64encode(sha256(content.encode()).digest()).decode()
