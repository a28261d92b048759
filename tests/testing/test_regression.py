"""The pytest plug-in, run by pytest itself: what passes, what fails and what it says, what is skipped."""

import json
import os
import re
import subprocess
import sys
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
import torch  # noqa: F401 - the runs within this one must not be the first to import it

import pgmetrics
from pgmetrics import SlicedWasserstein
from pgmetrics.results import Results
from pgmetrics.runtime.files import safe_name
from pgmetrics.testing.regression import _compare
from tests.helpers.compared import row, settings_of
from tests.helpers.samplers import write_checkpoint

ROOT = Path(__file__).parents[2]
REGEN = "--metrics-regen"
# Of the plug-ins beside ours one takes a second to load, each time.
ALONE = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")


@pytest.fixture(scope="session")
def sampler(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("sampler") / "sampler.safetensors")


@pytest.fixture(scope="session")
def worsened(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("worsened") / "worsened.safetensors", damage=1.0)


# The project's own use of the plug-in, against a baseline in the repository.


def test_a_small_checkpoint_scores_as_recorded(sampler, metric_regression):
    metric_regression.check(
        f"progan:{sampler},seed=1",
        [SlicedWasserstein(patches_per_image=16, directions=32, repeats=2, error="images"), "ms-ssim"],
        real="synthetic:leaves,resolution=32,n=96",
        num_images=96,
    )


# Runs within this run.


@pytest.fixture
def inner(pytester):
    """A test that scores what SCORED names, as a file; run(scored, *arguments) runs it."""
    pytester.makepyfile(
        test_model="""
        import os
        from pgmetrics import SlicedWasserstein

        SWD = SlicedWasserstein(patches_per_image=16, directions=32, repeats=2, error="images")

        def test_scores(metric_regression):
            found = metric_regression.check(
                os.environ["SCORED"], [SWD, "ms-ssim"], real=os.environ["REALS"], num_images=96
            )
            assert len(found.rows) == 4
        """
    )

    def run(scored, *arguments, reals=None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SCORED", str(scored))
            patch.setenv("REALS", str(reals))
            return pytester.runpytest_inprocess(*ALONE, *arguments)

    return run


@pytest.mark.slow
def test_another_seed_passes_and_a_worsened_checkpoint_fails(inner, sampler, worsened, pytester):
    reals = f"progan:{sampler},seed=9"
    inner(f"progan:{sampler},seed=0", REGEN, reals=reals).assert_outcomes(passed=1)
    baseline = pytester.path / "baselines" / "test_model" / "test_scores.json"
    before = baseline.read_bytes()
    inner(f"progan:{sampler},seed=1", reals=reals).assert_outcomes(passed=1)
    done = inner(worsened, reals=reals)
    done.assert_outcomes(failed=1)
    done.stdout.re_match_lines(
        [
            r".*test_model.py::test_scores against baselines.test_model.test_scores.json",
            r"metric +baseline +value +allowed +verdict",
            r"SWD ×10³ 32 +\d+\.\d\d +\d+\.\d\d +-?\d+\.\d\d to \d+\.\d\d +worse",
            r"MS-SSIM .* within",
            # Of four rows: what the reals score is not among them. MS-SSIM has half as many pairs as images.
            r"allowed: 3\.07 to 3\.11 standard errors",
            r"scored as the baseline was: no setting differs",
        ]
    )
    # A failure is told by the message alone, and changes nothing.
    assert "def check" not in done.stdout.str()
    assert baseline.read_bytes() == before


def test_a_worse_baseline_makes_the_sampler_better_which_is_news_too(inner, sampler, worsened):
    reals = f"progan:{sampler},seed=9"
    inner(worsened, REGEN, reals=reals).assert_outcomes(passed=1)
    done = inner(sampler, reals=reals)
    done.assert_outcomes(failed=1)
    assert "better" in done.stdout.str()
    assert "worse" not in done.stdout.str().partition("metric  ")[2].partition("short test summary")[0]


def test_a_missing_baseline_says_how_to_record_one(inner, sampler):
    done = inner(sampler, reals=sampler)
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["there is no baseline baselines*test_scores.json; pytest --metrics-regen *"])


