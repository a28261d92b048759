"""The scores of one side of a comparison: of results, of files, and of a run in a store."""

from dataclasses import replace

import pytest

from pgmetrics.comparison.compare import _alike_under, compare
from pgmetrics.comparison.scores import Scores
from pgmetrics.comparison.settings import differing_settings
from pgmetrics.errors import OptionError, StateError
from pgmetrics.results import Results
from pgmetrics.results.run_scores import Entry, Journal
from tests.helpers.compared import results, row, verdicts


def test_files_give_what_their_tables_give(tmp_path):
    a, b = results(row(value=0.1)), results(row(value=0.2))
    for suffix in (".json", ".csv"):
        a.save(tmp_path / f"a{suffix}")
        b.save(tmp_path / f"b{suffix}")
        found = compare(tmp_path / f"a{suffix}", str(tmp_path / f"b{suffix}"))
        assert found.rows == compare(a, b).rows
        assert found.b == str(tmp_path / f"b{suffix}")


def test_one_run_of_several_is_chosen_by_its_name(tmp_path):
    several = Results.concat([results(row("swd", run="early")), results(row("swd", 0.5, run="late"))])
    several.save(tmp_path / "runs.csv")
    path = tmp_path / "runs.csv"
    found = compare(f"{path}#early", f"{path}#late")
    assert found.worse
    assert found.rows[0]["b"] == 0.5
    with pytest.raises(OptionError, match=r"holds 2 generated sets: early, late; name one: .*runs.csv#early"):
        compare(path, path)
    with pytest.raises(OptionError, match="no run 'last' in it"):
        compare(f"{path}#last", f"{path}#late")


@pytest.fixture
def store(tmp_path):
    """A scored run: an early checkpoint of 16 px and a late one of 32, under two protocols."""

    def rows(run, value, side):
        final = [row("swd", value, 0.01, run=run, level=level, protocol="at-final") for level in (32, 16)]
        return [*final, row("swd", value, 0.01, run=run, level=side, protocol="at-stage")]

    def sources(side):
        def real(name, side):
            return {"real": {"fingerprint": name, "count": 500, "height": side, "width": side}}

        return {"at-final": real("reals", 32), "at-stage": real(f"reals at {side}", side)}

    settings = {"metrics": {"swd": {"patches_per_image": 128}}, "seed": 0, "mirror": False}
    with Journal(tmp_path) as journal:
        journal.append(Entry("series-1", {"kind": "settings"}, settings=settings))
        for run, value, side in (("early", 0.9, 16), ("late", 0.5, 32)):
            item = {"kind": "checkpoint", "label": run, "images_shown": side, "resolution": side}
            journal.append(Entry("series-1", item, rows(run, value, side), {"sources": sources(side)}))
    return tmp_path


def test_two_checkpoints_of_a_store_are_compared_under_one_protocol(store):
    found = compare(f"{store}#early", f"{store}/scores.jsonl#late", protocol="at-final")
    assert verdicts(found) == {("swd", 32): "better", ("swd", 16): "better"}
    # At their own stages they were compared with other reals.
    with pytest.raises(StateError, match="swd at-stage levels: 16 in A, 32 in B, and 2 more") as refused:
        compare(f"{store}#early", f"{store}#late")
    assert "--protocol at-final takes what was scored alike, or compare their images" in str(refused.value)
    with pytest.raises(StateError, match="; score both alike, or"):
        compare(f"{store}#early", f"{store}#late", protocol="at-stage")
    early, late = (Scores.read(f"{store}#{run}") for run in ("early", "late"))
    turned = replace(early, rows=dict(reversed(early.rows.items())))
    assert _alike_under(turned, late) == "at-final"
    with pytest.raises(OptionError, match="holds no scores native; it holds those at-final, at-stage"):
        compare(f"{store}#early", f"{store}#late", protocol="native")


def test_the_settings_of_a_store_are_parameters(store):
    a, b = (Scores.read(f"{store}#{run}") for run in ("early", "late"))
    other = {**b.provenance, "parameters": {**b.provenance["parameters"], "mirror": True}}
    found = differing_settings(a.under("at-final"), replace(b.under("at-final"), provenance=other))
    assert [(one.name, one.a, one.b) for one in found] == [("mirror", "False", "True")]


def test_a_name_with_the_sign_in_it_is_a_file(tmp_path):
    results().save(tmp_path / "run#1.csv")
    assert compare(tmp_path / "run#1.csv", results()).rows


def test_one_run_at_several_seeds_is_refused():
    with pytest.raises(StateError, match="scores of r at several seeds"):
        compare(results(row(seed=0), row(seed=1)), results())
