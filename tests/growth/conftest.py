"""What all tests of growth work on."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def run(finished, tmp_path):
    """A run's directory of one's own."""
    return Path(shutil.copytree(finished, tmp_path / "run"))
