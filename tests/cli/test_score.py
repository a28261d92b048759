"""The command line: what goes where, formats, exit codes, refusals of one line."""

import csv
import fcntl
import io
import json
import os
import pty
import shutil
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.commands import pgmetrics

QUICK = ["--patches", "8", "--directions", "8", "--workers", "0"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two directories of 40 PNGs of 32 px."""
    made = []
    for seed in (1, 2):
        folder = tmp_path_factory.mktemp(f"set{seed}")
        small = np.random.default_rng(seed).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
        for index, image in enumerate(small.repeat(4, axis=1).repeat(4, axis=2)):
            Image.fromarray(image).save(folder / f"{index:04d}.png")
        made.append(str(folder))
    return made


def swd(folders, *more):
    return pgmetrics("swd", "--real", folders[0], "--fake", folders[1], *QUICK, *more)


def test_the_table_is_alone_on_stdout_and_says_times_thousand(folders):
    done = swd(folders, "--floor")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[0].strip() == "SWD ×10³"
    assert [line.split()[0] for line in done.stdout.splitlines()[2:3]] == ["fake"]
    assert "floor is left out" in done.stderr
    assert "floor" not in done.stdout


def test_data_is_raw_and_the_formats_agree(folders, tmp_path):
    table = json.loads(swd(folders, "--format", "json").stdout)
    rows = list(csv.DictReader(io.StringIO(swd(folders, "--format", "csv").stdout)))
    assert [float(r["value"]) for r in rows] == [r["value"] for r in table["results"]]
    assert all(r["value"] < 5 for r in table["results"])
    assert [r["level"] for r in table["results"]] == [32, 16, None]
    assert table["provenance"]["sources"]["real"]["count"] == 40
    done = swd(folders, "--out", tmp_path / "r.csv")
    assert done.exit_code == 0
    assert (tmp_path / "r.csv").read_text() == swd(folders, "--format", "csv").stdout


def test_several_metrics_and_the_floor_in_one_table(folders):
    done = pgmetrics(
        "evaluate",
        "--real",
        folders[0],
        "--fake",
        folders[1],
        "--num-images",
        20,
        "--floor",
        "--format",
        "csv",
        "--workers",
        0,
    )
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [(r["subject"], r["metric"], r["level"]) for r in rows] == [
        ("real", "swd", "32"), ("real", "swd", "16"), ("real", "swd", ""), ("real", "ms-ssim", ""),
        ("fake", "swd", "32"), ("fake", "swd", "16"), ("fake", "swd", ""), ("fake", "ms-ssim", ""),
    ]  # fmt: skip


def test_ms_ssim_scores_one_side_alone(folders):
    done = pgmetrics("ms-ssim", "--fake", folders[1], "--format", "csv", "--workers", 0)
    assert done.exit_code == 0
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert (row["subject"], row["n_real"], row["n_fake"]) == ("fake", "", "40")


@pytest.mark.parametrize(
    ("arguments", "code", "facts"),
    [
        (["swd", "--real", "{a}"], 2, ["--fake"]),
        (["swd", "--real", "{a}", "--fake", "{b}", "--num-images", "1"], 2, ["num-images"]),
        (["swd", "--real", "{a}", "--fake", "{b}", "--max-memory", "lots"], 2, ["'lots'", "512MB"]),
        (["swd", "--real", "{a}", "--fake", "{b}", "--what"], 2, ["--what"]),
        (["ms-ssim"], 2, ["--fake, --real or both"]),
        (["frechet"], 2, ["frechet"]),
        (
            ["swd", "--real", "{a}", "--fake", "{b}", "--num-images", "50"],
            1,
            ["holds 40 images", "asks for 50"],
        ),
        (["swd", "--real", "nowhere", "--fake", "{b}"], 1, ["nowhere"]),
        (
            ["swd", "--real", "{a}", "--fake", "synthetic:leaves,resolution=64"],
            1,
            ["32x32", "64x64", "--resize"],
        ),
        (["swd", "--real", "{a}", "--fake", "{b}", "--out", "r.xlsx"], 1, [".csv"]),
        (["swd", "--real", "{a}", "--fake", "{b}", "--out", "/nowhere/r.csv"], 1, ["/nowhere"]),
        (["evaluate", "--real", "{a}", "--fake", "{b}", "--metrics", "swd,fud"], 1, ["'fud'", "ms-ssim"]),
        (["swd", "--real", "{a}", "--fake", "{b}", "--device", "cuda:7"], 1, ["cuda:7"]),
    ],
)
def test_refusals_are_one_line_with_the_right_code_and_nothing_on_stdout(folders, arguments, code, facts):
    done = pgmetrics(*(a.format(a=folders[0], b=folders[1]) for a in arguments))
    assert done.exit_code == code
    assert done.stdout == ""
    for fact in facts:
        assert fact in done.stderr
    if code == 1:
        errors = [line for line in done.stderr.splitlines() if line.startswith("Error:")]
        assert len(errors) == 1
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_one_line():
    command = [sys.executable, "-m", "pgmetrics", "check", "synthetic:leaves,resolution=4,n=8"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "Error: standard output cannot be written: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.slow
def test_progress_and_logs_of_a_real_process_stay_off_stdout(folders):
    command = [
        sys.executable,
        "-m",
        "pgmetrics",
        "swd",
        "--real",
        folders[0],
        "--fake",
        folders[1],
        *QUICK,
        "--format",
        "json",
    ]
    # Progress is a bar only on a terminal.
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    ) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # how Linux says that the other end is closed
            while more := os.read(ours, 4096):
                shown += more
        os.close(ours)
        assert process.stdout is not None
        assert json.loads(process.stdout.read())["results"]
    assert process.returncode == 0
    assert b"real images" in shown


def test_files_that_are_left_out_are_told_once_and_by_kind(folders, tmp_path):
    images = tmp_path / "set"
    images.mkdir()
    for index, path in enumerate(sorted(Path(folders[0]).iterdir())):
        shutil.copy(path, images / f"{index}.png")
    for name in ("a.txt", "b.txt", "README"):
        (images / name).touch()
    line = f"Warning: {images}: 3 files left out: 2 .txt, 1 without suffix"
    halves = f"{images}@0:20", f"{images}@20:40"
    commands = {
        "swd": ["--real", halves[0], "--fake", halves[1], *QUICK],
        "ms-ssim": ["--fake", images, "--workers", "0"],
        "compare": [halves[0], halves[1], "--metrics", "ms-ssim", "--permutations", "9", "--workers", "0"],
        "stats": [images, "--metrics", "ms-ssim", "--out", tmp_path / "a.pgstats", "--workers", "0"],
    }
    for command, arguments in commands.items():
        done = pgmetrics(command, *arguments)
        assert done.exit_code == 0, done.stderr
        assert done.stderr.replace("\r", "\n").splitlines().count(line) == 1, command
        assert "left out: 2 .txt" not in done.stdout
    assert "  ignored     3 files left out: 2 .txt, 1 without suffix\n" in pgmetrics("check", images).stdout


def test_what_decoding_did_is_told_once_for_each_source(folders, tmp_path):
    # Written to the JSON before, and told by check alone.
    for index, path in enumerate(sorted(Path(folders[0]).iterdir())):
        image = Image.open(path)
        image.putalpha(255)
        image.save(tmp_path / f"{index}.png")
    done = pgmetrics("ms-ssim", "--real", folders[0], "--fake", tmp_path, "--workers", "1")
    assert done.stderr.count("opaque alpha dropped") == 1
    assert f"Info: {tmp_path}: 40 × opaque alpha dropped" in done.stderr


def test_latex_is_printed_as_it_is_written(folders, tmp_path):
    out = tmp_path / "t.tex"
    done = swd(folders, "--format", "latex", "--out", out)
    assert done.exit_code == 0, done.stderr
    assert done.stdout == out.read_text()
    assert r"\begin{tabular}" in done.stdout


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        ("precision", "give pgmetrics evaluate --metrics precision"),
        ("fid-infinity", "give pgmetrics evaluate --metrics fid-infinity"),
        ("fis", "No such command 'fis'; did you mean is or fid?"),
        ("xyzzy", "No such command 'xyzzy'."),
    ],
)
def test_numbers_without_a_command_say_how_to_get_them(name, fact):
    done = pgmetrics(name, "--fake", "x")
    assert done.exit_code == 2
    assert fact in done.stderr
    assert "Traceback" not in done.stderr


def test_commands_are_found_in_other_spellings():
    for name in ("memorization", "MS_SSIM", "FID"):
        assert pgmetrics(name, "--help").exit_code == 0
