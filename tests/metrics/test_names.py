"""What people write for a metric: other spellings, a number of several, and what there is not."""

import numpy as np
import pytest

import pgmetrics
from pgmetrics.errors import OptionError
from pgmetrics.evaluation.presets import PRESETS
from pgmetrics.metrics.frechet import FrechetInceptionDistance
from pgmetrics.metrics.prdc import NAMES, PRDC
from pgmetrics.metrics.registry import METRICS, find_metrics, metric, outputs
from tests.evaluation.test_api import Counting
from tests.helpers.toy_network import ToyNetwork


def score(metrics, **options):
    networks = {"inception": ToyNetwork()}
    return pgmetrics.evaluate(Counting(60), Counting(60, seed=1), metrics, networks=networks, **options)


@pytest.mark.parametrize(
    ("written", "meant"),
    [("FID", "fid"), ("ms_ssim", "ms-ssim"), ("memorization", "memorisation"),
     ("Memorization", "memorisation"), (" kid ", "kid"), ("FID_Infinity", "fid-infinity"), ("PRDC", "prdc")],
)  # fmt: skip
def test_other_spellings_are_taken(written, meant):
    assert metric(written) == METRICS[meant].load()()


def test_numbers_of_prdc_are_asked_for_one_by_one():
    whole = {row["metric"]: row for row in score(["prdc"])}
    assert list(whole) == list(NAMES)
    for asked in (["precision"], ["recall", "Precision"], ["density", "coverage"]):
        found = score(asked)
        wanted = [name for name in NAMES if name in [one.lower() for one in asked]]
        assert [row["metric"] for row in found] == wanted
        # The same numbers as among all four, to the bit; the runs differ, and so do their labels.
        assert [{**row, "run": ""} for row in found] == [{**whole[name], "run": ""} for name in wanted]


def test_a_number_beside_its_metric_adds_nothing():
    assert find_metrics(["precision", "fid", "prdc"]) == [FrechetInceptionDistance(), PRDC()]
    assert find_metrics(["precision", "fid", "recall"]) == [
        PRDC(names=("precision", "recall")),
        FrechetInceptionDistance(),
    ]
    mine = PRDC(k=3)
    assert find_metrics([mine]) == [mine]
    # Two of other parameters are two metrics of one name, which one table cannot hold.
    with pytest.raises(OptionError, match="asked for twice: prdc, prdc"):
        score([mine, "precision"])


def test_a_preset_gives_its_own_numbers():
    its = PRESETS["torch-fidelity"].metric
    assert find_metrics(["recall"], its) == [its("prdc").giving(["recall"])]
    assert find_metrics(["recall"], its)[0].k == 3
    with pytest.raises(OptionError, match="prdc gives precision, recall here, not coverage"):
        find_metrics(["coverage"], its)


@pytest.mark.parametrize(
    ("asked", "fact"),
    [
        ("fis", r"^no metric is called 'fis' \(did you mean is or fid\?\); there are swd, ms-ssim, fid, "),
        ("memorise", "did you mean memorisation"),
        ("accuracy!", "^no metric is called 'accuracy!'; there are swd, "),
        ("authpct", "^authpct comes with memorisation: ask for memorisation$"),
        ("fid-bias", "^fid-bias comes with fid: ask for fid$"),
    ],
)
def test_what_there_is_not_is_refused_with_the_right_name(asked, fact):
    with pytest.raises(OptionError, match=fact):
        score([asked])


def test_every_declared_number_is_taken_or_names_its_metric():
    for number in outputs():
        try:
            found = metric(number.name)
        except OptionError as refusal:
            *_, name = str(refusal).split()
            assert number in METRICS[name].outputs
        else:
            assert number in found.outputs


def test_compared_results_are_chosen_by_their_metric_or_one_number():
    images = [np.random.default_rng(i).integers(0, 256, (60, 32, 32, 3), dtype=np.uint8) for i in range(3)]
    networks = {"inception": ToyNetwork()}
    a, b = (
        pgmetrics.evaluate(images[0], fake, ["prdc", "fid"], error="images", networks=networks)
        for fake in images[1:]
    )
    for asked, wanted in (
        (["prdc"], list(NAMES)), (["Precision"], ["precision"]), (["FID"], ["fid"]),
        (["prdc", "recall"], list(NAMES)),
    ):  # fmt: skip
        found = pgmetrics.compare(a, b, metrics=asked)
        assert list(dict.fromkeys(row["metric"] for row in found.rows)) == wanted
    with pytest.raises(OptionError, match="holds fid, precision, recall, density, coverage, not kid"):
        pgmetrics.compare(a, b, metrics=["kid"])
