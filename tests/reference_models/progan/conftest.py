"""What tests of several folders share: networks of other projects, written to files."""

from __future__ import annotations

import pickle
import sys
from types import ModuleType

import pytest
import torch


@pytest.fixture
def foreign(monkeypatch):
    """A function that gives the class of this module and name, importable as long as the test runs."""

    def make(module, name):
        kind = type(name, (), {"__module__": module})
        parent = ""
        for part in module.split("."):
            parent = f"{parent}.{part}".lstrip(".")
            monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
        setattr(sys.modules[module], name, kind)
        return kind

    return make


@pytest.fixture
def pickled(foreign, tmp_path):
    """A function that writes the states of (G, D, Gs) as the original would, and gives the path."""
    kind = foreign("tfutil", "Network")

    def write(states, name="network.pkl", protocol=4):
        networks = []
        for state in states:
            each = kind()
            each.__dict__.update(state)
            networks.append(each)
        path = tmp_path / name
        path.write_bytes(pickle.dumps(tuple(networks), protocol=protocol))
        return path

    return write


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.safetensors"


@pytest.fixture
def saved(tmp_path):
    def write(content, **options):
        path = tmp_path / "network.pth"
        torch.save(content, path, **options)
        return path

    return write
