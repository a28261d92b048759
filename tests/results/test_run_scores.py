"""The store of scores: lines that survive a kill, and what is read back of them."""

import json

import pytest

from pgmetrics.errors import PgmetricsError, StateError
from pgmetrics.results import read_results
from pgmetrics.results.run_scores import Entry, Journal, load, read, series_of


def settings(series="s"):
    return Entry(series, {"kind": "settings"}, settings={"seed": 0, "metrics": {"swd": {"repeats": 4}}})


def row(label, value=0.1):
    return {
        "run": label, "subject": "fake", "metric": "swd", "level": 16, "value": value, "stderr": None,
        "stderr_kind": None, "n_real": 8, "n_fake": 8, "seed": 0, "protocol": "at-final",
    }  # fmt: skip


def checkpoint(label, images, value=0.1, series="s", kind="checkpoint", digest="d"):
    item = {"kind": kind, "label": label, "images_shown": images, "digest": digest, "file": f"{label}.x"}
    return Entry(series, item, (row(label, value),), {"notes": ["größer"]})


def floor(label="reals-16x16", series="s"):
    return Entry(series, {"kind": "floor", "label": label, "resolution": 16}, (row(label),), {})


ENTRIES = [settings(), floor(), checkpoint("a", 10, 1 / 3), checkpoint("b", 20, 1e-300)]


def write(path, entries=ENTRIES):
    with Journal(path) as journal:
        for entry in entries:
            journal.append(entry)
    return path


def test_entries_come_back_as_they_were_written_floats_to_the_last_bit(tmp_path):
    write(tmp_path / "scores.jsonl")
    assert read(tmp_path) == ENTRIES  # by the run's directory
    assert read(tmp_path / "scores.jsonl") == ENTRIES
    lines = (tmp_path / "scores.jsonl").read_text().splitlines()
    assert [json.loads(line)["format"] for line in lines] == [1, 1, 1, 1]
    assert set(json.loads(lines[0])) == {"format", "series", "item", "settings"}
    assert set(json.loads(lines[1])) == {"format", "series", "item", "results", "provenance"}


def test_a_store_cut_anywhere_reads_as_its_whole_lines_and_goes_on_to_the_same_bytes(tmp_path):
    whole = write(tmp_path / "whole.jsonl").read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    near_an_end = {end + step for end in ends for step in (-2, -1, 0, 1)}
    for cut in sorted({*range(0, len(whole), 50), *near_an_end} - {len(whole) + 1}):
        torn = tmp_path / "torn.jsonl"
        torn.write_bytes(whole[:cut])
        kept = sum(end <= cut for end in ends)
        assert read(torn) == ENTRIES[:kept]
        write(torn, ENTRIES[kept:])
        assert torn.read_bytes() == whole


def test_a_line_is_on_the_disk_when_append_returns(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr("os.fsync", lambda handle: synced.append(handle))
    with Journal(tmp_path / "scores.jsonl") as journal:
        assert not journal.path.exists()
        for count, entry in enumerate(ENTRIES, start=1):
            before = len(synced)
            journal.append(entry)
            assert len(synced) > before
            assert len(read(tmp_path)) == count  # nothing waits in a buffer


def test_a_full_disk_leaves_the_lines_there_were(tmp_path, monkeypatch):
    path = write(tmp_path / "scores.jsonl", ENTRIES[:1])
    with Journal(path) as journal:
        journal.append(ENTRIES[1])
        before = path.read_bytes()

        def refuse(handle):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as full:
            full.setattr("os.fsync", refuse)
            with pytest.raises(PgmetricsError, match=r"scores\.jsonl cannot be written: No space left"):
                journal.append(ENTRIES[2])
        assert path.read_bytes() == before
        journal.append(ENTRIES[2])
    assert read(path) == ENTRIES[:3]


def test_the_series_written_to_last_is_read_unless_another_is_named(tmp_path):
    old, new = [settings("old"), checkpoint("a", 1, series="old")], [settings("new")]
    path = write(tmp_path / "scores.jsonl", [*old, *new])
    assert series_of(read(path)) == new
    assert series_of(read(path), "old") == old
    with pytest.raises(StateError, match="no series odd among the scores; there are old, new"):
        series_of(read(path), "odd")
    with Journal(path) as journal:
        journal.append(checkpoint("b", 2, series="old"))
    assert [entry.label for entry in series_of(read(path))] == ["", "a", "b"]


def test_rows_come_reals_first_then_untrained_then_by_images_shown_however_they_were_written(tmp_path):
    late, early = checkpoint("late", 300), checkpoint("early", 20)
    untrained = checkpoint("untrained", 0, kind="untrained")
    again = checkpoint("late", 300, value=0.7, digest="other")
    write(tmp_path / "scores.jsonl", [settings(), late, untrained, floor(), early, again])
    rows, provenance = load(tmp_path)
    assert [row["run"] for row in rows] == ["reals-16x16", "untrained", "early", "late"]
    assert rows[-1]["value"] == 0.7  # as it was scored last
    assert provenance["settings"] == settings().settings
    assert provenance["series"] == "s"
    assert provenance["runs"]["late"] == {"item": dict(again.item), "notes": ["größer"]}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"{}\n", "no line of a store"),
        (b"[1]\n", "no line of a store"),
        (b"\xff\n", "no line of a store"),
        (b'{"format": 2}\n', "format 2; this version reads format 1"),
        (b'{"format": 1, "series": "s"}\n', "a part of it is missing"),
        (b'{"format": 1, "series": "s", "item": {"kind": "settings"}}\n', "a part of it is missing"),
        (b'{"format": 1, "series": "s", "item": {"kind": "floor"}, "results": []}\n', "part of it is"),
    ],
)  # fmt: skip
def test_a_damaged_line_is_named(tmp_path, line, found):
    path = write(tmp_path / "scores.jsonl")
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*whole[:2], line, *whole[2:]]))
    with pytest.raises(StateError, match=rf"scores\.jsonl, line 3: .*{found}"):
        read(path)


