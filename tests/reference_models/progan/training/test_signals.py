"""Ctrl-C asks for a stop, and a second one does what it always does."""

from __future__ import annotations

import os
import signal

import pytest

from reference_models.progan.training.signals import stop_requests


def test_a_second_signal_does_what_it_always_does():
    with stop_requests() as requested:
        assert requested() is None
        os.kill(os.getpid(), signal.SIGINT)
        assert requested() == 130
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_requests() as requested:  # as under nohup
            os.kill(os.getpid(), signal.SIGINT)
            assert requested() is None
    finally:
        signal.signal(signal.SIGINT, before)
