"""The commands `progan video interpolate` and `progan video grow`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from pgmetrics.cli.bars import progress_bar
from pgmetrics.cli.commands import Commands
from pgmetrics.errors import check_number, printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from reference_models.progan.sampling.video import Video

_Command = TypeVar("_Command", bound=Callable[..., None])


def _common(command: _Command) -> _Command:
    options = (
        click.option("--num", "num_images", type=click.IntRange(1, 1024), default=1, show_default=True,
                     help="Images per frame."),
        click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True,
                     help="Seed of the latents and labels."),
        click.option("--label", metavar="NAME",
                     help="Make images of this class.  [default: classes as frequent as in training]"),
        click.option("--fps", type=click.IntRange(1, 120), default=30, show_default=True,
                     help="Frames per second."),
        click.option("--scale", type=click.IntRange(1, 256), metavar="N",
                     help="Repeat every pixel N times.  [default: until frames have 256 pixels]"),
        click.option("--out", required=True, type=click.Path(path_type=Path),
                     help="VIDEO.mp4, VIDEO.gif or VIDEO.webp."),
        click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda[:N] or mps."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@click.group(cls=Commands)
def video() -> None:
    """Make a video of latent interpolation, or of a growing network."""


@video.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option(
    "--seconds",
    type=click.FloatRange(0, 3600, min_open=True),
    default=10.0,
    show_default=True,
    help="Length of the video; it then repeats without a jump.",
)
@click.option(
    "--smoothing",
    type=click.FloatRange(0, 900),
    metavar="SECONDS",
    help="Standard deviation of the Gaussian over time: larger is slower.  [default: 1, or a tenth of less "
    "than 10 seconds]",
)
@_common
def interpolate(
    checkpoint: Path,
    seconds: float,
    smoothing: float | None,
    num_images: int,
    seed: int,
    label: str | None,
    fps: int,
    scale: int | None,
    out: Path,
    device: str,
) -> None:
    """Interpolate the latents of CHECKPOINT, as in the paper's videos (which last 60 seconds)."""
    from pgmetrics.runtime.devices import pick_device
    from reference_models.progan.sampling.sampler import Sampler
    from reference_models.progan.sampling.video import interpolation

    # click accepts NaN in any range.
    check_number("--seconds", seconds, 0, 3600, open_low=True)
    if smoothing is None:
        smoothing = min(1.0, seconds / 10)
    sampler = Sampler(checkpoint)
    sampler.to(str(pick_device(device)))
    made = interpolation(
        sampler,
        seed=seed,
        num_images=num_images,
        num_frames=max(round(seconds * fps), 1),
        sigma=smoothing * fps,
        label=label,
    )
    _save(out, made, fps, scale)


@video.command()
@click.argument(
    "checkpoints", nargs=-1, required=True, metavar="RUN|CHECKPOINT...", type=click.Path(path_type=Path)
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, 60, min_open=True),
    default=1.0,
    show_default=True,
    help="Seconds per checkpoint.",
)
@click.option(
    "--truncation",
    type=click.FloatRange(0.001, 100),
    metavar="PSI",
    help="Redraw latent values beyond ±PSI from a truncated normal distribution.  [default: none]",
)
@_common
def grow(
    checkpoints: tuple[Path, ...],
    seconds: float,
    truncation: float | None,
    num_images: int,
    seed: int,
    label: str | None,
    fps: int,
    scale: int | None,
    out: Path,
    device: str,
) -> None:
    """Show the same latents in one checkpoint after the other, as `progan sample` draws them.

    A directory of `progan train` stands for its checkpoints in the order of training.
    """
    from pgmetrics.runtime.devices import pick_device
    from reference_models.progan.sampling.source import ProGANSource
    from reference_models.progan.sampling.video import growth

    check_number("--seconds", seconds, 0, 60, open_low=True)
    sources = [
        ProGANSource(path, seed, num_images, label=label, truncation=truncation)
        for given in checkpoints
        for path in _expanded(given)
    ]
    for source in sources:
        source.to(str(pick_device(device)))
    _save(out, growth(sources, num_images, max(round(seconds * fps), 1)), fps, scale)


def _expanded(path: Path) -> list[Path]:
    from reference_models.progan.model.checkpoint import checkpoints

    if not path.is_dir():
        return [path]
    paths = checkpoints(path)
    if not paths:
        raise click.UsageError(f"{path} has no checkpoints; a directory of `progan train` has them")
    return paths


def _save(out: Path, made: Video, fps: int, scale: int | None) -> None:
    from pgmetrics.runtime.files import check_writable
    from reference_models.progan.sampling.video import save_video

    check_writable(out)
    with progress_bar("frame") as progress:

        def shown() -> Iterator[NDArray[np.uint8]]:
            for number, frame in enumerate(made.images, start=1):
                yield frame
                progress("frames", number, made.num_frames)

        save_video(out, replace(made, images=shown()), fps, scale or made.comfortable_scale)
    click.echo(printable(str(out)))
