"""How the CPU's cores are shared out."""

import threading

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from pgmetrics.runtime.threads import share_out, single_blas


@pytest.fixture
def _three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_three_threads")
def test_answers_keep_the_order_of_the_tasks_which_meet_in_threads_of_their_own():
    meeting = threading.Barrier(3, timeout=60)  # nobody would leave it if two tasks took turns

    def task(number):
        meeting.wait()
        return number, torch.get_num_threads(), threading.get_ident()

    answers = share_out(task, iter(range(3)))
    assert [number for number, _, _ in answers] == [0, 1, 2]
    assert {within for _, within, _ in answers} == {1}
    assert len({thread for _, _, thread in answers}) == 3
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("_three_threads")
@pytest.mark.parametrize("options", [{"threads": False}, {}])
def test_without_threads_or_with_one_task_all_is_done_here(options):
    tasks = range(4) if options else range(1)
    here = threading.get_ident()
    found = share_out(lambda _: (threading.get_ident(), torch.get_num_threads()), tasks, **options)
    assert set(found) == {(here, 1)}
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("_three_threads")
def test_a_task_that_fails_gives_the_threads_back():
    def fail(number):
        raise ZeroDivisionError(number)

    for count in (1, 3):
        with pytest.raises(ZeroDivisionError, match="0"):
            share_out(fail, range(count))
        assert torch.get_num_threads() == 3
    assert share_out(abs, []) == []


def test_products_of_numpy_take_one_thread_for_the_time_being():
    np.ones((2, 2)) @ np.ones((2, 2))

    def threads():
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    before = threads()
    with single_blas():
        assert set(threads()) == {1}
    assert threads() == before