@pytest.mark.slow
def test_recording_again_gives_the_same_file_and_names_it(inner, sampler, pytester):
    # Times, machine and path in the file would make every recording a change in version control.
    for _ in range(2):
        done = inner(sampler, REGEN, reals=sampler)
        done.stdout.fnmatch_lines(["*recorded baselines*", "baselines*test_model*test_scores.json"])
        path = pytester.path / "baselines" / "test_model" / "test_scores.json"
        content = path.read_text()
        assert str(sampler) not in content
        assert not re.search("started|seconds|device", content)
    copied = pytester.path / "elsewhere.safetensors"
    copied.write_bytes(sampler.read_bytes())
    inner(copied, REGEN, reals=copied)
    assert path.read_text() == content


def test_other_reals_are_another_protocol(inner, sampler):
    inner(sampler, REGEN, reals=f"progan:{sampler},seed=9")
    done = inner(sampler, reals=f"progan:{sampler},seed=8")
    done.assert_outcomes(failed=1)
    done.stdout.re_match_lines([r"setting +baseline +now +moves numbers", r"real images +\S+ +\S+ +yes"])


# Results that a test has made itself.


@pytest.fixture
def checked(pytester):
    """checked(results, call): the outcome of one check of results, with a baseline or as a recording."""

    def run(results, *arguments, call="metric_regression.check(RESULTS)"):
        path = pytester.path / "given.json"
        results.save(path)
        pytester.makepyfile(
            test_given=f"""
            import pgmetrics
            RESULTS = pgmetrics.read_results({str(path)!r})

            def test_given(metric_regression):
                {call}
            """
        )
        return pytester.runpytest_inprocess(*ALONE, *arguments)

    return run


def given(*rows, **changes):
    return Results(rows or (row("swd", 0.1, 0.01, n_real=100),), settings_of(**changes))


def verdict(done):
    """The verdicts of the message's table."""
    lines = done.stdout.lines
    # The summary at the end repeats the whole message where the variable CI is set.
    start = next(i for i, line in enumerate(lines) if re.match(r"metric +baseline +value", line))
    return [re.split(r"  +", line)[-1] for line in lines[start + 1 : lines.index("", start)]]


@pytest.mark.parametrize(
    ("value", "passes"),
    # One row of 100 images a side: Student's 2.601 of 198 degrees of freedom times √2 · 0.01 = 0.03678.
    [(0.1367, True), (0.1368, False), (0.0633, True), (0.0632, False)],
)
def test_the_band_is_that_of_both_sides_errors(checked, value, passes):
    checked(given(), REGEN).assert_outcomes(passed=1)
    done = checked(given(row("swd", value, 0.01)))
    done.assert_outcomes(passed=int(passes), failed=int(not passes))
    if not passes:
        assert verdict(done) == ["worse" if value > 0.1 else "better"]
        assert "63.22 to 136.78" in done.stdout.str()


def test_the_band_widens_with_the_number_of_rows():
    # Unwidened, four rows would fail an unchanged model in 4 % of the runs.
    def row_at(level, value):
        return row("swd", value, 0.01, level=level, n_real=10**6, n_fake=10**6)

    levels = [64, 32, 16, None]
    for moved, rows, passes in ((2.57, 1, True), (2.58, 1, False), (3.02, 4, True), (3.03, 4, False)):
        before = given(*(row_at(level, 0.1) for level in levels[:rows]))
        now = given(*(row_at(level, 0.1 + moved * sqrt(2) * 0.01) for level in levels[:rows]))
        assert bool(_compare(before, now, {}, 0.01, allow_better=False)[1]) is not passes


def test_an_error_of_few_groups_allows_more():
    # Two errors of five groups: 3.355 of them as Student has it with 8 degrees of freedom, not 2.576.
    for moved, passes in ((3.34, True), (3.37, False)):
        rows = [
            row("fid", value, 1.0, n_real=None, n_fake=300, stderr_kind="fake images (jackknife, 5 groups)")
            for value in (10.0, 10.0 + moved * sqrt(2))
        ]
        _, report = _compare(given(rows[0]), given(rows[1]), {}, 0.01, allow_better=False)
        assert bool(report) is not passes
        assert passes or "allowed: 3.36 standard errors" in report


def test_an_unchanged_model_passes_as_often_as_promised():
    # Values whose noise is as large as their errors say: false alarms are one in ten, not more or fewer.
    rng = np.random.default_rng(1)
    failures = 0
    for _ in range(400):
        made = [
            given(*(row("swd", float(rng.normal(1, 0.01)), 0.01, level=level) for level in (64, 32, 16)))
            for _ in range(2)
        ]
        failures += bool(_compare(*made, {}, 0.1, allow_better=False)[1])
    assert 20 <= failures <= 60  # 40 ± 3.3 standard deviations


