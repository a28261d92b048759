"""The picture of README.md is that of the committed run."""

import csv

import pytest
from PIL import Image

from benchmarks.picture import COLUMNS, IMAGES, RUN, SIDE, THEMES, read_scores


def test_stages_end_where_the_resolution_changes():
    # Marking the first checkpoint of each stage instead would show the fades, where scores are worst.
    _, scores = read_scores(RUN / "stages.csv")
    ends = [score for score in scores if score.ends_stage]
    assert [end.resolution for end in ends] == [None, 4, 8, 16, 32]
    assert [end.images_shown for end in ends] == [0, 15.04, 45.056, 75.008, 105.024]


def test_scores_are_those_of_the_mean_over_levels_in_the_papers_unit():
    floor, scores = read_scores(RUN / "stages.csv")
    with (RUN / "stages.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["metric"], row["level"]) == ("swd", "")]
    assert [floor, *(score.value for score in scores)] == [1000 * float(row["value"]) for row in rows]
    # The committed table, which was printed independently.
    table = (RUN / "stages.md").read_text()
    for score in scores:
        assert f"| {score.value:.2f} ± {score.stderr:.2f} |" in table


def test_every_row_of_samples_is_shown():
    _, scores = read_scores(RUN / "stages.csv")
    with Image.open(RUN / "samples.png") as samples:
        assert samples.height == SIDE * sum(score.ends_stage for score in scores)
        assert samples.width >= SIDE * COLUMNS


@pytest.mark.parametrize("theme", THEMES)
def test_a_picture_is_small_enough_for_a_page(theme):
    assert (IMAGES / f"growth-{theme}.svg").stat().st_size < 300_000
