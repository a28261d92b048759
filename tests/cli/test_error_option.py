"""--error: what the number after ± is over."""

import csv
import io

import numpy as np
import pytest

import pgmetrics
from pgmetrics.cli import main
from pgmetrics.errors import OptionError
from pgmetrics.metrics.inception_score import InceptionScore
from pgmetrics.metrics.registry import METRICS, with_error
from tests.cli.test_score import QUICK, folders, swd
from tests.helpers.commands import pgmetrics as run

__all__ = ["folders"]  # a fixture

ALONE = ["fid", "--real", "{a}", "--fake", "{b}"]
FID = ["evaluate", "--real", "{a}", "--fake", "{b}", "--metrics", "fid"]


def rows(done):
    assert done.exit_code == 0, done.stderr
    return list(csv.DictReader(io.StringIO(done.stdout)))


def test_swd_has_errors_over_images_and_over_both(folders):
    found = {
        error: rows(swd(folders, "--error", error, "--format", "csv"))
        for error in ("directions", "images", "both")
    }
    usual = rows(swd(folders, "--format", "csv"))
    assert found["directions"] == usual
    assert {r["stderr_kind"] for r in found["images"]} == {"images"}
    assert {r["stderr_kind"] for r in found["both"]} == {"images and 32 directions"}
    for parts in zip(*found.values(), strict=True):
        directions, images, both = (float(r["stderr"]) for r in parts)
        assert both == pytest.approx((directions**2 + images**2) ** 0.5)
        # The value is the same, to the bit.
        assert len({r["value"] for r in parts}) == 1


def test_evaluate_passes_it_to_those_that_have_it(folders):
    done = run(
        "evaluate", "--real", folders[0], "--fake", folders[1], "--metrics", "swd,ms-ssim",
        "--error", "images", "--num-images", 20, "--workers", 0, "--format", "csv",
    )  # fmt: skip
    assert {(r["metric"], r["stderr_kind"]) for r in rows(done)} == {("swd", "images"), ("ms-ssim", "pairs")}


def test_each_metric_is_given_what_it_knows():
    found = {
        one.name: getattr(one, "error", None) for one in with_error(["swd", "is", "prdc", "kid"], "both")
    }
    assert found == {"swd": "both", "is": "images", "prdc": "images", "kid": None}
    found = {one.name: one.error for one in with_error(["swd", InceptionScore(splits=3)], "directions")}
    assert found == {"swd": "directions", "is": "splits"}


@pytest.mark.slow
def test_python_takes_what_the_command_line_takes():
    images = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)

    def rows_of(**options):
        return pgmetrics.swd(images, images[::-1].copy(), num_images=16, **options).rows

    metric = pgmetrics.SlicedWasserstein(error="images")
    made = pgmetrics.evaluate(images, images[::-1].copy(), [metric], num_images=16).rows
    assert rows_of(error="images") == made
    assert {row["stderr_kind"] for row in made} == {"images"}
    assert [row["stderr"] for row in rows_of(error="directions")] == [row["stderr"] for row in rows_of()]
    with pytest.raises(OptionError, match="errors are over images, directions or both, not 'patches'"):
        rows_of(error="patches")
    with pytest.raises(OptionError, match="the preset clean-fid fixes what errors are over"):
        pgmetrics.fid(images, images, error="images", preset="clean-fid")


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["swd", "--real", "{a}", "--fake", "{b}", "--error", "patches"], ["'patches'", "images"]),
        (["is", "--fake", "{b}", "--error", "both"], ["'both'"]),
        ([*FID, "--preset", "clean-fid", "--error", "images"], ["clean-fid fixes --error"]),
        ([*ALONE, "--preset", "clean-fid", "--error", "images"], ["clean-fid fixes --error"]),
        ([*ALONE, "--error", "directions"], ["'directions' is not 'images'"]),
        (["kid", *ALONE[1:], "--subsets", "2", "--error", "images"], ["leave out --error"]),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(folders, arguments, facts):
    done = run(*(a.format(a=folders[0], b=folders[1]) for a in arguments), *QUICK[2 * 2 :])
    assert done.exit_code == 2
    assert all(fact in done.stderr for fact in facts), done.stderr


def test_every_command_of_a_metric_takes_it(folders):
    # Errors over images are the only ones of most: asking for them changes nothing.
    usual, asked = (
        rows(run("ms-ssim", "--fake", folders[1], "--workers", 0, "--format", "csv", *more))
        for more in ((), ("--error", "images"))
    )
    assert asked == usual
    for name in main.list_commands(None):
        command = main.get_command(None, name)
        if name in METRICS:
            (option,) = (one for one in command.params if one.name == "error")
            assert "images" in option.type.choices
            assert "[default: ]" not in option.help
