"""What was computed is printed, written, or rescued where there is room."""

import json
from pathlib import Path

import pytest

from pgmetrics.cli.delivery import keep
from pgmetrics.errors import PgmetricsError
from tests.helpers.shells import SCORE, rescued, shell

needs_a_shell = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full and a POSIX shell")


@needs_a_shell
@pytest.mark.slow
@pytest.mark.parametrize(("where", "unbuffered"), [(">/dev/full", ""), (">/dev/full", "1"), (">&-", "")])
def test_results_that_cannot_be_printed_are_in_a_file_that_is_named(tmp_path, where, unbuffered):
    done = shell(f"{SCORE} {where}", tmp_path, PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.count("Error: standard output cannot be written: ") == 1
    place = rescued(done.stderr)
    assert place.is_relative_to(tmp_path)
    assert json.loads(place.read_text())["results"][0]["metric"] == "ms-ssim"


@needs_a_shell
@pytest.mark.slow
def test_results_that_cannot_be_printed_are_in_the_file_that_was_asked_for(tmp_path):
    done = shell(f"{SCORE} --out a.json >/dev/full", tmp_path)
    assert done.returncode == 1
    assert rescued(done.stderr) == Path("a.json")
    assert json.loads((tmp_path / "a.json").read_text())["results"]


@needs_a_shell
@pytest.mark.slow
def test_where_everything_is_lost_the_exit_code_tells(tmp_path):
    assert shell(f"{SCORE} >&- 2>&- 0<&-", tmp_path).returncode == 1
    assert shell(f"{SCORE} >/dev/full 2>/dev/full", tmp_path).returncode == 1
    assert shell("nonsense 2>/dev/full", tmp_path).returncode == 2


def test_the_folder_of_the_file_is_gone_when_the_work_is_done(tmp_path, monkeypatch):
    from click.testing import CliRunner

    from pgmetrics.cli import main
    from pgmetrics.evaluation import api

    (tmp_path / "out").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    original = api.evaluate

    def evaluate(*arguments, **options):
        (tmp_path / "out").rmdir()
        return original(*arguments, **options)

    monkeypatch.setattr(api, "evaluate", evaluate)
    done = CliRunner().invoke(main, [*SCORE.split(), "--out", str(tmp_path / "out" / "r.json")])
    assert done.exit_code == 1
    assert "MS-SSIM: 16 images" in done.stdout
    assert "r.json cannot be written: there is no directory" in done.stderr
    place = rescued(done.stderr)
    assert place.name == "r.json"
    assert json.loads(place.read_text())["provenance"]["sources"]


def test_nothing_is_left_where_no_place_takes_the_results(tmp_path, monkeypatch, capsys):
    # Wrong: an empty directory in the temporary and the current one, and an empty line before the error.
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    tried = []

    def save(path):
        tried.append(path)
        raise PgmetricsError(f"{path} cannot be written: File too large")

    with pytest.raises(PgmetricsError, match=r"^r\.html cannot be written: File too large, nor could any"):
        keep(save, "r.html")
    assert len(tried) == 3
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err == ""
