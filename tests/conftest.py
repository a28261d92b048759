"""What tests of several folders share: random weights, each file written once per run."""

import pytest

from benchmarks import random_weights


@pytest.fixture(scope="session")
def inception_weights(tmp_path_factory):
    """Path of a randomly initialised file that torch-fidelity's Inception loads."""
    return random_weights.write_inception(tmp_path_factory.mktemp("weights") / "inception.pth")


@pytest.fixture(scope="session")
def vgg16_weights(tmp_path_factory):
    """Path of a randomly initialised file that torchvision's VGG16 loads."""
    return random_weights.write_vgg16(tmp_path_factory.mktemp("weights") / "vgg16.pth")
