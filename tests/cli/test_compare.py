"""pgmetrics compare: exit codes, what goes where, explanations."""

import json

import pytest
from click.testing import CliRunner

from pgmetrics.cli import main
from pgmetrics.results import Results
from tests.samplers import write_checkpoint
from tests.test_comparison import results, row, settings_of


def run(*arguments):
    return CliRunner().invoke(main, ["compare", *map(str, arguments)])


@pytest.fixture
def files(tmp_path):
    """Results of two alike and one clearly worse set, and one under another protocol."""
    provenance = settings_of()
    for name, rows, made in (
        ("good", [row("swd", 1.0, 0.01), row()], provenance),
        ("same", [row("swd", 1.01, 0.01), row()], provenance),
        ("bad", [row("swd", 2.0, 0.01), row()], provenance),
        ("unlike", [row("swd", 2.0, 0.01), row()], settings_of(parameters__mirror=True, device="cuda")),
        ("vague", [row("swd", 1.0, 0.01, stderr_kind="directions")], provenance),
    ):
        Results(tuple(rows), made).save(tmp_path / f"{name}.json")
    return tmp_path


def test_worse_fails_only_where_that_was_asked(files):
    good, same, bad = (files / f"{name}.json" for name in ("good", "same", "bad"))
    for a, b, code in ((good, bad, 3), (good, same, 0), (bad, good, 0)):
        assert run(a, b, "--fail-if-worse").exit_code == code
        assert run(a, b).exit_code == 0
    assert run(good, bad).stdout.splitlines()[1].endswith("worse")
    assert run(bad, good).stdout.splitlines()[1].endswith("better")


def test_unlike_protocols_are_one_line_and_explained_in_full(files):
    arguments = files / "good.json", files / "unlike.json"
    done = run(*arguments, "--fail-if-worse")
    assert (done.exit_code, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "mirror: False in A, True in B" in line
    done = run(*arguments, "--explain")
    assert done.exit_code == 0
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines == [
        ["setting", "A", "B", "moves", "numbers"],
        ["mirror", "False", "True", "yes"],
        ["device", "cpu", "cuda", "no"],
    ]
    # A check that could not be made must not pass.
    assert run(*arguments, "--explain", "--fail-if-worse").exit_code == 1


def test_alike_results_are_explained_and_compared(files):
    done = run(files / "good.json", files / "bad.json", "--explain")
    assert done.stdout.startswith("A and B were scored alike: no setting differs.\n\n")
    assert "worse" in done.stdout
    found = json.loads(
        run(files / "good.json", files / "unlike.json", "--explain", "--format", "json").stdout
    )
    assert [setting["name"] for setting in found["settings"]] == ["mirror", "device"]
    assert found["rows"] == []


def test_nothing_decided_is_not_passed(files):
    vague = files / "vague.json"
    assert run(vague, vague).exit_code == 0
    done = run(vague, vague, "--fail-if-worse")
    assert done.exit_code == 1
    assert "every row is undecided" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "fact"),
    [
        (["{good}"], 2, "Missing argument"),
        (["{good}", "{bad}", "--num-images", "5"], 2, "--num-images goes with images"),
        (["{good}", "{bad}", "--real", "x"], 2, "--real goes with images"),
        (["{good}", "{bad}", "--permutations", "5"], 2, "--permutations goes with images"),
        (["{good}", "{bad}", "--significance", "1"], 2, "significance"),
        (["{good}", "{bad}", "--explain", "--format", "csv"], 2, "second table"),
        (["{good}", "{bad}", "--out", "c.xlsx"], 1, "the suffix names the format"),
        (["{good}", "{bad}", "--metrics", "fid"], 1, "not fid"),
        (["{good}", "synthetic:leaves"], 1, "holds results and synthetic:leaves holds images"),
        (["nowhere.json", "{bad}"], 1, "nowhere.json"),
        (["synthetic:leaves", "synthetic:leaves", "--metrics", "swd"], 1, "give both"),
    ],
)
def test_refusals(files, arguments, code, fact):
    done = run(*(a.format(good=files / "good.json", bad=files / "bad.json") for a in arguments))
    assert (done.exit_code, done.stdout) == (code, "")
    assert fact in done.stderr
    assert "Traceback" not in done.stderr


def test_a_table_goes_to_a_file_and_to_stdout(files, tmp_path):
    done = run(files / "good.json", files / "bad.json", "--out", tmp_path / "c.csv", "--format", "csv")
    assert done.exit_code == 0
    assert (tmp_path / "c.csv").read_text() == done.stdout
    assert done.stdout.startswith("metric,level,protocol,a,b,difference,")


def test_checkpoints_are_compared_image_by_image(tmp_path):
    late = write_checkpoint(tmp_path / "late.safetensors")
    early = write_checkpoint(tmp_path / "early.safetensors", damage=1.0)
    options = [f"--real=progan:{late},seed=9", "--num-images=96", "--metrics=swd", "--cache=off"]
    done = run(late, early, *options, "--fail-if-worse")
    assert done.exit_code == 3
    assert "an exact test that swaps the images of a place" in done.stdout
    done = run(f"progan:{late},seed=1", f"progan:{late},seed=2", *options, "--fail-if-worse")
    assert done.exit_code == 0
    assert [line.endswith("within noise") for line in done.stdout.splitlines()[1:4]] == [True] * 3


def test_a_run_of_a_table_is_named_behind_the_file(tmp_path):
    several = Results.concat([results(row(run="early")), results(row(run="late", value=0.5))])
    several.save(tmp_path / "runs.csv")
    assert run(f"{tmp_path}/runs.csv#early", f"{tmp_path}/runs.csv#late", "--fail-if-worse").exit_code == 3
