"""The command that lists the networks' weights and copies them into a bundle for other machines."""

from __future__ import annotations

import click

from pgmetrics.cli.options import say
from pgmetrics.errors import printable
from pgmetrics.runtime.files import dump_json


@click.command()
@click.argument("networks", metavar="[NETWORK]...", type=click.Choice(["inception", "vgg16"]), nargs=-1)
@click.option(
    "--bundle",
    metavar="DIR",
    help="Put the files there, downloading what is missing; for PGMETRICS_WEIGHTS=DIR elsewhere.",
)
@click.option("--format", "format_", type=click.Choice(["table", "json"]), default="table", show_default=True)
def weights(networks: tuple[str, ...], bundle: str | None, format_: str) -> None:
    """List the weights that metrics need, where they are, and where to get them.

    They are looked for in --weights, in the variables PGMETRICS_WEIGHTS_INCEPTION and
    PGMETRICS_WEIGHTS_VGG16 (a file each) and PGMETRICS_WEIGHTS (a directory), and in torch hub's
    cache; what is nowhere is downloaded there when it is first used.

    Without a network: prepare a directory elsewhere with `pgmetrics weights --bundle DIR`, copy it, and
    set PGMETRICS_WEIGHTS to it.
    """
    from pgmetrics.evaluation.presets import users_of
    from pgmetrics.features.weights import PUBLISHED, make_bundle, survey

    asked = networks or tuple(PUBLISHED)
    if bundle is not None:
        for path in make_bundle(bundle, asked):
            say(printable(str(path)))
        return
    found = [{**survey(network), "used_by": ", ".join(users_of(network))} for network in asked]
    if format_ == "json":
        say(dump_json(found, indent=1))
        return
    for one in found:
        say(f"{one['network']}: {printable(one['state'])}")
        for key in ("used_by", "file", "bytes", "sha256", "urls"):
            value = one[key]
            shown = " ".join(value) if isinstance(value, list) else f"{value:,}" if key == "bytes" else value
            say(f"  {key.replace('_', ' ')}: {printable(shown)}")
