"""The files that results are written to: each format reads back, and none is ever half written."""

import errno
import os
import sys

import pandas as pd
import pytest

from pgmetrics.errors import OptionError, PgmetricsError, StateError
from pgmetrics.results import COLUMNS, Results, check_destination, read_results
from tests.helpers.result_rows import row, scored


@pytest.mark.parametrize("name", ["scores.json", "scores.csv", "SCORES.JSON", "scores.parquet"])
def test_a_saved_result_reads_back(tmp_path, name):
    results = Results(scored(), {"device": "cpu"})
    results.save(tmp_path / name)
    assert read_results(tmp_path / name).rows == results.rows
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_csv_that_a_spreadsheet_saved_reads_back(tmp_path):
    # It adds a byte order mark and ends lines with two characters.
    results = Results(scored())
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + results.to_csv().replace("\n", "\r\n").encode())
    assert read_results(tmp_path / "a.csv").rows == results.rows


@pytest.mark.parametrize(
    ("name", "method"),
    [("a.md", "to_markdown"), ("a.txt", "to_table"), ("a.csv", "to_csv"), ("a.tex", "to_latex")],
)
def test_the_suffix_names_the_format(tmp_path, name, method):
    results = Results(scored())
    results.save(tmp_path / name)
    assert (tmp_path / name).read_bytes() == getattr(results, method)().encode()


def test_another_suffix_is_refused_before_any_work(tmp_path):
    for name in ("scores.xlsx", "scores"):
        with pytest.raises(
            OptionError, match=f"{name}: the suffix names the format: .csv, .json, .md, .txt, .tex, .parquet"
        ):
            check_destination(tmp_path / name)
        with pytest.raises(OptionError):
            Results(scored()).save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_refused_before_any_work(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(PgmetricsError, match=r"there is no directory .*missing"):
        check_destination(tmp_path / "missing" / "scores.csv")
    with pytest.raises(PgmetricsError, match=r"folder\.csv cannot be written: it is a directory"):
        check_destination(tmp_path / "folder.csv")
    assert check_destination(tmp_path / "scores.csv") == "csv"
    assert [path.name for path in tmp_path.iterdir()] == ["folder.csv"]


def test_a_directory_without_permission_is_refused_before_any_work(tmp_path, monkeypatch):
    # Asked of the system, since a test that runs as root may write anywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PgmetricsError, match="no permission to write to"):
        check_destination(tmp_path / "scores.csv")


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    # The mistake: opening the target for writing, so that a failed run destroys the last good one.
    target = tmp_path / "scores.csv"
    Results((row(value=0.001),)).save(target)
    before = target.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PgmetricsError, match=r"scores\.csv cannot be written: No space left on device"):
        Results((row(value=0.002),)).save(target)
    assert target.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]


def test_a_killed_run_shows_no_half_written_result(tmp_path, monkeypatch):
    # Ctrl-C between writing and renaming: nothing may appear under the final name.
    def interrupted(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Results(scored()).save(tmp_path / "scores.json")
    assert not list(tmp_path.iterdir())


def test_a_result_is_readable_by_whoever_the_umask_allows(tmp_path):
    # tempfile's files are private to the user, also after renaming.
    Results(scored()).save(tmp_path / "scores.csv")
    with open(tmp_path / "other.csv", "w"):
        pass
    assert (tmp_path / "scores.csv").stat().st_mode == (tmp_path / "other.csv").stat().st_mode


def test_a_link_is_written_through(tmp_path):
    # os.replace on the link itself would turn it into a file and leave its target as it was.
    (tmp_path / "results").mkdir()
    (tmp_path / "latest.csv").symlink_to(tmp_path / "results" / "scores.csv")
    Results(scored()).save(tmp_path / "latest.csv")
    assert (tmp_path / "latest.csv").is_symlink()
    assert (tmp_path / "results" / "scores.csv").is_file()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b"{"),
        ("a.json", b"[]"),
        ("a.json", b'{"results": [1], "provenance": {}}'),
        ("a.json", b'{"results": 3, "provenance": {}}'),
        ("a.json", b'{"results": [{"run": "a"}], "provenance": {}}'),
        ("a.csv", b"run,value\na,1\n"),
        ("a.csv", b"\xff\xfe"),
        ("a.csv", b""),
        ("a.csv", b"run," + 200_000 * b"x"),
        ("a.csv", (",".join(COLUMNS) + "\na,fake,swd,high,1,,,,,0,p\n").encode()),
        ("a.csv", (",".join(COLUMNS) + "\na,fake,swd,16\n").encode()),
        ("a.csv", (",".join(COLUMNS) + "\na,fake,swd,16,1,,,,,0,p,more\n").encode()),
        ("a.parquet", b"PAR1 and then nothing"),
    ],
)
def test_a_file_of_something_else_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StateError, match=name) as caught:
        read_results(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_table_for_people_is_not_read_back(tmp_path):
    Results(scored()).save(tmp_path / "a.md")
    with pytest.raises(OptionError, match=r"read from \.json, \.csv, \.parquet or \.jsonl"):
        read_results(tmp_path / "a.md")


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(PgmetricsError, match=r"none\.json cannot be read: No such file"):
        read_results(tmp_path / "none.json")


def test_parquet_keeps_types_and_provenance_and_opens_in_pandas(tmp_path):
    # Levels as floats, a missing stderr as 0, and no word of where the numbers came from.
    results = Results(scored(), {"device": "cpu"})
    results.save(tmp_path / "a.parquet")
    assert read_results(tmp_path / "a.parquet") == results
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "a.parquet"), results.to_pandas(), check_dtype=False
    )


def test_parquet_of_something_else_is_named(tmp_path):
    pd.DataFrame({"run": ["a"]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(StateError, match=r"a\.parquet: not a result: it has no column .*value"):
        read_results(tmp_path / "a.parquet")


def test_parquet_without_pyarrow_says_how_to_get_it_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(PgmetricsError, match="pip install pyarrow"):
        check_destination(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"results": 1e999, "provenance": {}}', '{"results": NaN}', "9" * 400]
)
def test_json_that_python_alone_takes_is_no_result(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(StateError, match=r"a\.json: not a result"):
        read_results(tmp_path / "a.json")


def test_a_parquet_file_with_another_provenance_is_refused(tmp_path):
    import pyarrow
    import pyarrow.parquet

    Results((row(),)).save(tmp_path / "a.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    for content in (b"[1]", b"{", b"[" * 100_000):
        other = table.replace_schema_metadata({b"pgmetrics": content})
        pyarrow.parquet.write_table(other, tmp_path / "a.parquet")
        with pytest.raises(StateError, match=r"a\.parquet: not a result: .*provenance"):
            read_results(tmp_path / "a.parquet")


def test_a_run_that_is_not_there_is_named_as_missing(tmp_path):
    # Wrong: which suffixes results have, of a directory that was mistyped.
    with pytest.raises(PgmetricsError, match=r"runs/first does not exist$"):
        read_results(tmp_path / "runs" / "first")


@pytest.mark.parametrize("suffix", [".json", ".csv", ".parquet", ".jsonl"])
def test_a_pipe_is_no_result(tmp_path, suffix):
    # Opening one waits for a writer, for ever.
    os.mkfifo(tmp_path / f"a{suffix}")
    with pytest.raises(PgmetricsError, match="it is a pipe"):
        read_results(tmp_path / f"a{suffix}")
