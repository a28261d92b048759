"""The model card of a checkpoint, a Markdown page beside it."""

from __future__ import annotations

from pathlib import Path

from pgmetrics.errors import markdown_text, printable
from pgmetrics.runtime.files import dump_json, written_atomically
from reference_models.progan.model.checkpoint import Checkpoint


def model_card(checkpoint: Checkpoint, file_name: str) -> str:
    """Return a Markdown page that describes a checkpoint and its use.

    It depends only on its arguments, so that a resumed run writes the same pages.

    Args:
        checkpoint: the description in the file's header.
        file_name: name of the file.
    """
    c, config = checkpoint, checkpoint.config
    side = c.resolution
    stage = f"{side} × {side}, " + ("faded in" if c.alpha == 1 else f"{c.alpha:.1%} faded in")
    if side < config.resolution:
        stage += f", on the way to {config.resolution} × {config.resolution}"
    facts = {
        "Stage": stage,
        "Real images shown": "unknown"
        if c.images_shown is None
        else f"{c.images_shown:,} of {config.total_images:,}",
        "Weights": "exponential average of the generator, "
        f"{config.ema:g} of it kept in each discriminator step",
        "Output": f"{config.channels} channels, -1 to 1; bytes are round(127.5 x + 127.5), saturated",
        "Trained on": f"images with the fingerprint `{_code(c.data_fingerprint)}`",
        "Licence of the weights": markdown_text(c.licence),
    }
    lines = [f"# ProGAN at {side} × {side}: {file_name}", ""]
    lines += [
        "A progressively grown generator (Karras et al. 2018), as a safetensors file without pickles.",
        "",
    ]
    lines += ["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in facts.items())]
    if c.label_names:
        lines += ["", "## Classes", "", "| class | share of the training images |", "|---|---|"]
        shares = zip(c.label_names, c.label_distribution, strict=True)
        lines += [f"| {markdown_text(name)} | {share:.2%} |" for name, share in shares]
    lines += ["", "## Use", "", "```console"]
    lines += [f"$ progan sample {file_name} --num 64 --out grid.png"]
    lines += [f"$ pgmetrics swd --real IMAGES --fake {file_name}", "```"]
    lines += ["", "## Configuration", "", "```json", dump_json(config.to_json(), indent=2), "```", ""]
    return "\n".join(lines)


def save_model_card(path: Path, checkpoint: Checkpoint) -> None:
    """Write the model card beside the checkpoint at a path, as NAME.md.

    Raises:
        PgmetricsError: the page cannot be written.
    """
    with written_atomically(path.with_suffix(".md")) as aside:
        aside.write_text(model_card(checkpoint, path.name), encoding="utf-8", errors="backslashreplace")


def _code(text: str) -> str:
    """Escape a text for use between backticks in a table cell."""
    return printable(text).replace("`", "'").replace("|", "\\|")
