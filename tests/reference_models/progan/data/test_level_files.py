"""The description of a prepared set: what is damaged is refused in a line."""

from __future__ import annotations

import json

import pytest

from pgmetrics.errors import SourceError
from reference_models.progan.data.prepared import PreparedSource

pytestmark = pytest.mark.usefixtures("small_blocks")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda m: m | {"format_version": 2}, "in version 2; this version reads"),
        (lambda m: m | {"resolution": 24}, "is damaged"),
        (lambda m: m | {"resolution": None}, "is damaged"),
        (lambda m: {k: v for k, v in m.items() if k != "channels"}, "is damaged"),
        (lambda m: m | {"sha256": {"../secret": "0"}}, "does not list its files"),
        (lambda m: [m], "is not a description"),
    ],
)
def test_a_damaged_description_is_one_line(prepared, change, found):
    path = prepared / "levels.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(SourceError, match=found):
        PreparedSource(prepared)
    path.write_text("{")
    with pytest.raises(SourceError, match="is damaged"):
        PreparedSource(prepared)
