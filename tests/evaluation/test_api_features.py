"""evaluate() with metrics that read features: one forward per network, statistics, cache, refusals."""

import logging

import numpy as np
import pytest
import torch

import pgmetrics
from pgmetrics.comparison.compare import compare
from pgmetrics.errors import OptionError, PgmetricsError, SampleError, SourceError, StateError
from pgmetrics.evaluation import engine
from pgmetrics.evaluation.api import collect
from pgmetrics.metrics.frechet import FrechetInceptionDistance
from pgmetrics.metrics.kid import KernelInceptionDistance
from pgmetrics.metrics.memorisation import Memorisation
from pgmetrics.metrics.prdc import PRDC
from pgmetrics.prepared.cache import Cache
from pgmetrics.prepared.moments_npz import write_moments
from pgmetrics.prepared.statistics import save_statistics
from pgmetrics.sources import generator
from tests.evaluation.test_api import Counting, rows
from tests.helpers.tables import SWD
from tests.helpers.toy_network import Broken, ToyNetwork

ALL = [SWD, "ms-ssim", "fid", "is", "kid", "prdc", "memorisation"]


def sides(n_real=300, n_fake=280):
    return Counting(n_real), Counting(n_fake, seed=1)


def score(real, fake, metrics=("fid", "kid", "prdc", "is"), network=None, **options):
    return pgmetrics.evaluate(real, fake, metrics, networks={"inception": network or ToyNetwork()}, **options)


def values(results, subject="fake"):
    return {(r["metric"], r["level"]): r["value"] for r in results.rows if r["subject"] == subject}


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


def test_the_protocol_of_a_row_names_the_network_and_the_provenance_tells_all():
    found = score(*sides(), ["fid", SWD])
    assert rows(found, metric="fid")[0]["protocol"] == "native, inception toy1"
    assert rows(found, metric="swd", level=None)[0]["protocol"] == "native"
    assert found.provenance["networks"] == {"inception": {"network": "inception", "version": 1}}
    other = score(*sides(), ["fid"], ToyNetwork(version=2))
    assert other.rows[0]["run"] != score(*sides(), ["fid"]).rows[0]["run"]


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


def test_statistics_of_the_reals_stand_for_them(tmp_path):
    real, fake = sides(200, 200)
    names = [SWD, "ms-ssim", "fid", "is", "kid", "prdc"]
    expected = score(real, fake, names)
    network = ToyNetwork()
    save_statistics(*_collected(real, names, network, tmp_path / "real.pgstats"))
    network.images = 0
    found = score(str(tmp_path / "real.pgstats"), fake, names, network)
    assert [{**r, "run": ""} for r in found.rows] == [{**r, "run": ""} for r in expected.rows]
    assert network.images == 200  # the fakes alone


def test_what_was_collected_stands_for_the_reals(tmp_path):
    real, fake = sides(200, 200)
    names = [SWD, "ms-ssim", "fid", "is", "kid", "prdc"]
    collected = collect(real, names, networks={"inception": ToyNetwork()})
    save_statistics(collected[0], tmp_path / "real.pgstats", collected[1])
    from_file = score(str(tmp_path / "real.pgstats"), fake, names)
    network = ToyNetwork()
    # Twice: a score must not change what was collected.
    for _ in range(2):
        found = score(collected, fake, names, network)
        assert found.rows == from_file.rows
    assert network.images == 400  # the fakes alone
    assert real.reads.tolist() == [1] * 200
    source = found.provenance["sources"]["real"]
    assert source["fingerprint"] == from_file.provenance["sources"]["real"]["fingerprint"]


def test_what_was_collected_otherwise_is_refused():
    collected = collect(Counting(50), ["kid"], networks={"inception": ToyNetwork()})
    with pytest.raises(
        StateError, match=r"^the result of collect\(\) was made differently: seed is 0, 3 was"
    ):
        score(collected, Counting(50, seed=1), ["kid"], seed=3)
    with pytest.raises(
        StateError, match=r"fid needs moments-.* here: pgmetrics\.collect\(SOURCE, \['fid'\]\)"
    ):
        score(collected, Counting(50, seed=1), ["fid"])
    # A pair of other dictionaries is no source.
    with pytest.raises(SourceError):
        score(({}, {}), Counting(50, seed=1), ["kid"])


def _collected(real, metrics, network, path, **options):
    states, about = collect(real, metrics, networks={"inception": network}, **options)
    return states, path, about


