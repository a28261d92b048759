"""Text from files is printed escaped, wherever it comes out."""

import csv
import io
import json
import zipfile

import pytest
from click.testing import CliRunner

from pgmetrics.cli import main
from pgmetrics.comparison.result import COLUMNS, Comparison
from pgmetrics.errors import PgmetricsError, markdown_text, printable
from pgmetrics.features.weights import PUBLISHED
from pgmetrics.results import Results, read_results
from pgmetrics.runtime.files import dump_json
from pgmetrics.sources.audit import audit
from tests.helpers.image_files import encoded, pixels

HOSTILE = "\x1b]0;pwn\x07\x1b[2J\x9b\u202ered\nError: all fine\udcff.png"
SHOWN = r"\x1b]0;pwn\x07\x1b[2J\u009b\u202ered\nError: all fine\xff.png"
IN_TABLES = "\x7f\x9b\u202e|<b>$x$_{%&#~^\\"


def row(run, metric="swd"):
    return {
        "run": run, "subject": "fake", "metric": metric, "level": None, "value": 0.5, "stderr": None,
        "stderr_kind": None, "n_real": 4, "n_fake": 4, "seed": 0, "protocol": "native",
    }  # fmt: skip


RESULTS = Results((row(IN_TABLES), row("b")), {})


def test_what_a_terminal_obeys_is_escaped_once_and_the_rest_stays():
    assert printable(HOSTILE) == SHOWN
    assert printable(SHOWN) == SHOWN
    assert (
        printable("é 写真 \u202f × \U0001f469\u200d\U0001f680")
        == "é 写真 \u202f × \U0001f469\u200d\U0001f680"
    )


def test_a_refusal_and_the_json_are_printable_and_the_json_holds_the_same():
    assert str(PgmetricsError(f"{HOSTILE} is no image")) == f"{SHOWN} is no image"
    text = dump_json({HOSTILE: [HOSTILE]}, indent=1, ensure_ascii=False)
    assert text.replace("\n", "").isprintable()
    assert json.loads(text) == {HOSTILE: [HOSTILE]}
    text.encode()  # the surrogate could not be written


@pytest.mark.parametrize("command", [("check",), ("ms-ssim", "--workers", "0", "--fake")])
def test_a_hostile_member_is_named_escaped(tmp_path, command):
    # Its own title and colors, and a line of its own, came out on the terminal.
    path = tmp_path / "a.zip"
    name = HOSTILE.replace("\udcff", "")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ok.png", encoded(pixels(1)[0]))
        archive.writestr(name, b"nope")
    done = CliRunner().invoke(main, [*command, str(path)])
    assert done.exit_code == 1
    for line in (done.stdout + done.stderr).replace("\r", "\n").split("\n"):
        assert line.isprintable()
        assert not line.startswith("Error: all fine")
    assert SHOWN.replace(r"\xff", "") in done.stdout + done.stderr
    assert all(line.isprintable() for line in str(audit(path)).split("\n"))


@pytest.mark.parametrize("format", ["table", "markdown", "latex"])
def test_tables_show_a_hostile_run_as_text(format):
    text = RESULTS.to_text(format)
    assert all(line.isprintable() for line in text.split("\n"))
    if format == "markdown":
        assert r"\|\<b\>\$x\$\_{%\&#\~^\\" in text
        assert {line.replace(r"\|", "").count("|") for line in text.split("\n") if "|" in line} == {3}
    if format == "latex":
        assert r"<b>\$x\$\_\{\%\&\#\textasciitilde{}\textasciicircum{}\textbackslash{}" in text


def test_csv_keeps_the_value_quoted():
    text = Results((row('a,"b"\x9b'),), {}).to_text("csv")
    assert '"a,""b""\x9b"' in text
    assert next(csv.DictReader(io.StringIO(text)))["run"] == 'a,"b"\x9b'


@pytest.mark.parametrize("suffix", [".csv", ".json", ".parquet", ".md", ".tex", ".txt"])
def test_a_label_that_is_no_utf8_reaches_every_format(tmp_path, suffix):
    # Parquet failed, and so did CSV on standard output and in the page.
    found = Results((row("a\udcff"),), {})
    path = tmp_path / f"a{suffix}"
    found.save(path)
    if suffix == ".parquet":
        assert read_results(path).rows[0]["run"] == r"a\xff"
        return
    for text in (found.to_csv(), Comparison("a", "b", (dict.fromkeys(COLUMNS, "\udcff"),)).to_csv()):
        assert r"\xff" in text
        text.encode()


def test_places_of_weights_are_printed_escaped(tmp_path, monkeypatch):
    place = tmp_path / "a\x1b[31m\nb\u202e"
    place.mkdir()
    (place / PUBLISHED["vgg16"].names[0]).touch()
    monkeypatch.setattr("pgmetrics.features.weights._sha256", lambda *_: PUBLISHED["vgg16"].sha256)
    monkeypatch.setenv("PGMETRICS_WEIGHTS", str(place))
    for arguments in (["vgg16"], ["vgg16", "--bundle", str(tmp_path / "c\x1b[31m\nd")]):
        done = CliRunner().invoke(main, ["weights", *arguments])
        assert all(line.isprintable() for line in done.output.split("\n"))
        assert r"\x1b[31m\n" in done.output


@pytest.mark.parametrize("format", ["table", "markdown"])
def test_comparisons_show_hostile_names_as_text(format):
    text = Comparison(HOSTILE, "b", ()).to_text(format)
    assert all(line.isprintable() for line in text.split("\n"))


def test_markdown_makes_no_link_and_no_html():
    assert markdown_text("[x](javascript:1) <img src=x>") == r"\[x\](javascript:1) \<img src=x\>"
