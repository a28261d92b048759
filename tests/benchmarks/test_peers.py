"""The benchmark of FID by every tool: who is in the table, and how far our number is from theirs."""

import re

from click.testing import CliRunner

from benchmarks import peers
from benchmarks.peers import Tool, main


def absent(folders, workers):
    raise ImportError


def test_the_table_compares_with_our_number_of_the_same_resizer(monkeypatch, tmp_path):
    resizers = []

    def ours(folders, workers, resizer="tf1-bilinear"):
        assert len(list(folders.real.iterdir())) == len(list(folders.fake.iterdir())) == 3
        resizers.append(resizer)
        return 5.0

    monkeypatch.setattr(peers, "ours", ours)
    monkeypatch.setattr(
        peers,
        "TOOLS",
        {
            "pgmetrics": Tool(lambda *_: 5.0, "pgmetrics", "tf1-bilinear"),
            "torch-fidelity": Tool(lambda *_: 4.0, "torch", "pil-bicubic"),
            "clean-fid": Tool(absent, "clean-fid", "pil-bicubic"),
        },
    )
    (tmp_path / "w.pth").touch()
    tools = [f"--tool={name}" for name in ("pgmetrics", "torch-fidelity", "clean-fid", "decoding alone")]
    sizes = ["--num-images", "3", "--side", "16", "--turns", "1", "--workers", "0"]
    done = CliRunner().invoke(main, [*sizes, *tools, "--weights", str(tmp_path / "w.pth")])
    assert done.exit_code == 0, done.output
    assert "clean-fid is not installed" in done.stderr
    rows = re.findall(
        r"^\| ([a-z -]+?)(?: \d\S+)? \| \d\S* \(.*?\) \| \S+ \| (\S*) ?\| (\S*) ?\|$", done.stdout, re.M
    )
    assert rows == [
        ("pgmetrics", "5.0000", ""),
        ("torch-fidelity", "4.0000", "2.5e-01"),
        ("decoding alone", "", ""),
    ]
    assert resizers == ["pil-bicubic"]