@pytest.mark.parametrize(
    ("made", "asked", "fact"),
    [
        ({}, {"seed": 3}, "seed is 0, 3 was asked for"),
        (
            {"network": ToyNetwork(version=2)},
            {},
            "network is inception toy, version 2, inception toy, version 1",
        ),
        ({"metrics": ["kid"]}, {}, "holds rows-inception-features; fid needs moments-inception-features"),
    ],
)
def test_statistics_made_differently_are_refused_with_both_values(tmp_path, made, asked, fact):
    how = {"metrics": ["fid"], "network": ToyNetwork(), **made}
    real, fake = sides(50, 50)
    save_statistics(*_collected(real, how["metrics"], how["network"], tmp_path / "r.pgstats"))
    with pytest.raises(StateError, match=fact):
        score(tmp_path / "r.pgstats", fake, ["fid"], **asked)


def test_statistics_alone_are_refused(tmp_path):
    save_statistics(*_collected(Counting(50), ["is"], ToyNetwork(), tmp_path / "r.pgstats"))
    with pytest.raises(OptionError, match="holds statistics of real images; give generated ones"):
        score(tmp_path / "r.pgstats", None, ["is"])


def test_statistics_in_another_order_are_refused(tmp_path):
    made = _collected(Counting(50), ["fid"], ToyNetwork(), tmp_path / "r.pgstats", preset="pytorch-fid")
    save_statistics(*made)
    with pytest.raises(StateError, match="in the order of the listing, the permutation was asked for"):
        score(tmp_path / "r.pgstats", Counting(50, seed=1), ["fid"])
    assert score(tmp_path / "r.pgstats", Counting(50, seed=1), ["fid"], preset="pytorch-fid").rows


def test_statistics_of_another_size_are_refused(tmp_path):
    save_statistics(*_collected(Counting(50, side=64), ["fid"], ToyNetwork(), tmp_path / "r.pgstats"))
    with pytest.raises(StateError, match="height is 64, 32 was asked for"):
        score(tmp_path / "r.pgstats", Counting(50), ["fid"])


def test_statistics_of_another_number_of_images_or_mirrored_afterwards_are_refused(tmp_path):
    save_statistics(*_collected(Counting(60), ["kid", "ms-ssim"], ToyNetwork(), tmp_path / "r.pgstats"))
    fake = Counting(90, seed=1)
    with pytest.raises(StateError, match="holds 60 images for kid; num_images=50 takes 50"):
        score(tmp_path / "r.pgstats", fake, ["kid"], num_images=50)
    # What is remembered of an image does not depend on how many are taken.
    assert score(tmp_path / "r.pgstats", fake, ["kid", "ms-ssim"], num_images=60).rows
    save_statistics(*_collected(Counting(90), [SWD], ToyNetwork(), tmp_path / "s.pgstats", num_images=60))
    assert pgmetrics.evaluate(tmp_path / "s.pgstats", fake, [SWD]).rows[0]["n_fake"] == 60
    with pytest.raises(OptionError, match=r"mirror flips real images, and .* holds statistics"):
        score(tmp_path / "r.pgstats", fake, ["kid"], mirror=True)


def test_swd_from_statistics_takes_their_number_of_fakes(tmp_path):
    save_statistics(*_collected(Counting(60), [SWD], ToyNetwork(), tmp_path / "r.pgstats"))
    more, fewer = Counting(90, seed=1), Counting(50, seed=1)
    found = pgmetrics.evaluate(tmp_path / "r.pgstats", more, [SWD], floor=True)
    assert found.rows[0]["n_fake"] == 60
    assert "statistics" in found.provenance["notes"][0]
    with pytest.raises(SampleError, match=r"holds 60 and counting1 gives 50.*--num-images 50"):
        pgmetrics.evaluate(tmp_path / "r.pgstats", fewer, [SWD])


def test_mu_and_sigma_of_another_tool_stand_for_the_reals_in_fid_alone(tmp_path):
    real, fake = sides(200, 200)
    expected = values(score(real, fake, ["fid"]))["fid", None]
    features = ToyNetwork().extract(_tensor(real.pixels), ["features"])["features"].double().numpy()
    np.savez(tmp_path / "r.npz", mu=features.mean(0), sigma=np.cov(features, rowvar=False))
    found = score(tmp_path / "r.npz", fake, ["fid", "is"])
    (row,) = rows(found, metric="fid")
    assert row["value"] == pytest.approx(expected, rel=1e-9)
    assert (row["n_real"], row["n_fake"]) == (None, 200)
    assert not rows(found, metric="fid-bias")
    with pytest.raises(
        StateError, match=r"mu, sigma\), enough to score .*; kid needs more here: .*--metrics kid"
    ):
        score(tmp_path / "r.npz", fake, ["kid"])
    write_moments(tmp_path / "w.npz", np.zeros(7), np.eye(7))
    seen = Counting(1500, seed=1)
    with pytest.raises(StateError, match=r"w\.npz holds statistics of 7 features; inception toy1 gives 48"):
        score(tmp_path / "w.npz", seen, ["fid"], workers=0)
    assert seen.reads.sum() < 1500


