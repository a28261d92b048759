"""The command `progan bench`."""

from __future__ import annotations

import platform
from typing import Any

import click

from pgmetrics.cli.bars import items_bar
from pgmetrics.runtime.files import dump_json
from reference_models.progan.model import presets


@click.command()
@click.option("--preset", required=True, metavar="NAME", help="Configuration; `progan presets` lists them.")
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change an option of the preset; repeatable.",
)
@click.option(
    "--resolution",
    "resolutions",
    multiple=True,
    type=int,
    metavar="R",
    help="Time this stage; repeatable.  [default: all of the preset's]",
)
@click.option(
    "--turns", type=click.IntRange(min=1), default=5, show_default=True, help="Measurements of each."
)
@click.option("--compile", "compiled", is_flag=True, help="Compile the steps with torch.compile.")
@click.option("--micro-batch", type=click.IntRange(min=1), metavar="N", help="At most N images at a time.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda[:N] or mps.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def bench(
    preset: str,
    options: tuple[str, ...],
    resolutions: tuple[int, ...],
    turns: int,
    compiled: bool,
    micro_batch: int | None,
    device: str,
    form: str,
) -> None:
    """Print the images per second of training at each resolution of a preset.

    Whole steps on images of noise are timed, including loading and updates. The limit is the device's speed
    in products of two 4096 x 4096 matrices of the same precision, measured in the same run before and after.
    """
    import torch

    from pgmetrics.runtime.devices import pick_device
    from reference_models.progan.training.speed import StepSpeed, matmul_rate, stage_at, step_speeds

    config = presets.preset(preset).with_options(options)
    where = pick_device(device)
    wanted = resolutions or (config.resolutions if config.growing else (config.resolution,))
    for resolution in wanted:  # refuse an invalid resolution before anything is timed
        stage_at(config, resolution)
    with items_bar("timing") as progress:
        progress("matrices", 0, len(wanted))
        limit = matmul_rate(where, config.precision)
        speeds: list[StepSpeed] = list(
            step_speeds(
                config,
                wanted,
                device=where,
                turns=turns,
                compiled=compiled,
                micro_batch=micro_batch,
                progress=progress,
            )
        )
        progress("matrices", len(wanted), len(wanted))
        limit = max(limit, matmul_rate(where, config.precision))
    rows: list[dict[str, Any]] = [
        {
            "resolution": speed.resolution,
            "minibatch": speed.minibatch,
            "first_seconds": speed.first,
            "seconds": list(speed.seconds),
            "images_per_second": speed.images_per_second,
            "flops_per_second": speed.flops_per_second,
            "of_limit": speed.flops_per_second / limit,
        }
        for speed in speeds
    ]
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else platform.machine()
    machine = f"{where} ({name}), {torch.get_num_threads()} threads, torch {torch.__version__}"
    if form == "json":
        facts = {"preset": preset, "config": config.to_json(), "device": machine, "compiled": compiled}
        click.echo(dump_json(facts | {"limit_flops_per_second": limit, "rows": rows}, indent=2))
        return
    click.echo(f"{preset}, {config.precision}, {'compiled' if compiled else 'eager'}, {machine}")
    click.echo(f"limit: {limit / 1e9:,.0f} GFLOP/s in products of 4096 x 4096 matrices")
    click.echo(
        f"{'side':>5}{'minibatch':>11}{'img/s':>12}{'GFLOP/s':>11}{'of limit':>10}{'first look, s':>15}"
    )
    for row in rows:
        click.echo(
            f"{row['resolution']:>5}{row['minibatch']:>11}{row['images_per_second']:>12,.1f}"
            f"{row['flops_per_second'] / 1e9:>11,.1f}{row['of_limit']:>10.0%}{row['first_seconds']:>15.1f}"
        )
