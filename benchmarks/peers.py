"""Time FID by pgmetrics and by its peers, on the same files and weights, for the table in README.md.

    python -m benchmarks.peers --out benchmarks/results/peers.md

Two folders of PNGs are written to a temporary directory. The packages torch-fidelity, torchmetrics,
pytorch-fid and clean-fid score them in this process in turns, from the files to the FID. The weights are
random unless --weights names a file. Speed and the agreement of tools do not depend on the weights, but
**scores with random weights mean nothing**. A peer that is not installed is left out.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from unittest import mock

import click
import numpy as np
import torch
from PIL import Image
from torch import Tensor

import pgmetrics
from benchmarks.inception import bare, network, pictures
from benchmarks.random_weights import write_inception
from benchmarks.timing import OUT, Timing, machine, show, take_turns
from pgmetrics.features.inception import Inception
from pgmetrics.sources.loading import blocks
from pgmetrics.sources.resolve import open_source

BATCH = 32


@dataclass(frozen=True)
class Folders:
    """The files that every tool reads.

    Attributes:
        real, fake: folders of PNGs.
        weights: file of the Inception weights.
    """

    real: Path
    fake: Path
    weights: Path


def write_folders(place: Path, num_images: int, side: int) -> tuple[Path, Path]:
    """Write two folders of procedural images, of which the second is darker, so that FID is not 0."""
    folders = place / "real", place / "fake"
    for folder, images, brightness in zip(
        folders, np.split(pictures(None, 2 * num_images, side), 2), (1.0, 0.7), strict=True
    ):
        folder.mkdir()
        for index, image in enumerate(images):
            pixels = (image.transpose(1, 2, 0) * brightness).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{index:05d}.png")
    return folders


def ours(folders: Folders, workers: int, resizer: str = "tf1-bilinear", groups: int = 10) -> float:
    """Return FID by `pgmetrics.evaluate`, with a standard error from that many groups of images."""
    values = "2x/255-1" if resizer == "torch-bilinear" else "(x-128)/128"
    extractor = Inception(folders.weights, allow_unverified=True, resizer=resizer, values=values)
    metric = pgmetrics.FrechetInceptionDistance(groups=groups)
    results = pgmetrics.evaluate(
        str(folders.real),
        str(folders.fake),
        [metric],
        networks={"inception": extractor},
        workers=workers,
        cache="off",
    )
    return float(next(row["value"] for row in results.rows if row["metric"] == "fid"))


def torch_fidelity(folders: Folders, workers: int) -> float:
    """Return FID by torch-fidelity."""
    from torch_fidelity import calculate_metrics

    values = calculate_metrics(
        input1=str(folders.fake),
        input2=str(folders.real),
        fid=True,
        cuda=False,
        cache=False,
        verbose=False,
        batch_size=BATCH,
        feature_extractor_weights_path=str(folders.weights),
    )
    return float(values["frechet_inception_distance"])


@contextmanager
def _local_weights(file: Path) -> Iterator[None]:
    """Make pytorch-fid load a local file instead of downloading one."""

    def load(*_: object, **__: object) -> Mapping[str, Tensor]:
        state: Mapping[str, Tensor] = torch.load(file, weights_only=True)
        return state

    with mock.patch("pytorch_fid.inception.load_state_dict_from_url", load):
        yield


def pytorch_fid(folders: Folders, workers: int) -> float:
    """Return FID by pytorch-fid."""
    from pytorch_fid.fid_score import calculate_fid_given_paths

    with _local_weights(folders.weights):
        paths = [str(folders.real), str(folders.fake)]
        return float(calculate_fid_given_paths(paths, BATCH, "cpu", 2048, num_workers=workers))


def clean_fid(folders: Folders, workers: int) -> float:
    """Return FID by clean-fid in mode "clean", with pytorch-fid's layers instead of its TorchScript file."""
    from cleanfid import fid
    from pytorch_fid.inception import InceptionV3

    with _local_weights(folders.weights):
        layers = InceptionV3([3], resize_input=False, normalize_input=False).eval()

    def model(images: Tensor) -> Tensor:
        with torch.no_grad():
            features: Tensor = layers((images - 128) / 128)[0].flatten(1)
        return features

    with mock.patch.object(fid, "build_feature_extractor", return_value=model):
        value = fid.compute_fid(
            str(folders.fake),
            str(folders.real),
            mode="clean",
            batch_size=BATCH,
            device=torch.device("cpu"),
            num_workers=workers,
            verbose=False,
            use_dataparallel=False,
        )
    return float(value)


def torchmetrics(
    folders: Folders, workers: int, layout: torch.memory_format = torch.contiguous_format
) -> float:
    """Return FID by torchmetrics, on tensors decoded here, with the memory layout that torchvision makes."""
    from torchmetrics.image import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature_extractor_weights_path=str(folders.weights))
    for folder, real in ((folders.real, True), (folders.fake, False)):
        paths = sorted(folder.iterdir())
        for start in range(0, len(paths), BATCH):
            batch = np.stack([np.asarray(Image.open(path)) for path in paths[start : start + BATCH]])
            pixels = torch.from_numpy(batch).permute(0, 3, 1, 2)
            metric.update(pixels.contiguous(memory_format=layout), real=real)
    return float(metric.compute())


@dataclass(frozen=True)
class Tool:
    """A tool that computes FID.

    Attributes:
        run: returns the FID of two folders, given the number of decoding processes.
        package: package whose version is printed.
        resizer: the resizer of pgmetrics that reproduces the tool's.
    """

    run: Callable[[Folders, int], float]
    package: str
    resizer: str


