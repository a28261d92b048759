"""`pgmetrics stats`: the real side of metrics, prepared once."""

import numpy as np
import pytest

from tests.helpers.commands import pgmetrics, read
from tests.helpers.toy_network import ToyNetwork as Toy


class TestStats:
    """`pgmetrics stats`."""

    def test_statistics_stand_for_the_reals(self, run, folders, tmp_path):
        out = tmp_path / "real.pgstats"
        metrics = ["--metrics", "swd,ms-ssim,fd,is,kid,prdc"]
        made = run("stats", folders[0], *metrics, "--out", out)
        assert made.exit_code == 0, made.output
        assert "rows-custom-logits (24 images)" in made.stdout
        score = ["evaluate", *metrics, "--fake", folders[1], "--format", "json"]
        stored, direct = (read(run(*score, "--real", real)) for real in (out, folders[0]))
        assert {key: {**row, "run": ""} for key, row in stored.items()} == {
            key: {**row, "run": ""} for key, row in direct.items()
        }

    def test_moments_are_read_back(self, run, folders, tmp_path):
        out = tmp_path / "real.npz"
        assert run("stats", folders[0], "--metrics", "fd", "--out", out).exit_code == 0
        with np.load(out) as file:
            assert file["mu"].shape == (48,)
        sides = ["--fake", folders[1], "--format", "json"]
        direct = read(run("fd", "--real", folders[0], *sides))["fake", "fd"]["value"]
        assert read(run("fd", "--real", out, *sides))["fake", "fd"]["value"] == pytest.approx(
            direct, rel=1e-6
        )

    def test_a_preset_gives_its_own_metrics(self, folders, tmp_path, monkeypatch):
        # torch-fidelity's precision and recall are on VGG16; the names' usual metrics are on Inception.
        asked = []
        monkeypatch.setattr(
            "pgmetrics.evaluation.setup.open_network", lambda name, **_: asked.append(name) or Toy()
        )
        out = tmp_path / "r.pgstats"
        made = pgmetrics("stats", folders[0], "--preset", "torch-fidelity", "--metrics", "prdc", "--out", out)
        assert made.exit_code == 0, made.output
        assert asked == ["vgg16"]
        assert "rows-vgg16-features (24 images)" in made.stdout

    @pytest.mark.parametrize(
        ("out", "metrics", "code", "fact"),
        [
            ("r.txt", "fd", 2, "written as .pgstats or .npz"),
            ("r.npz", "fd,kid", 1, "alone; write NAME.pgstats"),
            ("none/r.pgstats", "fd", 1, "there is no directory"),
            ("taken.pgstats", "fd", 1, "holds no statistics of ours"),
        ],
    )
    def test_places_that_cannot_be_written_are_refused_at_once(
        self, run, folders, tmp_path, out, metrics, code, fact
    ):
        (tmp_path / "taken.pgstats").mkdir()
        result = run("stats", folders[0], "--metrics", metrics, "--out", tmp_path / out)
        assert result.exit_code == code
        assert fact in " ".join(result.stderr.split())

    def test_another_network_is_refused_with_both(self, run, folders, tmp_path, network):
        out = tmp_path / "real.pgstats"
        assert run("stats", folders[0], "--metrics", "kid", "--out", out).exit_code == 0
        own = ["--features", network, "--features-resize", "none", "--features-range", "-1,1"]
        result = pgmetrics("kid", "--real", out, "--fake", folders[1], *own)
        assert result.exit_code == 1
        assert "was made differently: network is custom" in result.stderr
        assert "none,0..1" in result.stderr
        assert "none,-1..1 was asked for" in result.stderr
