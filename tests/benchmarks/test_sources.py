"""The benchmark of identities: its tables, and a cache that is its own."""

import os
import re

import pytest
from click.testing import CliRunner

from benchmarks import sources


@pytest.mark.parametrize(
    ("arguments", "title", "rows"),
    [
        (["small", "--num-images", "3", "--workers", "0"], "3 PNGs of 32 × 32", 6),
        (["large", "--gigabytes", "0.01"], "2 files of 5 MB", 2),
    ],
)
def test_the_smallest_run_prints_its_table_and_leaves_the_cache_alone(monkeypatch, arguments, title, rows):
    monkeypatch.setattr(sources, "_SETTLED", 0.0)
    before = os.environ["PGMETRICS_CACHE"]
    done = CliRunner().invoke(sources.main, arguments)
    assert done.exit_code == 0, done.output
    assert f"| {title} |" in done.stdout
    assert len(re.findall(r" \d+\.\d\d s", done.stdout)) == rows * (2 if arguments[0] == "small" else 1)
    assert os.environ["PGMETRICS_CACHE"] == before
