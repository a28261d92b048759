"""Configurations of trainings that take moments."""

from reference_models.progan.model.config import ProGANConfig

# 4 until 40, fading to 8 until 64, 8 until 104, fading to 16 until 128, 16 until 192; the schedule is
# updated every 8 images.
TO_16 = ProGANConfig(
    resolution=16,
    fmap_base=32,
    fmap_max=8,
    latent_size=8,
    minibatch={4: 4},
    stabilise_images=32,
    fade_images=32,
    total_images=192,
    minibatch_repeats=2,
    ema=0.9,
)
# 4 until 16, fading to 8 until 32, 8 until 48; six updates.
TO_8 = ProGANConfig(
    resolution=8,
    fmap_base=16,
    fmap_max=4,
    latent_size=4,
    minibatch={4: 4},
    stabilise_images=16,
    fade_images=16,
    total_images=48,
    minibatch_repeats=2,
    ema=0.9,
)
WITH_48_LATENTS = ProGANConfig(resolution=32, fmap_base=256, fmap_max=48, latent_size=48)
