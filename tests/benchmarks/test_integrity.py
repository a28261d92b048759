"""The benchmark of verification: a row for each digest and for each file."""

import re

import pytest
from click.testing import CliRunner

from benchmarks import integrity
from pgmetrics.metrics.swd import SlicedWasserstein
from tests.helpers.configs import TO_8


@pytest.mark.slow
def test_the_smallest_run_prints_both_tables(monkeypatch):
    monkeypatch.setattr(integrity, "_DIGESTED", 1000)
    monkeypatch.setattr(integrity, "METRICS", ((SlicedWasserstein(), 64),))
    monkeypatch.setattr(integrity, "preset", lambda name: TO_8)
    done = CliRunner().invoke(integrity.main, ["--turns", "1"])
    assert done.exit_code == 0, done.output
    rows = re.findall(r"^\| (\w.+?) \|", done.stdout, re.M)
    assert rows[:6] == ["digest", "sha256", "blake2b", "md5", "crc32", "what is read"]
    assert rows[6].startswith("swd")
    assert rows[7:] == [
        "checkpoint at 1024 x 1024, its header alone",
        "checkpoint at 1024 x 1024",
        "training state, seven such networks",
    ]
