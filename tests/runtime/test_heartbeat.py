"""Who trains is heard as long as it lives, and missed when it is gone."""

import json
import os
import socket
import time

import pytest

from pgmetrics.runtime import heartbeat
from pgmetrics.runtime.heartbeat import Listener, beating


@pytest.fixture
def clock(monkeypatch):
    """The listener's clock, which stands still."""

    class Clock:
        now = 1000.0

    monkeypatch.setattr(heartbeat, "_now", lambda: Clock.now)
    return Clock


def beat(run, text="{}"):
    (run / "heartbeat.json").write_text(text)


def test_a_trainer_is_gone_when_nothing_changed_for_a_minute(tmp_path, clock):
    listener = Listener(tmp_path)
    clock.now = 2000.0
    assert not listener.has_stopped()  # never heard: nobody knows
    beat(tmp_path, "1")
    assert not listener.has_stopped()
    clock.now = 2059.0
    beat(tmp_path, "2")
    assert not listener.has_stopped()
    clock.now = 2118.0
    assert not listener.has_stopped()
    beat(tmp_path, "3")  # killed, and started again
    assert not listener.has_stopped()
    clock.now = 2179.0
    assert listener.has_stopped()


def test_a_long_time_between_two_looks_counts(tmp_path, clock):
    # Scoring takes long. Wrong: to start the minute at the second look, or to take the pause for a stop.
    beat(tmp_path, "1")
    listener = Listener(tmp_path)
    assert not listener.has_stopped()
    clock.now += 3600
    beat(tmp_path, "2")
    assert not listener.has_stopped()
    clock.now += 3600
    assert listener.has_stopped()


def test_a_file_that_is_only_touched_beats_and_one_that_is_gone_does_not(tmp_path, clock):
    beat(tmp_path)
    listener = Listener(tmp_path)
    for hours in (0, 1, 2):
        clock.now += 3600
        # Another machine's clock may be wrong, and may even be set back.
        os.utime(tmp_path / "heartbeat.json", (1e9 - hours, 1e9 - hours))
        assert not listener.has_stopped()
    (tmp_path / "heartbeat.json").unlink()
    assert not listener.has_stopped()
    clock.now += 61
    assert listener.has_stopped()


def test_the_file_is_written_again_and_again_and_removed_in_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeat, "SECONDS_BETWEEN", 0.01)
    place, shown = tmp_path / "heartbeat.json", 0
    with beating(tmp_path, lambda: shown):
        first = json.loads(place.read_text())
        assert (first["host"], first["pid"], first["images_shown"]) == (socket.gethostname(), os.getpid(), 0)
        assert first["started"] <= first["time"]
        shown = 64
        end = time.monotonic() + 20
        while json.loads(place.read_text())["images_shown"] != 64:
            assert time.monotonic() < end
            time.sleep(0.01)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_stops_nothing(tmp_path):
    done = []
    with beating(tmp_path / "nowhere", lambda: 0):
        done.append(True)
    assert done
