"""Compute the estimates of a job from its states, and turn them into rows of the results table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from pgmetrics.errors import PgmetricsError, SampleError
from pgmetrics.evaluation.plan import Job
from pgmetrics.evaluation.presets import PRESETS
from pgmetrics.features.base import FeatureExtractor
from pgmetrics.metrics.base import Estimate, Metric
from pgmetrics.metrics.registry import METRICS

_NO_OTHER_NUMBER = frozenset({"num_images", "network", "groups", "keep_rows", "error", "names"})
"""Parameters that have a column of their own, or change only errors and what is stored."""


def compute(job: Job) -> tuple[list[Estimate], list[str]]:
    """Compute a metric's numbers and notes; a refusal names the metric.

    Raises:
        SampleError: a number is NaN or infinite, or there are too few images.
        StateError: the states do not belong together.
    """
    states = {
        "real": job.real.state if job.real else None,
        "fake": job.fake.state if job.fake else None,
    }
    if job.held_out is not None:
        states["held_out"] = job.held_out.state
    try:
        estimates, notes = job.metric.compute(**states)
        _check_finite(estimates)
        return estimates, notes
    except PgmetricsError as error:
        text = str(error)
        named = text if text.startswith(f"{job.metric.name} ") else f"{job.metric.name}: {text}"
        raise type(error)(named) from error


def _check_finite(estimates: Sequence[Estimate]) -> None:
    """Refuse NaN and infinite numbers, which tables do not hold."""
    for estimate in estimates:
        for number, what in ((estimate.value, "value"), (estimate.stderr, "standard error")):
            if number is not None and not isfinite(number):
                at = "" if estimate.level is None else f" at level {estimate.level}"
                raise SampleError(
                    f"the {what} of {estimate.metric}{at} is {number}; features too large for the sums, or "
                    "damaged statistics, make such a number"
                )


def row_protocol(
    protocol: str, preset: str | None, metric: Metric, networks: Mapping[str, FeatureExtractor]
) -> str:
    """Say in a few words how a number was computed; for a metric of features this includes the network."""
    if metric.tap is None:
        return protocol
    if preset:
        usual = PRESETS[preset].metrics.get(metric.name)
    else:
        usual = METRICS[metric.name].load()() if metric.name in METRICS else None
    changed = _changed(metric, usual) if usual is not None else []
    return ", ".join([protocol, preset or networks[metric.tap.network].label, *changed])


def _changed(metric: Metric, usual: Metric) -> list[str]:
    """Return the parameters that change a metric's number and differ from the usual ones."""
    its = usual.parameters
    return [
        f"{name}={value}"
        for name, value in metric.parameters.items()
        if name not in _NO_OTHER_NUMBER and name in its and value != its[name]
    ]


def as_row(run: str, job: Job, estimate: Estimate, seed: int, protocol: str) -> dict[str, Any]:
    """Turn an estimate into a row with the columns of `results.COLUMNS`."""
    subject, n_real, n_fake = estimate.subject, estimate.n_real, estimate.n_fake
    if job.subject == "real":
        # Both sets of the floor are reals.
        subject, n_fake = "real", None
    return {
        "run": run,
        "subject": subject,
        "metric": estimate.metric,
        "level": estimate.level,
        "value": estimate.value,
        "stderr": estimate.stderr,
        "stderr_kind": estimate.stderr_kind,
        "n_real": n_real,
        "n_fake": n_fake,
        "seed": seed,
        "protocol": protocol,
    }
