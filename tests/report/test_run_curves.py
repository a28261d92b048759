"""A store as stages and curves: what belongs together, and what is never compared."""

from dataclasses import replace

import pytest

from pgmetrics.errors import PgmetricsError, StateError
from pgmetrics.report.run_curves import (
    protocol_family,
    read_growth,
    stage_changes,
    variety_beside_reals,
    whole,
)
from pgmetrics.results import run_scores
from tests.report.conftest import PLACES, write_run


@pytest.fixture(scope="module")
def growth(run):
    return read_growth(run)


def curve(growth, metric, level=None, protocol="at-final"):
    return next(c for c in growth.curves(protocol) if (c.metric, c.level) == (metric, level))


def test_stages_meet_at_the_last_checkpoint_of_each_resolution(growth):
    assert [(s.resolution, s.start, s.faded, s.stop) for s in growth.stages] == [
        (4, 0, 0, 11008),
        (8, 11008, 22016, 33024),
        (16, 33024, 44032, 55040),
        (32, 55040, 66048, 77056),
    ]


def test_a_run_that_never_grew_is_one_stage_without_a_fade(tmp_path, run):
    # StyleGAN's checkpoints all have the final resolution: no band may be shaded.
    rows = [{**row, "run": "a"} for row in read_growth(run).results.rows if row["run"] == "untrained"]
    item = {
        "kind": "checkpoint", "label": "a", "file": "a", "digest": "0", "images_shown": 5000,
        "resolution": 32, "alpha": 1.0, "final_resolution": 32,
    }  # fmt: skip
    with run_scores.Journal(tmp_path) as store:
        store.append(run_scores.Entry("s", {"kind": "settings"}, settings={}))
        store.append(run_scores.Entry("s", item, rows, {}))
    (stage,) = read_growth(tmp_path).stages
    assert (stage.start, stage.faded, stage.stop) == (0, 0, 5000)


def test_a_curve_runs_over_trained_checkpoints_in_order(growth):
    # Sorted by label, or with the untrained network as its first point.
    swd = curve(growth, "swd")
    assert [point.snapshot.images_shown for point in swd.points] == [shown for shown, _, _ in PLACES]
    assert swd.untrained.row["run"] == "untrained"
    assert swd.last.snapshot.label == "0000077056-32x32"


def test_an_interval_is_two_errors_wide_to_each_side(growth):
    point = curve(growth, "swd").last
    reach = 1.959963985 * point.row["stderr"]
    assert (point.low, point.high) == pytest.approx((point.value - reach, point.value + reach))


def test_a_deviation_is_not_widened_to_an_interval(network_run):
    point = curve(read_growth(network_run), "is").last
    assert point.high - point.value == pytest.approx(point.row["stderr"])


def test_reals_are_those_of_the_scoring_resolution(growth):
    # The floor at 16 pixels is another number than that at 32: it goes with no score at 32.
    final, staged = curve(growth, "swd"), curve(growth, "swd", protocol="at-stage")
    assert growth.real_spans(final) == [(0, 77056, final.reals[32])]
    assert [(a, b, p.row["run"]) for a, b, p in growth.real_spans(staged)] == [
        (33024, 55040, "reals-16x16"),
        (55040, 77056, "reals-32x32"),
    ]


def test_levels_come_from_fine_to_coarse_and_then_their_mean(growth):
    assert [(c.metric, c.level) for c in growth.curves("at-final")] == [
        ("swd", 32), ("swd", 16), ("swd", None), ("ms-ssim", None),
    ]  # fmt: skip
    assert [c.metric for c in whole(growth.curves("at-final"))] == ["swd", "ms-ssim"]


def test_protocols_of_networks_belong_to_their_family(network_run):
    growth = read_growth(network_run)
    assert growth.protocols == ["at-final", "at-stage"]
    assert protocol_family("at-final, inception-2015-12-05 fast float32") == "at-final"
    assert {"fid", "kid", "is"} <= {c.metric for c in growth.curves("at-final")}


def test_changes_are_judged_only_where_an_error_over_images_is_known(growth):
    changes = stage_changes(growth, list(whole(growth.curves("at-final"))), 0.01)
    assert {place[0] for place in changes} == {"swd", "ms-ssim"}
    assert len(changes) == 6
    assert all(changes[("swd", side)].verdict == "" for side in (8, 16, 32))
    assert changes[("ms-ssim", 8)].verdict == "more varied"  # from 0.186 to 0.112, errors of 0.004
    assert changes[("ms-ssim", 32)].verdict == "within noise"  # from 0.0951 to 0.0912


def test_a_checkpoint_is_as_varied_as_the_reals_or_not(growth):
    curves = [curve(growth, "ms-ssim", protocol=protocol) for protocol in ("at-final", "at-stage")]
    assert variety_beside_reals(curves[0], curves[0].last, 0.01) == "less varied"  # 0.0912 beside 0.069
    assert variety_beside_reals(curves[0], curves[0].untrained, 0.01) == "as varied"  # 0.075
    assert variety_beside_reals(curve(growth, "swd"), curve(growth, "swd").last, 0.01) is None
    # Beside a checkpoint within a fade the reals were faded, and their own value is not known.
    fading = next(point for point in curves[1].points if point.snapshot.alpha < 1)
    assert variety_beside_reals(curves[1], fading, 0.01) is None


def test_a_change_for_the_worse_is_called_so(network_run):
    # FID falls and IS rises where it gets better; a sign mixed up calls better what got worse.
    growth = read_growth(network_run)
    rows = [
        {**row, "value": 3 * row["value"]} if row["run"] == "0000033024-8x8" else row
        for row in growth.results.rows
    ]
    spoiled = replace(growth, results=replace(growth.results, rows=tuple(rows)))
    changes = stage_changes(spoiled, list(whole(spoiled.curves("at-final"))), 0.01)
    assert changes[("fid", 8)].verdict == "worse"
    assert changes[("fid", 8)].difference.difference > 0
    assert changes[("fid", 16)].verdict == "better"


def test_scores_at_unlike_resolutions_are_not_compared(growth):
    assert stage_changes(growth, list(whole(growth.curves("at-stage"))), 0.01) == {}


def test_a_store_without_checkpoints_says_what_to_do(tmp_path):
    write_run(tmp_path / "a")
    lines = (tmp_path / "a" / run_scores.FILE_NAME).read_bytes().splitlines(keepends=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / run_scores.FILE_NAME).write_bytes(b"".join(lines[:3]))
    with pytest.raises(StateError, match=r"no score of a checkpoint; pgmetrics growth .* adds them"):
        read_growth(tmp_path / "b")
    with pytest.raises(PgmetricsError, match="pgmetrics growth makes them"):
        read_growth(tmp_path)
