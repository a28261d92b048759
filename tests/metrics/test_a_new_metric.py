"""A metric that is added by its module and one entry of the registry stands wherever the others do."""

import importlib
import json

import numpy as np
import pytest
from click.testing import CliRunner

import pgmetrics
from pgmetrics.cli import growth as growth_commands
from pgmetrics.cli import main
from pgmetrics.cli import score as score_commands
from pgmetrics.cli.options import in_tables
from pgmetrics.metrics.registry import METRICS
from pgmetrics.report import page
from pgmetrics.report.gallery import Images
from pgmetrics.report.plots import plots
from pgmetrics.report.run_curves import read_growth
from pgmetrics.results import run_scores
from tests.helpers.toy_metric import DECLARATION

HELPED = {score_commands: "evaluate", growth_commands: "growth"}
RNG = np.random.default_rng(0)
REAL = RNG.integers(60, 200, (40, 16, 16, 3), dtype=np.uint8)
NEAR = RNG.integers(62, 200, (40, 16, 16, 3), dtype=np.uint8)
DARK = (NEAR // 2).astype(np.uint8)
GAP = abs(DARK.mean() - REAL.mean()) / 255


@pytest.fixture(autouse=True)
def added(monkeypatch):
    monkeypatch.setitem(METRICS, "brightness", DECLARATION)


def printed(*arguments):
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_tables_print_its_title_unit_and_digits():
    scores = pgmetrics.evaluate(REAL, DARK, ["swd", "brightness"], workers=0, num_images=40, floor=False)
    assert next(row["value"] for row in scores.rows if row["metric"] == "brightness") == pytest.approx(GAP)
    assert "Brightness gap ×10²" in str(scores)
    assert f"{100 * GAP:.1f} ± " in str(scores)
    assert r"Brightness gap $\times$10²" in scores.to_text("latex")
    assert list(scores.paper_table().columns.get_level_values(0))[-1] == "Brightness gap ×10²"


def test_a_comparison_knows_its_direction():
    found = pgmetrics.compare(NEAR, DARK, real=REAL, metrics=["brightness"], workers=0)
    (row,) = found.rows
    assert row["verdict"] == "worse"
    assert found.gate.worse == ("brightness",)
    assert "Brightness gap ×10²" in str(found)
    assert f"+{row['difference'] * 100:.1f}" in str(found)


def test_results_of_it_are_compared_and_values_that_cannot_be_are_refused(tmp_path):
    for name, fake in (("near", NEAR), ("dark", DARK)):
        pgmetrics.evaluate(REAL, fake, ["brightness"], workers=0).save(tmp_path / f"{name}.json")
    (row,) = pgmetrics.compare(tmp_path / "dark.json", tmp_path / "near.json").rows
    assert row["verdict"] == "better"
    content = json.loads((tmp_path / "dark.json").read_text())
    content["results"][0]["value"] = -0.5
    (tmp_path / "dark.json").write_text(json.dumps(content))
    with pytest.raises(pgmetrics.StateError, match="it is at least 0"):
        pgmetrics.read_results(tmp_path / "dark.json")


def test_its_real_side_is_prepared_like_any_other(tmp_path):
    np.savez(tmp_path / "real.npz", REAL)
    np.savez(tmp_path / "dark.npz", DARK)
    sides = {name: str(tmp_path / f"{name}.npz") for name in ("real", "dark")}
    stored = str(tmp_path / "real.pgstats")
    printed("stats", sides["real"], "--metrics", "brightness", "--out", stored, "--workers", "0")
    options = ["--metrics", "brightness", "--fake", sides["dark"], "--format", "csv", "--workers", "0"]
    values = {
        printed("evaluate", "--real", real, *options, "--cache", "off").split(",")[14]
        for real in (sides["real"], stored)
    }
    (value,) = values
    assert float(value) == pytest.approx(GAP)


@pytest.fixture
def growth(tmp_path):
    """A scored run of two stages, of which the second is nearer to the reals."""
    with run_scores.Journal(tmp_path) as store:
        store.append(run_scores.Entry("one", {"kind": "settings"}, settings={"seed": 0}))
        places = [
            ("floor", "reals-32x32", 32, 0, 0.004),
            ("checkpoint", "0000001000-16x16", 16, 1000, 0.25),
            ("checkpoint", "0000002000-32x32", 32, 2000, 0.05),
        ]
        for kind, label, resolution, shown, value in places:
            item = {
                "kind": kind, "label": label, "file": f"{label}.pt", "digest": "0" * 64, "alpha": 1.0,
                "images_shown": shown, "resolution": resolution, "final_resolution": 32,
            }  # fmt: skip
            row = {
                "run": label, "subject": "real" if kind == "floor" else "fake", "metric": "brightness",
                "level": None, "value": value, "stderr": 0.001, "stderr_kind": "images", "n_real": 100,
                "n_fake": None if kind == "floor" else 100, "seed": 0, "protocol": "at-final",
            }  # fmt: skip
            store.append(run_scores.Entry("one", item, [row], {"notes": []}))
    return read_growth(tmp_path)


def test_plots_have_its_title_direction_and_unit(growth):
    (plot,) = plots(growth)
    assert plot.title == "Brightness gap ×10²"
    assert "25.0 ± 0.1 after 1,000 images, 5.0 ± 0.1 after 2,000; floor (real against" in plot.description


def test_the_page_says_what_it_means_and_which_way_it_went(growth):
    text = page.to_html(growth, Images())
    assert "Brightness gap ×10² is 5.0: 12.5 times the 0.4 that real images score among themselves" in text
    assert "<b>Brightness gap</b> measures how far the mean brightness is from that of the reals." in text
    assert "Use it to find a wrong range of values. It misses everything else." in text
    assert "lower is better" in text
    assert '−20.0 since 16×16 (−20.3 to −19.7): <span class="better">better</span>' in text
    assert "Brightness gap ×10²" in text.partition('<table class="paper">')[2]


def test_the_list_of_metrics_and_help_texts_have_it():
    listed = printed("metrics", "--format", "markdown", "--columns", "title,meaning,better,needs,errors")
    assert (
        "| Brightness gap | measures how far the mean brightness is from that of the reals | lower is better "
        "| reals, at least 2 images of each side | images |"
    ) in listed
    assert "and Brightness gap ×10²; data are raw" in in_tables()
    for module, command in HELPED.items():
        text = CliRunner().invoke(getattr(importlib.reload(module), command), ["--help"]).stdout
        *_, before, added = METRICS
        assert added == "brightness"
        assert f"{before}, brightness." in " ".join(text.split())


@pytest.fixture(scope="module", autouse=True)
def _commands_as_before():
    # Help texts are made when a command is loaded.
    yield
    for module in HELPED:
        importlib.reload(module)
