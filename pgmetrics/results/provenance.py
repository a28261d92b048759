"""Check that the parts of a provenance that was read have the types that other code relies on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pgmetrics.errors import StateError

_OBJECTS = ("parameters", "settings", "sources", "networks", "versions")


def check(provenance: object) -> None:
    """Refuse a provenance in which a part has another type than `Results` writes.

    Result files are not trusted. Parts may be missing, and values are not checked, since they are only shown
    and compared.

    Raises:
        StateError: a part has another type; the message names it.
    """
    if not isinstance(provenance, Mapping):
        raise StateError("not a result: its provenance is no object")
    _check_run(provenance)
    for run, about in _objects(provenance, "runs"):
        if "item" in about and not isinstance(about["item"], Mapping):
            raise _damaged(f"runs.{run}.item")
        _check_run(about, stored="settings" in provenance)


def _check_run(about: Mapping[str, Any], stored: bool = False) -> None:
    for part in _OBJECTS:
        if not isinstance(about.get(part, {}), Mapping):
            raise _damaged(part)
    for part in ("parameters", "settings"):
        for metric, its in _objects(about.get(part, {}), "metrics", f"{part}."):
            names = its.get("names", [])
            is_list = isinstance(names, (list, tuple)) and all(isinstance(one, str) for one in names)
            if not is_list or not isinstance(its.get("network"), (str, type(None))):
                raise _damaged(f"{part}.metrics.{metric}")
    sides = _objects(about, "sources")
    for side, source in [pair for _, inner in sides for pair in inner.items()] if stored else sides:
        if not isinstance(source, Mapping) or not isinstance(source.get("fingerprint", ""), str):
            raise _damaged(f"sources.{side}")
        of_metrics = source.get("metrics", {})
        if not isinstance(of_metrics, Mapping) or not all(
            isinstance(one, str) for one in of_metrics.values()
        ):
            raise _damaged(f"sources.{side}.metrics")


def _objects(
    content: Mapping[str, Any], part: str, before: str = ""
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the members of a part by name; each must be an object."""
    members = content.get(part, {})
    if not isinstance(members, Mapping):
        raise _damaged(before + part)
    for name, member in members.items():
        if not isinstance(member, Mapping):
            raise _damaged(f"{before}{part}.{name}")
        yield name, member


def _damaged(part: str) -> StateError:
    return StateError(f"not a result: {part} in its provenance is of another kind than we write")
