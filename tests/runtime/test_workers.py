"""Answers come from other processes as they were made there, in order, and nothing is left behind."""

import operator
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pgmetrics.errors import OptionError, check_number
from pgmetrics.runtime.workers import NotSendable, Pool, WorkerDied, sendable

ROOT = Path(__file__).parents[2]


def answers(function, requests, processes=1, ahead=2):
    with Pool([sendable(function)] * processes, "testing") as pool:
        return list(pool.answers(requests, ahead))


def test_arrays_arrive_as_they_were_whatever_their_layout():
    # They travel beside the pickle: a length, an order or a dtype can be lost that a pickle would keep.
    made = np.arange(24, dtype=np.float32).reshape(4, 6)
    frozen = made.copy()
    frozen.flags.writeable = False
    sent = [made, made.T, made[::2], made[:0], frozen, np.array(3.0)]
    received = answers(operator.pos, sent)
    for array, copy in zip(sent, received, strict=True):
        assert (copy.dtype, copy.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(copy, array)
    assert received[0].flags.writeable
    (parts,) = answers(partial(np.array_split, made), [3])
    np.testing.assert_array_equal(np.concatenate(parts), made)


def test_answers_keep_the_order_of_the_requests_and_requests_are_asked_as_needed():
    asked = []

    def requests():
        for number, seconds in enumerate((0.3, 0, 0.1, 0, 0, 0)):
            asked.append(number)
            yield ["sh", "-c", f"sleep {seconds}; echo {number}"]

    with Pool([sendable(subprocess.check_output)] * 2, "testing") as pool:
        got = pool.answers(requests(), ahead=2)
        assert next(got) == b"0\n"
        assert asked == [0, 1, 2, 3]
        assert [int(answer) for answer in got] == [1, 2, 3, 4, 5]


def test_a_refusal_arrives_as_it_was_raised_and_a_mistake_with_its_traceback():
    with pytest.raises(OptionError) as refusal:
        answers(partial(check_number, "jobs", low=1, high=9), [4, 12, 5])
    assert "jobs" in str(refusal.value)
    assert "12" in str(refusal.value)
    with pytest.raises(RuntimeError, match=r"(?s)^testing failed in another process:.*ZeroDivisionError"):
        answers(partial(operator.truediv, 1), [0])


def test_a_process_that_dies_is_told_and_how():
    with pytest.raises(WorkerDied, match="exit code 3"):
        answers(os._exit, [3])
    with pytest.raises(WorkerDied, match="signal 9"):
        answers(signal.raise_signal, [signal.SIGKILL])


def test_what_has_no_pickle_or_belongs_to_the_script_is_named():
    with pytest.raises(NotSendable) as refusal:
        sendable(lambda: 0)
    assert refusal.value.defined_in_script is None
    code = (
        "from pgmetrics.runtime.workers import NotSendable, sendable\n"
        "class Mine: pass\n"
        "for thing in ([Mine()], Mine, {'a': {'b': Mine()}}):\n"
        "    try:\n"
        "        sendable(thing)\n"
        "    except NotSendable as refusal:\n"
        "        print(refusal.defined_in_script)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["Mine"] * 3