def test_tolerances_stand_in_place_of_noise(checked):
    checked(given(), REGEN)
    call = "metric_regression.check(RESULTS, tolerances={'swd': 0.002})"
    checked(given(row("swd", 0.1019, 0.01)), call=call).assert_outcomes(passed=1)
    done = checked(given(row("swd", 0.1021, 0.01)), call=call)
    done.assert_outcomes(failed=1)
    assert "98.00 to 102.00" in done.stdout.str()
    wrong = checked(given(), call="metric_regression.check(RESULTS, tolerances={'sdw': 0.002})")
    wrong.assert_outcomes(failed=1)
    wrong.stdout.fnmatch_lines(["*a tolerance is given for sdw, which was not scored*"])


def test_better_passes_where_that_is_allowed(checked):
    checked(given(), REGEN)
    call = "metric_regression.check(RESULTS, allow_better=True)"
    checked(given(row("swd", 0.01, 0.01)), call=call).assert_outcomes(passed=1)
    checked(given(row("swd", 0.9, 0.01)), call=call).assert_outcomes(failed=1)


def test_an_error_over_directions_cannot_tell(checked):
    # It is small, and every other sample of the same model would fail.
    over_directions = row("swd", 0.1, 0.0001, stderr_kind="directions")
    checked(given(over_directions), REGEN)
    done = checked(given(over_directions))
    done.assert_outcomes(failed=1)
    assert verdict(done)[0].startswith("cannot tell: it takes errors over images")
    assert "tolerances={'metric': …}" in done.stdout.str()
    call = "metric_regression.check(RESULTS, tolerances={'swd': 0.001})"
    checked(given(over_directions), call=call).assert_outcomes(passed=1)


def test_rows_that_come_or_go_fail(checked):
    checked(given(row("swd", 0.1), row("ms-ssim")), REGEN)
    done = checked(given(row("swd", 0.1), row("is", 3.0)))
    done.assert_outcomes(failed=1)
    assert verdict(done) == ["within", "no longer scored, not asked", "not in the baseline"]
    checked(given(row("swd", 0.1))).assert_outcomes(passed=1)
    named = checked(
        given(row("swd", 0.1)), call="metric_regression.check(RESULTS, tolerances={'ms-ssim': 1})"
    )
    assert verdict(named) == ["within", "no longer scored"]
    chosen = checked(given(row("swd", 0.1), row("is", 3.0)), call="metric_regression.check(RESULTS, ['fid'])")
    chosen.stdout.fnmatch_lines(["*the results hold no fid*"])


def test_the_bias_of_a_number_is_no_score_of_the_model(checked):
    rows = row("fid", 10.0, 1.0), row("fid-bias", 2.0, None, stderr_kind=None)
    checked(given(*rows), REGEN)
    moved = row("fid-bias", 3.0, None, stderr_kind=None)
    checked(given(rows[0], moved)).assert_outcomes(passed=1)


def test_a_score_of_the_reals_that_moved_is_not_called_worse(checked):
    checked(given(row("swd", subject="real")), REGEN)
    done = checked(given(row("swd", subject="real", value=0.5)))
    assert verdict(done) == ["moved"]


def beside_reals(value, stderr=0.003):
    """SWD as it was, an MS-SSIM, and that of the reals: 0.056."""
    reals = row("ms-ssim", 0.056, 0.003, subject="real", n_real=100, n_fake=None)
    return given(row("swd", 0.1, 0.01, n_real=100), row("ms-ssim", value, stderr), reals)


def test_ms_ssim_fails_only_where_it_is_named(checked):
    # A trained network (0.162) was called worse than its untrained baseline (0.077), by default.
    checked(beside_reals(0.077), REGEN)
    checked(beside_reals(0.162)).assert_outcomes(passed=1)
    call = "metric_regression.check(RESULTS, ['swd', 'ms-ssim'])"
    checked(beside_reals(0.077), call=call).assert_outcomes(passed=1)
    done = checked(beside_reals(0.162), call=call)
    done.assert_outcomes(failed=1)
    assert verdict(done) == ["within", "less varied", "within"]
    done.stdout.fnmatch_lines(["gate: swd, ms-ssim"])
    # Beside something else that fails it is shown, and said to be no reason.
    rest = given(row("swd", 0.9, 0.01, n_real=100), *beside_reals(0.162).rows[1:])
    done = checked(rest)
    assert verdict(done) == ["worse", "less varied, not asked", "within"]
    done.stdout.fnmatch_lines(["gate: swd; not asked: ms-ssim (name it in metrics=* to include it)"])


