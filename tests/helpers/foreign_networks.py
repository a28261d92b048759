"""Networks of other projects for tests: weights by formulas, and what an import gives or refuses."""

import hashlib
from math import prod

import numpy as np
import pytest
import torch

from pgmetrics.errors import SourceError
from reference_models.progan.importers import import_network
from reference_models.progan.model.checkpoint import load


def by_name(name, shape):
    """Numbers that look normal, by a formula of a variable's name."""
    start = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) % 1000
    i = np.arange(prod(shape), dtype=np.float64) + start
    u = 43758.5453 * np.sin(12.9898 * i)
    u2 = 12543.123 * np.sin(78.233 * i + 1)
    u, u2 = u - np.floor(u), u2 - np.floor(u2)
    value = np.sqrt(-2 * np.log(np.maximum(u, 1e-12))) * np.cos(2 * np.pi * u2)
    return value.reshape(shape) * (0.1 if name.endswith("bias") else 1)


def imported(path, out, **options):
    facts, _ = import_network(path, out, **options)
    said, generator = load(out)
    assert facts == said
    return facts, generator


def refuses(path, out, fact, **options):
    with pytest.raises(SourceError, match=fact) as refused:
        import_network(path, out, **options)
    message = str(refused.value)
    assert message.startswith(f"{path} cannot be imported: ")
    assert "\n" not in message
    assert len(message) < len(str(path)) + 500
    assert not out.exists()


def normal(name, *shape):
    return torch.from_numpy(by_name(name, shape).astype(np.float32))


def unit(x):
    return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()


def twice(x):
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)
