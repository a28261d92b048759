"""What each number of a metric is: how tables print it, and which way is better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Style(NamedTuple):
    """How a metric is printed: its title, which names the unit, and the factor that goes with it."""

    title: str
    scale: float
    format: str


_STYLES = {
    "swd": Style("SWD ×10³", 1000.0, ".2f"),
    "ms-ssim": Style("MS-SSIM", 1.0, ".4f"),
    "fid": Style("FID", 1.0, ".2f"),
    "fid-bias": Style("FID bias", 1.0, ".2f"),
    "fid-infinity": Style("FID∞", 1.0, ".2f"),
    "fd": Style("FD", 1.0, ".4g"),
    "fd-bias": Style("FD bias", 1.0, ".4g"),
    "is": Style("IS", 1.0, ".2f"),
    "kid": Style("KID ×10³", 1000.0, ".3f"),
    "precision": Style("Precision", 1.0, ".4f"),
    "recall": Style("Recall", 1.0, ".4f"),
    "density": Style("Density", 1.0, ".4f"),
    "coverage": Style("Coverage", 1.0, ".4f"),
    "authpct": Style("AuthPct", 1.0, ".4f"),
    "ct": Style("C_T", 1.0, ".2f"),
}
OF_ONE_SET = ("ms-ssim", "is")
"""Scores of one set: a row about the reals is then no floor of a distance."""


def style(metric: str) -> Style:
    """How a metric is printed; raw if it has no style of its own."""
    return _STYLES.get(metric, Style(metric.upper(), 1.0, ".4g"))


def metrics_in_order(metrics: Sequence[str]) -> list[str]:
    """Each once, the paper's first."""
    known = list(_STYLES)
    return sorted(dict.fromkeys(metrics), key=lambda name: known.index(name) if name in known else len(known))


def number(metric: str, value: float) -> str:
    """A value of a metric as printed, without its unit."""
    look = style(metric)
    return format(value * look.scale, look.format)
