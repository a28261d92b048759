"""The `progan` command: presets, bench, data, train, inspect, import, sample, video."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from pgmetrics.cli.bars import progress_bar
from pgmetrics.cli.commands import Commands, log_to_stderr
from pgmetrics.errors import check_number, printable
from pgmetrics.runtime.files import dump_json
from reference_models.progan.cli.bench import bench
from reference_models.progan.cli.data import data
from reference_models.progan.cli.import_ import import_command
from reference_models.progan.cli.sample import sample
from reference_models.progan.cli.video import video
from reference_models.progan.model import presets as presets_module

_SEED = click.IntRange(min=0)
_DEVICE = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda[:N] or mps.")


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pgmetrics")
def main() -> None:
    """Train a ProGAN, and sample its checkpoints."""
    log_to_stderr()


@main.command()
@click.option(
    "--data", required=True, metavar="SOURCE", help="Real images, or a directory made by `progan data`."
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Directory of the run: a new one, or that of the same run, which resumes.",
)
@click.option("--preset", required=True, metavar="NAME", help="Configuration; `progan presets` lists them.")
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change an option of the preset, such as loss=lsgan or minibatch=4:16,256:14; repeatable.",
)
@click.option(
    "--kimg", type=click.FloatRange(min=0, min_open=True), help="Train on this many thousand images."
)
@click.option("--total-images", type=click.IntRange(min=1), help="The same, in images.")
@click.option("--seed", type=_SEED, help="Seed of all random numbers.  [default: the preset's]")
@click.option("--conditional", is_flag=True, help="Also learn the classes of the images.")
@click.option(
    "--snapshot-images",
    type=click.IntRange(min=1),
    metavar="N",
    help="Also write a checkpoint every N images.  [default: only at the ends of phases]",
)
@click.option(
    "--state-images",
    type=click.IntRange(min=1),
    metavar="N",
    help="Save a training state every N images.  [default: every five minutes]",
)
@click.option(
    "--keep-states",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    metavar="K",
    help="Keep the last K training states.",
)
@click.option("--tensorboard", is_flag=True, help="Also write TensorBoard events.")
@click.option("--compile", "compiled", is_flag=True, help="Compile the steps with torch.compile.")
@click.option(
    "--micro-batch",
    type=click.IntRange(min=1),
    metavar="N",
    help="Process at most N images of a minibatch at a time, to save device memory.",
)
@click.option("--resize", metavar="POLICY", help="Resize images of other sizes: box, lanczos, …")
@click.option("--crop", is_flag=True, help="Crop images that are not square to their center.")
@click.option("--workers", type=click.IntRange(min=0), help="Decoding processes.  [default: one per core]")
@click.option(
    "--license",
    "--licence",
    "licence",
    default="unknown",
    show_default=True,
    help="License of the weights, stored in checkpoints.",
)
@click.option(
    "--same-images",
    is_flag=True,
    help="Resume a run of an older version, which did not identify its images by content.",
)
@_DEVICE
def train(
    data: str,
    out: Path,
    preset: str,
    options: tuple[str, ...],
    kimg: float | None,
    total_images: int | None,
    seed: int | None,
    conditional: bool,
    snapshot_images: int | None,
    state_images: int | None,
    keep_states: int,
    tensorboard: bool,
    compiled: bool,
    micro_batch: int | None,
    resize: str | None,
    crop: bool,
    workers: int | None,
    licence: str,
    same_images: bool,
    device: str,
) -> None:
    """Grow a ProGAN on the images of --data and print its last checkpoint.

    After any interruption the same command resumes the run. Ctrl-C and SIGTERM save a state first. A larger
    --kimg makes a run longer.

    --kimg and --total-images set the end of training; the schedule of the stages stays the preset's.
    """
    from pgmetrics.runtime.devices import pick_device
    from pgmetrics.sources.base import warn_of_left_out, warn_of_no_classes
    from reference_models.progan.cli.training_bar import TrainingBar
    from reference_models.progan.data.prepared import open_training_source
    from reference_models.progan.data.training_images import fitted
    from reference_models.progan.training.distributed import follows
    from reference_models.progan.training.train import train as run_training

    if kimg is not None and total_images is not None:
        raise click.UsageError("--kimg and --total-images say the same; give one of them")
    if kimg is not None:
        check_number("--kimg", kimg, 0, 10**9, open_low=True)
        total_images = max(round(kimg * 1000), 1)
    config = presets_module.preset(preset).with_options(options)
    source = open_training_source(data, config.resolution, resize=resize)
    if not follows():
        warn_of_left_out([source])
    # Options of the command line take precedence over those from the data.
    config = fitted(config, source, conditional=conditional).with_options(options)
    if not config.label_size and not follows():  # otherwise the refusal says the same
        warn_of_no_classes(source)
    if total_images is not None:
        config = replace(config, total_images=total_images)
    if seed is not None:
        config = replace(config, seed=seed)
    bar = TrainingBar(config)
    try:
        with progress_bar(" img") as decoded, bar as report:
            last = run_training(
                source,
                out,
                config,
                device=str(pick_device(device)),
                workers=workers,
                licence=licence,
                crop=crop,
                snapshot_images=snapshot_images,
                state_images=state_images,
                keep_states=keep_states,
                tensorboard=tensorboard,
                compiled=compiled,
                micro_batch=micro_batch,
                decoded=None if follows() else decoded,
                report=report,
                warn=bar.warn,
                same_images=same_images,
            )
    except KeyboardInterrupt as request:
        # Before training begins there is nothing to save, and Ctrl-C is an ordinary one.
        stopped = printable(str(request))
        if not follows():
            click.echo(f"{stopped}; the same command resumes from there" if stopped else "stopped", err=True)
        raise SystemExit(getattr(request, "exit_code", 130)) from None
    if not follows():
        click.echo(printable(str(last)))


@main.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def inspect(checkpoint: Path, form: str) -> None:
    """Print what CHECKPOINT says about itself.

    Of an imported network nothing is known about its training, so no option of training is printed.
    """
    from reference_models.progan.model.checkpoint import inspect as inspect_checkpoint

    about = inspect_checkpoint(checkpoint)
    facts = about.to_json()
    if about.is_imported:
        facts["config"] = about.config.generator_json()
    if form == "json":
        click.echo(dump_json(facts, indent=2))
        return
    if about.images_shown is None:
        facts["images_shown"] = "unknown"
    config = facts.pop("config")
    for name, value in [*facts.items(), *((f"config.{name}", value) for name, value in config.items())]:
        click.echo(f"{name:25} {printable(_readable(value))}")


@main.command()
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def presets(form: str) -> None:
    """List the presets and their training costs."""
    from reference_models.progan.model.presets import PRESETS

    if form == "json":
        click.echo(dump_json({name: config.to_json() for name, config in PRESETS.items()}, indent=2))
        return
    from reference_models.progan.model.flops import presets_table

    click.echo(presets_table())


for _command in (bench, data, import_command, sample, video):
    main.add_command(_command)


def _readable(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{v} from {k}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(str(v) for v in value) or "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
