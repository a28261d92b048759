"""Compare each preset with the tool that it reproduces, on the same files and weights.

    python -m benchmarks.presets --data cifar10-train.zip --num-images 1000
    python -m benchmarks.presets --data photos.zip@0:100 --resize crop-box --resolution 128 --num-images 50
    python -m benchmarks.presets --data set.zip --weights inception=FILE --weights vgg16=FILE

Two folders of PNGs are written to a temporary directory, which each tool reads in this process with its own
package; only its download of weights is replaced by the given file. Without `--weights inception=` the
weights are random (`benchmarks.random_weights`): **the scores mean nothing**, only the agreement of two
tools does. Precision and recall are compared if `vgg16=` is given.

clean-fid and torchmetrics draw subsets and shuffles from unseeded generators, so they are passed our draws.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import click
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

import pgmetrics
from benchmarks import random_weights
from benchmarks.timing import machine
from pgmetrics.evaluation.presets import PRESETS
from pgmetrics.metrics import kid as kid_module
from pgmetrics.runtime.seeding import Stream, generator
from pgmetrics.sources.base import ImageSource, sequence
from pgmetrics.sources.resolve import open_source

BATCH = 32
SEED = 0

Indices = NDArray[np.int64]
Pairs = Sequence[tuple[Indices, Indices]]
"""For each subset of KID the places of its real images and of its fake ones."""


@dataclass(frozen=True)
class Sets:
    """The inputs of a comparison.

    Attributes:
        real, fake: folders of PNGs.
        weights: files by network; vgg16 may be missing.
        subsets: number of subsets for KID, for tools that have this option.
        subset_size: images per subset for KID, likewise.
    """

    real: Path
    fake: Path
    weights: Mapping[str, Path]
    subsets: int = 100
    subset_size: int = 1000


def torch_fidelity(sets: Sets, metrics: Sequence[str] = ("fid", "is", "kid")) -> dict[str, float]:
    """Call `calculate_metrics` for some of fid, is and kid on Inception, or for prdc on VGG16."""
    from torch_fidelity import calculate_metrics

    theirs = {"fid": "fid", "is": "isc", "kid": "kid", "prdc": "prc"}
    found = calculate_metrics(
        input1=str(sets.fake),
        input2=str(sets.real),
        cuda=False,
        batch_size=BATCH,
        cache=False,
        verbose=False,
        save_cpu_ram=True,  # decodes in this process and computes distances in blocks, with the same results
        feature_extractor_weights_path=str(sets.weights[_network(metrics)]),
        kid_subsets=sets.subsets,
        kid_subset_size=sets.subset_size,
        **{theirs[metric]: True for metric in metrics},
    )
    ours = {
        "frechet_inception_distance": "fid",
        "inception_score_mean": "is",
        "inception_score_std": "is sd",
        "kernel_inception_distance_mean": "kid",
        "kernel_inception_distance_std": "kid sd",
        "precision": "precision",
        "recall": "recall",
    }
    return {ours[key]: float(value) for key, value in found.items() if key in ours}


def pytorch_fid(sets: Sets) -> dict[str, float]:
    """Return FID by `calculate_fid_given_paths`."""
    from pytorch_fid.fid_score import calculate_fid_given_paths

    with _pytorch_fid_weights(sets):
        value = calculate_fid_given_paths([str(sets.real), str(sets.fake)], BATCH, "cpu", 2048, num_workers=0)
    return {"fid": float(value)}


def clean_fid(sets: Sets, draws: Pairs) -> dict[str, float]:
    """Return FID and KID by `compute_fid` and `compute_kid` in mode clean, from the same features.

    The TorchScript file that clean-fid downloads holds the published network as `layers`. It is replaced by
    the module of pytorch-fid for the same network, which loads the given weights.
    """
    from cleanfid import fid
    from pytorch_fid.inception import InceptionV3

    with _pytorch_fid_weights(sets):
        network = InceptionV3([3], resize_input=False, normalize_input=False).eval()
    published = mock.Mock()
    published.eval.return_value.layers.forward = lambda images: network(images)[0]
    made: dict[str, Any] = {}
    compute = fid.get_folder_features

    def features(folder: str, *args: Any, **kwargs: Any) -> Any:
        if folder not in made:
            made[folder] = compute(folder, *args, **kwargs)
        return made[folder]

    # clean-fid draws the subset of the second folder first.
    rows = iter([places for pair in draws for places in pair])
    folders = str(sets.fake), str(sets.real)
    options = {"device": torch.device("cpu"), "use_dataparallel": False, "num_workers": 0, "verbose": False}
    with (
        mock.patch("cleanfid.inception_torchscript.check_download_inception"),
        mock.patch("torch.jit.load", return_value=published),
        mock.patch.object(fid, "get_folder_features", features),
        mock.patch("numpy.random.choice", lambda n, m, replace: _checked(next(rows), n, m)),
    ):
        return {
            "fid": float(fid.compute_fid(*folders, mode="clean", batch_size=BATCH, **options)),
            "kid": float(fid.compute_kid(*folders, mode="clean", batch_size=BATCH, **options)),
        }


def torchmetrics(sets: Sets, draws: Pairs, order: Indices) -> dict[str, float]:
    """Return FID, KID and IS of uint8 images, passed in the order of their names.

    The metrics share one network, which runs once per image instead of once per metric. KID and IS accept no
    path of weights, but a module.
    """
    from torchmetrics import image
    from torchmetrics.image.fid import NoTrainInceptionV3

    path = str(sets.weights["inception"])
    network = NoTrainInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"], path)
    made: dict[bytes, tuple[Tensor, ...]] = {}

    class NetworkOutput(nn.Module):
        """One output of the network."""

        num_features = 2048

        def __init__(self, which: int) -> None:
            super().__init__()
            self.which = which

        def forward(self, images: Tensor) -> Tensor:
            key = images.numpy().tobytes()
            if key not in made:
                made[key] = network._torch_fidelity_forward(images)
            return made[key][self.which]

    fid = image.FrechetInceptionDistance(feature_extractor_weights_path=path)
    fid.inception = NetworkOutput(0)
    kid = image.KernelInceptionDistance(NetworkOutput(0), subsets=sets.subsets, subset_size=sets.subset_size)
    score = image.InceptionScore(NetworkOutput(1))
    for folder, real in ((sets.real, True), (sets.fake, False)):
        for images in _batches(folder):
            fid.update(images, real=real)
            kid.update(images, real=real)
            if not real:
                score.update(images)
    rows = [torch.as_tensor(places) for pair in draws for places in pair]
    with mock.patch("torch.randperm", side_effect=rows):
        kid_mean, kid_sd = kid.compute()
    with mock.patch("torch.randperm", return_value=torch.as_tensor(order)):
        is_mean, is_sd = score.compute()
    values = {"fid": fid.compute(), "kid": kid_mean, "kid sd": kid_sd, "is": is_mean, "is sd": is_sd}
    return {name: float(value) for name, value in values.items()}


def order_for_is(n_fake: int, seed: int = SEED) -> Indices:
    """Return the permutation by which a keyed shuffle splits the fakes."""
    return generator(seed, Stream.SPLITS).permutation(n_fake)


@contextlib.contextmanager
def _pytorch_fid_weights(sets: Sets) -> Iterator[None]:
    def local(*_: object, **__: object) -> Any:
        return torch.load(sets.weights["inception"], weights_only=True)

    with mock.patch("pytorch_fid.inception.load_state_dict_from_url", local):
        yield


def _checked(places: Indices, n: int, m: int) -> Indices:
    assert len(places) == m
    assert max(places) < n
    return places


def _batches(folder: Path) -> Iterator[Tensor]:
    """Yield the images of a folder in the order of their names: uint8 [N, 3, H, W]."""
    paths = sorted(folder.iterdir())
    for start in range(0, len(paths), BATCH):
        images = []
        for path in paths[start : start + BATCH]:
            with Image.open(path) as image:
                images.append(np.asarray(image.convert("RGB")))
        yield torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def ours(preset: str, sets: Sets, metrics: Sequence[str], seed: int = SEED) -> tuple[dict[str, float], Pairs]:
    """Return the values of pgmetrics under a preset, with the tools' names, and the subsets that KID drew."""
    drawn: list[tuple[Indices, Indices]] = []
    estimate = kid_module.subset_squared_mmds

    def spy(real: Any, fake: Any, subsets: Pairs, *args: Any, **kwargs: Any) -> Any:
        drawn.extend(subsets)
        return estimate(real, fake, subsets, *args, **kwargs)

    with mock.patch.object(kid_module, "subset_squared_mmds", spy):
        found = pgmetrics.evaluate(
            str(sets.real),
            str(sets.fake),
            [_sized(preset, metric, sets) for metric in metrics],
            preset=preset,
            weights={_network(metrics): sets.weights[_network(metrics)]},
            allow_unverified_weights=True,
            seed=seed,
            device="cpu",
            workers=0,
        )
    rows = [row for row in found.rows if row["subject"] == "fake"]
    values = {row["metric"]: row["value"] for row in rows}
    deviations = {f"{row['metric']} sd": row["stderr"] for row in rows if row["metric"] in ("is", "kid")}
    return values | deviations, drawn


