import ast
import errno
import hashlib
import io
import json
import math
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from pgmetrics.errors import OptionError, PgmetricsError
from pgmetrics.runtime.files import (
    dump_json,
    finite_or_none,
    locked,
    open_regular,
    parse_json,
    sha256,
    write_whole,
    written_atomically,
)  # fmt: skip

ROOT = Path(__file__).parents[2]


class TestOpenRegular:
    def test_a_file_is_read_and_so_is_what_a_link_leads_to(self, tmp_path):
        (tmp_path / "a").write_bytes(b"content")
        (tmp_path / "b").symlink_to("a")
        for name in "ab":
            with open_regular(tmp_path / name) as file:
                assert file.read() == b"content"

    @pytest.mark.parametrize("made", ["pipe", "directory", "symbolic link", "device"])
    def test_what_is_no_file_of_its_own_is_refused_by_its_kind_at_once(self, tmp_path, made):
        # A plain open() waits for ever on a pipe without a writer.
        path, other = tmp_path / "a", tmp_path / "b"
        other.write_bytes(b"elsewhere")
        {
            "pipe": lambda: os.mkfifo(path),
            "directory": path.mkdir,
            "symbolic link": lambda: path.symlink_to(other),
            "device": lambda: path.symlink_to("/dev/zero"),
        }[made]()
        with pytest.raises(OSError, match=f"it is a {made}"):
            open_regular(path, follow_links=made == "device")

    def test_a_link_that_leads_nowhere_and_a_missing_file_say_so(self, tmp_path):
        (tmp_path / "loop").symlink_to("loop")
        for name in ("loop", "missing"):
            with pytest.raises(OSError, match=name):
                open_regular(tmp_path / name)


class TestParseJson:
    def test_json_is_read_as_by_the_standard_library(self):
        text = '{"a": [1, -2.5e3, 1e-999, true, null, "\\u00e9"], "b": {"a": 18446744073709551616}}'
        expected = {"a": [1, -2500.0, 0.0, True, None, "é"], "b": {"a": 2**64}}
        assert parse_json(text) == expected
        assert parse_json(text.encode()) == expected
        assert parse_json("[" * 64 + "]" * 64)
        assert parse_json(json.dumps([[[i]] for i in range(99)])) == [[[i]] for i in range(99)]

    @pytest.mark.parametrize(
        ("text", "fact"),
        [
            ('{"a": NaN}', "NaN is no JSON number"),
            ("[-Infinity]", "-Infinity is no JSON number"),
            ("[1e999]", "1e999 is beyond"),
            ("[" + "9" * 5000 + "]", "an integer has 5,000 digits"),
            ("[" * 65 + "]" * 65, "nested too deeply"),
            ("[" * 200_000, "nested too deeply"),
            ('{"a": ' * 200_000, "nested too deeply"),
            ('{"seed": 0, "b": 1, "seed": 1}', "key 'seed' is there twice"),
            ("[1, 2", "delimiter"),
        ],
    )
    def test_what_json_does_not_have_is_refused(self, text, fact):
        with pytest.raises(ValueError, match=fact):
            parse_json(text)

    def test_bytes_that_are_no_utf8_are_refused(self):
        with pytest.raises(ValueError, match="codec"):
            parse_json(b'["\xff\xfe\xfa"]')

    @pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
    def test_gaps_of_earlier_versions_are_read_as_none_where_asked(self, text):
        assert parse_json(f'{{"loss": [0.5, {text}]}}', gaps=True) == {"loss": [0.5, None]}


class TestDumpJson:
    @pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
    def test_a_number_that_is_not_finite_is_not_written(self, number):
        with pytest.raises(ValueError, match="not JSON compliant"):
            dump_json({"loss": [number]})
        # Tuples become lists, as in JSON itself.
        assert finite_or_none({"loss": (1, number, {"norm": number})}) == {"loss": [1, None, {"norm": None}]}

    def test_what_is_written_is_read(self):
        value = {"a": [1, 0.1, -2.5e-300, None, True, "NaN"], "b": {"c": 2**70}}
        assert parse_json(dump_json(value, indent=1).encode()) == value

    @pytest.mark.slow
    def test_all_of_the_project_s_json_goes_through_here(self):
        # Ruff bans the calls by their names; this finds them whatever the import is called.
        for folder in ("pgmetrics", "reference_models", "benchmarks"):
            for path in (ROOT / folder).rglob("*.py"):
                for node in ast.walk(ast.parse(path.read_text())):
                    named = isinstance(node, ast.Import) and "json" in {alias.name for alias in node.names}
                    taken = isinstance(node, ast.ImportFrom) and node.module == "json"
                    assert path == ROOT / "pgmetrics" / "runtime" / "files.py" or not (named or taken), path


def test_numbers_of_numpy_are_numbers():
    # Wrong: a parameter such as np.int64(4) passes every check, and fails once all is computed.
    assert dump_json({"a": np.int64(4), "b": [np.float32(0.5)]}) == '{"a": 4, "b": [0.5]}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        dump_json(np.float32("nan"))
    with pytest.raises(TypeError, match="set is no type of JSON"):
        dump_json({1})


def test_sha256_is_that_of_all_that_is_left_whatever_the_length_of_a_piece():
    content = bytes(range(256)) * 4096 + b"more than a megabyte"
    expected = hashlib.sha256(content).hexdigest()
    assert sha256(content).hexdigest() == sha256(io.BytesIO(content)).hexdigest() == expected
    file = io.BytesIO(content)
    file.seek(7)
    assert sha256(content[:2], content[2:7], file).hexdigest() == expected


