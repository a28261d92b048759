"""Sources of other packages, registered as entry points."""

import importlib.metadata

import numpy as np
import pytest

from pgmetrics.errors import SourceError
from pgmetrics.sources import open_source
from pgmetrics.sources.arrays import ArraySource
from pgmetrics.sources.plugins import checkpoint
from tests.helpers.image_files import write


def test_plugins_open_their_scheme_and_their_files(here, plugin):
    write(here, {"a.fake": b"FAKE", "with,comma=1.fake": b"FAKE"})
    open_source("fake:a.fake,seed=3,n=10")
    open_source("a.fake")
    open_source("fake:with,comma=1.fake,seed=3")
    assert plugin == [
        ("a.fake", {"seed": "3", "n": "10"}),
        ("a.fake", {}),
        ("with,comma=1.fake", {"seed": "3"}),
    ]


def test_a_plugin_that_cannot_be_loaded_is_named(here, monkeypatch):
    point = importlib.metadata.EntryPoint("fake", "no_such_module", "pgmetrics.sources")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point])
    with pytest.raises(SourceError, match=r"plug-in fake: \(no_such_module\) cannot be loaded"):
        open_source("fake:a")


class Plain:
    """A plug-in that opens its files and cannot say where in a run they stand."""

    @staticmethod
    def recognizes(path):
        return path.suffix == ".plain"

    @staticmethod
    def open_source(path, options):
        return ArraySource(np.zeros((4, 3, 8, 8), np.uint8), name=path)


class Describing(Plain):
    @staticmethod
    def recognizes(path):
        return path.suffix == ".known"

    @staticmethod
    def describe(path):
        return {"images_shown": 7, "resolution": 8, "alpha": 0.5, "final_resolution": 32, "more": "unused"}


def test_a_plug_in_that_describes_its_checkpoints_says_where_they_stand(tmp_path, monkeypatch):
    class Point:
        def __init__(self, plugin):
            self.load = lambda: plugin

    plugins = {"plain": Point(Plain), "known": Point(Describing)}
    monkeypatch.setattr("pgmetrics.sources.plugins.installed_plugins", lambda: plugins)
    assert checkpoint(tmp_path / "a.known")[1:] == (7, 8, 0.5, 32)
    assert checkpoint(tmp_path / "a.known").plugin is Describing
    assert checkpoint(tmp_path / "a.plain") is None  # it can be sampled, but not placed in a run
    assert checkpoint(tmp_path / "a.other") is None


def test_a_plug_in_may_not_know_how_many_images_were_shown(tmp_path, monkeypatch):
    class Unknown(Describing):
        @staticmethod
        def describe(path):
            return Describing.describe(path) | {"images_shown": None}

    point = type("Point", (), {"load": staticmethod(lambda: Unknown)})
    monkeypatch.setattr("pgmetrics.sources.plugins.installed_plugins", lambda: {"known": point})
    assert checkpoint(tmp_path / "a.known").images_shown is None