TOOLS = {
    "pgmetrics": Tool(ours, "pgmetrics", "tf1-bilinear"),
    "pgmetrics, without its error": Tool(partial(ours, groups=1), "pgmetrics", "tf1-bilinear"),
    "torch-fidelity": Tool(torch_fidelity, "torch-fidelity", "tf1-bilinear"),
    "torchmetrics": Tool(torchmetrics, "torchmetrics", "torch-bilinear-antialias"),
    "torchmetrics, fed channels-last": Tool(
        partial(torchmetrics, layout=torch.channels_last), "torchmetrics", "torch-bilinear-antialias"
    ),
    "pytorch-fid": Tool(pytorch_fid, "pytorch-fid", "torch-bilinear"),
    "clean-fid": Tool(clean_fid, "clean-fid", "pil-bicubic"),
}
PACKAGES = ["pgmetrics", "torch-fidelity", "torchmetrics", "pytorch-fid", "clean-fid"]
LIMITS = ["bare network", "decoding alone"]


def decode(folders: Folders, workers: int) -> None:
    """Decode all images in blocks of 64."""
    for folder in (folders.real, folders.fake):
        source = open_source(str(folder))
        for _ in blocks(source, np.arange(len(source)), 64, workers=workers):
            pass


def installed(tools: list[str], few: Folders, workers: int) -> list[str]:
    """Run every tool once on few images to load what later runs share; return the installed ones."""
    absent = []
    for name in tools:
        try:
            _score(name, few, workers)
        except ImportError:
            click.echo(f"{name} is not installed", err=True)
            absent.append(name)
    return [name for name in tools if name not in absent]


def _score(name: str, folders: Folders, workers: int) -> float | str:
    """Return the FID of the tool, or the reason why it failed."""
    try:
        return TOOLS[name].run(folders, workers)
    except ValueError as error:
        # pytorch-fid fails at its last step if the matrix root is complex; its time is still valid.
        if name != "pytorch-fid":
            raise
        return f"none: {error}"


@click.command()
@click.option(
    "--num-images",
    type=click.IntRange(min=2),
    default=128,
    show_default=True,
    help="Per side; from 257 on our FID computes a standard error, too.",
)
@click.option("--side", type=click.IntRange(min=16), default=64, show_default=True, help="Of an image.")
@click.option(
    "--tool",
    "tools",
    multiple=True,
    type=click.Choice([*TOOLS, *LIMITS]),
    default=PACKAGES,
    help="Repeat for more.  [default: every package]",
)
@click.option("--weights", type=click.Path(path_type=Path, exists=True), help="[default: random]")
@click.option("--turns", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--workers", type=click.IntRange(min=0), default=1, show_default=True, help="Per tool.")
@OUT
def main(
    num_images: int,
    side: int,
    tools: tuple[str, ...],
    weights: Path | None,
    turns: int,
    workers: int,
    out: Path | None,
) -> None:
    """Time FID of two folders of PNGs by each tool, from the files to the number."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        file = weights or write_inception(place / "weights.pth")
        folders = Folders(*write_folders(place, num_images, side), file)
        few = place / "few"
        few.mkdir()
        for path in sorted(folders.real.iterdir())[:BATCH]:
            shutil.copy(path, few)
        names = installed([tool for tool in tools if tool in TOOLS], Folders(few, few, file), workers)
        scores: dict[str, float | str] = {}

        def run(name: str) -> None:
            scores[name] = _score(name, folders, workers)

        contestants: dict[str, Callable[[], object]] = {name: partial(run, name) for name in names}
        if "bare network" in tools:
            contestants["bare network"] = bare(network(file), 2 * num_images, "cpu")
        if "decoding alone" in tools:
            contestants["decoding alone"] = partial(decode, folders, workers)
        timings = take_turns(contestants, turns=turns, warm_up=0)
        lines = [
            f"FID of 2 x {num_images} PNGs of {side}x{side}, from the files to the number; random weights, "
            f"decoding processes: {workers}, turns: {turns}. {machine()}.",
            "",
            *_table(timings, scores, folders, workers, 2 * num_images),
        ]
    show(lines, out)


def _table(
    timings: Mapping[str, Timing],
    scores: Mapping[str, float | str],
    folders: Folders,
    workers: int,
    images: int,
) -> list[str]:
    """Return the rows of the table in the order of the contestants, with times relative to the first."""
    first = next(iter(timings))
    lines = [
        f"| tool | images/s, median (slowest to fastest) | time in that of {first} | FID | "
        "ours with the same resizer, relative difference |",
        "|:--|--:|--:|--:|--:|",
    ]
    for name, timing in timings.items():
        score, agreement, version = "", "", ""
        if name in TOOLS:
            version = f" {metadata.version(TOOLS[name].package)}"
            value = scores[name]
            score = value if isinstance(value, str) else f"{value:.4f}"
            if not isinstance(value, str) and TOOLS[name].package != "pgmetrics":
                agreement = f"{abs(ours(folders, workers, TOOLS[name].resizer) / value - 1):.1e}"
        lines.append(
            f"| {name}{version} | {images / timing.median:.1f} "
            f"({images / timing.slowest:.1f} to {images / timing.fastest:.1f}) | "
            f"{timings[first].times_faster_than(timing):.2f} | {score} | {agreement} |"
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
