"""Statistics of real images stand for them, and are refused where they were made differently."""

import logging

import numpy as np
import pytest
import torch

import pgmetrics
from pgmetrics.errors import OptionError, SampleError, SourceError, StateError
from pgmetrics.evaluation.api import collect
from pgmetrics.prepared.moments_npz import write_moments
from pgmetrics.prepared.statistics import save_statistics
from tests.helpers.counting import Counting
from tests.helpers.feature_scores import score, sides, statistics_of, values
from tests.helpers.tables import SWD, rows
from tests.helpers.toy_network import ToyNetwork


def test_statistics_of_the_reals_stand_for_them(tmp_path):
    real, fake = sides(200, 200)
    names = [SWD, "ms-ssim", "fid", "is", "kid", "prdc"]
    expected = score(real, fake, names)
    network = ToyNetwork()
    save_statistics(*statistics_of(real, names, network, tmp_path / "real.pgstats"))
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
    save_statistics(*statistics_of(real, how["metrics"], how["network"], tmp_path / "r.pgstats"))
    with pytest.raises(StateError, match=fact):
        score(tmp_path / "r.pgstats", fake, ["fid"], **asked)


def test_statistics_alone_are_refused(tmp_path):
    save_statistics(*statistics_of(Counting(50), ["is"], ToyNetwork(), tmp_path / "r.pgstats"))
    with pytest.raises(OptionError, match="holds statistics of real images; give generated ones"):
        score(tmp_path / "r.pgstats", None, ["is"])


def test_statistics_in_another_order_are_refused(tmp_path):
    made = statistics_of(Counting(50), ["fid"], ToyNetwork(), tmp_path / "r.pgstats", preset="pytorch-fid")
    save_statistics(*made)
    with pytest.raises(StateError, match="in the order of the listing, the permutation was asked for"):
        score(tmp_path / "r.pgstats", Counting(50, seed=1), ["fid"])
    assert score(tmp_path / "r.pgstats", Counting(50, seed=1), ["fid"], preset="pytorch-fid").rows


def test_statistics_of_another_size_are_refused(tmp_path):
    save_statistics(*statistics_of(Counting(50, side=64), ["fid"], ToyNetwork(), tmp_path / "r.pgstats"))
    with pytest.raises(StateError, match="height is 64, 32 was asked for"):
        score(tmp_path / "r.pgstats", Counting(50), ["fid"])


def test_statistics_of_another_number_of_images_or_mirrored_afterwards_are_refused(tmp_path):
    save_statistics(*statistics_of(Counting(60), ["kid", "ms-ssim"], ToyNetwork(), tmp_path / "r.pgstats"))
    fake = Counting(90, seed=1)
    with pytest.raises(StateError, match="holds 60 images for kid; num_images=50 takes 50"):
        score(tmp_path / "r.pgstats", fake, ["kid"], num_images=50)
    # What is remembered of an image does not depend on how many are taken.
    assert score(tmp_path / "r.pgstats", fake, ["kid", "ms-ssim"], num_images=60).rows
    save_statistics(*statistics_of(Counting(90), [SWD], ToyNetwork(), tmp_path / "s.pgstats", num_images=60))
    assert pgmetrics.evaluate(tmp_path / "s.pgstats", fake, [SWD]).rows[0]["n_fake"] == 60
    with pytest.raises(OptionError, match=r"mirror flips real images, and .* holds statistics"):
        score(tmp_path / "r.pgstats", fake, ["kid"], mirror=True)


def test_swd_from_statistics_takes_their_number_of_fakes(tmp_path):
    save_statistics(*statistics_of(Counting(60), [SWD], ToyNetwork(), tmp_path / "r.pgstats"))
    more, fewer = Counting(90, seed=1), Counting(50, seed=1)
    found = pgmetrics.evaluate(tmp_path / "r.pgstats", more, [SWD], floor=True)
    assert found.rows[0]["n_fake"] == 60
    assert "statistics" in found.provenance["notes"][0]
    with pytest.raises(SampleError, match=r"holds 60 and counting1 gives 50.*--num-images 50"):
        pgmetrics.evaluate(tmp_path / "r.pgstats", fewer, [SWD])


def test_mu_and_sigma_of_another_tool_stand_for_the_reals_in_fid_alone(tmp_path):
    real, fake = sides(200, 200)
    expected = values(score(real, fake, ["fid"]))["fid", None]
    features = ToyNetwork().extract(torch.from_numpy(real.pixels), ["features"])["features"].double().numpy()
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


def test_moments_written_are_read_by_other_tools(tmp_path):
    real = Counting(120)
    save_statistics(*statistics_of(real, ["fid"], ToyNetwork(), tmp_path / "r.npz"))
    features = ToyNetwork().extract(torch.from_numpy(real.pixels), ["features"])["features"].double().numpy()
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
