"""Where the global generators stand, to see that nobody moved them."""

import random

import numpy as np
import torch


def global_states():
    """Equal if and only if Python's, NumPy's and torch's generators stand where they stood."""
    numpy_state = np.random.get_state()  # noqa: NPY002 - the generator that callers use
    return torch.get_rng_state().tolist(), numpy_state[1].tolist(), numpy_state[2:], random.getstate()
