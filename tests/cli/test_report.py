"""`pgmetrics report` and `pgmetrics plot`: what they print, write and refuse."""

import pytest

from tests.helpers.commands import pgmetrics
from tests.report.conftest import write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A scored run."""
    return write_run(tmp_path_factory.mktemp("runs") / "first")


@pytest.mark.slow
def test_report_prints_the_file_it_wrote(run, tmp_path):
    done = pgmetrics("report", run, "--out", tmp_path / "a.html", "--samples", 4)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{tmp_path / 'a.html'}\n"
    assert "<h1>first</h1>" in (tmp_path / "a.html").read_text("utf-8")


@pytest.mark.slow
def test_report_notes_what_is_missing_on_standard_error(run, tmp_path):
    options = ("--out", tmp_path / "a.html", "--samples", 4, "--real", "synthetic:leaves,resolution=32,n=3")
    done = pgmetrics("report", run, *options)
    assert done.exit_code == 0, done.output
    assert "Note: No nearest real images: 4 neighbors need 5 real images" in done.stderr


def test_report_shows_reals_or_does_not(run, tmp_path):
    done = pgmetrics("report", run, "--out", tmp_path / "a.html", "--no-real-images", "--real", "x")
    assert done.exit_code == 2
    assert "leave out one" in done.stderr


def test_plot_prints_the_files_it_wrote(run, tmp_path):
    done = pgmetrics("plot", run, "--out", tmp_path / "plots", "--format", "svg")
    assert done.exit_code == 0, done.output
    assert done.stdout.split() == [
        str(tmp_path / "plots" / f"{name}.svg")
        for name in (
            "swd-at-final", "swd-levels-at-final", "ms-ssim-at-final",
            "swd-at-stage", "swd-levels-at-stage", "ms-ssim-at-stage",
        )
    ]  # fmt: skip
    assert all((tmp_path / "plots" / line).exists() for line in done.stdout.split())


@pytest.mark.slow
def test_report_says_what_has_to_be_given_again(run, tmp_path):
    # The store's word is never taken for it: whoever wrote the store would choose what is read and run.
    done = pgmetrics("report", run, "--out", tmp_path / "a.html", "--samples", 4)
    assert done.exit_code == 0, done.output
    assert "Note: No real images: give --real SOURCE to show them (the run was scored with " in done.stderr
    options = ("--samples", 4, "--loader", "reference_models.progan.sampling.source:ProGANSource")
    done = pgmetrics("report", run, "--out", tmp_path / "a.html", *options)
    assert done.exit_code == 0, done.output
    assert "No samples" not in done.stderr


@pytest.mark.parametrize("command", ["report", "plot"])
def test_a_run_without_scores_is_refused_in_one_line(tmp_path, command):
    done = pgmetrics(command, tmp_path, "--out", tmp_path / "a.html")
    assert done.exit_code == 1
    assert "pgmetrics growth makes them" in done.stderr
    assert done.stderr.count("\n") == 1
