"""Adapt Matplotlib's SVG for a page, so that the page's style sheet sets its colors and font.

A strict content security policy forbids style attributes. Each style declaration becomes a separate
attribute, and colors become classes such as `f-ink` and `s-rule`, which the style sheet defines for light
and dark mode.
"""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

from pgmetrics.report.plots import Look, Plot, render

if TYPE_CHECKING:
    from collections.abc import Iterator

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "{http://www.w3.org/1999/xlink}href"
_FONT = re.compile(r"(?:(?P<weight>bold|\d+) )?(?P<size>[\d.]+)px .*")
_POINT = "point:"


def inline(plot: Plot, prefix: str, width: float, height: float, kind: str) -> str:
    """Draw a plot as an `<svg>` element for a page.

    Args:
        plot: the plot to draw.
        prefix: prefix of the element's ids, unique on the page.
        width, height: size in CSS pixels at which text has its nominal size; the page scales the element.
        kind: the screens on which the page shows the plot, "wide" or "narrow".
    """
    look = _in_roles(width, height)
    figure = plot.draw(look)
    root = ET.fromstring(render(figure, "svg", text_as_paths=False))
    for element in list(root):
        # The first <defs> contains Matplotlib's style sheet, which would apply to the whole page.
        if element.tag == f"{{{_SVG}}}metadata" or element.find(f"{{{_SVG}}}style") is not None:
            root.remove(element)
    roles = dict(_roles(look))
    for element in root.iter():
        _rename(element, prefix)
        _restyle(element, roles)
        _tell(element)
        element.tag = element.tag.rpartition("}")[2]
    root.attrib = {
        "class": f"plot {kind}",
        "viewBox": f"0 0 {width:g} {height:g}",
        "role": "img",
        "aria-labelledby": f"{prefix}-title",
        "stroke-linejoin": "round",
    }
    title = ET.Element("title", id=f"{prefix}-title")
    title.text = plot.description
    root.insert(0, title)
    return ET.tostring(root, encoding="unicode")


def _in_roles(width: float, height: float) -> Look:
    """Return a look whose colors encode roles: #000001 is the first role, #000002 the second, and so on."""
    names = [field.name for field in dataclasses.fields(Look) if field.type == "str"]
    levels = len(Look().levels)
    colors = [f"#0000{i:02x}" for i in range(1, len(names) + levels + 1)]
    return Look(
        width=width,
        height=height,
        titled=False,
        levels=tuple(colors[len(names) :]),
        **dict(zip(names, colors, strict=False)),
    )


def _roles(look: Look) -> Iterator[tuple[str, str]]:
    for field in dataclasses.fields(Look):
        if field.type == "str":
            yield getattr(look, field.name), field.name
    for i, color in enumerate(look.levels):
        yield color, f"level{i}"


def _rename(element: ET.Element, prefix: str) -> None:
    """Prefix ids and references, so that ids are unique on the page; remove the ids of groups."""
    name = element.get("id")
    if name is not None and not name.startswith(_POINT):
        if element.tag == f"{{{_SVG}}}g":
            del element.attrib["id"]
        else:
            element.set("id", f"{prefix}-{name}")
    reference = element.attrib.pop(_XLINK, None)
    if reference is not None:
        element.set("href", f"#{prefix}-{reference[1:]}")
    clip = element.get("clip-path")
    if clip is not None:
        element.set("clip-path", clip.replace("url(#", f"url(#{prefix}-"))


def _restyle(element: ET.Element, roles: dict[str, str]) -> None:
    classes = []
    for declaration in filter(None, element.attrib.pop("style", "").split(";")):
        name, value = (part.strip() for part in declaration.split(":", 1))
        if name == "font" and (font := _FONT.fullmatch(value)):
            element.set("font-size", font["size"])
            if font["weight"] and font["weight"] not in ("400", "normal"):
                element.set("font-weight", "600")
        elif value in roles:
            classes.append(f"{name[0]}-{roles[value]}")
        elif name != "font-family":
            element.set(name, value)
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    if classes:
        element.set("class", " ".join(classes))


def _tell(element: ET.Element) -> None:
    """Turn a point's id into a title, which browsers show as a tooltip with the point's number."""
    name = element.get("id")
    if name is not None and name.startswith(_POINT):
        del element.attrib["id"]
        title = ET.Element("title")
        title.text = name.removeprefix(_POINT)
        element.insert(0, title)
