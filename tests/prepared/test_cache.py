"""The cache of real sides: a second run does no work of theirs."""

import logging

import numpy as np
import pytest
import torch

import pgmetrics
from pgmetrics.errors import SampleError, SourceError
from pgmetrics.metrics.prdc import PRDC
from pgmetrics.prepared.cache import Cache
from pgmetrics.sources import generator
from tests.helpers.counting import Counting
from tests.helpers.feature_scores import ALL, score, sides, values
from tests.helpers.tables import SWD
from tests.helpers.toy_network import Broken, ToyNetwork


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
