"""The networks, their configuration, losses and checkpoints."""
