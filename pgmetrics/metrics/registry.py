"""Metrics by the names they have in data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

from pgmetrics.errors import OptionError
from pgmetrics.metrics.base import Metric
from pgmetrics.metrics.fid_infinity import FIDInfinity
from pgmetrics.metrics.frechet import FrechetDistance, FrechetInceptionDistance
from pgmetrics.metrics.inception_score import InceptionScore
from pgmetrics.metrics.kid import KernelInceptionDistance
from pgmetrics.metrics.memorisation import Memorisation
from pgmetrics.metrics.ms_ssim import MultiScaleSSIM
from pgmetrics.metrics.prdc import PRDC
from pgmetrics.metrics.swd import SlicedWasserstein

METRICS: dict[str, type[Metric]] = {
    one.name: one
    for one in (
        SlicedWasserstein,
        MultiScaleSSIM,
        FrechetInceptionDistance,
        FIDInfinity,
        InceptionScore,
        KernelInceptionDistance,
        PRDC,
        FrechetDistance,
        Memorisation,
    )
}

ERRORS = ("images", "directions", "both")
"""What standard errors can be asked to be over; "both" is images and directions."""


def metric(name_or_metric: str | Metric) -> Metric:
    """The metric of that name with the paper's parameters; a metric is returned as it is.

    Raises:
        OptionError: no metric has the name; the message lists those there are.
    """
    if isinstance(name_or_metric, Metric):
        return name_or_metric
    if name_or_metric not in METRICS:
        raise OptionError(f"no metric is called {name_or_metric!r}; there are {', '.join(METRICS)}")
    return METRICS[name_or_metric]()


def with_error(metrics: Sequence[str | Metric], error: str) -> list[Metric]:
    """The metrics, their errors over what was asked for; those that give no other are as they were.

    Args:
        metrics: by name or made.
        error: "images" for all that can, "both" and "directions" for swd's (the others' are then over
            images and as usual).

    Raises:
        OptionError: another kind of error.
    """
    if error not in ERRORS:
        raise OptionError(f"errors are over {', '.join(ERRORS[:-1])} or {ERRORS[-1]}, not {error!r}")

    def adjusted(one: Metric) -> Metric:
        if not any(field.name == "error" for field in fields(one)):  # type: ignore[arg-type]
            return one
        asked = error if one.name == "swd" or error != "both" else "images"
        return one if asked == "directions" and one.name != "swd" else replace(one, error=asked)  # type: ignore[type-var]

    return [adjusted(metric(one)) for one in metrics]