def test_an_npz_of_several_states_is_refused(tmp_path):
    states, about = collect(Counting(30), ["fid", "kid"], networks={"inception": ToyNetwork()})
    with pytest.raises(OptionError, match="fid or fd alone, not moments-inception-features, rows-"):
        save_statistics(states, tmp_path / "r.npz", about)


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


def test_comparing_says_which_statistics_it_takes(tmp_path):
    # A Fréchet distance remembers every image when two sets are compared.
    save_statistics(*_collected(Counting(60), ["fid"], ToyNetwork(), tmp_path / "r.pgstats"))
    network = {"inception": ToyNetwork()}
    fakes = Counting(60, seed=1), Counting(60, seed=2)
    with pytest.raises(StateError, match=r"fid needs rows-inception-features here.*--metrics kid"):
        compare(*fakes, real=tmp_path / "r.pgstats", metrics=["fid"], networks=network)
    save_statistics(*_collected(Counting(60), ["kid"], ToyNetwork(), tmp_path / "rows.pgstats"))
    found = compare(*fakes, real=tmp_path / "rows.pgstats", metrics=["fid"], networks=network)
    assert found.rows[0]["p_value"] is not None


def _tensor(pixels):
    import torch

    return torch.from_numpy(pixels)


def test_moments_written_are_read_by_other_tools(tmp_path):
    real = Counting(120)
    save_statistics(*_collected(real, ["fid"], ToyNetwork(), tmp_path / "r.npz"))
    features = ToyNetwork().extract(_tensor(real.pixels), ["features"])["features"].double().numpy()
    with np.load(tmp_path / "r.npz") as file:
        assert sorted(file) == ["mu", "sigma"]
        np.testing.assert_allclose(file["mu"], features.mean(0), rtol=1e-12)
        np.testing.assert_allclose(file["sigma"], np.cov(features, rowvar=False), rtol=1e-9, atol=1e-15)


def test_adm_files_with_images_and_moments_give_their_images_unless_asked(tmp_path, caplog):
    caplog.set_level(logging.INFO, "pgmetrics")
    real, fake = sides(60, 60)
    np.savez(tmp_path / "adm.npz", arr_0=real.pixels.transpose(0, 2, 3, 1), mu=np.zeros(48), sigma=np.eye(48))
    assert score(tmp_path / "adm.npz", fake, ["fid"]).rows[0]["n_real"] == 60
    assert f"(statistics:{tmp_path / 'adm.npz'} uses the moments)" in caplog.text
    caplog.clear()
    assert score(f"statistics:{tmp_path / 'adm.npz'}", fake, ["fid"]).rows[0]["n_real"] is None
    assert "takes the moments" not in caplog.text


