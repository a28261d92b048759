"""A metric's estimates as rows of the results table."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pgmetrics.evaluation.plan import Job
from pgmetrics.evaluation.presets import PRESETS
from pgmetrics.features.base import FeatureExtractor
from pgmetrics.metrics.base import Estimate, Metric
from pgmetrics.metrics.registry import METRICS

_NO_OTHER_NUMBER = frozenset({"num_images", "network", "groups", "keep_rows", "error", "names"})
"""Parameters that have a column of their own, or change errors and what is remembered alone."""


def row_protocol(
    protocol: str, preset: str | None, metric: Metric, networks: Mapping[str, FeatureExtractor]
) -> str:
    """How a number was made, in a few words: for a metric of features the network belongs to it."""
    if metric.tap is None:
        return protocol
    if preset:
        usual = PRESETS[preset].metrics.get(metric.name)
    else:
        usual = METRICS[metric.name].load()() if metric.name in METRICS else None
    changed = _changed(metric, usual) if usual is not None else []
    return ", ".join([protocol, preset or networks[metric.tap.network].label, *changed])


def _changed(metric: Metric, usual: Metric) -> list[str]:
    """The parameters that make another number of a metric, where they are not the usual ones."""
    mine, its = (dataclasses.asdict(one) for one in (metric, usual))  # type: ignore[call-overload]
    return [
        f"{name}={value}"
        for name, value in mine.items()
        if name not in _NO_OTHER_NUMBER and name in its and value != its[name]
    ]


def as_row(run: str, job: Job, estimate: Estimate, seed: int, protocol: str) -> dict[str, Any]:
    """Turn an estimate into a row with the columns of `results.COLUMNS`."""
    subject, n_real, n_fake = estimate.subject, estimate.n_real, estimate.n_fake
    if job.subject == "real":
        # The floor: both sets are reals, and no generated image took part.
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
