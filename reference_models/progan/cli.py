"""The `progan` command: train, sample, inspect, presets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click

from pgmetrics.errors import PgmetricsError


class _PlainErrors(click.Group):
    """A group whose commands report our own errors as one line, not a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except PgmetricsError as error:
            raise click.ClickException(str(error)) from error


_SEED = click.IntRange(min=0)
_DEVICE = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda[:N] or mps.")


@click.group(cls=_PlainErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pgmetrics")
def main() -> None:
    """Train a ProGAN, and sample its checkpoints."""


@main.command()
@click.option("--data", required=True, metavar="SOURCE", help="Directory, zip, npz … of real images.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory of the run, new.")
@click.option("--preset", required=True, metavar="NAME", help="Configuration; `progan presets` lists them.")
@click.option(
    "--kimg", type=click.FloatRange(min=0, min_open=True), help="Train on this many thousand images."
)
@click.option("--total-images", type=click.IntRange(min=1), help="The same, in images.")
@click.option("--seed", type=_SEED, help="Of everything random.  [default: the preset's]")
@click.option(
    "--snapshot-images",
    type=click.IntRange(min=1),
    metavar="N",
    help="Also write a checkpoint every N images.  [default: at the ends of phases only]",
)
@click.option("--resize", metavar="POLICY", help="box, lanczos …: make images of other sizes fit.")
@click.option("--workers", type=click.IntRange(min=0), help="Decoding processes.  [default: one per core]")
@click.option("--licence", default="unknown", show_default=True, help="Of the weights; kept in checkpoints.")
@_DEVICE
def train(
    data: str,
    out: Path,
    preset: str,
    kimg: float | None,
    total_images: int | None,
    seed: int | None,
    snapshot_images: int | None,
    resize: str | None,
    workers: int | None,
    licence: str,
    device: str,
) -> None:
    """Grow a ProGAN on the images of --data and print its last checkpoint.

    --kimg and --total-images end training there; the schedule of the stages stays the preset's.
    """
    from pgmetrics.devices import pick_device
    from pgmetrics.sources.resolve import open_source
    from reference_models.progan import config as configs
    from reference_models.progan.progress import TrainingBar, decoding_bar
    from reference_models.progan.train import train as run_training

    if kimg is not None and total_images is not None:
        raise click.UsageError("--kimg and --total-images say the same; give one of them")
    config = configs.preset(preset)
    if kimg is not None:
        total_images = max(round(kimg * 1000), 1)
    if total_images is not None:
        config = replace(config, total_images=total_images)
    if seed is not None:
        config = replace(config, seed=seed)
    # A procedural set can be of any resolution; files are what they are, unless told otherwise.
    follows = resize is not None or data.startswith("synthetic:")
    source = open_source(data, resolution=config.resolution if follows else None, resize=resize)
    with decoding_bar() as decoded, TrainingBar(config) as report:
        last = run_training(
            source,
            out,
            config,
            device=str(pick_device(device)),
            workers=workers,
            licence=licence,
            snapshot_images=snapshot_images,
            decoded=decoded,
            report=report,
        )
    click.echo(last)


@main.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--num", "num_images", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--seed", type=_SEED, default=0, show_default=True, help="Of the latents and labels.")
@click.option(
    "--at",
    type=click.Choice(["stage", "final"]),
    default="stage",
    show_default=True,
    help="The checkpoint's own resolution, or its pixels repeated up to the final one.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory, or GRID.png.")
@_DEVICE
def sample(checkpoint: Path, num_images: int, seed: int, at: str, out: Path, device: str) -> None:
    """Write images of CHECKPOINT as files in a directory, or as one grid if --out ends in .png."""
    from pgmetrics.devices import pick_device
    from reference_models.progan.sample import ProGANSource, save_folder, save_grid

    source = ProGANSource(checkpoint, seed=seed, n=num_images, at="final" if at == "final" else "stage")
    source.to(str(pick_device(device)))
    if out.suffix.lower() == ".png":
        save_grid(out, source.batch(range(num_images)))
    else:
        save_folder(out, source, num_images)
    click.echo(out)


@main.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def inspect(checkpoint: Path, form: str) -> None:
    """Print what CHECKPOINT says about itself."""
    from reference_models.progan.checkpoint import inspect as inspect_checkpoint

    facts = inspect_checkpoint(checkpoint).to_json()
    if form == "json":
        click.echo(json.dumps(facts, indent=2))
        return
    config = facts.pop("config")
    for name, value in [*facts.items(), *((f"config.{name}", value) for name, value in config.items())]:
        click.echo(f"{name:25} {_readable(value)}")


@main.command()
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def presets(form: str) -> None:
    """List the configurations by name."""
    from reference_models.progan.config import PRESETS

    if form == "json":
        click.echo(json.dumps({name: config.to_json() for name, config in PRESETS.items()}, indent=2))
        return
    click.echo(f"{'name':18} {'resolution':>10} {'channels':>9} {'latent':>6} {'thousand images':>15}")
    for name, config in PRESETS.items():
        widths = f"{config.feature_maps(4)}-{config.feature_maps(config.resolution)}"
        thousands = f"{config.total_images / 1000:,.6g}"
        click.echo(f"{name:18} {config.resolution:>10} {widths:>9} {config.latent_size:>6} {thousands:>15}")


def _readable(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{v} from {k}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(str(v) for v in value) or "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


if __name__ == "__main__":
    main()
