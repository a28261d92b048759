import numpy as np
import pytest
import torch

from pgmetrics.errors import OptionError, SampleError
from pgmetrics.metrics.prdc import PRDC
from pgmetrics.runtime.blocks import FeatureBlock
from tests.contracts.feature_contract import FeatureContract
from tests.helpers.draws import normal


def states(real, fake):
    made = []
    for side, rows in (("real", real), ("fake", fake)):
        state = PRDC().new_state(side, resolution=(32, 32))
        state.update(FeatureBlock(0, torch.from_numpy(np.asarray(rows, np.float32))))
        made.append(state)
    return made


def scores(real, fake, **parameters):
    made = states(real, fake)
    estimates, notes = PRDC(**parameters).compute(real=made[0], fake=made[1])
    assert notes == []
    return {estimate.metric: estimate for estimate in estimates}


class TestContract(FeatureContract):
    metric = PRDC()


class TestSome(FeatureContract):
    metric = PRDC(k=3, names=("precision", "density"))


def test_a_case_by_hand_tells_the_sides_apart():
    # Reals 0, 1, 3, 7: nearest others at 1, 1, 2, 4. Fakes 2.5, 2.6, 2.8, 40: 0.1, 0.1, 0.2, 37.2.
    found = scores([[0], [1], [3], [7]], [[2.5], [2.6], [2.8], [40]], k=1)
    assert {name: found[name].value for name in found} == {
        "precision": 0.75,  # all but 40
        "recall": 0.5,  # 3 and 7 in the ball around 40
        "density": 0.75,
        "coverage": 0.25,  # the ball around 3
    }
    assert list(found) == ["precision", "recall", "density", "coverage"]


def test_fewer_modes_lower_recall_and_noise_lowers_precision():
    real = normal(1, 300, 8)
    half = scores(real, normal(2, 600, 8)[normal(2, 600, 8)[:, 0] > 0])
    noisy = scores(real, 3 * normal(2, 300, 8))
    good = scores(real, normal(2, 300, 8))
    assert half["recall"].value < good["recall"].value - 0.1
    assert half["precision"].value > good["precision"].value - 0.05
    assert noisy["precision"].value < good["precision"].value - 0.3
    assert noisy["density"].value < 0.5 < good["density"].value
    assert noisy["coverage"].value < good["coverage"].value - 0.3


def test_a_set_against_itself():
    rows = normal(1, 80, 16)
    found = scores(rows, rows, k=5)
    assert [found[name].value for name in ("precision", "recall", "coverage")] == [1, 1, 1]
    assert found["density"].value == 1.2  # 1 + 1/k


def test_repeated_images_do_not_score_zero():
    # With a strict < the balls of repeated reals are empty.
    rows = np.repeat(normal(1, 10, 16), 7, axis=0)
    assert {name: e.value for name, e in scores(rows, rows, k=5).items()} == {
        "precision": 1,
        "recall": 1,
        "density": 1.4,
        "coverage": 1,
    }


@pytest.mark.slow
def test_the_standard_errors_predict_the_spread_given_the_other_side():
    real, fake = normal(1, 120, 4), 1.3 * normal(2, 100, 4)
    rng = np.random.default_rng(3)
    by_fakes = [scores(real, 1.3 * rng.standard_normal((100, 4)), k=3) for _ in range(120)]
    by_reals = [scores(rng.standard_normal((120, 4)), fake, k=3, names=("recall",)) for _ in range(120)]
    for name, runs, kind in (
        ("precision", by_fakes, "fakes given the reals"),
        ("density", by_fakes, "fakes given the reals"),
        ("recall", by_reals, "reals given the fakes"),
    ):
        values = np.array([run[name].value for run in runs])
        errors = np.array([run[name].stderr for run in runs])
        assert 0.8 < np.sqrt((errors**2).mean()) / values.std() < 1.25, name  # 6 % is one deviation
        assert runs[0][name].stderr_kind == kind
    assert (by_fakes[0]["coverage"].stderr, by_fakes[0]["coverage"].stderr_kind) == (None, None)


def test_names_choose_and_order_the_rows():
    found = scores(normal(1, 20, 4), normal(2, 30, 4), names=("coverage", "precision"))
    assert list(found) == ["coverage", "precision"]
    assert (found["coverage"].n_real, found["coverage"].n_fake) == (20, 30)


def test_too_few_images_are_refused_on_either_side():
    for real, fake, side in ((5, 9, "real"), (9, 5, "fake")):
        with pytest.raises(SampleError, match=f"at least 6 images of each side; the {side} side has 5"):
            scores(normal(1, real, 3), normal(2, fake, 3))
    scores(normal(1, 6, 3), normal(2, 6, 3))


@pytest.mark.parametrize(
    ("parameters", "fact"),
    [
        ({"k": 0}, "k of at least 1, not 0"),
        ({"names": ()}, "precision, recall, density, coverage"),
        ({"names": ("precision", "precison")}, "precison"),
        ({"names": ("recall", "recall")}, "each once"),
    ],
)
def test_options_outside_their_meaning_are_refused(parameters, fact):
    with pytest.raises(OptionError, match=fact):
        PRDC(**parameters)


@pytest.mark.slow
def test_the_standard_errors_over_images_predict_the_spread():
    # A quarter's own variance would be twice too large, that of one side's images alone too small.
    rng = np.random.default_rng(6)
    found = [
        scores(rng.standard_normal((120, 4)), 1.3 * rng.standard_normal((120, 4)), k=3, error="images")
        for _ in range(40)
    ]
    for name in found[0]:
        values = np.array([run[name].value for run in found])
        errors = np.array([run[name].stderr for run in found])
        # 40 runs give the deviation to 11 %.
        assert 0.75 < np.sqrt((errors**2).mean()) / values.std(ddof=1) < 1.45, name
