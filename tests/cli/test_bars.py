"""Progress in a file or a pipe: lines now and then, and never one for each thing that is done."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pgmetrics.cli import bars
from pgmetrics.cli.bars import ProgressLines, items_bar, progress_bar

ROOT = Path(__file__).parents[2]
HOUR = 3600


@pytest.fixture
def clock(monkeypatch):
    """The clock of the lines, which stands still."""

    class Clock:
        now = 1000.0

    monkeypatch.setattr(bars, "_now", lambda: Clock.now)
    return Clock


@pytest.mark.parametrize(
    ("seconds", "fewest", "most"),
    [(29, 0, 0), (150, 4, 5), (600, 9, 10), (5 * HOUR, 9, 10), (72 * HOUR, 100, 150)],
)
def test_long_work_has_about_ten_lines_and_short_work_fewer(clock, capsys, seconds, fewest, most):
    lines = ProgressLines()
    for step in range(5001):
        lines.report("training", step, 5000)
        clock.now += seconds / 5000
    assert fewest <= len(capsys.readouterr().err.splitlines()) <= most


def test_many_short_things_share_the_pauses_between_lines(clock, capsys):
    # Wrong: a pause that begins with each thing, of which an evaluation has a dozen.
    lines = ProgressLines()
    for step in range(5000):
        lines.report(f"thing {step // 50}", step % 50, 50)
        clock.now += 120 / 5000
    assert 3 <= len(capsys.readouterr().err.splitlines()) <= 4


def test_a_line_says_what_how_much_and_how_long_it_will_take(clock, capsys):
    lines = ProgressLines()
    # A resumed run begins with much of it done.
    lines.report("training", 50, 100)
    clock.now += 90
    lines.report("training", 75, 100, "16 x 16")
    assert capsys.readouterr().err == "training: 75%, 0:01:30 elapsed, 0:01:30 left (16 x 16)\n"


def test_a_name_from_a_file_cannot_write_to_the_terminal(clock, capsys):
    with items_bar("scoring") as report:
        report("a", 0, 8)
        clock.now += 100
        report("a\x1b[2J\nb", 4, 8)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("scoring: 50%")
    assert "\x1b" not in line


def test_on_a_terminal_a_bar_is_drawn(monkeypatch, capsys):
    monkeypatch.setattr(bars, "on_terminal", lambda: True)
    with progress_bar() as report:
        report("real images", 10, 100)
        report("fake images", 50, 100)
    with items_bar("scoring"):
        pass
    drawn = capsys.readouterr().err
    assert re.search(r"real images: .*/100 .*\r.*fake images: .*/100 ", drawn)


# As the commands run, but for a clock by which every look at it is ten seconds later.
_COMMAND = """
import sys
from itertools import count
from pgmetrics.cli import bars
bars._now = (10.0 * step for step in count()).__next__
from {} import main
main(sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("pgmetrics.cli", "evaluate --real LEAVES --fake LEAVES --metrics swd,ms-ssim --num-images 200"),
        ("reference_models.progan.cli", "train --data LEAVES --preset tiny-32 --total-images 1000 --out OUT"),
    ],
)
def test_a_run_whose_standard_error_is_a_pipe_writes_a_few_lines(tmp_path, module, arguments):
    words = {"LEAVES": "synthetic:leaves,resolution=32,n=400", "OUT": str(tmp_path / "run")}
    done = subprocess.run(
        [sys.executable, "-c", _COMMAND.format(module), *(words.get(w, w) for w in arguments.split())],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    written = re.split(r"[\r\n]+", done.stderr.strip())
    assert any(re.match(r"[\w ]+: \d+%, \d+:\d\d:\d\d elapsed", line) for line in written)
    assert len(written) <= 12
