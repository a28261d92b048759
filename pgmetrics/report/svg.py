"""Matplotlib's SVG made fit to stand in a page: colors from its style sheet, text in its font.

A page under a strict content security policy may not have style attributes, so these become
attributes of their own, and colors become classes such as `f-ink` and `s-rule` that the style
sheet defines for light and for dark.
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
    """The plot as an `<svg>` element for a page.

    Args:
        plot: what is drawn.
        prefix: of the element's ids, unlike that of any other on the page.
        width, height: in CSS pixels, at which text has its size; the page scales it.
        kind: "wide" or "narrow": the screens on which the page shows it.
    """
    look = _in_roles(width, height)
    figure = plot.draw(look)
    root = ET.fromstring(render(figure, "svg", text_as_paths=False))
    for element in list(root):
        # The first definitions hold matplotlib's style sheet, which would apply to the whole page.
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
    """A look whose colors stand for roles: #000001 is the first, and so on."""
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
    """Ids of one plot must not be those of another on the same page; groups need none."""
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
    """A point's number, shown where the pointer rests on it."""
    name = element.get("id")
    if name is not None and name.startswith(_POINT):
        del element.attrib["id"]
        title = ET.Element("title")
        title.text = name.removeprefix(_POINT)
        element.insert(0, title)
