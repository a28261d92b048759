"""Find the settings in which two results were scored differently, and whether they change numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pgmetrics.comparison.scores import Scores, base_protocol
from pgmetrics.metrics.registry import names_of_outputs
from pgmetrics.sources.base import IDENTITY

# These set the number of images, which the counts show, or the source of an error.
_HARMLESS_PARAMETERS = ("num_images", "num_pairs", "error", "keep_rows")
_READING = ("mirror", "preset", "resolution", "resize", "alpha", "bits")
ABSENT = "-"
BY_NAMES = "identified by names and times, as earlier versions did; score it again"
"""Shown for a set of images that was not identified by its content."""
_BY_CONTENT = "identified by content"


@dataclass(frozen=True)
class Setting:
    """A setting that differs between the scoring of A and of B.

    Attributes:
        name: name of the setting, with its metric if it belongs to one.
        a, b: its values, as text.
        matters: whether it changes numbers, so that differences between A and B are meaningless.
    """

    name: str
    a: str
    b: str
    matters: bool

    @classmethod
    def of(cls, name: str, values: Sequence[Sequence[object]], matters: bool = True) -> Setting:
        """Make a setting from several values on each side, each shown once."""
        a, b = (" ".join(map(_shown, dict.fromkeys(one))) or ABSENT for one in values)
        return cls(name, a, b, matters)


def differing_settings(a: Scores, b: Scores) -> list[Setting]:
    """Return the settings that differ for metrics in both results; those that change numbers come first."""
    common = [metric for metric in a.metrics if metric in b.metrics]
    found = [*_row_settings(a, b, common)]
    mine, theirs = (_provenance_settings(one.only(common)) for one in (a, b))
    for setting in mine.keys() & theirs.keys():
        (value, matters), (other, _) = mine[setting], theirs[setting]
        if value != other:
            texts = _shown(value), _shown(other)
            if setting.startswith("real images"):
                texts = _explained(*texts)
            found.append(Setting(setting, *texts, matters))
    order = [*mine]
    found.sort(key=lambda one: (not one.matters, order.index(one.name) if one.name in order else -1))
    return found


def _row_settings(a: Scores, b: Scores, metrics: Sequence[str]) -> Iterator[Setting]:
    """Yield the differences that rows show: protocols, levels, counts and seeds."""
    for metric in metrics:
        mine, theirs = ({key[1:]: row for key, row in one.rows.items() if key[0] == metric} for one in (a, b))
        protocols = [[protocol for _, protocol in keys] for keys in (mine, theirs)]
        shared = dict.fromkeys(one for one in protocols[0] if one in protocols[1])
        if not shared:
            yield Setting.of(f"{metric} protocol", protocols)
        for protocol in shared:
            what = f"{metric} {protocol}" if len(shared) > 1 else metric
            sides = [
                {key[0]: row for key, row in one.items() if key[1] == protocol} for one in (mine, theirs)
            ]
            levels = [sorted((level for level in one if level), reverse=True) for one in sides]
            if levels[0] != levels[1]:
                yield Setting.of(f"{what} levels", levels)
            common = [level for level in sides[0] if level in sides[1]]
            for count, side in (("n_real", "real"), ("n_fake", "generated")):
                if any(sides[0][level][count] != sides[1][level][count] for level in common):
                    numbers = [[_count(one[level][count]) for level in common] for one in sides]
                    yield Setting.of(f"{what} {side} images", numbers)
    seeds = [[row["seed"] for row in one.rows.values()] for one in (a, b)]
    if set(seeds[0]) != set(seeds[1]):
        yield Setting.of("seed", seeds, matters=False)


def _provenance_settings(scores: Scores) -> dict[str, tuple[Any, bool]]:
    """Return each setting's value in the provenance and whether it changes numbers, most important first."""
    provenance = scores.provenance
    parameters = provenance.get("parameters", {})
    known = {name: (parameters[name], True) for name in _READING if name in parameters}
    networks = set()
    for metric, its in parameters.get("metrics", {}).items():
        if not gives_any(metric, its, scores.metrics):
            continue
        networks.add(its.get("network"))
        known |= {f"{metric} {name}": (its[name], True) for name in its if name not in _HARMLESS_PARAMETERS}
    two_sided = any(row["n_real"] is not None for row in scores.rows.values())
    protocols = {base_protocol(key[2]) for key in scores.rows}
    for side, source in provenance.get("sources", {}).items():
        if " " in side and side.partition(" ")[2] not in protocols:
            continue
        if side.startswith("real") and two_sided:
            images = images_of_source(source, parameters, scores.metrics)
            known[side.replace("real", "real images", 1)] = (images or source.get("name"), True)
        if "height" in source:
            known[f"{side} resolution"] = (f"{source['height']}x{source['width']}", True)
    for network, its in provenance.get("networks", {}).items():
        if network in networks and isinstance(its, Mapping):
            known |= {f"{network} {name}": (value, True) for name, value in its.items()}
    known |= {f"version of {one}": (v, False) for one, v in provenance.get("versions", {}).items()}
    known |= {name: (provenance[name], False) for name in ("device", "threads") if name in provenance}
    if "block" in parameters:
        known["block"] = (parameters["block"], False)
    return known


def _explained(a: str, b: str) -> tuple[str, str]:
    """Say which set was identified by an earlier version, if only one was; the images may be the same."""
    if ABSENT in (a, b) or a.startswith(IDENTITY) == b.startswith(IDENTITY):
        return a, b
    return (_BY_CONTENT, BY_NAMES) if a.startswith(IDENTITY) else (BY_NAMES, _BY_CONTENT)


def gives_any(metric: str, parameters: Mapping[str, Any], wanted: Sequence[str]) -> bool:
    """Whether a number of a metric is wanted: prdc has four numbers, and fid also has its bias."""
    return bool({metric, *parameters.get("names", names_of_outputs(metric))} & set(wanted))


def images_of_source(source: Mapping[str, Any], parameters: Mapping[str, Any], metrics: Sequence[str]) -> str:
    """Return the identity of the real images that these metrics used; empty if the results do not hold it.

    Other metrics may have used more images. The seed of mirroring is removed: seeds are compared separately.
    """
    every = source.get("fingerprint", "")
    of_metrics = source.get("metrics", {})
    taken = [
        of_metrics.get(metric, every)
        for metric, its in parameters.get("metrics", {}).items()
        if gives_any(metric, its, metrics)
    ]
    images = " and ".join(dict.fromkeys(taken or [every]))
    return re.sub(r"\+mirror(:\w+|,seed=\d+)", "+mirror", images)


def _count(n: int | None) -> str:
    return ABSENT if n is None else f"{n:,}"


def _shown(value: object) -> str:
    return ABSENT if value is None else str(value)