def test_ms_ssim_improves_towards_the_reals(checked):
    call = "metric_regression.check(RESULTS, ['swd', 'ms-ssim'], allow_better=True)"
    checked(beside_reals(0.162), REGEN)
    checked(beside_reals(0.077), call=call).assert_outcomes(passed=1)
    done = checked(beside_reals(0.3), call=call)
    assert verdict(done) == ["within", "less varied", "within"]
    # Nearer in number, and no better: nobody knows the reals'.
    bare = given(*beside_reals(0.077).rows[:2])
    checked(given(*beside_reals(0.162).rows[:2]), REGEN)
    done = checked(bare, call=call)
    assert verdict(done) == ["within", "moved"]


def test_a_test_that_asks_no_metric_does_not_pass(checked):
    checked(given(row()), REGEN)
    done = checked(given(row()))
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*a test that asks no metric must not pass*"])


def test_another_setting_fails_even_where_the_numbers_agree(checked):
    checked(given(), REGEN).assert_outcomes(passed=1)
    done = checked(given(parameters__mirror=True, versions__torch="9"))
    done.assert_outcomes(failed=1)
    done.stdout.re_match_lines([r"mirror +False +True +yes", r"version of torch +2.6 +9 +no"])
    checked(given(versions__torch="9")).assert_outcomes(passed=1)


def test_several_runs_are_checked_by_their_names(checked):
    def runs(late):
        return Results.concat(
            [given(row("swd", value, 0.01)).with_run(run) for run, value in (("early", 0.5), ("late", late))]
        )

    checked(runs(0.1), REGEN)
    checked(runs(0.11)).assert_outcomes(passed=1)
    done = checked(runs(0.4))
    done.stdout.re_match_lines([r"early: SWD.* within", r"late: SWD.* worse"])


def test_each_check_has_a_file_of_its_own(checked, pytester):
    twice = "metric_regression.check(RESULTS); metric_regression.check(RESULTS{})"
    done = checked(given(), REGEN, call=twice.format(""))
    done.stdout.fnmatch_lines(["*test_given checks twice; give each check a name of its own*"])
    checked(given(), REGEN, call=twice.format(", name='b')")[:-1]).assert_outcomes(passed=1)
    folder = pytester.path / "baselines" / "test_given"
    assert sorted(path.name for path in folder.iterdir()) == ["test_given.b.json", "test_given.json"]


def test_names_of_files_are_safe_and_differ():
    assert safe_name("TestX.test_y[32-swd]") == "TestX.test_y[32-swd]"
    names = [safe_name(f"test[{sign}]") for sign in ("a/b", "a_b", "a:b", "ä", "A" * 300)]
    assert len(set(names)) == len(names)
    for name in names:
        assert re.fullmatch(r"[\w.\[\]-]{1,140}", name, re.ASCII)


def test_options_about_images_go_with_images(checked):
    done = checked(given(), REGEN, call="metric_regression.check(RESULTS, num_images=5)")
    done.stdout.fnmatch_lines(["*num_images goes with images to be scored*"])


# Markers.


def test_what_is_not_here_skips_with_the_reason(pytester, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(pytester.path / "torch"))
    monkeypatch.delenv("NO_SUCH_DATA", raising=False)
    monkeypatch.setenv("GONE", "/no/such/place")
    monkeypatch.setenv("HERE", str(pytester.path))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.needs_weights("inception")
        def test_weights(): pass

        @pytest.mark.needs_data("no/such.zip")
        def test_path(): pass

        @pytest.mark.needs_data(env="NO_SUCH_DATA")
        def test_variable(): pass

        @pytest.mark.needs_data(env="GONE")
        def test_gone(): pass

        @pytest.mark.needs_gpu
        def test_gpu(): pass

        @pytest.mark.needs_data("test_what_is_not_here_skips_with_the_reason.py", env="HERE")
        def test_here(): pass
        """
    )
    done = pytester.runpytest_inprocess(*ALONE, "-rs", "--strict-markers")
    done.assert_outcomes(passed=1, skipped=5)
    for reason in (
        "needs the weights of inception, which are not here: see pgmetrics weights inception",
        "needs the data at no/such.zip, which is not there",
        "needs data: set NO_SUCH_DATA to where it is",
        "needs data: GONE is /no/such/place, which does not exist",
        "needs a GPU, and torch finds none",
    ):
        assert reason in done.stdout.str()


def test_weights_that_are_here_and_a_gpu_do_not_skip(pytester, monkeypatch):
    # Whether they are the right ones is found out by whoever loads them.
    weights = pytester.makefile(".pth", weights="not looked into")
    monkeypatch.setenv("PGMETRICS_WEIGHTS_INCEPTION", str(weights))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.needs_weights("inception")
        @pytest.mark.needs_gpu
        def test_both(): pass
        """
    )
    pytester.runpytest_inprocess(*ALONE).assert_outcomes(passed=1)