def _network(metrics: Sequence[str]) -> str:
    return "vgg16" if "prdc" in metrics else "inception"


def _sized(preset: str, metric: str, sets: Sets) -> Any:
    """Return a metric of a preset; KID gets the given subsets if the tool has options for them."""
    its = PRESETS[preset].metrics[metric]
    if metric != "kid" or preset == "clean-fid":
        return metric
    return replace(its, subsets=sets.subsets, subset_size=sets.subset_size)  # type: ignore[call-arg]


def compare(preset: str, sets: Sets) -> list[tuple[str, float, float]]:
    """Return (metric, theirs, ours) for each metric of a tool, by its package and by the preset."""
    metrics = [metric for metric in PRESETS[preset].metrics if metric != "prdc"]
    mine, draws = ours(preset, sets, metrics)
    if preset == "torch-fidelity":
        theirs = torch_fidelity(sets)
        if "vgg16" in sets.weights:
            theirs |= torch_fidelity(sets, ["prdc"])
            mine |= ours(preset, sets, ["prdc"])[0]
    elif preset == "pytorch-fid":
        theirs = pytorch_fid(sets)
    elif preset == "clean-fid":
        theirs = clean_fid(sets, draws)
    else:
        theirs = torchmetrics(sets, draws, order_for_is(len(list(sets.fake.iterdir()))))
    return [(metric, theirs[metric], mine[metric]) for metric in theirs]


