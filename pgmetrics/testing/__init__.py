"""The pytest plugin: the fixture `metric_regression`, its option, and markers that skip with a reason.

pytest imports this module at every start wherever pgmetrics is installed. So it imports only pytest and the
standard library until a test needs more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pgmetrics.testing.regression import MetricRegression

REGEN = "--metrics-regen"
BASELINES = "baselines"

_MARKERS = (
    "needs_weights(network, ...): skip where the weights of a network such as inception are not here",
    "needs_data(path, ..., env=NAME): skip where a path, or the one that a variable names, does not exist",
    "needs_gpu: skip where torch finds no GPU",
)
_RECORDED = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that records baselines."""
    group = parser.getgroup("pgmetrics")
    group.addoption(
        REGEN, action="store_true", help="Record the baselines of metric_regression instead of checking them."
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, so that --strict-markers accepts them."""
    config.stash[_RECORDED] = []
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test if the data, weights or GPU that it needs are missing."""
    for reason in _lacking(item):
        pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """List the recorded baselines, for the user to review and commit."""
    if recorded := config.stash[_RECORDED]:
        terminalreporter.section("recorded baselines")
        for path in recorded:
            terminalreporter.line(path)


@pytest.fixture
def metric_regression(request: pytest.FixtureRequest) -> MetricRegression:
    """Check scores against a recorded baseline, within noise; see `MetricRegression.check`."""
    from pgmetrics.testing.regression import MetricRegression

    node, config = request.node, request.config
    return MetricRegression(
        directory=node.path.parent / BASELINES / node.path.stem,
        test=node.nodeid,
        record=config.getoption(REGEN),
        recorded=config.stash[_RECORDED],
    )


def _lacking(item: pytest.Item) -> Iterator[str]:
    """Yield a reason for each requirement of a test that this machine does not meet."""
    for marker in item.iter_markers("needs_data"):
        if not marker.args and "env" not in marker.kwargs:
            raise pytest.UsageError(f"{item.nodeid}: needs_data takes a path, or env=NAME")
        for path in marker.args:
            if not (item.config.rootpath / path).exists():
                yield f"needs the data at {path}, which is not there"
        if variable := marker.kwargs.get("env"):
            place = os.environ.get(variable)
            if not place:
                yield f"needs data: set {variable} to where it is"
            elif not os.path.exists(place):
                yield f"needs data: {variable} is {place}, which does not exist"
    for marker in item.iter_markers("needs_weights"):
        if not marker.args:
            raise pytest.UsageError(f"{item.nodeid}: needs_weights takes the name of a network")
        for network in marker.args:
            if not _has_weights(network):
                yield f"needs the weights of {network}, which are not here: see pgmetrics weights {network}"
    if item.get_closest_marker("needs_gpu") and not _has_gpu():
        yield "needs a GPU, and torch finds none"


def _has_weights(network: str) -> bool:
    from pgmetrics.errors import WeightsError
    from pgmetrics.features.weights import locate

    try:
        return locate(network) is not None
    except WeightsError:
        return False


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available() or torch.backends.mps.is_available()
