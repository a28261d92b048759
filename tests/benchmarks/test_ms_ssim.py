"""The benchmark of MS-SSIM: a row for each contestant, and the difference from the plain recipe."""

import re

from click.testing import CliRunner

from benchmarks.ms_ssim import main


def test_the_smallest_run_writes_its_table(tmp_path):
    out = tmp_path / "table.md"
    done = CliRunner().invoke(main, ["--sides", "32", "--turns", "1", "--out", str(out)])
    assert done.exit_code == 0, done.output
    text = out.read_text()
    assert re.findall(r"^\| 32 \| 128 \| (.+?) \|", text, re.M) == ["pgmetrics", "plain recipe"]
    assert float(re.search(r"in float64: (\S+) at 32 px", text)[1]) < 1e-6
