"""The training run: steps, state, resuming, logs and processes."""
