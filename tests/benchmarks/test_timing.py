"""Timings: turns that are fair, ratios turn by turn, and memory that was really taken."""

import sys
from functools import partial

import numpy as np
import pytest

from benchmarks.timing import PeakMemory, Timing, show, take_turns


def test_ratios_are_taken_turn_by_turn():
    # The ratio of the medians would be 2: a slow minute that hits both must cancel.
    ours, theirs = Timing((1.0, 2.0, 10.0)), Timing((3.0, 4.0, 50.0))
    assert (ours.median, ours.fastest, ours.slowest) == (2.0, 1.0, 10.0)
    assert ours.times_faster_than(theirs) == 3.0


def test_the_order_is_reversed_in_every_second_turn_and_the_warm_up_is_not_measured():
    seen = []
    timings = take_turns({name: partial(seen.append, name) for name in "abc"}, turns=3, warm_up=1)
    assert "".join(seen) == "abc" + "abc" + "cba" + "abc"
    assert {name: len(timing.seconds) for name, timing in timings.items()} == {"a": 3, "b": 3, "c": 3}


@pytest.mark.skipif(sys.platform != "linux", reason="anonymous memory is read from /proc")
def test_the_peak_is_what_was_allocated_meanwhile():
    with PeakMemory() as peak:
        np.ones(1 << 27, np.uint8)
    # Memory that was freed before and is not yet given back may be used again.
    assert 0.9 < peak.bytes / (1 << 27) < 1.5


def test_a_table_is_printed_and_written(tmp_path, capsys):
    show(["| a |", "|---|"], tmp_path / "table.md")
    assert capsys.readouterr().out == (tmp_path / "table.md").read_text() == "| a |\n|---|\n"
