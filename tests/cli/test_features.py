"""The commands that read features: most with a small custom network, some with random Inception."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from pgmetrics.cli import main
from tests.evaluation.test_api import Counting
from tests.helpers.commands import pgmetrics
from tests.helpers.toy_network import ToyNetwork as Toy


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PGMETRICS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Three directories of 24 images each."""
    made = []
    for seed in (1, 2, 3):
        folder = tmp_path_factory.mktemp(f"set{seed}")
        for index, image in enumerate(Counting(24, seed=seed).pixels.transpose(0, 2, 3, 1)):
            Image.fromarray(image).save(folder / f"{index:02d}.png")
        made.append(str(folder))
    return made


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """An exported network: averages over a 4 x 4 grid as features, 7 sums of them as logits."""

    class Averages(torch.nn.Module):
        def forward(self, images):
            features = torch.nn.functional.adaptive_avg_pool2d(images, 4).flatten(1)
            return features, features @ torch.sin(torch.arange(336.0)).reshape(48, 7)

    path = tmp_path_factory.mktemp("network") / "net.pt2"
    torch.export.save(torch.export.export(Averages(), (torch.zeros(8, 3, 32, 32),)), path)
    return str(path)


@pytest.fixture
def run(network):
    def with_custom_network(*arguments):
        own = ["--features", network, "--features-resize", "none", "--features-range", "0,1"]
        return pgmetrics(*arguments, "--workers", 0, *own)

    return with_custom_network


@pytest.fixture
def run_inception(inception_weights):
    def with_inception(*arguments):
        return pgmetrics(*arguments, "--weights", inception_weights, "--allow-unverified-weights")

    return with_inception


def read(result):
    assert result.exit_code == 0, result.output
    return {(row["subject"], row["metric"]): row for row in json.loads(result.stdout)["results"]}


@pytest.mark.slow
def test_evaluate_scores_everything_in_one_pass_and_a_second_run_reads_no_real_image(run, folders, tmp_path):
    command = ["evaluate", "--real", folders[0], "--fake", folders[1]]
    command += ["--metrics", "swd,ms-ssim,fd,is,kid,prdc,memorisation", "--format", "json"]
    command += ["--cache", tmp_path / "c"]
    first, second = run(*command), run(*command)
    rows = read(first)
    assert {metric for _, metric in rows} >= {
        "swd", "ms-ssim", "fd", "is", "kid", "precision", "recall", "density", "coverage", "authpct"
    }  # fmt: skip
    assert rows == read(second)
    assert "cache miss" in first.stderr
    assert second.stderr.count("cache hit") == 5
    assert "cache miss" not in second.stderr
    networks = json.loads(first.stdout)["provenance"]["networks"]
    assert networks["custom"]["value_range"] == [0, 1]


@pytest.mark.slow
def test_inception_scores_through_the_command_line(run_inception, folders):
    sides = ["--real", f"{folders[0]}@0:12", "--fake", f"{folders[1]}@0:12"]
    done = run_inception("evaluate", *sides, "--metrics", "fid,is", "--format", "json")
    rows = read(done)
    assert rows["fake", "fid"]["value"] > 0
    assert rows["fake", "is"]["value"] > 1
    networks = json.loads(done.stdout)["provenance"]["networks"]
    assert networks["inception"]["resizer"] == "tf1-bilinear"


def test_features_are_cached_unasked_and_not_with_off(run, folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["kid", "--real", folders[0], "--fake", folders[1], "--format", "json"]
    plain = read(run(*command, "--cache", "off"))
    assert not list(tmp_path.iterdir())
    assert read(run(*command)) == plain
    assert len(list((tmp_path / "cache").glob("*.pgstats"))) == 1


def test_options_of_the_commands_reach_the_metrics(run, folders):
    sides = ["--real", folders[0], "--fake", folders[1], "--format", "json"]
    score = json.loads(run("is", *sides, "--splits", 3).stdout)["provenance"]["parameters"]["metrics"]
    assert score["is"]["splits"] == 3
    kid = read(run("kid", *sides, "--subsets", 4, "--subset-size", 10))
    assert kid["fake", "kid"]["stderr_kind"] == "subsets (sd)"
    prdc = json.loads(run("prdc", *sides, "--k", 3).stdout)["provenance"]["parameters"]["metrics"]
    assert prdc["prdc"]["k"] == 3


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (["is"], "give --fake, --real or both"),
        (["kid", "--subset-size", "5"], "--subset-size needs --subsets"),
        (["prdc", "--k", "3", "--preset", "torch-fidelity"], "--preset torch-fidelity fixes --k"),
        (["fid", "--features-resize", "none"], "go with --features"),
        (["fid", "--features", "x.pt", "--preset", "clean-fid"], "leave out --features"),
        (["fid", "--weights", "vgg16=a", "--weights", "vgg16=b"], "weights for vgg16 are given twice"),
        (["evaluate", "--metrics", "swd", "--features", "x.pt"], "no metric reads features"),
        (["fd", "--features-range", "1"], "is not LOW,HIGH"),
    ],
)
def test_wrong_usage_is_told(folders, arguments, fact):
    sides = [] if arguments == ["is"] else ["--real", folders[0], "--fake", folders[1]]
    result = CliRunner().invoke(main, [*arguments, *sides])
    assert result.exit_code == 2
    assert fact in " ".join(result.stderr.split())


def test_a_refusal_is_one_line_and_exit_code_1(run, folders, tmp_path):
    result = run("fd", "--real", folders[0], "--fake", folders[1], "--num-images", 30)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].endswith("holds 24 images; num_images asks for 30.")
    (tmp_path / "broken.pth").write_bytes(b"not weights")
    broken = ["fid", "--real", folders[0], "--fake", folders[1], "--weights", tmp_path / "broken.pth"]
    result = pgmetrics(*broken)
    assert result.exit_code == 1
    assert "SHA-256" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_fid_is_refused_on_ones_own_network_and_undeclared_input_too(run, folders, network):
    sides = ["--real", folders[0], "--fake", folders[1]]
    refused = run("fid", *sides)
    assert refused.exit_code == 1
    assert "fd is" in refused.stderr
    undeclared = pgmetrics("fd", *sides, "--features", network)
    assert undeclared.exit_code == 1
    assert "needs its value range declared" in undeclared.stderr


def test_a_network_of_python_code_that_changed_is_not_mistaken_for_the_old_one(
    folders, tmp_path, monkeypatch
):
    # Wrong: its name stands for it, and what the first version made is taken from the cache.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    own = ["--features", "mynet:features", "--features-resize", "none", "--features-range", "0,1"]
    found = []
    for factor in (1, 10):
        monkeypatch.delitem(sys.modules, "mynet", raising=False)
        Path("mynet.py").write_text(
            "import torch\n"
            "def features(x):\n"
            f"    return {factor} * torch.nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)\n"
        )
        result = pgmetrics("fd", "--real", folders[0], "--fake", folders[1], *own, "--format", "json")
        assert result.exit_code == 0, result.stderr
        assert "mynet:features none is Python code" in " ".join(result.stderr.split())
        found.append(read(result)["fake", "fd"]["value"])
    assert found[1] == pytest.approx(100 * found[0], rel=1e-4)


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
