"""Output that is closed, full or read by nobody: results reach what is open, and the exit code is right."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pgmetrics.errors import PgmetricsError
from pgmetrics.runtime.files import check_writable
from tests.helpers.shells import IMAGES, SCORE, shell

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full and a POSIX shell")


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("PGMETRICS_CACHE", str(tmp_path / "cache"))


@pytest.mark.slow
@pytest.mark.parametrize("where", ["2>&-", "2>/dev/full", "2>&- 0<&-"])
def test_a_lost_standard_error_loses_nothing_else(tmp_path, where):
    # Progress bars, notes and log handlers wrote there, and ended the work with a traceback.
    done = shell(f"{SCORE} {where}", tmp_path)
    assert done.returncode == 0
    assert "MS-SSIM: 16 images" in done.stdout
    assert done.stderr == ""


@pytest.mark.slow
def test_a_reader_that_has_gone_ends_it_quietly(tmp_path):
    done = shell(f"{SCORE} --out a.csv 2>error.txt | true; echo ${{PIPESTATUS[0]}}", tmp_path)
    assert done.stdout == "141\n"
    assert "Error" not in (tmp_path / "error.txt").read_text()
    assert (tmp_path / "a.csv").exists()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["--help", "weights"])
def test_short_output_on_a_full_disk_is_one_line(tmp_path, command):
    done = shell(f"{command} >/dev/full", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: standard output cannot be written: No space left on device")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_signs_that_a_terminal_cannot_encode_are_escaped(tmp_path):
    command = f"swd --real {IMAGES} --fake {IMAGES},seed=1 --workers 0 --device cpu"
    done = shell(command, tmp_path, PYTHONIOENCODING="cp1251")
    assert done.returncode == 0
    assert r"SWD \xd710\xb3" in done.stdout


def refused(*arguments):
    from click.testing import CliRunner

    from pgmetrics.cli import main

    done = CliRunner().invoke(main, [str(one) for one in arguments])
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_what_can_be_known_is_refused_before_the_work(tmp_path, monkeypatch):
    # Nothing is opened: these sources do not exist.
    score = ("swd", "--real", "nowhere", "--fake", "nowhere", "--out")
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "folder.json").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "it is a pipe" in refused(*score, "pipe.json")
    assert "it is a directory" in refused(*score, "folder.json")
    assert "too long" in refused(*score, "x" * 300 + ".json")
    assert "there is no directory" in refused(*score, "missing/a.json")
    assert "the suffix names the format" in refused(*score, "a.xlsx")
    assert "not as parquet" in refused("compare", "nowhere", "nowhere", "--out", "a.parquet")
    report = ("report", "nowhere", "--out")
    assert "written to a file.html" in refused(*report, "/dev/null")
    with pytest.raises(PgmetricsError, match="null cannot be written: it is a device"):
        check_writable("/dev/null")
    assert "there is no directory" in refused(*report, "missing/a.html")


def test_an_input_is_not_overwritten(tmp_path):
    place = tmp_path / "a.json"
    place.write_text("{}")
    (tmp_path / "link.json").symlink_to(place)
    for out in (place, tmp_path / "link.json"):
        assert "it is one of the inputs" in refused("compare", place, "b.json", "--out", out)
    assert place.read_text() == "{}"


def test_a_long_name_can_be_written(tmp_path):
    # 200 bytes of it went into the name of the file beside it, and with what was added it was too long.
    from pgmetrics.runtime.files import write_whole

    place = tmp_path / ("山" * 80 + ".json")
    write_whole(place, b"{}")
    assert place.read_bytes() == b"{}"


@pytest.mark.slow
def test_a_folder_whose_name_is_no_utf8_is_written_escaped(tmp_path):
    folder = os.path.join(os.fsencode(tmp_path), b"caf\xe9")
    os.mkdir(folder)
    make = (
        "import numpy as np, sys; from PIL import Image; r = np.random.default_rng(0); "
        "[Image.fromarray(r.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(f'{sys.argv[1]}/{i}.png') "
        "for i in range(4)]"
    )
    subprocess.run([sys.executable, "-c", make, folder], check=True)
    for suffix in ("json", "parquet"):
        done = shell(rf"ms-ssim --fake $'caf\xe9' --workers 0 --device cpu --out r.{suffix}", tmp_path)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / f"r.{suffix}").stat().st_size
    name = json.loads((tmp_path / "r.json").read_text("utf-8"))["provenance"]["sources"]["fake"]["name"]
    assert name.encode("utf-8", "backslashreplace") in (rb"caf\udce9", rb"caf\xe9")
