"""What is declared of the numbers is what the metrics do, and what a reader needs."""

import re

import pytest
from click.testing import CliRunner

import pgmetrics
from pgmetrics.cli import main
from pgmetrics.metrics.registry import METRICS, in_order, is_declared, metric, output, outputs
from tests.compatibility.record import averages

LEAVES = "synthetic:leaves,resolution=32,n=40,seed="
NUMBERS = [number.name for number in outputs()]


def families(kind):
    """What an error is over, without the numbers of groups, parts and directions."""
    return re.sub(r" \(\d+ x \d+ parts\)|, \d+ groups|(?<=and )\d+ (?=directions)", "", kind)


@pytest.fixture(scope="module")
def rows():
    """Those of every metric, with the default errors and with every other."""
    network = pgmetrics.features.custom_network(averages(), resize="none", value_range=(0, 1))
    small = {"num_images": 30, "networks": {"custom": network}, "workers": 0}
    found = []
    for error in (None, "images", "both"):
        few_cells = {"memorisation": pgmetrics.Memorisation(network="custom", cells=1)}
        names = [name for name in METRICS if name != "fid"]
        chosen = [few_cells.get(name) or metric(name).with_network("custom") for name in names]
        scores = pgmetrics.evaluate(
            LEAVES + "0", LEAVES + "1", chosen, held_out=LEAVES + "2", error=error, **small
        )
        found += scores.rows
    return found


@pytest.mark.parametrize("name", METRICS)
def test_a_class_is_what_its_declaration_says(name):
    # Wrong: an entry that leads to another metric, or tables that call a score of one set a floor.
    one = METRICS[name].load()()
    assert one.name == name
    assert one.outputs == METRICS[name].outputs
    assert {number.of_one_set for number in one.outputs} == {not one.two_sided}


@pytest.mark.slow
def test_every_row_is_of_a_declared_number_and_error(rows):
    # Wrong: a number that a metric gives and nobody declared, which tables would print raw, and help
    # texts that name other errors than results have.
    assert {row["metric"] for row in rows} >= set(NUMBERS) - {"fid", "fid-bias", "fd-bias"}
    for row in rows:
        assert is_declared(row["metric"]), row
        if row["stderr"] is not None:
            assert families(row["stderr_kind"]) in output(row["metric"]).errors, row


def test_the_first_error_is_the_default_and_images_are_had_where_they_are_said_to_be(rows):
    by_number = {}
    for row in rows:
        kind = "none" if row["stderr"] is None else families(row["stderr_kind"])
        by_number.setdefault((row["metric"], row["level"], row["subject"]), []).append(kind)
    for (name, _, _), (usual, images, _) in by_number.items():
        if output(name).has_choice_of_images:
            assert (usual, images) == (output(name).errors[0], "images"), name
        else:
            assert usual == images, name


def test_the_order_is_that_of_the_declarations_and_what_nobody_declared_is_last():
    assert in_order(["lpips", "kid", "swd", "fid-bias", "kid", "fid"]) == [
        "swd", "fid", "fid-bias", "kid", "lpips",
    ]  # fmt: skip


def test_the_help_of_a_metrics_command_says_what_is_declared():
    # Wrong: a direction or a meaning that changed in the code alone.
    for name in ("swd", "ms-ssim", "is", "prdc", "memorisation"):
        text = " ".join(CliRunner().invoke(main, [name, "--help"]).stdout.replace("-\n", "-").split())
        for number in METRICS[name].outputs:
            assert f"{number.title} {number.description}" in text
            assert number.better.in_words[1:] in text
