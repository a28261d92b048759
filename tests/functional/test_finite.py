"""A check of named tensors for NaN and infinite values."""

import pytest
import torch

from pgmetrics.functional.finite import not_finite


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
def test_the_first_tensor_at_fault_is_named_with_its_first_place(wrong):
    # Catches a sum, in which infinities of both signs are NaN, and a check for NaN alone.
    fine, broken = torch.zeros(2, 3), torch.zeros(2, 3)
    broken[1, 0] = broken[1, 2] = wrong
    assert not_finite([("fine", fine), ("broken", broken), ("other", broken)]) == (
        "its broken holds values that are not finite (2 of 6, the first at [1, 0])"
    )


def test_a_number_alone_has_no_place():
    assert not_finite([("x", torch.tensor(torch.nan))]) == ("its x holds values that are not finite (1 of 1)")


def test_finite_numbers_of_every_kind_pass():
    large = torch.full((2,), 3e38)
    integers = torch.tensor([2**62])
    assert not_finite([("a", large), ("b", integers), ("c", torch.zeros(0)), ("d", integers > 0)]) is None
    assert not_finite([("half", torch.tensor([1e6]).half())]) is not None
    assert not_finite([("complex", torch.tensor([1 + 0j, complex(0, torch.inf)]))]) is not None
