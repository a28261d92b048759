"""Trainers of small networks on random images, and their weights."""

from __future__ import annotations

import numpy as np
import torch

from pgmetrics.sources.arrays import ArraySource
from reference_models.progan.data.training_images import TrainingImages
from reference_models.progan.training.trainer import Trainer
from tests.helpers.configs import TO_16 as CONFIG

CPU = torch.device("cpu")


def source(count=40, side=16):
    pixels = np.random.default_rng(5).integers(0, 256, (count, 3, side, side)).astype(np.uint8)
    return ArraySource(pixels)


def trainer(config=CONFIG):
    return Trainer(config, TrainingImages(source(), config), CPU)


def weights(network):
    return {name: p.detach().clone() for name, p in network.named_parameters()}


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


class Labeled(ArraySource):
    """Images of three classes: half, a quarter and a quarter of them."""

    label_names = ("cat", "dog", "owl")

    @property
    def labels(self):
        return np.maximum(np.arange(len(self)) % 4 - 1, 0)
