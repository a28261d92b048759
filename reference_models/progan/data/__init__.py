"""Training images: prepared levels, and minibatches in the order of training."""
