"""What tests of several kinds of sources share."""

import importlib.metadata
import sys
import types

import pytest

from pgmetrics import sources
from tests.helpers.image_files import encoded, pixels, write


@pytest.fixture
def plugin(monkeypatch):
    """A plug-in `fake:` that recognizes files beginning with FAKE and records what it is asked."""
    asked = []

    def open_fake(path, options):
        asked.append((path, options))
        return sources.synthetic(8, 4, 0)

    module = types.ModuleType("fake_plugin")
    module.recognizes = lambda path: path.read_bytes().startswith(b"FAKE")
    module.open_source = open_fake
    monkeypatch.setitem(sys.modules, "fake_plugin", module)
    point = importlib.metadata.EntryPoint("fake", "fake_plugin", "pgmetrics.sources")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point])
    return asked


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, {f"photos/{i}.png": encoded(image) for i, image in enumerate(pixels(6))})
    return tmp_path
