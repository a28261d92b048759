"""Interpret `stderr_kind` in results: the source of a standard error, and its degrees of freedom."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import inf
from typing import Any

OVER_IMAGES = frozenset(
    {
        "images",
        "images and directions",
        "pairs",
        "images (jackknife)",
        "fake images (jackknife)",
        "fakes given the reals",
    }
)
"""Kinds of errors that measure the variation with other generated images, without numbers of groups."""

_NUMBERS = re.compile(r" \(\d+ x \d+ parts\)|, \d+ groups|(?<=and )\d+ (?=directions)")
"""The numbers of groups, parts or directions in a kind."""

_OLD_GROUPS, _OLD_GROUP = 10, 64
"""Number of groups, and of images per chunk, in older results whose kind does not state the groups."""

_SIDES = ("n_real", "n_fake")


def is_over_images(kind: str | None) -> bool:
    """Whether errors of that `stderr_kind` measure the variation with other generated images."""
    return kind is not None and _NUMBERS.sub("", kind) in OVER_IMAGES


def degrees_of_freedom(row: Mapping[str, Any]) -> float:
    """Those of a row's standard error, from its counts and `stderr_kind`: of its fewest units, less 1.

    Units are images, pairs, directions, the groups of a jackknife, or the parts of several ways to part
    the images. Where two sides or images and directions are in the error, it has as many degrees of freedom
    or more, so that a test is then on the safe side.

    Args:
        row: with the columns of `results.COLUMNS`.
    """
    kind = row["stderr_kind"] or ""
    if parts := re.search(r"(\d+) x (\d+) parts", kind):
        return float(int(parts[1]) * (int(parts[2]) - 1))
    units = [int(number) for number in re.findall(r"(\d+) (?:groups|directions)", kind)]
    sides = ("n_fake",) if kind.startswith("fake") else ("n_real",) if kind.startswith("real") else _SIDES
    images = min((row[side] for side in sides if row[side] is not None), default=None)
    if images is not None and kind != "directions":
        units.append(images // 2 if kind == "pairs" else images)
        if "(jackknife)" in kind:
            units.append(min(_OLD_GROUPS, -(-images // _OLD_GROUP)))
    return float(max(1, min(units, default=inf) - 1))
