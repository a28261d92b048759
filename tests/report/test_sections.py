"""What the sections of a page say."""

from dataclasses import replace

from pgmetrics.report import sections
from pgmetrics.report.gallery import Images


def test_the_headline_does_not_call_a_step_back_negative_progress(growth):
    rows = tuple(
        {**row, "value": 0.02} if (row["run"], row["metric"]) == ("untrained", "swd") else row
        for row in growth.results.rows
    )
    text = sections.headline(replace(growth, results=replace(growth.results, rows=rows)))
    assert text.endswith(", and no nearer than the untrained network's 20.00.")


def test_the_facts_of_the_page_are_those_of_the_run(growth):
    def with_counts(*counts):
        rows = tuple(
            {**row, "n_fake": row["n_fake"] and counts[place % len(counts)]}
            for place, row in enumerate(growth.results.rows)
        )
        return sections.header(replace(growth, results=replace(growth.results, rows=rows))).facts

    assert with_counts(7)[:2] == (f"{len(growth.snapshots)} checkpoints", "4×4 to 32×32")
    assert with_counts(7)[2].startswith("scored with 7 images each, ")
    assert with_counts(5000, 64)[2].startswith("scored with 64 to 5,000 images each, ")


def test_a_page_without_samples_and_notes_has_no_section_of_them():
    assert sections.samples_section(Images()) is None
    noted = sections.samples_section(Images(notes=["No real images: gone."]))
    assert noted.count == 0


def test_each_stage_has_a_card_with_its_place_in_training(growth):
    section = sections.stages_section(growth, Images())
    assert len(section.cards) == len(growth.stages) == 4
