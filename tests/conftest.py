"""What tests of several folders share: random weights, each file written once per run."""

import signal

import pytest

from benchmarks import random_weights

pytest_plugins = ["pytester"]

# A shell's background and nohup ignore Ctrl-C, and so would every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def inception_weights(tmp_path_factory):
    """Path of a randomly initialized file that torch-fidelity's Inception loads."""
    return random_weights.write_inception(tmp_path_factory.mktemp("weights") / "inception.pth")


@pytest.fixture(scope="session")
def vgg16_weights(tmp_path_factory):
    """Path of a randomly initialized file that torchvision's VGG16 loads."""
    return random_weights.write_vgg16(tmp_path_factory.mktemp("weights") / "vgg16.pth")


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Directory of a training run that has ended; for all tests, so copy it to change it."""
    from tests.helpers.growing_run import write_run

    return write_run(tmp_path_factory.mktemp("run") / "run")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path_factory):
    """Nothing is remembered between runs of the tests, nor left with whoever runs them."""
    monkeypatch.setenv("PGMETRICS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def _no_download(monkeypatch):
    """No test asks the network for weights, nor finds those of whoever runs it."""

    def refuse(url, *args, **kwargs):
        raise OSError("no network in tests")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    for name in ("PGMETRICS_WEIGHTS", "PGMETRICS_WEIGHTS_INCEPTION", "PGMETRICS_WEIGHTS_VGG16"):
        monkeypatch.delenv(name, raising=False)