def test_no_store_says_what_makes_one(tmp_path):
    with pytest.raises(PgmetricsError, match=r"holds no scores: there is no scores\.jsonl in it; .*growth"):
        read(tmp_path)
    with pytest.raises(PgmetricsError, match="there is no such file"):
        read(tmp_path / "else.jsonl")


def test_a_store_without_a_line_says_what_makes_them(tmp_path):
    (tmp_path / "scores.jsonl").write_bytes(b'{"half')
    with pytest.raises(StateError, match=r"holds no scores yet; pgmetrics growth makes them"):
        load(tmp_path)


def changed(entry, **changes):
    """A line of a store that somebody edited: parts by their dotted names."""
    content = json.loads(entry.to_line())
    for name, value in changes.items():
        *parents, last = name.split("__")
        place = content
        for parent in parents:
            place = place[int(parent) if parent.isdigit() else parent]
        place[last] = value
    return (json.dumps(content) + "\n").encode()


@pytest.mark.parametrize(
    "line",
    [
        b'{"format": 1, "series": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
        b"[]\n",
        b'{"format": 1e999}\n',
        changed(ENTRIES[2], item__images_shown="10"),
        changed(ENTRIES[2], item__images_shown=float("inf")),
        changed(ENTRIES[2], item__images_shown=-1),
        changed(ENTRIES[2], item__images_shown=10**30),
        changed(ENTRIES[2], item__resolution=2**40),
        changed(ENTRIES[2], item__resolution=True),
        changed(ENTRIES[2], item__alpha=1.5),
        changed(ENTRIES[2], item__file=["a"]),
        changed(ENTRIES[2], item__kind=["checkpoint"]),
        changed(ENTRIES[2], results=[[1, 2]]),
        changed(ENTRIES[2], provenance__notes="one"),
        changed(ENTRIES[2], provenance__notes=[{}]),
    ],
)
def test_a_line_of_another_kind_is_refused_by_its_number(tmp_path, line):
    # These were tracebacks of whoever used the item: TypeError, OverflowError, RecursionError.
    path = write(tmp_path / "scores.jsonl")
    path.write_bytes(path.read_bytes() + line)
    with pytest.raises(StateError, match=r"scores\.jsonl, line 5: .*restore the file"):
        load(path)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (changed(ENTRIES[2], item__label="a\x1b[31m"), "a part of it is missing or of another kind"),
        (changed(ENTRIES[2], item__label="a\nb"), "a part of it is missing or of another kind"),
        (changed(ENTRIES[2], results__0__run="a\x1b[31m"), "a run is text of one line"),
        (changed(ENTRIES[2], results__0__value=-0.1), "not a result: the value for swd at level 16 of fake"),
        (
            changed(ENTRIES[2], results__0__stderr=True),
            "not a result: the stderr for swd at level 16 of fake",
        ),
        (changed(ENTRIES[2], results__0__seed=-1), "not a result: the seed for swd at level 16 of fake"),
    ],
)
def test_an_impossible_row_is_refused_by_its_line_with_the_way_out(tmp_path, line, found):
    # Catches a refusal that names no file, and numbers that no score can have.
    path = write(tmp_path / "scores.jsonl")
    path.write_bytes(path.read_bytes() + line)
    for reads in (read, load, read_results):
        with pytest.raises(
            StateError, match=rf"scores\.jsonl, line 5: {found}.*; restore the file, or move it"
        ):
            reads(path)


def test_two_rows_of_one_place_name_their_store(tmp_path):
    twice = checkpoint("b", 20)
    path = write(tmp_path / "scores.jsonl", [settings(), Entry("s", twice.item, twice.results * 2, {})])
    with pytest.raises(StateError, match=r"scores\.jsonl: two results for swd .*; restore the file"):
        read_results(path)


def test_a_provenance_does_not_say_what_the_item_is(tmp_path):
    path = tmp_path / "scores.jsonl"
    path.write_bytes(
        ENTRIES[0].to_line() + changed(ENTRIES[2], provenance__item={"kind": "floor", "file": "/etc/passwd"})
    )
    assert load(path)[1]["runs"]["a"]["item"]["file"] == "a.x"
