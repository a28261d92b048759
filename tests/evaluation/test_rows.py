"""From the states of a job to rows of results."""

from dataclasses import replace

import pytest

import pgmetrics
from pgmetrics.errors import SampleError
from pgmetrics.metrics.frechet import FrechetInceptionDistance
from pgmetrics.metrics.kid import KernelInceptionDistance
from pgmetrics.metrics.prdc import PRDC
from pgmetrics.metrics.swd import SlicedWasserstein
from tests.helpers.counting import Counting
from tests.helpers.feature_scores import score, sides
from tests.helpers.toy_network import ToyNetwork


def test_parameters_of_ones_own_are_told_in_the_row(tmp_path):
    # Wrong: not told, so that tables of unlike numbers look alike; told where they move no number.
    found = score(*sides(), [PRDC(k=3), "fid", KernelInceptionDistance(subsets=4, subset_size=50)])
    told = {row["metric"]: row["protocol"] for row in found.rows}
    assert told["precision"] == "native, inception toy1, k=3"
    assert told["fid"] == "native, inception toy1"
    assert told["kid"] == "native, inception toy1, subsets=4, subset_size=50"
    network = {"inception": ToyNetwork()}
    changed = FrechetInceptionDistance(ddof=0, groups=1)
    found = pgmetrics.evaluate(*sides(), [changed], preset="pytorch-fid", networks=network)
    assert found.rows[0]["protocol"] == "native, pytorch-fid, ddof=0"
    found = pgmetrics.evaluate(*sides(), ["fid"], preset="pytorch-fid", networks=network)
    assert found.rows[0]["protocol"] == "native, pytorch-fid"


class Endless(SlicedWasserstein):
    """A metric whose sums overflow."""

    def compute(self, **states):
        estimates, notes = super().compute(**states)
        return [replace(each, **{self.which: self.number}) for each in estimates], notes


@pytest.mark.parametrize("which", ["value", "stderr"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_refused(monkeypatch, which, number):
    monkeypatch.setattr(Endless, "which", which, raising=False)
    monkeypatch.setattr(Endless, "number", number, raising=False)
    metric = Endless(patches_per_image=16, directions=8, repeats=2)
    with pytest.raises(SampleError, match=rf"swd.* of swd at level 32 is {number}"):
        pgmetrics.evaluate(Counting(10), Counting(10, seed=1), [metric])
