"""Named configurations: the runs of the paper and of the original code, and small runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pgmetrics.errors import OptionError
from reference_models.progan.model.config import ProGANConfig

_RUNS: Mapping[str, ProGANConfig] = {
    # The paper's networks as trained by its first released configuration: plain convolutions, and the
    # standard deviation over the whole minibatch, which is at most 16.
    "celebahq-1024-v1": ProGANConfig(
        mbstd_group=16,
        stabilise_images=800_000,
        fade_images=800_000,
        total_images=19_000_000,
        minibatch={4: 16, 256: 14, 512: 6, 1024: 3},
        mirror=True,
    ),
    # The later, faster configuration for one GPU: fused convolutions, large early minibatches.
    "celebahq-1024-v2": ProGANConfig(
        fused_scale=True,
        total_images=12_000_000,
        minibatch={4: 128, 32: 64, 64: 32, 128: 16, 256: 8, 512: 4},
        learning_rate={4: 0.001, 1024: 0.0015},
        mirror=True,
    ),
    # Without mirroring, as the full bedroom and dog sets were trained; the other categories, of
    # 100,000 images each, had it on.
    "lsun-256": ProGANConfig(
        resolution=256,
        mbstd_group=16,
        stabilise_images=800_000,
        fade_images=800_000,
        total_images=20_000_000,
    ),
    # The run with an inception score of 8.80: both networks step at once, and a penalty target of
    # 750 lets the critic be steep.
    "cifar10-32": ProGANConfig(
        resolution=32,
        latent_size=128,
        fmap_base=4096,
        fmap_max=128,
        mbstd_group=16,
        stabilise_images=400_000,
        fade_images=400_000,
        total_images=20_000_000,
        gp_gamma=750.0,
        simultaneous=True,
    ),
    # The following presets are for a CPU: fused convolutions, which cost a third less at 32 x 32, few
    # channels, and phases of hundreds of steps instead of tens of thousands. An average with 0.999 has a
    # half-life of 700 steps, a whole phase, so these presets use a faster decay.
    #
    # Three minutes on two cores.
    "tiny-32": ProGANConfig(
        resolution=32,
        latent_size=32,
        fmap_base=512,
        fmap_max=32,
        fused_scale=True,
        stabilise_images=11_000,
        fade_images=11_000,
        total_images=77_000,
        learning_rate={4: 0.003},
        ema=0.99,
    ),
    # About ten minutes on two cores.
    "small-32": ProGANConfig(
        resolution=32,
        latent_size=64,
        fmap_base=1024,
        fmap_max=64,
        fused_scale=True,
        stabilise_images=15_000,
        fade_images=15_000,
        total_images=105_000,
        learning_rate={4: 0.002},
        ema=0.995,
    ),
    # About six minutes on two cores.
    "tiny-64": ProGANConfig(
        resolution=64,
        latent_size=32,
        fmap_base=512,
        fmap_max=32,
        fused_scale=True,
        stabilise_images=8_000,
        fade_images=8_000,
        total_images=72_000,
        learning_rate={4: 0.003},
        ema=0.99,
    ),
}


def _table1() -> dict[str, ProGANConfig]:
    """Return the paper's ablation at 128 x 128; each row changes the row before.

    They are for CelebA; LSUN bedrooms were not mirrored. The original averages per generator step, ours per
    discriminator step: the decay is 0.999 per 16 images in both.
    """
    b = ProGANConfig(
        resolution=128,
        fmap_base=2048,
        latent_size=128,
        normalise_latents=False,
        equalized=False,
        pixel_norm=False,
        generator_norm="batch",
        discriminator_norm="layer",
        activation="relu",
        output="tanh",
        minibatch_statistics="none",
        stabilise_images=800_000,
        fade_images=800_000,
        total_images=10_000_000,
        minibatch={4: 64},
        learning_rate={4: 0.0001},
        minibatch_repeats=1,
        d_repeats=5,
        adam_beta2=0.9,
        drift=0.0,
        ema=0.999**4,
        mirror=True,
    )
    a = replace(b, growing=False)
    c = replace(b, minibatch={4: 16}, ema=0.999)
    d = replace(
        c,
        latent_size=512,
        normalise_latents=True,
        generator_norm="none",
        discriminator_norm="none",
        activation="leaky",
        output="linear",
        d_repeats=1,
        adam_beta2=0.99,
        drift=0.001,
    )
    e_star = replace(d, minibatch_statistics="discrimination")
    e = replace(d, minibatch_statistics="stddev", mbstd_group=16)
    f = replace(e, equalized=True, learning_rate={4: 0.001})
    g = replace(f, pixel_norm=True)
    # "Converged": wider networks, trained for longer. No source says how long.
    h = replace(g, fmap_base=8192, total_images=20_000_000)
    rows = {"a": a, "b": b, "c": c, "d": d, "e-star": e_star, "e": e, "f": f, "g": g, "h": h}
    return {f"table1-{name}": config for name, config in rows.items()}


PRESETS: Mapping[str, ProGANConfig] = {
    **_RUNS,
    # `make demo`: phases of a third, so that training ends in three minutes on one core.
    "demo-32": replace(_RUNS["tiny-32"], stabilise_images=4_000, fade_images=4_000, total_images=28_000),
    # The other loss that the paper describes, with its noise.
    "tiny-32-lsgan": replace(_RUNS["tiny-32"], loss="lsgan", noise_strength=0.2),
    # The same number of images, all at the final resolution, for comparison with growing.
    **{f"{name}-fixed": replace(_RUNS[name], growing=False) for name in ("tiny-32", "small-32", "tiny-64")},
    **_table1(),
}


def preset(name: str) -> ProGANConfig:
    """Return the configuration of a preset.

    Raises:
        OptionError: the name is unknown; the message lists the presets.
    """
    if name not in PRESETS:
        raise OptionError(f"unknown preset {name!r}; choose from {', '.join(PRESETS)}")
    return PRESETS[name]
