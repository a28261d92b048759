"""Results in Python: one metric of them, a float, a loop, a dictionary, and a table in a notebook."""

import json
import xml.etree.ElementTree as ET

import pytest

import pgmetrics
from pgmetrics.errors import OptionError
from pgmetrics.results import Results
from tests.helpers.result_rows import row, scored


def named(*names):
    return Results(tuple(row(name, value=0.5 + i / 10) for i, name in enumerate(names)), {"notes": ["one"]})


def test_a_name_has_the_rows_of_one_number():
    # Wrong: "fid" takes fid-bias, too, since both belong to the metric fid.
    results = named("fid", "fid-bias", "precision", "recall")
    assert results["fid"].rows == results.rows[:1]
    assert results["fid"].provenance == {"notes": ["one"]}
    assert results["fid-bias"].rows == results.rows[1:2]
    assert [found["metric"] for found in results["prdc"]] == ["precision", "recall"]
    assert results["FID"].rows == results["fid"].rows


def test_a_metric_that_nobody_declared_is_found_by_its_name():
    results = Results((row("My_Metric"),))
    assert results["My_Metric"].rows == results.rows
    assert "My_Metric" in results


def test_what_is_missing_is_refused_with_what_is_there():
    # Wrong: a bare KeyError.
    with pytest.raises(OptionError, match=r"^there is no 'kid' in these results, which hold swd, fid$"):
        named("fid", "swd")["kid"]
    with pytest.raises(OptionError, match=r"there is no 0 in .* rows by their place in \.rows"):
        named("fid")[0]
    with pytest.raises(OptionError, match="which hold no rows"):
        Results(())["fid"]
    assert "kid" not in named("fid")
    assert "fid" in named("fid")


def test_the_float_of_one_score():
    assert float(named("fid")) == 0.5
    # Beside its floor, its levels and what is no score.
    results = Results((*scored(subject="real"), *scored(2.0)))
    assert float(results["swd"]) == 0.006
    assert float(named("fid", "fid-bias")) == 0.5
    assert float(named("fid", "fid-bias")["fid-bias"]) == 0.6
    assert float(Results((row(subject="real"),))) == 0.005


def test_several_scores_are_no_float():
    # Wrong: the first of them.
    with pytest.raises(OptionError, match="hold precision of fake, recall of fake"):
        float(named("precision", "recall"))
    with pytest.raises(OptionError, match="hold swd of fake in run a, swd of fake in run b"):
        float(Results((row(run="a"), row(run="b"))))
    with pytest.raises(OptionError, match="and 2 more"):
        float(Results(tuple(row(run=f"run-{i}") for i in range(10))))
    with pytest.raises(OptionError, match="hold no rows"):
        float(Results(()))


def test_rows_are_gone_through_in_their_order():
    results = named("fid", "swd")
    assert list(results) == list(results.rows)
    assert len(results) == 2
    # `if results:` must not tell empty results from None.
    assert Results(())


def test_the_dictionary_is_what_the_json_holds():
    results = named("fid", "swd")
    found = results.to_dict()
    assert found == json.loads(results.to_json())
    # Wrong: the results' own rows are given away.
    found["results"][0]["value"] = 7
    found["provenance"]["notes"].append("two")
    assert results == named("fid", "swd")


def test_the_table_of_a_notebook_has_the_cells_of_the_text():
    results = Results((*scored(), *scored(2.0, run="run-b")))
    table = ET.fromstring(results._repr_html_().replace("<br>", "<br/>"))
    body = [[cell.text for cell in line] for line in table.find("tbody")]
    text = results.to_table().splitlines()
    assert body == [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text[2:4]]
    spans = [int(cell.get("colspan", 1)) for cell in table.find("thead")[0]]
    assert sum(spans) == len(body[0]) == len(table.find("thead")[1])


def test_the_table_of_a_notebook_escapes_labels():
    # A label comes from a file's name; a notebook would run the script.
    label = "<script>alert('&\"')</script>\u202e"
    results = Results((row(run=label, protocol="<b>p</b>"), row(run="b", protocol="q")))
    shown = results._repr_html_()
    assert "<script" not in shown
    assert "<b>" not in shown
    assert "\u202e" not in shown
    assert "&lt;script&gt;alert(&#x27;&amp;&quot;&#x27;)&lt;/script&gt;" in shown


def test_the_package_lists_its_public_names():
    # Wrong: what happens to be imported, without the names that are loaded on first use.
    assert dir(pgmetrics) == sorted(pgmetrics.__all__)
    assert {"evaluate", "collect", "Results", "sources", "__version__"} <= set(dir(pgmetrics))
