"""What tests of several commands share: sets of images, and a network of one's own."""

import pytest
import torch
from PIL import Image

from tests.helpers.commands import pgmetrics
from tests.helpers.counting import Counting


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PGMETRICS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Three directories of 24 images each."""
    made = []
    for seed in (1, 2, 3):
        folder = tmp_path_factory.mktemp(f"set{seed}")
        for index, image in enumerate(Counting(24, seed=seed).pixels.transpose(0, 2, 3, 1)):
            Image.fromarray(image).save(folder / f"{index:02d}.png")
        made.append(str(folder))
    return made


@pytest.fixture(scope="session")
def network(tmp_path_factory):
    """An exported network: averages over a 4 x 4 grid as features, 7 sums of them as logits."""

    class Averages(torch.nn.Module):
        def forward(self, images):
            features = torch.nn.functional.adaptive_avg_pool2d(images, 4).flatten(1)
            return features, features @ torch.sin(torch.arange(336.0)).reshape(48, 7)

    path = tmp_path_factory.mktemp("network") / "net.pt2"
    torch.export.save(torch.export.export(Averages(), (torch.zeros(8, 3, 32, 32),)), path)
    return str(path)


@pytest.fixture
def run(network):
    def with_custom_network(*arguments):
        own = ["--features", network, "--features-resize", "none", "--features-range", "0,1"]
        return pgmetrics(*arguments, "--workers", 0, *own)

    return with_custom_network


@pytest.fixture
def run_inception(inception_weights):
    def with_inception(*arguments):
        return pgmetrics(*arguments, "--weights", inception_weights, "--allow-unverified-weights")

    return with_inception
