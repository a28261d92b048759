"""A network of a few lines that counts what it is given: features are block averages, logits their sums."""

import torch

from pgmetrics.features.base import FeatureExtractor


class ToyNetwork(FeatureExtractor):
    """48 features, the averages of a 4 x 4 grid per channel, and 10 logits of fixed weights."""

    layers = ("features", "logits")
    length = 16

    def __init__(self, name="inception", version=1, layers=("features", "logits")):
        self.name, self.layers, self.label = name, layers, f"{name} toy{version}"
        self.fingerprint = f"{name} toy, version {version}"
        self.protocol = {"network": name, "version": version}
        self.version = version
        self.images, self.forwards, self.devices = 0, 0, []

    def to(self, device):
        self.devices.append(device)

    def extract(self, pixels, layers):
        self.images += len(pixels)
        return super().extract(pixels, layers)

    def _forward(self, pixels, layers):
        assert len(pixels) == self.length
        self.forwards += 1
        grid = torch.nn.functional.adaptive_avg_pool2d(pixels.float(), 4).flatten(1) / 255 * self.version
        directions = torch.sin(torch.arange(480.0)).reshape(48, 10)
        return {layer: grid if layer == "features" else grid @ directions for layer in layers}


class Broken(ToyNetwork):
    """Gives NaN for images whose first pixel is 0."""

    def _forward(self, pixels, layers):
        made = super()._forward(pixels, layers)
        for rows in made.values():
            rows[pixels[:, 0, 0, 0] == 0] = float("nan")
        return made