def write_folder(folder: Path, source: ImageSource, places: Sequence[int], blur: bool = False) -> Path:
    """Write selected images of a source as PNGs, named in order."""
    folder.mkdir()
    for name, place in enumerate(places):
        image = source.batch([place])[0].transpose(1, 2, 0)
        if blur:
            wide = image.astype(np.float32)
            mean = (wide + np.roll(wide, 1, 0) + np.roll(wide, 1, 1)) / 3
            image = (0.8 * mean + 20).astype(np.uint8)
        Image.fromarray(np.ascontiguousarray(image)).save(folder / f"{name:06}.png")
    return folder


def _parse_weights(
    context: click.Context, parameter: click.Parameter, given: Sequence[str]
) -> dict[str, Path]:
    weights = {}
    for text in given:
        network, _, path = text.partition("=")
        if network not in ("inception", "vgg16") or not path:
            raise click.BadParameter(f"{text!r} is not inception=PATH or vgg16=PATH")
        weights[network] = Path(path)
    return weights


@click.command()
@click.option("--data", required=True, metavar="SOURCE", help="Real images; the fakes are others, blurred.")
@click.option("--fake", metavar="SOURCE", help="Fakes, in place of blurred reals.")
@click.option("--num-images", type=click.IntRange(min=20), default=256, show_default=True, help="Per side.")
@click.option("--resolution", type=int)
@click.option("--resize")
@click.option("--weights", multiple=True, metavar="NETWORK=FILE", callback=_parse_weights)
@click.option("--tool", "tools", multiple=True, type=click.Choice(list(PRESETS)), help="All, if left out.")
def main(
    data: str,
    fake: str | None,
    num_images: int,
    resolution: int | None,
    resize: str | None,
    weights: dict[str, Path],
    tools: Sequence[str],
) -> None:
    """Print a table: each tool's numbers by its own package, ours under its preset."""
    packages = {"torchmetrics": "torchmetrics", "clean-fid": "cleanfid", "pytorch-fid": "pytorch_fid"}
    needed = {"clean-fid": ("clean-fid", "pytorch-fid")}
    with tempfile.TemporaryDirectory() as place:
        source = open_source(data, resolution=resolution, resize=resize)
        order = list(sequence(source, SEED))
        other = source if fake is None else open_source(fake, resolution=resolution, resize=resize)
        others = order[num_images:] if fake is None else list(sequence(other, SEED))
        if min(len(order), len(others)) < num_images:
            raise click.UsageError(f"{data} holds {len(source)} images; --num-images {num_images} needs more")
        if "inception" not in weights:
            weights["inception"] = random_weights.write_inception(Path(place) / "inception.pth")
            click.echo("Random Inception weights: the scores mean nothing.\n")
        sets = Sets(
            write_folder(Path(place) / "real", source, order[:num_images]),
            write_folder(Path(place) / "fake", other, others[:num_images], blur=fake is None),
            weights,
            subset_size=min(1000, num_images // 2),
        )
        height, width = source.resolution
        click.echo(f"{data}, {num_images:,} images of {height}x{width} per side, on cpu. {machine()}\n")
        click.echo("| tool | metric | theirs | ours | relative difference |")
        click.echo("|:--|:--|--:|--:|--:|")
        for tool in tools or PRESETS:
            absent = [
                package
                for package in needed.get(tool, (tool,))
                if find_spec(packages.get(package, "torch_fidelity")) is None
            ]
            if absent:
                click.echo(f"| {tool} | not installed: {', '.join(absent)} | | | |")
                continue
            label = f"{tool} {metadata.version(tool)}"
            for metric, theirs, mine in compare(tool, sets):
                off = abs(mine - theirs) / abs(theirs) if theirs else float(mine != theirs)
                click.echo(f"| {label} | {metric} | {theirs:.9g} | {mine:.9g} | {off:.1e} |")


if __name__ == "__main__":
    sys.exit(main())
