"""A prepared set, and blocks small enough for several of them."""

from __future__ import annotations

import pytest

from reference_models.progan.data import prepare as prepare_module
from reference_models.progan.data.prepare import prepare
from tests.helpers.prepared_sets import Labeled, N


@pytest.fixture
def small_blocks(monkeypatch):
    """Several blocks and marks for few images."""
    monkeypatch.setattr(prepare_module, "block_length", lambda side: 4)
    monkeypatch.setattr(prepare_module, "SECONDS_BETWEEN_MARKS", 0.0)


@pytest.fixture
def prepared(tmp_path):
    """Directory of a complete set."""
    prepare(Labeled(N), tmp_path / "set")
    return tmp_path / "set"
