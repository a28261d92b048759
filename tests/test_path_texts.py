"""Whatever text is given for a path, what no file can be called is refused in one line."""

import numpy as np
import pytest
from click.testing import CliRunner

import pgmetrics
from pgmetrics.cli import main as pgmetrics_command
from pgmetrics.errors import PgmetricsError
from reference_models.progan.cli import main as progan_command

LEAVES = "synthetic:leaves,resolution=32,n=16"
LONG = "x" * 5_000
QUICK = ("--workers", "0")
FEATURES = ("--features-resize", "none", "--features-range", "0,1", "--features")
# Longer than a path may be, than a name in one may be, and than a number may be; bytes that are no UTF-8.
TEXTS = [
    LONG, "y" * 300, ("z" * 200 + "/") * 25 + "z", f"os:{LONG}", f"{LONG}@0:4", f"progan:{LONG},seed=1",
    "progan:a,seed=" + "9" * 5_000, "caf\udce9",
]  # fmt: skip
SOURCES = {
    "check": (pgmetrics_command, ("check", "TEXT")),
    "real": (pgmetrics_command, ("swd", "--real", "TEXT", "--fake", LEAVES, *QUICK)),
    "fake": (pgmetrics_command, ("ms-ssim", "--fake", "TEXT", *QUICK)),
    "stats": (pgmetrics_command, ("stats", "TEXT", "--metrics", "ms-ssim", "--out", "o.pgstats", *QUICK)),
    "compare": (pgmetrics_command, ("compare", "TEXT", LEAVES, *QUICK)),
    "compare real": (pgmetrics_command, ("compare", LEAVES, LEAVES, "--real", "TEXT", *QUICK)),
    "growth real": (pgmetrics_command, ("growth", "RUN", "--real", "TEXT", *QUICK)),
    "train": (progan_command, ("train", "--data", "TEXT", "--out", "o", "--preset", "tiny-32", *QUICK)),
    "data": (progan_command, ("data", "TEXT", "--out", "o", *QUICK)),
}
OTHERS = {
    "weights": (pgmetrics_command, ("fid", "--real", LEAVES, "--fake", LEAVES, "--weights", "TEXT", *QUICK)),
    "features": (pgmetrics_command, ("fd", "--real", LEAVES, "--fake", LEAVES, *QUICK, *FEATURES, "TEXT.pt")),
    "bundle": (pgmetrics_command, ("weights", "--bundle", "TEXT")),
    "results": (pgmetrics_command, ("compare", "TEXT.json", "TEXT.json")),
    "growth": (pgmetrics_command, ("growth", "TEXT", "--real", LEAVES, *QUICK)),
    "report": (pgmetrics_command, ("report", "TEXT")),
    "plot": (pgmetrics_command, ("plot", "TEXT")),
    "plots": (pgmetrics_command, ("plot", "RUN", "--out", "TEXT")),
    "inspect": (progan_command, ("inspect", "TEXT")),
    "sample": (progan_command, ("sample", "TEXT", "--out", "o.png")),
    "import": (progan_command, ("import", "TEXT", "--out", "o.safetensors")),
    "video": (progan_command, ("video", "interpolate", "TEXT", "--out", "o.gif")),
}
OUTPUTS = {
    "out": (pgmetrics_command, ("ms-ssim", "--fake", LEAVES, *QUICK, "--out", "TEXT.csv")),
    "stats": (pgmetrics_command, ("stats", LEAVES, "--metrics", "ms-ssim", *QUICK, "--out", "TEXT.pgstats")),
    "report": (pgmetrics_command, ("report", "RUN", "--out", "TEXT.html")),
    "train": (progan_command, ("train", "--data", LEAVES, "--out", "TEXT", "--preset", "tiny-32", *QUICK)),
    "data": (progan_command, ("data", LEAVES, "--out", "TEXT", *QUICK)),
    "png": (progan_command, ("sample", "CHECKPOINT", "--num", "2", "--out", "TEXT.png")),
    "folder": (progan_command, ("sample", "CHECKPOINT", "--num", "2", "--out", "TEXT")),
    "video": (progan_command, ("video", "interpolate", "CHECKPOINT", "--out", "TEXT.gif")),
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def refused(finished):
    """The line with which a command refuses a text."""

    def ask(command, text):
        group, arguments = command
        words = {"RUN": str(finished), "CHECKPOINT": str(next((finished / "checkpoints").iterdir()))}
        done = CliRunner().invoke(group, [words.get(word, word.replace("TEXT", text)) for word in arguments])
        assert isinstance(done.exception, SystemExit), (text[:20], done.exception)
        assert done.exit_code in (1, 2), (text[:20], done.output)
        line = done.stderr.replace("\r", "\n").splitlines()[-1]
        assert line.startswith("Error: ")
        assert len(line) < 1_500
        return line

    return ask


@pytest.mark.parametrize(
    "text", TEXTS, ids=lambda text: text[:12].encode("ascii", "backslashreplace").decode()
)
def test_what_no_file_is_called_is_no_source_and_no_file_to_read(refused, text):
    # Path.is_file raises for a name that is too long, where os.path.isfile finds no file.
    for command in (*SOURCES.values(), *OTHERS.values()):
        refused(command, text)


@pytest.mark.parametrize("name", OUTPUTS)
def test_what_is_too_long_for_a_name_is_refused_before_the_work(refused, name):
    for text in TEXTS[:3]:
        assert "name too long" in refused(OUTPUTS[name], text).lower()


@pytest.mark.parametrize("text", ["a\0b", "half\ud800"])
def test_what_the_system_has_no_bytes_for_is_refused(refused, text):
    for command in (*SOURCES.values(), *OTHERS.values(), *OUTPUTS.values()):
        assert "which is in no file's name" in refused(command, text)
    images = np.zeros((4, 3, 32, 32), np.uint8)
    scores = pgmetrics.Results([], {})
    for call in (
        lambda: pgmetrics.ms_ssim(text),
        lambda: pgmetrics.swd(text, images),
        lambda: pgmetrics.fid(images, images, weights=text),
        lambda: pgmetrics.ms_ssim(images, cache=text),
        lambda: pgmetrics.compare(text, images),
        lambda: pgmetrics.compare(f"{text}.json", f"{text}.json"),
        lambda: pgmetrics.score_run(text, LEAVES),
        lambda: pgmetrics.read_scores(text),
        lambda: pgmetrics.read_results(f"{text}.csv"),
        lambda: scores.save(f"{text}.csv"),
        lambda: pgmetrics.save_statistics({}, f"{text}.pgstats"),
        lambda: pgmetrics.features.custom_network(f"{text}.pt", resize="none", value_range=(0, 1)),
    ):
        with pytest.raises(PgmetricsError):
            call()


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("set.npy@{}:", "the first image"),
        ("set.npy@:{}", "the last image"),
        ("synthetic:leaves,n={}", "n"),
        ("builtins:list,n={}", "n"),
        ("progan:CHECKPOINT,seed={}", "seed"),
    ],
)
def test_a_number_of_more_digits_than_anything_has_is_refused(tmp_path, text, option):
    # Python itself refuses to read a number of 5,000 digits, with a ValueError.
    np.save("set.npy", np.zeros((4, 8, 8, 3), np.uint8))
    with pytest.raises(PgmetricsError, match=f"{option} is a whole number, not '9999") as refusal:
        pgmetrics.sources.open_source(text.format("9" * 5_000))
    assert len(str(refusal.value)) < 1_000
