"""What results that were read say of how they came about, refused where it has another shape."""

import pytest

from pgmetrics.errors import StateError
from pgmetrics.results import read_results
from tests.helpers.result_rows import file_of


@pytest.mark.parametrize(
    ("part", "provenance"),
    [
        ("sources", {"sources": []}),
        ("sources.real", {"sources": {"real": "zip:1"}}),
        ("sources.real", {"sources": {"real": {"fingerprint": 1}}}),
        ("parameters", {"parameters": [1]}),
        ("parameters.metrics", {"parameters": {"metrics": ["swd"]}}),
        ("parameters.metrics.swd", {"parameters": {"metrics": {"swd": 3}}}),
        ("parameters.metrics.swd", {"parameters": {"metrics": {"swd": {"names": 3}}}}),
        ("parameters.metrics.swd", {"parameters": {"metrics": {"swd": {"network": []}}}}),
        ("networks", {"networks": "all"}),
        ("versions", {"versions": 1}),
        ("runs", {"runs": []}),
        ("runs.run-a", {"runs": {"run-a": 1}}),
        ("runs.run-a.item", {"runs": {"run-a": {"item": "floor"}}}),
        ("sources", {"runs": {"run-a": {"sources": 2}}}),
    ],
)
def test_a_provenance_of_another_kind_is_refused_by_its_part(tmp_path, part, provenance):
    # These were AttributeErrors and TypeErrors of compare, the page or the pytest fixture.
    with pytest.raises(StateError, match=rf"a\.json: not a result: {part} in its provenance"):
        read_results(file_of(tmp_path / "a.json", provenance))
