"""What is computed of one checkpoint, under both protocols."""

import numpy as np
import pytest
import torch

import pgmetrics
from pgmetrics.errors import SourceError
from pgmetrics.sources.arrays import ArraySource
from reference_models.progan.data.training_images import prepare
from reference_models.progan.model.checkpoint import checkpoints
from reference_models.progan.model.schedule import Stage
from tests.helpers.growing_run import LABELS, MOMENTS
from tests.helpers.growth_scores import FAST, REAL, N, items, real_pixels, score, store, values
from tests.helpers.tables import rows
from tests.helpers.toy_network import ToyNetwork


@pytest.mark.slow
def test_at_final_is_what_evaluate_says_of_each_checkpoint_enlarged(run):
    found, skipped = score(run, seed=3)
    assert not skipped
    assert [entry[1] for entry in items(run)] == ["", "reals-32x32", *LABELS]
    for label, path in zip(LABELS, checkpoints(run), strict=True):
        alone = pgmetrics.evaluate(
            REAL, f"progan:{path},at=final,seed=3", FAST, num_images=N, seed=3, device="cpu"
        )  # fmt: skip
        assert values(found, run=label) == values(alone, subject="fake")
    floor = pgmetrics.evaluate(REAL, None, FAST, num_images=N, seed=3, floor=True, device="cpu")
    assert values(found, run="reals-32x32") == values(floor)
    assert {row["protocol"] for row in found.rows} == {"at-final"}
    assert {row["seed"] for row in found.rows} == {3}


@pytest.mark.slow
@pytest.mark.parametrize("place", [3, 4, 5, 7])
def test_at_stage_compares_with_reals_as_the_discriminator_saw_them(run, place):
    _, resolution, alpha = MOMENTS[place]
    stage = Stage(resolution=resolution, alpha=alpha, lod=0, minibatch=4, learning_rate=0)
    shown = prepare(torch.from_numpy(real_pixels()), None, stage) * 127.5 + 127.5
    reals = ArraySource(shown.round().to(torch.uint8).numpy())
    found, _ = score(run, protocols=["at-stage"], floor=False)
    alone = pgmetrics.evaluate(reals, f"progan:{checkpoints(run)[place]}", FAST, num_images=N, device="cpu")
    for got, expected in zip(values(found, run=LABELS[place]), values(alone, subject="fake"), strict=True):
        # Training mixes floats, so that a half may round to the other byte.
        assert got[:2] == expected[:2]
        assert got[2] == pytest.approx(expected[2], rel=0 if alpha == 1 else 1e-3)
    assert {row["protocol"] for row in found.rows} == {"at-stage"}


@pytest.mark.slow
def test_what_is_not_defined_at_a_stage_is_left_out_with_a_note_in_its_line(run):
    found, _ = score(
        run, protocols=["at-stage"], metrics=[*FAST, "fid"], networks={"inception": ToyNetwork()}
    )
    assert {row["metric"] for row in rows(found, run=LABELS[0])} == {
        "fid"
    }  # 16 images are too few for its bias
    notes = found.provenance["runs"][LABELS[0]]["notes"]
    assert any("swd is left out" in note and "4x4" in note for note in notes)
    assert any("ms-ssim is left out" in note for note in notes)
    assert {row["metric"] for row in rows(found, run=LABELS[4])} == {"swd", "ms-ssim", "fid"}


def test_both_protocols_stand_apart_and_floors_come_before_their_stage(run):
    found, _ = score(run, protocols=["at-stage", "at-final"])
    order = [label for _, label in items(run)]
    for resolution in (4, 8, 16, 32):
        first = next(i for i, moment in enumerate(MOMENTS) if moment[1] == resolution)
        assert order.index(f"reals-{resolution}x{resolution}") < order.index(LABELS[first])
    final, stage = (rows(found, protocol=protocol) for protocol in ("at-final", "at-stage"))
    assert {row["run"] for row in final} == {"reals-32x32", *LABELS}
    assert {row["run"] for row in stage} == {"reals-32x32", "reals-16x16", *LABELS[3:]}
    # Where nothing is enlarged nor faded they are one; during the fade to it they are not.
    for label, equal in ((LABELS[7], True), ("reals-32x32", True), (LABELS[5], False)):
        at = [
            values(found, run=label, protocol=protocol, metric="swd") for protocol in ("at-final", "at-stage")
        ]
        assert (at[0] == at[1]) == equal


