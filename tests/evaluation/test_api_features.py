"""evaluate() with metrics that read features: one forward per network, statistics, cache, refusals."""

import pytest

import pgmetrics
from pgmetrics.comparison.compare import compare
from pgmetrics.errors import OptionError, PgmetricsError, SampleError, StateError
from pgmetrics.evaluation import engine
from pgmetrics.evaluation.api import collect
from pgmetrics.metrics.frechet import FrechetInceptionDistance
from pgmetrics.metrics.kid import KernelInceptionDistance
from pgmetrics.metrics.memorisation import Memorisation
from pgmetrics.prepared.statistics import save_statistics
from tests.helpers.counting import Counting
from tests.helpers.feature_scores import ALL, score, sides, statistics_of, values
from tests.helpers.tables import SWD, rows
from tests.helpers.toy_network import Broken, ToyNetwork


def test_each_image_is_read_once_and_seen_once_by_the_network_for_all_metrics():
    network, (real, fake) = ToyNetwork(), sides()
    found = score(real, fake, ALL, network, floor=True)
    assert real.reads.tolist() == [1] * 300
    assert fake.reads.tolist() == [1] * 280
    assert network.images == 580
    # 300 images are blocks of 256 and 44; forwards are of 16, the last one padded.
    assert network.forwards == (16 + 3) + (16 + 2)
    assert {r["metric"] for r in found.rows} >= {"swd", "ms-ssim", "fid", "is", "kid", "precision", "recall"}
    assert rows(found, metric="fid")[0]["n_real"] == 300
    assert rows(found, metric="fid")[0]["n_fake"] == 280


def test_metrics_that_read_the_same_rows_share_one_state():
    states, _ = collect(
        Counting(60), ["kid", "prdc", "memorisation", "is"], networks={"inception": ToyNetwork()}
    )
    assert sorted(states) == ["rows-inception-features", "rows-inception-logits"]


def test_only_images_that_a_budget_needs_go_through_the_network():
    network, (real, fake) = ToyNetwork(), sides()
    score(real, fake, [SWD, FrechetInceptionDistance(num_images=100)], network)
    assert network.images == 200
    assert real.reads.sum() == 280


def test_a_metric_beside_changes_no_bit_of_another():
    real, fake = sides(90, 80)
    together = values(score(real, fake, ALL))
    for alone in ("fid", "kid", "is"):
        assert values(score(real, fake, [alone])).items() <= together.items()


def test_blocks_that_share_an_extraction_change_no_bit_and_are_told_one_by_one(monkeypatch):
    found, told = [], []
    for together, size in ((1, 2**25), (4, 2**25), (4, 300 * 3 * 32 * 32), (7, 1)):
        monkeypatch.setattr(engine, "_TOGETHER", together)
        monkeypatch.setattr(engine, "_BYTES", size)
        monkeypatch.setattr(engine, "block_length", lambda _: 64)
        steps = []
        network, (real, fake) = ToyNetwork(), sides(330, 321)
        options = {"progress": lambda *step, steps=steps: steps.append(step), "floor": True}
        found.append(score(real, fake, [SWD, "fid", "kid"], network, **options).rows)
        told.append(steps)
        assert network.images == 651
    assert found[0] == found[1] == found[2] == found[3]
    assert told[0] == told[1] == told[2] == told[3]


def test_workers_change_no_bit_of_features(tmp_path):
    from PIL import Image

    for side, seed in (("real", 1), ("fake", 2)):
        (tmp_path / side).mkdir()
        for index, image in enumerate(Counting(40, seed=seed).pixels.transpose(0, 2, 3, 1)):
            Image.fromarray(image).save(tmp_path / side / f"{index}.png")
    found = [score(str(tmp_path / "real"), str(tmp_path / "fake"), workers=w).rows for w in (0, 1, 2)]
    assert found[0] == found[1] == found[2]


def test_features_that_are_not_finite_name_the_first_image():
    real, fake = Counting(40), Counting(40, seed=1, shuffled=True)
    fake.pixels[:, 0, 0, 0] = 1
    fake.pixels[17, 0, 0, 0] = 0
    real.pixels[:, 0, 0, 0] = 1
    with pytest.raises(SampleError, match=r"counting1: the inception features of image 17 are not finite"):
        score(real, fake, ["fid"], Broken())


