"""The one resolver: whoever evaluates is refused the same, and named the same versions."""

import numpy as np
import pytest
import torch

import pgmetrics
from pgmetrics.errors import OptionError
from tests.helpers.growing_run import write_run
from tests.helpers.toy_network import ToyNetwork

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
REFUSED = {
    "fd needs a custom network: --features PATH": {"metrics": ["fd"]},
    "is reads the logits of the network inception, which gives features": {
        "metrics": ["is"], "networks": {"inception": ToyNetwork(layers=("features",))},
    },
    "weights are given for inception, and the metrics use no network": {
        "metrics": ["swd"], "weights": "weights.pth",
    },
    "precision belong to Inception, which the metrics do not use": {
        "metrics": ["swd"], "precision": "bfloat16",
    },
    "a preset fixes the network's form": {"metrics": ["kid"], "preset": "clean-fid", "form": "fast"},
    "there is no preset 'tensorflow'; there are torch-fidelity": {"metrics": ["fid"], "preset": "tensorflow"},
    "clean-fid computes fid, kid only, not is": {"metrics": ["is"], "preset": "clean-fid"},
    "a metric is asked for twice: swd, swd": {"metrics": ["swd", "swd"]},
    "no metric is called 'fud'": {"metrics": ["fud"]},
    "metrics is a list such as ['swd', 'fid'], not 'swd'": {"metrics": "swd"},
    "metrics is a list such as ['swd', 'fid'], not 3": {"metrics": 3},
    "max_memory, in bytes, is a number at least 0": {"metrics": ["swd"], "max_memory": "1 GB"},
    "networks names 'own', which no metric uses; a custom network is called 'custom'": {
        "metrics": ["swd"], "networks": {"own": ToyNetwork()},
    },
    "networks['custom'] is of the type Flatten and no feature extractor; "
    "pgmetrics.features.custom_network(...) makes": {
        "metrics": ["fd"], "networks": {"custom": torch.nn.Flatten()},
    },
    "networks is a dict such as {'custom': ...}, not ToyNetwork": {
        "metrics": ["fd"], "networks": ToyNetwork(),
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"), [(800, 32, 1.0)], untrained=False)


@pytest.mark.parametrize(("fact", "asked"), REFUSED.items(), ids=REFUSED)
def test_all_who_evaluate_are_refused_in_the_same_words(run, fact, asked):
    # Wrong: growth or compare resolves by itself, and accepts or says something else.
    for call in (
        lambda: pgmetrics.evaluate(IMAGES, IMAGES, **asked),
        lambda: pgmetrics.collect(IMAGES, **asked),
        lambda: pgmetrics.compare(IMAGES, IMAGES, real=IMAGES, **asked),
        lambda: pgmetrics.score_run(run, IMAGES, **asked),
    ):
        with pytest.raises(OptionError) as refusal:
            call()
        assert str(refusal.value).startswith(fact)
    assert not (run / "scores.jsonl").exists()


@pytest.mark.parametrize(
    ("option", "value", "fact"),
    [
        ("device", None, "device None is none of auto, cpu, cuda"),
        ("cache", True, "cache is a directory, or None for no cache, not True"),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(option, value, fact):
    with pytest.raises(OptionError, match=fact):
        pgmetrics.evaluate(IMAGES, IMAGES, ["swd"], **{option: value})


def test_integers_of_numpy_are_integers():
    # Wrong: they pass the checks and fail as JSON, after everything is computed.
    asked = {"num_images": 8, "seed": 3, "resolution": 16, "workers": 0, "max_memory": 2**20}
    plain = pgmetrics.evaluate(IMAGES, IMAGES, ["swd"], resize="box", **asked)
    numpy = {name: np.int64(value) for name, value in asked.items()}
    found = pgmetrics.evaluate(IMAGES, IMAGES, ["swd"], resize="box", **numpy)
    assert found.to_text("csv") == plain.to_text("csv")
    assert pgmetrics.results.Results.from_json(found.to_text("json")).rows == plain.rows


def test_parameters_of_metrics_and_of_a_comparison_may_be_numpy_s():
    metric = pgmetrics.SlicedWasserstein(patches_per_image=np.int64(4))
    found = pgmetrics.evaluate(IMAGES, IMAGES, [metric])
    assert pgmetrics.results.Results.from_json(found.to_text("json")).rows == found.rows
    judging = {"significance": np.float32(0.5), "confidence": np.float64(0.9), "permutations": np.int64(50)}
    pgmetrics.compare(IMAGES, IMAGES[::-1], real=IMAGES, metrics=[metric], **judging).to_text("json")
    for value in (0, 1, float("nan"), "0.9"):
        with pytest.raises(OptionError, match="confidence, a probability, is a number above 0 and below 1"):
            pgmetrics.compare(IMAGES, IMAGES, real=IMAGES, confidence=value)