@pytest.mark.slow
def test_both_protocols_together_are_each_alone(run):
    both, _ = score(run, protocols=["at-final", "at-stage"])
    for protocol in ("at-final", "at-stage"):
        alone, _ = score(run, protocols=[protocol])
        assert [row for row in both.rows if row["protocol"] == protocol] == list(alone.rows)


@pytest.mark.slow
def test_the_untrained_network_comes_when_asked_for_without_scoring_the_rest_again(run):
    score(run)
    before = store(run)
    found, _ = score(run, untrained=True)
    assert store(run).startswith(before)
    assert items(run)[-1] == ("untrained", "untrained")
    labels = list(dict.fromkeys(row["run"] for row in found.rows))
    assert labels == ["reals-32x32", "untrained", *LABELS]  # in the table it comes first all the same
    whole = (run / "untrained.safetensors").read_bytes()
    (run / "untrained.safetensors").write_bytes(whole[:-100])
    (run / "scores.jsonl").unlink()
    found, skipped = score(run, untrained=True)
    assert [path.name for path, _ in skipped] == ["untrained.safetensors"]
    assert {row["run"] for row in found.rows} == {"reals-32x32", *LABELS}
    (run / "untrained.safetensors").unlink()
    with pytest.raises(SourceError, match="no untrained network"):
        score(run, untrained=True)


def test_feature_metrics_have_floors_and_their_network_in_the_provenance(run):
    network = ToyNetwork()
    found, _ = score(run, metrics=["fid", "kid"], networks={"inception": network})
    assert {row["metric"] for row in rows(found, run="reals-32x32")} == {"fid", "kid"}
    assert found.provenance["settings"]["networks"] == {"inception": network.fingerprint}
    path = checkpoints(run)[2]
    alone = pgmetrics.evaluate(
        REAL, f"progan:{path},at=final", ["fid", "kid"], num_images=N, networks={"inception": ToyNetwork()}
    )
    assert values(found, run=LABELS[2]) == values(alone, subject="fake")


def test_a_loader_makes_images_of_checkpoints_that_no_plug_in_knows(tmp_path, monkeypatch):
    run = tmp_path / "run"
    run.mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mymodel.py").write_text(
        "import numpy as np\n"
        "def images(path):\n"
        "    return np.load(path)['pixels']\n"
        "def random(path):\n"
        "    return np.random.randint(0, 256, images(path).shape).astype(np.uint8)\n"
        "noise = np.random.randint(0, 256, (1000, 3, 32, 32)).astype(np.uint8)\n"
        "def of_import(path):\n"
        "    return noise[: len(images(path))]\n"
        "def broken(path):\n"
        "    raise ZeroDivisionError('no such layer')\n"
    )
    fakes = {
        side: np.random.default_rng(side).integers(0, 256, (N, 3, side, side), np.uint8) for side in (16, 32)
    }
    for side, pixels in fakes.items():
        np.savez(run / f"model-{side * 10}-{side}.npz", pixels=pixels)
    how = {"pattern": "model-{images}-{resolution}.npz", "floor": False}
    found, skipped = score(run, loader="mymodel:images", protocols=["at-final", "at-stage"], **how)
    assert not skipped
    enlarged = fakes[16].repeat(2, 2).repeat(2, 3)
    for pixels, label in ((enlarged, "0000000160-16x16"), (fakes[32], "0000000320-32x32")):
        alone = pgmetrics.evaluate(REAL, pixels, FAST, num_images=N)
        assert values(found, run=label, protocol="at-final") == values(alone, subject="fake")
    assert {row["level"] for row in rows(found, run="0000000160-16x16", protocol="at-stage")} == {16, None}
    _, skipped = score(run, loader="mymodel:broken", **how)
    assert [reason for _, reason in skipped] == [
        f"mymodel:broken failed on model-{side * 10}-{side}.npz: ZeroDivisionError: no such layer"
        for side in (16, 32)
    ]
    for name, when in (("random", "call"), ("of_import", "import of its module")):
        _, skipped = score(run, loader=f"mymodel:{name}", **how)
        assert [reason.split(":")[2] for _, reason in skipped] == [
            f" each {when} gives different images; load trained weights, and seed all random numbers"
        ] * 2
