"""pgmetrics compare: exit codes, what goes where, explanations."""

import json
from functools import partial

import pytest

from pgmetrics.results import Results
from tests.helpers.commands import pgmetrics
from tests.helpers.compared import results, row, settings_of
from tests.helpers.samplers import write_checkpoint

compare = partial(pgmetrics, "compare")


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
        assert compare(a, b, "--fail-if-worse").exit_code == code
        assert compare(a, b).exit_code == 0
    assert compare(good, bad).stdout.splitlines()[1].endswith("worse")
    assert compare(bad, good).stdout.splitlines()[1].endswith("better")


def test_unlike_protocols_are_one_line_and_explained_in_full(files):
    arguments = files / "good.json", files / "unlike.json"
    done = compare(*arguments, "--fail-if-worse")
    assert (done.exit_code, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "mirror: False in A, True in B" in line
    done = compare(*arguments, "--explain")
    assert done.exit_code == 0
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines == [
        ["setting", "A", "B", "moves", "numbers"],
        ["mirror", "False", "True", "yes"],
        ["device", "cpu", "cuda", "no"],
    ]
    # A check that could not be made must not pass.
    assert compare(*arguments, "--explain", "--fail-if-worse").exit_code == 1


def test_alike_results_are_explained_and_compared(files):
    done = compare(files / "good.json", files / "bad.json", "--explain")
    assert done.stdout.startswith("A and B were scored alike: no setting differs.\n\n")
    assert "worse" in done.stdout
    found = json.loads(
        compare(files / "good.json", files / "unlike.json", "--explain", "--format", "json").stdout
    )
    assert [setting["name"] for setting in found["settings"]] == ["mirror", "device"]
    assert found["rows"] == []


def test_nothing_decided_is_not_passed(files):
    vague, good = files / "vague.json", files / "good.json"
    assert compare(vague, vague).exit_code == 0
    # Beside an MS-SSIM within noise this passed with a warning, though SWD may have risen to any height.
    for other in (vague, good):
        done = compare(vague, other, "--fail-if-worse")
        assert done.exit_code == 5
        error = done.stderr.splitlines()[-1]
        assert "the gate cannot decide swd: it takes errors over images" in error
        assert "score with pgmetrics evaluate ... --error images" in error


def test_what_is_worse_comes_before_what_is_undecided(files):
    a, b = (
        Results((row("swd", value, 0.01, stderr_kind="directions"), row("fid", value)), settings_of())
        for value in (1.0, 2.0)
    )
    for name, one in (("a", a), ("b", b)):
        one.save(files / f"{name}.json")
    done = compare(files / "a.json", files / "b.json", "--fail-if-worse")
    assert done.exit_code == 3
    assert "the gate cannot decide swd" in done.stderr
    assert compare(files / "a.json", files / "b.json", "--fail-if-worse", "--metrics", "fid").exit_code == 3
    assert compare(files / "b.json", files / "a.json", "--fail-if-worse").exit_code == 5
    assert compare(files / "b.json", files / "a.json", "--fail-if-worse", "--metrics", "fid").exit_code == 0


@pytest.fixture
def varied(tmp_path):
    """MS-SSIM of an untrained and of a trained network, and of the reals, with equal SWD."""
    for name, value, real in (("untrained", 0.077, 0.056), ("trained", 0.162, 0.056), ("alone", 0.162, None)):
        rows = [row("swd", 1.0, 0.01), row("ms-ssim", value, 0.003)]
        if real is not None:
            rows.append(row("ms-ssim", real, 0.003, subject="real", n_real=100, n_fake=None))
        Results(tuple(rows), settings_of()).save(tmp_path / f"{name}.json")
    return tmp_path


def test_a_more_varied_set_is_neither_better_nor_worse(varied):
    # The untrained network was called better, and --fail-if-worse exited with 3 for the trained one.
    untrained, trained = varied / "untrained.json", varied / "trained.json"
    for a, b, word, near in ((untrained, trained, "less", "A"), (trained, untrained, "more", "B")):
        done = compare(a, b, "--fail-if-worse")
        assert done.exit_code == 0
        line = next(line for line in done.stdout.splitlines() if line.startswith("MS-SSIM "))
        assert line.endswith(f"{word} varied than A; less varied than the reals")
        assert line.split()[3] == "0.0560"
        about = next(line for line in done.stdout.splitlines() if line.startswith("MS-SSIM: "))
        assert about == (
            f"MS-SSIM: A is less varied than the reals, B is less varied; {near} is nearer to them"
        )
        assert done.stderr == ("gate: swd; not asked: ms-ssim (name it with --metrics to include it)\n")


def test_a_gate_that_names_ms_ssim_asks_for_the_distance_to_the_reals(varied):
    untrained, trained = varied / "untrained.json", varied / "trained.json"
    named = "--metrics", "swd,ms-ssim", "--fail-if-worse"
    done = compare(untrained, trained, *named)
    assert done.exit_code == 3
    assert done.stderr == "gate: swd, ms-ssim\n"
    assert compare(trained, untrained, *named).exit_code == 0
    # Without the reals' own value neither way is better.
    bare = Results((row("swd", 1.0, 0.01), row("ms-ssim", 0.077, 0.003)), settings_of())
    bare.save(varied / "bare.json")
    done = compare(varied / "bare.json", varied / "alone.json", *named)
    assert done.exit_code == 5
    assert "ms-ssim: the reals' own value is not known" in done.stderr
    assert "score both with the same --real SOURCE" in done.stderr
    assert compare(varied / "bare.json", varied / "alone.json", "--fail-if-worse").exit_code == 0
    assert "different" in done.stdout


def test_a_gate_that_asks_nothing_does_not_pass(varied):
    only = Results((row(),), settings_of())
    only.save(varied / "only.json")
    done = compare(varied / "only.json", varied / "only.json", "--fail-if-worse")
    assert done.exit_code == 5
    assert "gate: no metric; not asked: ms-ssim" in done.stderr
    assert "no metric is asked; --metrics names what it asks" in done.stderr


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
    done = compare(*(a.format(good=files / "good.json", bad=files / "bad.json") for a in arguments))
    assert (done.exit_code, done.stdout) == (code, "")
    assert fact in done.stderr
    assert "Traceback" not in done.stderr


def test_a_table_goes_to_a_file_and_to_stdout(files, tmp_path):
    done = compare(files / "good.json", files / "bad.json", "--out", tmp_path / "c.csv", "--format", "csv")
    assert done.exit_code == 0
    assert (tmp_path / "c.csv").read_text() == done.stdout
    assert done.stdout.startswith("metric,level,protocol,a,b,difference,")


@pytest.mark.slow
def test_checkpoints_are_compared_image_by_image(tmp_path):
    late = write_checkpoint(tmp_path / "late.safetensors")
    early = write_checkpoint(tmp_path / "early.safetensors", damage=1.0)
    options = [f"--real=progan:{late},seed=9", "--num-images=96", "--metrics=swd", "--cache=off"]
    done = compare(late, early, *options, "--fail-if-worse")
    assert done.exit_code == 3
    assert "an exact test that swaps the images of a place" in done.stdout
    done = compare(f"progan:{late},seed=1", f"progan:{late},seed=2", *options, "--fail-if-worse")
    assert done.exit_code == 0
    assert [line.endswith("within noise") for line in done.stdout.splitlines()[1:4]] == [True] * 3


def test_a_run_of_a_table_is_named_behind_the_file(tmp_path):
    several = Results.concat([results(row("swd", run="early")), results(row("swd", 0.5, run="late"))])
    several.save(tmp_path / "runs.csv")
    assert (
        compare(f"{tmp_path}/runs.csv#early", f"{tmp_path}/runs.csv#late", "--fail-if-worse").exit_code == 3
    )
