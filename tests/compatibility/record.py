"""Record what must not change unnoticed: numbers, and files that later versions must read.

`python -m tests.compatibility.record DIR` writes, with small inputs that are functions of a seed:

- `scores.csv`: all metrics of pixels and features, float64 digits in full;
- `real.pgstats`: a real side that was prepared once;
- `run/`: a ProGAN trained for a few minibatches with its training state, scored in `scores.jsonl`;
- `resumed.safetensors`: the last checkpoint of the same run, trained further.

The copy in `recorded/` was written by the version that its `version.txt` names. Run it again only when a
file format or a number changes on purpose; the changelog then says by how much.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch
from click.testing import CliRunner

import pgmetrics
from pgmetrics.cli import main as pgmetrics_main
from reference_models.progan.cli import main as progan_main

REAL = "synthetic:leaves,resolution=32,n=48,seed=0"
FAKE = "synthetic:leaves,resolution=32,n=24,seed=1"
NETWORK = ["--features", "tests.compatibility.record:averages", "--features-resize", "none"]
NETWORK += ["--features-range", "0,1"]
METRICS = "swd,ms-ssim,fd,kid,prdc,is,memorisation"
SMALL = {
    "resolution": "16",
    "latent_size": "4",
    "fmap_base": "16",
    "fmap_max": "4",
    "stabilise_images": "64",
    "fade_images": "64",
    "minibatch": "4:8",
}
TRAINING = "synthetic:leaves,resolution=16,n=64,seed=2"
FIRST, LAST = 96, 128  # images after which the recorded run stops, and ends after it was resumed


def averages() -> torch.nn.Module:
    """A network of features and logits that are averages: without weights, so the same everywhere."""

    class Averages(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            features = torch.nn.functional.adaptive_avg_pool2d(images, 4).flatten(1)
            return features, features @ torch.sin(torch.arange(336.0)).reshape(48, 7)

    return Averages()


def pgmetrics_command(*arguments: object) -> str:
    """Run a command of `pgmetrics` that must succeed; returns its standard output."""
    return _run(pgmetrics_main, arguments)


def progan_command(*arguments: object) -> str:
    """Run a command of `progan` that must succeed; returns its standard output."""
    return _run(progan_main, arguments)


def _run(command, arguments):
    done = CliRunner().invoke(command, [str(part) for part in arguments])
    if done.exit_code:
        raise RuntimeError(f"{' '.join(map(str, arguments))}: {done.output}") from done.exception
    return done.stdout


def score(path: Path) -> None:
    """Write the CSV of all metrics."""
    sides = ["--real", REAL, "--fake", FAKE, "--held-out", REAL.replace("seed=0", "seed=3")]
    options = ["--floor", "--workers", 0, "--cache", "off", "--out", path]
    pgmetrics_command("evaluate", *sides, "--metrics", METRICS, *NETWORK, *options)


def prepare(path: Path) -> None:
    """Write the statistics of the first 16 reals."""
    options = ["--num-images", 16, "--workers", 0, "--out", path]
    pgmetrics_command("stats", REAL, "--metrics", "ms-ssim,fd,kid", *NETWORK, *options)


def train(run: Path, images: int) -> None:
    """Train until that many images were shown; the same directory goes on."""
    settings = [part for name, value in SMALL.items() for part in ("--option", f"{name}={value}")]
    options = ["--total-images", images, "--state-images", 32, "--workers", 0, "--licence", "CC0"]
    progan_command("train", "--data", TRAINING, "--out", run, "--preset", "tiny-32", *settings, *options)


def score_run(run: Path) -> None:
    """Score the checkpoints of a run into its `scores.jsonl`."""
    options = ["--metrics", "swd,ms-ssim", "--protocol", "at-final", "--num-images", 32, "--workers", 0]
    pgmetrics_command("growth", run, "--real", TRAINING, *options)


def last_checkpoint(run: Path) -> Path:
    """The checkpoint of the most images."""
    return max((run / "checkpoints").glob("*.safetensors"))


def record(directory: Path) -> None:
    """Write everything."""
    directory.mkdir(parents=True)
    score(directory / "scores.csv")
    prepare(directory / "real.pgstats")
    train(directory / "run", FIRST)
    longer = directory / "longer"
    shutil.copytree(directory / "run", longer)
    train(longer, LAST)
    shutil.copy(last_checkpoint(longer), directory / "resumed.safetensors")
    shutil.rmtree(longer)
    score_run(directory / "run")
    (directory / "version.txt").write_text(f"pgmetrics {pgmetrics.__version__}, torch {torch.__version__}\n")


if __name__ == "__main__":
    record(Path(sys.argv[1]))
