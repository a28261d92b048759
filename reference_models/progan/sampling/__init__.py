"""Samples of a checkpoint: latents, images, files and videos."""
