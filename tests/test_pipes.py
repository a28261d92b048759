"""Only regular files are opened: whatever a command is given, a pipe is refused in one line and at once."""

import os
import shutil
import signal

import pytest
from click.testing import CliRunner

from pgmetrics.cli import main as pgmetrics
from pgmetrics.prepared.state_files import holds_states
from reference_models.progan.cli import main as progan
from tests.helpers.growing_run import write_run
from tests.helpers.image_files import encoded, pixels, write

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have no names here")

LEAVES = "synthetic:leaves,resolution=32,n=16"
QUICK = ("--workers", "0")


class TooLong(BaseException):
    """Raised where a pipe is waited for; no handler of the project's takes it for a refusal."""


@pytest.fixture(autouse=True)
def in_time():
    """A pipe that is waited for would be waited for without end."""

    def end(*_):
        raise TooLong

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def pipe(path):
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    return path


def refusal(group, *arguments):
    done = CliRunner().invoke(group, [str(argument) for argument in arguments])
    assert done.exit_code == 1, done.output
    last = done.stderr.replace("\r", "\n").splitlines()[-1]
    assert last.startswith("Error: ")
    return last


@pytest.mark.parametrize("name", ["a.zip", "a.npz", "a"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "PIPE"),
        ("ms-ssim", "--fake", "PIPE", *QUICK),
        ("swd", "--real", "PIPE", "--fake", LEAVES, *QUICK),
        ("fid", "--real", f"{LEAVES}", "--fake", "PIPE", *QUICK),
        ("stats", "PIPE", "--metrics", "swd", "--out", "OUT.pgstats", *QUICK),
        ("compare", "PIPE", LEAVES, "--metrics", "ms-ssim", *QUICK),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_pipe_is_no_source(tmp_path, name, arguments):
    path = pipe(tmp_path / name)
    words = {"PIPE": path, "OUT.pgstats": tmp_path / "out" / "a.pgstats"}
    (tmp_path / "out").mkdir()
    line = refusal(pgmetrics, *(words.get(word, word) for word in arguments))
    assert f"{path} cannot be opened: it is a pipe, and only regular files are opened" in line


@pytest.mark.parametrize("suffix", ["json", "csv", "jsonl", "parquet"])
def test_a_pipe_is_no_result(tmp_path, suffix):
    path = pipe(tmp_path / f"a.{suffix}")
    assert "it is a pipe" in refusal(pgmetrics, "compare", path, path)


@pytest.mark.parametrize(
    "option", [("--weights",), ("--features-resize", "none", "--features-range", "0,1", "--features")]
)
def test_a_pipe_is_no_network(tmp_path, option):
    path = pipe(tmp_path / "net.pt")
    metric = "fid" if option == ("--weights",) else "fd"
    line = refusal(pgmetrics, metric, "--real", LEAVES, "--fake", LEAVES, *QUICK, *option, path)
    assert "it is a pipe" in line


@pytest.mark.parametrize("name", ["scores.jsonl", ".growth/lock"])
def test_a_run_whose_store_or_lock_is_a_pipe_is_not_scored(tmp_path, name):
    run = write_run(tmp_path / "run", moments=((100, 4, 1.0),), untrained=False)
    pipe(run / name)
    line = refusal(pgmetrics, "growth", run, "--real", LEAVES, "--metrics", "ms-ssim", *QUICK)
    assert "it is a pipe" in line


def test_a_pipe_among_the_checkpoints_is_passed_over(tmp_path):
    run = write_run(tmp_path / "run", moments=((100, 32, 1.0),), untrained=False)
    pipe(run / "checkpoints" / "images0000000200-res0032.safetensors")
    arguments = ("growth", run, "--real", LEAVES, "--metrics", "ms-ssim", "--num-images", 8, *QUICK)
    done = CliRunner().invoke(pgmetrics, [str(argument) for argument in arguments])
    assert done.exit_code == 4, done.output
    assert "skipped checkpoints/images0000000200-res0032.safetensors" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", "PIPE"),
        ("sample", "PIPE", "--out", "OUT.png"),
        ("import", "PIPE", "--out", "OUT.safetensors"),
        ("video", "interpolate", "PIPE", "--out", "OUT.gif"),
        ("data", "PIPE", "--out", "OUT", *QUICK),
        ("train", "--data", "PIPE", "--out", "OUT", "--preset", "tiny-32", *QUICK),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_pipe_is_no_checkpoint_and_no_data(tmp_path, arguments):
    path = pipe(tmp_path / "a.safetensors")
    words = [
        str(path) if word == "PIPE" else word.replace("OUT", str(tmp_path / "out")) for word in arguments
    ]
    refusal(progan, *words)


def test_a_pipe_in_a_prepared_set_is_refused(tmp_path):
    files = write(
        tmp_path / "files", {f"{i}.png": encoded(image) for i, image in enumerate(pixels(40, 4, 4))}
    )
    prepared = tmp_path / "set"
    assert CliRunner().invoke(progan, ["data", str(files), "--out", str(prepared), *QUICK]).exit_code == 0
    pipe(prepared / "level-0004.npy")
    option = ("--preset", "tiny-32", "--option", "resolution=4")
    for arguments in (
        ("train", "--data", prepared, "--out", tmp_path / "run", *option, *QUICK),
        ("data", files, "--out", prepared, *QUICK),
    ):
        assert "level-0004.npy cannot be read: it is a pipe" in refusal(progan, *arguments)


def test_a_directory_whose_settings_are_a_pipe_is_no_run(tmp_path):
    pipe(tmp_path / "run" / "run.json")
    train = ("train", "--data", LEAVES, "--out", tmp_path / "run", "--preset", "tiny-32", *QUICK)
    assert "run.json cannot be read" in refusal(progan, *train)


def test_statistics_with_a_pipe_are_refused(tmp_path):
    out = tmp_path / "a.pgstats"
    stats = ["stats", LEAVES, "--metrics", "ms-ssim", "--out", str(out), *QUICK]
    assert CliRunner().invoke(pgmetrics, stats).exit_code == 0
    assert holds_states(out)
    for name in [path.name for path in out.iterdir()]:
        copy = shutil.copytree(out, tmp_path / name / "a.pgstats")
        pipe(copy / name)
        refusal(pgmetrics, "evaluate", "--real", copy, "--fake", LEAVES, "--metrics", "ms-ssim", *QUICK)
