"""`pgmetrics weights`: what is listed, what a bundle holds, exit codes."""

import json

import pytest

from pgmetrics.features.weights import PUBLISHED
from tests.helpers.commands import pgmetrics


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    place = tmp_path / "torch" / "hub" / "checkpoints"
    place.mkdir(parents=True)
    return place


def test_what_is_missing_is_listed_with_where_to_get_it():
    done = pgmetrics(
        "weights",
    )
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == ["inception: missing", "vgg16: missing"]
    for published in PUBLISHED.values():
        for fact in (*published.urls, *published.names, published.sha256, f"{published.size:,}"):
            assert fact in done.stdout


def test_each_file_says_which_metrics_need_it():
    # Wrong: a list by hand, in which a new metric is missing.
    lines = [
        line
        for line in pgmetrics(
            "weights",
        ).stdout.splitlines()
        if "used by" in line
    ]
    assert lines == [
        "  used by: fid, fid-infinity, is, kid, prdc, memorisation",
        "  used by: prdc as torch-fidelity computes it",
    ]


def test_a_wrong_file_is_listed_as_wrong_and_json_is_data(cache):
    wrong = cache / PUBLISHED["inception"].names[0]
    wrong.write_bytes(b"half a download")
    (one,) = json.loads(pgmetrics("weights", "inception", "--format", "json").stdout)
    assert one["path"] == str(wrong)
    assert "not the published" in one["state"]
    assert one["sha256"] == PUBLISHED["inception"].sha256


def test_a_file_with_the_right_digest_is_listed_as_present(cache, monkeypatch):
    path = cache / PUBLISHED["vgg16"].names[0]
    path.touch()
    monkeypatch.setattr("pgmetrics.features.weights._sha256", lambda *_: PUBLISHED["vgg16"].sha256)
    assert pgmetrics("weights", "vgg16").stdout.splitlines()[0] == f"vgg16: at {path}"


def test_a_bundle_that_lacks_files_is_one_line_and_exit_code_one(tmp_path):
    done = pgmetrics("weights", "--bundle", tmp_path / "bundle")
    assert done.exit_code == 1
    assert done.stdout == ""
    error = done.stderr.splitlines()[-1]
    assert error.startswith("Error: ")
    assert all(fact in error for fact in ("lacks 2 of 2 files", "vgg16-397923af.pth", "inception needs"))


def test_an_unknown_network_is_wrong_usage():
    assert pgmetrics("weights", "resnet").exit_code == 2