@pytest.mark.parametrize("marker", ["needs_data", "needs_weights", "needs_weights('incepton')"])
def test_markers_without_a_need_are_errors(pytester, marker):
    pytester.makepyfile(f"import pytest\n\n@pytest.mark.{marker}\ndef test_x(): pass")
    pytester.runpytest_inprocess(*ALONE).assert_outcomes(errors=1)


# What it costs those who do not use it, and its documentation.


def test_starting_pytest_imports_nothing_heavy(tmp_path):
    # torch alone would add seconds to every start of pytest in every project of the environment.
    (tmp_path / "conftest.py").write_text(
        "import sys\n"
        "def pytest_unconfigure():\n"
        "    print('loaded:', *{name.partition('.')[0] for name in sys.modules}, 'pgmetrics.' + 'testing'\n"
        "          if 'pgmetrics.testing' in sys.modules else '')\n"
    )
    (tmp_path / "test_none.py").write_text(
        "import pytest\n\n@pytest.mark.needs_data('x')\ndef test_x(): pass\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "pgmetrics.testing", "--strict-markers"]
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.rpartition("loaded:")[2].split())
    assert "pgmetrics.testing" in loaded
    assert "1 skipped" in done.stdout
    assert not loaded & {"torch", "numpy", "pandas", "scipy", "PIL", "click"}
    ours = "import sys, pgmetrics.testing; print(*(n for n in sys.modules if n.startswith('pgmetrics')))"
    done = subprocess.run([sys.executable, "-c", ours], capture_output=True, text=True, check=True, cwd=ROOT)
    assert set(done.stdout.split()) == {"pgmetrics", "pgmetrics._version", "pgmetrics.testing"}


@pytest.mark.slow
def test_the_documented_example_works_as_it_says(pytester):
    text = (ROOT / "docs" / "regression_tests.md").read_text()
    example, markers = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)

    def run(code, *arguments):
        (pytester.path / "test_generator.py").write_text(code)
        return pytester.runpytest_inprocess(*ALONE, "--strict-markers", *arguments)

    run(example).assert_outcomes(failed=1)
    run(example, REGEN, "test_generator.py").assert_outcomes(passed=1)
    assert (pytester.path / re.search(r"git add (\S+)", text)[1]).exists()
    other_seed, other_network = (
        example.replace("n=128, seed=0", "n=128, seed=1"),
        example.replace("scale_factor=4)", 'scale_factor=4, mode="bilinear")'),
    )
    assert len({example, other_seed, other_network}) == 3
    run(other_seed).assert_outcomes(passed=1)
    done = run(other_network)
    done.assert_outcomes(failed=1)
    said = re.search(r"```text\n(.*?)```", text, re.DOTALL)[1]
    shown = done.stdout.str()
    numbers = r"-?\d+\.\d+"
    for line in said.splitlines():
        # The numbers are another machine's; all else is what a user will see.
        pattern = r"\s+".join(numbers if re.fullmatch(numbers, w) else re.escape(w) for w in line.split())
        assert re.search(pattern, shown), line
    run(markers).assert_outcomes(skipped=1)


def test_the_recorded_baseline_of_this_project_is_plain():
    path = (
        Path(__file__).parent
        / "baselines"
        / "test_regression"
        / "test_a_small_checkpoint_scores_as_recorded.json"
    )
    content = json.loads(path.read_text())
    assert {one["run"] for one in content["results"]} == {"baseline"}
    assert set(content["provenance"]) == {"parameters", "networks", "sources", "versions"}
    assert pgmetrics.read_results(path).rows