@pytest.mark.parametrize(
    ("metrics", "n", "fact"),
    [
        (["fid"], 1, "fid needs at least 2"),
        (["is"], 9, "is in 10 splits needs at least 10 images; .*fewer splits"),
        (["prdc"], 5, "prdc with k=5 needs at least 6 images of each side; .*smaller k"),
        (["fid-infinity"], 29, "fid-infinity at 15 points needs at least 30"),
        (
            [KernelInceptionDistance(subsets=3, subset_size=50)],
            49,
            "kid in subsets of 50 needs at least 50 images of each side; .*smaller subsets",
        ),
    ],
)
def test_too_few_images_are_refused_before_any_is_read(metrics, n, fact):
    real, fake = sides(60, n)
    with pytest.raises(SampleError, match=f"^counting1: {fact.replace('; ', f'; there are {n}')}"):
        score(real, fake, metrics)
    if n > 1:
        of_both = Counting(60, seed=1)
        with pytest.raises(SampleError, match=fact.replace("; ", f"; num_images={n} takes fewer")):
            score(real, of_both, metrics, num_images=n)
        assert of_both.reads.sum() == 0
    assert real.reads.sum() == fake.reads.sum() == 0


def test_a_metric_whose_layer_the_network_lacks_is_refused():
    with pytest.raises(
        OptionError, match="is reads the logits of the network inception, which gives features"
    ):
        score(*sides(), ["is"], ToyNetwork(layers=("features",)))


def test_fd_needs_ones_own_network_and_fid_refuses_it():
    with pytest.raises(OptionError, match="fd needs a custom network"):
        pgmetrics.evaluate(*sides(), ["fd"])
    found = pgmetrics.frechet_distance(*sides(), ToyNetwork("custom"))
    assert rows(found, metric="fd")[0]["value"] == values(score(*sides(), ["fid"]))["fid", None]
    with pytest.raises(OptionError, match="fd is"):
        FrechetInceptionDistance(network="custom")


def test_weights_for_a_network_that_no_metric_uses_are_refused(tmp_path):
    with pytest.raises(OptionError, match="weights are given for inception, and the metrics use no network"):
        pgmetrics.evaluate(*sides(), [SWD], weights=tmp_path / "w.pth")


@pytest.mark.parametrize("metrics", [[SWD], ["kid"]])
def test_a_form_or_precision_of_no_network_of_ours_is_refused(metrics):
    with pytest.raises(OptionError, match="precision belong to Inception, which the metrics do not use"):
        score(*sides(), metrics, precision="bfloat16")


def test_held_out_images_are_for_memorisation():
    real, fake = sides(80, 60)
    held_out = Counting(50, seed=3)
    found = score(real, fake, [Memorisation(), "kid"], held_out=held_out)
    assert {"authpct", "ct"} <= {r["metric"] for r in found.rows}
    assert held_out.reads.tolist() == [1] * 50
    with pytest.raises(OptionError, match="held-out images are for memorisation"):
        score(real, fake, ["kid"], held_out=held_out)


def test_comparing_says_which_statistics_it_takes(tmp_path):
    # A Fréchet distance remembers every image when two sets are compared.
    save_statistics(*statistics_of(Counting(60), ["fid"], ToyNetwork(), tmp_path / "r.pgstats"))
    network = {"inception": ToyNetwork()}
    fakes = Counting(60, seed=1), Counting(60, seed=2)
    with pytest.raises(StateError, match=r"fid needs rows-inception-features here.*--metrics kid"):
        compare(*fakes, real=tmp_path / "r.pgstats", metrics=["fid"], networks=network)
    save_statistics(*statistics_of(Counting(60), ["kid"], ToyNetwork(), tmp_path / "rows.pgstats"))
    found = compare(*fakes, real=tmp_path / "rows.pgstats", metrics=["fid"], networks=network)
    assert found.rows[0]["p_value"] is not None


def test_every_refusal_is_ours():
    for bad in ({"preset": "tensorflow"}, {"form": "fast", "preset": "clean-fid"}):
        with pytest.raises(PgmetricsError):
            pgmetrics.evaluate(*sides(), ["fid"], **bad)