class TestCache:
    """A second run does no real-side work."""

    def test_a_hit_reads_no_real_image_and_gives_the_same_rows(self, tmp_path, caplog):
        real, fake = sides()
        network = ToyNetwork()
        caplog.set_level(logging.INFO, "pgmetrics")
        first = score(real, fake, ALL, network, cache=tmp_path / "c")
        assert "cache miss: moments-inception-features: no state of this kind is cached yet" in caplog.text
        real.reads[:] = network.images = 0
        caplog.clear()
        second = score(real, fake, ALL, network, cache=tmp_path / "c")
        assert real.reads.sum() == 0
        assert network.images == 280
        assert first.rows == second.rows
        assert "cache hit: moments-inception-features of 300 real images" in caplog.text
        assert "miss" not in caplog.text

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"seed": 5}, "seed was 0 in the nearest entry and is 5 now"),
            ({"network": ToyNetwork(version=2)}, "network was inception toy, version 1 in the nearest"),
            ({"num_images": 100}, "no state of these images in this order is cached yet"),
            ({"real": Counting(300, seed=9)}, "no state of these images in this order is cached yet"),
        ],
    )
    def test_a_miss_says_why(self, tmp_path, caplog, change, reason):
        real, fake = sides()
        score(real, fake, ["kid"], cache=tmp_path)
        caplog.set_level(logging.INFO, "pgmetrics")
        how = {"real": real, "fake": fake, "metrics": ["kid"], "cache": tmp_path, **change}
        score(how.pop("real"), how.pop("fake"), how.pop("metrics"), how.pop("network", None), **how)
        assert "cache miss: rows-inception-features: " in caplog.text
        import re

        assert re.search(reason, caplog.text)

    def test_networks_of_equal_weights_do_not_share_an_entry(self, tmp_path):
        # Wrong: a digest of weights alone, and the statistics of one network are taken for the other's.
        class Shaded(torch.nn.Module):
            def __init__(self, psi):
                super().__init__()
                self.psi = psi

            def forward(self, z):
                return self.psi * z

        def distance(psi, **options):
            real = generator(Shaded(psi), (3, 32, 32), n=60)
            return values(score(real, Counting(60, seed=1), ["fid"], **options))

        alone = [distance(psi) for psi in (0.3, 0.1)]
        assert [distance(psi, cache=tmp_path) for psi in (0.3, 0.1, 0.3)] == [*alone, alone[0]]
        assert alone[0] != alone[1]
        assert len(list(tmp_path.iterdir())) == 2

    def test_images_in_listing_order_are_another_entry(self, tmp_path):
        # A preset takes the first images of the listing, not of the permutation.
        real, fake = Counting(90, shuffled=True), Counting(80, seed=1)
        score(real, fake, ["fid"], cache=tmp_path, num_images=60)
        first = set(np.flatnonzero(real.reads))
        real.reads[:] = 0
        score(real, fake, ["fid"], cache=tmp_path, num_images=60, preset="pytorch-fid")
        assert set(np.flatnonzero(real.reads)) == set(range(60)) != first

    def test_a_damaged_entry_is_made_anew(self, tmp_path, caplog):
        real, fake = sides()
        first = score(real, fake, ["kid"], cache=tmp_path)
        (victim,) = tmp_path.glob("*.pgstats/*rows.npy")
        victim.write_bytes(victim.read_bytes()[:-9])
        caplog.set_level(logging.INFO, "pgmetrics")
        assert score(real, fake, ["kid"], cache=tmp_path).rows == first.rows
        assert "damaged" in caplog.text
        caplog.clear()
        assert score(real, fake, ["kid"], cache=tmp_path).rows == first.rows
        assert "cache hit" in caplog.text

    def test_nothing_is_cached_of_a_run_that_fails(self, tmp_path):
        real, fake = sides(40, 40)
        real.pixels[:, 0, 0, 0] = 1
        real.pixels[30, 0, 0, 0] = 0
        with pytest.raises(SampleError, match="image 30"):
            score(real, fake, ["fid", "kid"], Broken(), cache=tmp_path / "c")
        assert not (tmp_path / "c").exists()

    def test_nothing_is_cached_of_a_source_that_shrinks_while_it_is_read(self, tmp_path):
        from PIL import Image

        (tmp_path / "real").mkdir()
        for index, image in enumerate(Counting(40).pixels.transpose(0, 2, 3, 1)):
            Image.fromarray(image).save(tmp_path / "real" / f"{index:02d}.png")
        real = pgmetrics.sources.open_source(tmp_path / "real")
        (tmp_path / "real" / "23.png").unlink()
        with pytest.raises(SourceError, match=r"23\.png in .* cannot be read: No such file"):
            score(real, Counting(40), ["fid", "kid"], cache=tmp_path / "c")
        assert not (tmp_path / "c").exists()

    def test_a_cache_that_cannot_be_written_costs_a_warning_alone(self, tmp_path, caplog):
        (tmp_path / "file").write_text("")
        found = score(*sides(), ["kid"], cache=tmp_path / "file")
        assert found.rows
        assert "not cached" in caplog.text

    def test_what_python_code_makes_is_not_kept(self, tmp_path, caplog):
        # Wrong: the code changes between two runs, and the first one's features are taken for the second's.
        network = ToyNetwork()
        network.fingerprint_is_whole = False
        with caplog.at_level(logging.INFO, "pgmetrics"):
            score(*sides(), ["kid", "fid"], network, cache=tmp_path / "c")
        assert caplog.text.count("inception toy1 is Python code") == 1
        assert not (tmp_path / "c").exists()
        # Nor is what lies there taken.
        score(*sides(), ["kid"], cache=tmp_path / "c")
        real, fake = sides()
        score(real, fake, ["kid"], network, cache=tmp_path / "c")
        assert real.reads.sum() == 300

    def test_the_frugal_cache_keeps_features_and_no_descriptors(self, tmp_path, monkeypatch):
        score(*sides(), [SWD, "kid"], cache=Cache(tmp_path, frugal=True))
        assert [entry.name.split("-")[0] for entry in tmp_path.iterdir()] == ["rows"]
        monkeypatch.setenv("PGMETRICS_CACHE", str(tmp_path / "mine"))
        assert Cache.default().path == tmp_path / "mine"
        monkeypatch.delenv("PGMETRICS_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert Cache.default().path == tmp_path / "pgmetrics"


def test_another_k_reads_the_cached_rows(tmp_path):
    real, fake = sides()
    score(real, fake, [PRDC(k=5)], cache=tmp_path)
    real.reads[:] = 0
    score(real, fake, [PRDC(k=3)], cache=tmp_path)
    assert real.reads.sum() == 0


def test_every_refusal_is_ours():
    for bad in ({"preset": "tensorflow"}, {"form": "fast", "preset": "clean-fid"}):
        with pytest.raises(PgmetricsError):
            pgmetrics.evaluate(*sides(), ["fid"], **bad)
