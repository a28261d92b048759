"""The declarations of numbers: how they are printed, and what is said of them."""

import re

import pytest

from pgmetrics.metrics.outputs import Aim, Direction
from pgmetrics.metrics.registry import is_declared, output, outputs

NUMBERS = [number.name for number in outputs()]


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_says_what_a_reader_needs(name):
    number = output(name)
    assert number.title
    assert number.source
    assert number.meaning[0].islower()
    if number.is_score:
        assert number.use
        assert number.misses
    sentences = r"[^.]+\.( Use it [^.]+\.)?( It misses [^.]+\.)?( Its best value depends on [^.]+\.)?"
    assert re.fullmatch(sentences, number.description)


def test_numbers_are_printed_with_their_unit_and_digits():
    # The last is C_T; printed from the declarations of 2026.
    printed = {name: f"{output(name).heading} {output(name).number(0.0123456)}" for name in NUMBERS}
    assert printed == {
        "swd": "SWD ×10³ 12.35", "ms-ssim": "MS-SSIM 0.0123", "fid": "FID 0.01", "fid-bias": "FID bias 0.01",
        "fid-infinity": "FID∞ 0.01", "fd": "FD 0.01235", "fd-bias": "FD bias 0.01235", "is": "IS 0.01",
        "kid": "KID ×10³ 12.346", "precision": "Precision 0.0123", "recall": "Recall 0.0123",
        "density": "Density 0.0123", "coverage": "Coverage 0.0123", "authpct": "AuthPct 0.0123",
        "ct": "C_T 0.01",
    }  # fmt: skip
    assert output("swd").number(-0.001, "+") == "-1.00"
    assert output("swd").number(0.001, "+") == "+1.00"


def test_a_number_that_nobody_declared_is_printed_raw_and_is_no_score():
    number = output("lpips")
    assert (number.heading, number.number(0.123456)) == ("LPIPS", "0.1235")
    assert number.better.aim is Aim.NONE
    assert not is_declared("lpips")


@pytest.mark.parametrize(
    ("direction", "words"),
    [
        (Direction(Aim.LOWER), "lower is better"),
        (Direction(Aim.HIGHER, limit=1.0), "higher is better, up to 1"),
        (Direction(Aim.HIGHER, up_to_reals=True), "higher is better, up to the reals'"),
        (Direction(Aim.REALS), "higher is less varied; the reals are the measure"),
        (Direction(Aim.NONE), ""),
    ],
)
def test_a_direction_is_told_with_its_end(direction, words):
    assert direction.in_words == words
