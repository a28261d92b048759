"""The commands that read features: most with a small custom network, some with random Inception."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pgmetrics.cli import main
from tests.helpers.commands import pgmetrics, read


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
