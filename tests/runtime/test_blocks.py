"""How work is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmetrics.errors import StateError
from pgmetrics.runtime.blocks import IndexSet, block_length, plan


@pytest.mark.parametrize(
    ("side", "length"),
    [(16, 256), (32, 256), (64, 128), (128, 64), (256, 32), (1024, 8), (4096, 4), (100, 80), (600, 12)],
)
def test_block_lengths_are_the_published_minibatches_made_even(side, length):
    assert block_length(side) == length


@given(st.integers(0, 500), st.integers(1, 64))
def test_a_plan_covers_every_index_once_from_multiples_of_its_length(n, length):
    cuts = plan(n, length)
    assert [i for a, b in cuts for i in range(a, b)] == list(range(n))
    assert all(a % length == 0 for a, _ in cuts)


@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)))
def test_index_sets_are_sets_that_refuse_to_overlap(a, b):
    first, second = (IndexSet((i, i + 1) for i in s) for s in (a, b))
    assert list(first) == sorted(a)
    assert len(first) == len(a)
    if a & b:
        with pytest.raises(StateError, match="counted twice"):
            first.union(second)
    else:
        assert list(first.union(second)) == sorted(a | b)
        assert first.union(second) == second.union(first)


def test_touching_intervals_become_one():
    assert IndexSet([(8, 16), (0, 8)]).intervals == ((0, 16),)
