"""A training run of a few untrained networks, written in an instant: what scoring a run is tested on."""

from pathlib import Path

import torch

from reference_models.progan.model.checkpoint import Checkpoint, save
from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.layers import initialize
from reference_models.progan.model.networks import Generator

CONFIG = ProGANConfig(resolution=32, latent_size=8, fmap_base=64, fmap_max=8)
# Where in the run each checkpoint stands: images shown, resolution, alpha. Eight, through 4 → 32.
MOMENTS = (
    (100, 4, 1.0), (200, 8, 0.5), (300, 8, 1.0), (400, 16, 0.25),
    (500, 16, 1.0), (600, 32, 0.5), (700, 32, 1.0), (800, 32, 1.0),
)  # fmt: skip
LABELS = [
    "0000000100-4x4", "0000000200-8x8-a0.50", "0000000300-8x8", "0000000400-16x16-a0.25",
    "0000000500-16x16", "0000000600-32x32-a0.50", "0000000700-32x32", "0000000800-32x32",
]  # fmt: skip


def write_checkpoint(
    run: Path,
    images_shown: int,
    resolution: int = 32,
    alpha: float = 1.0,
    config: ProGANConfig = CONFIG,
    weights: int | None = None,
) -> Path:
    """A checkpoint named as the trainer does; `weights`, else `images_shown`, seeds its weights."""
    generator = Generator(config)
    initialize(generator, "generator", images_shown if weights is None else weights)
    # Initial weights make grey images; brighter ones differ in more than rounding.
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if name.startswith("to_rgb"):
                parameter.mul_(3.0)
    facts = Checkpoint(
        config=config, images_shown=images_shown, resolution=resolution, alpha=alpha,
        data_fingerprint="none", licence="CC0",
    )  # fmt: skip
    path = run / "checkpoints" / f"images{images_shown:010d}-res{resolution:04d}.safetensors"
    if not images_shown:
        path = run / "untrained.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save(path, facts, generator)
    return path


def write_run(run: Path, moments=MOMENTS, untrained: bool = True) -> Path:
    """A whole run, as if it had been trained."""
    for moment in moments:
        write_checkpoint(run, *moment)
    if untrained:
        write_checkpoint(run, 0)
    (run / "finished.json").write_text("{}")
    return run