class TestWrittenAtomically:
    @pytest.mark.parametrize("directory", [False, True])
    def test_the_target_is_whole_or_as_it_was(self, tmp_path, directory):
        target = tmp_path / "a.json"

        def write(text):
            with written_atomically(target, directory=directory) as aside:
                (aside / "b" if directory else aside).write_text(text)
                if text == "half":
                    raise ZeroDivisionError

        def read():
            return (target / "b" if directory else target).read_text()

        with suppress(ZeroDivisionError):
            write("half")
        assert list(tmp_path.iterdir()) == []
        for text in ("old", "new"):
            write(text)
            assert read() == text
        with suppress(ZeroDivisionError):
            write("half")
        assert read() == "new"
        assert list(tmp_path.iterdir()) == [target]

    def test_a_full_disk_is_noticed_while_the_old_file_is_there(self, tmp_path, monkeypatch):
        def full(handle):
            raise OSError(errno.ENOSPC, "No space left on device")

        target = tmp_path / "a.json"
        write_whole(target, b"old")
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(PgmetricsError, match=r"a\.json cannot be written: No space left on device"):
            write_whole(target, b"new")
        assert target.read_bytes() == b"old"
        with pytest.raises(PgmetricsError, match=r"nowhere/a\.json cannot be written: No such file"):
            write_whole(tmp_path / "nowhere" / "a.json", b"new")
        assert list(tmp_path.iterdir()) == [target]

    @pytest.mark.skipif(os.name != "posix", reason="locks")
    @pytest.mark.parametrize("directory", [False, True])
    def test_what_a_killed_process_left_is_removed_and_what_a_live_one_writes_is_not(
        self, tmp_path, directory
    ):
        target = tmp_path / "a.json"
        code = (
            "import sys; from pathlib import Path; from pgmetrics.runtime.files import written_atomically\n"
            f"with written_atomically(Path(sys.argv[1]), directory={directory}) as aside:\n"
            "    (aside / 'b' if aside.is_dir() else aside).write_text('half')\n"
            "    print(flush=True)\n"
            "    sys.stdin.read()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code, str(target)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            process.stdout.readline()
            others = [
                tmp_path / ".a.json.other.part",
                tmp_path / ".b.json.0123abcd.part",
                tmp_path / "a.json.1.part",
            ]
            for other in others:
                other.touch()
            (aside,) = set(tmp_path.iterdir()) - set(others)
            write_whole(target, b"")
            assert aside.exists()
            process.kill()
            process.wait()
            assert aside.exists()
            write_whole(target, b"")
            assert not aside.exists()
            assert set(tmp_path.iterdir()) == {*others, target}


class TestLocked:
    HOLDER = (
        "import sys; from pathlib import Path; from pgmetrics.runtime.files import locked\n"
        "with locked(Path(sys.argv[1]), 'busy'):\n"
        "    print(flush=True)\n"
        "    sys.stdin.read()"
    )

    def test_one_process_at_a_time_and_no_longer_than_it_lives(self, tmp_path):
        place = tmp_path / "lock"
        with subprocess.Popen(
            [sys.executable, "-c", self.HOLDER, place],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            process.stdout.readline()
            with pytest.raises(OptionError, match="taken by another"), locked(place, "taken by another"):
                pass
            assert place.exists()  # or whoever comes next would lock a file of another name
            process.kill()
            process.wait()
            assert place.exists()
            with locked(place, "taken by another"):
                assert place.exists()
            assert list(tmp_path.iterdir()) == []

    def test_a_holder_that_removes_the_file_at_this_moment_is_no_refusal(self, tmp_path, monkeypatch):
        # Wrong: to ask whether the file is there, and then to take for granted that it still is.
        place, lstat = tmp_path / "lock", os.lstat
        place.touch()

        def removed_after(path, **options):
            try:
                return lstat(path, **options)
            finally:
                if path == place:
                    place.unlink(missing_ok=True)

        monkeypatch.setattr(os, "lstat", removed_after)
        with locked(place, "busy"):
            pass

    def test_a_second_one_of_this_process_is_refused_too(self, tmp_path):
        with locked(tmp_path / "lock", ""), pytest.raises(OptionError, match="busy"):
            with locked(tmp_path / "lock", "busy"):
                pass

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have no names here")
    @pytest.mark.parametrize("made", ["pipe", "symbolic link", "directory"])
    def test_what_is_no_file_of_its_own_is_refused(self, tmp_path, made):
        # Locking what a link leads to, some versions of filelock empty it.
        place, other = tmp_path / "lock", tmp_path / "other"
        other.write_text("mine")
        {
            "pipe": lambda: os.mkfifo(place),
            "symbolic link": lambda: place.symlink_to(other),
            "directory": place.mkdir,
        }[made]()
        with pytest.raises(PgmetricsError, match=f"it is a {made}"), locked(place, "busy"):
            pass
        assert other.read_text() == "mine"
        assert place.exists()

    def test_where_there_are_no_locks_nobody_is_kept_out(self, tmp_path, monkeypatch):
        def none(*_):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr("fcntl.flock", none)
        with locked(tmp_path / "lock", "busy"), locked(tmp_path / "lock", "busy"):
            pass
