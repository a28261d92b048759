"""The benchmark beside a busy process: who works when, and the table."""

import re
import sys
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from benchmarks import busy_neighbor
from benchmarks.busy_neighbor import main

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the neighbor is stopped by a POSIX signal")


def test_each_way_works_alone_and_beside_the_neighbor(monkeypatch):
    worked = []

    @contextmanager
    def process(name, policy):
        yield lambda: worked.append((name, policy))

    monkeypatch.setattr(busy_neighbor, "_process", process)
    done = CliRunner().invoke(main, ["--work", "train 4x4", "--turns", "1"])
    assert done.exit_code == 0, done.output
    assert re.findall(r"\| (train 4x4) \| (\w+) \| (?:[^|]+\|){2} \d+% \|", done.stdout) == [
        ("train 4x4", "spinning"),
        ("train 4x4", "asleep"),
    ]
    # Each alone and beside, in the warm-up and in the turn.
    assert sorted(worked, key=str) == [("train 4x4", "passive")] * 4 + [("train 4x4", None)] * 4


@pytest.mark.slow
def test_a_process_of_its_own_does_the_work():
    done = CliRunner().invoke(main, ["--work", "train 4x4", "--turns", "1"])
    assert done.exit_code == 0, done.output
    assert len(re.findall(r"^\| train 4x4 \|", done.stdout.replace("\r", "\n"), re.M)) == 2
