"""Checkpoints come back as they were, describe themselves, and refuse to be anything else."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from pgmetrics.errors import PgmetricsError, SourceError
from reference_models.progan.model.checkpoint import (
    Checkpoint,
    describe,
    inspect,
    load,
    recognizes,
    save,
    stage_checkpoints,
)
from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.layers import initialize
from reference_models.progan.model.networks import Generator

CONFIG = ProGANConfig(resolution=16, fmap_base=32, fmap_max=8, latent_size=8, label_size=2, ema=0.9)
FACTS = Checkpoint(
    config=CONFIG,
    images_shown=12_345,
    resolution=8,
    alpha=0.25,
    data_fingerprint="leaves",
    licence="CC0",
    label_names=("cat", "dog"),
    label_distribution=(0.25, 0.75),
)


@pytest.fixture
def written(tmp_path):
    generator = Generator(CONFIG)
    initialize(generator, "generator", 1)
    path = tmp_path / "c.safetensors"
    save(path, FACTS, generator)
    return path, generator


def test_a_checkpoint_comes_back(written):
    path, generator = written
    facts, loaded = load(path)
    assert facts == inspect(path) == FACTS
    z, y = torch.ones(3, 8), torch.eye(2)[[0, 1, 1]]
    assert torch.equal(
        loaded(z, y, resolution=8, alpha=0.25), generator(z, y, resolution=8, alpha=0.25).detach()
    )
    assert not any(p.requires_grad for p in loaded.parameters())


def test_the_header_says_all_that_sampling_needs(written):
    with safe_open(written[0], "pt") as file:
        header = json.loads(file.metadata()["progan"])
        names = set(file.keys())
    assert header == {
        "format_version": 1,
        "config": CONFIG.to_json(),
        "images_shown": 12_345,
        "resolution": 8,
        "alpha": 0.25,
        "label_names": ["cat", "dog"],
        "label_distribution": [0.25, 0.75],
        "value_range": [-1, 1],
        "rounding": "round(127.5 * x + 127.5), saturated",
        "data_fingerprint": "leaves",
        "licence": "CC0",
    }
    # Blocks that have not begun to train are no part of it.
    assert "block8.conv1.weight" in names
    assert not any("16" in name for name in names)


@pytest.mark.parametrize("keep", [0.999, 0.5])
def test_a_file_that_was_cut_short_says_so(written, keep):
    path, _ = written
    size = path.stat().st_size
    os.truncate(path, int(size * keep))
    assert recognizes(path)
    with pytest.raises(SourceError, match=f"should have {size:,} bytes and has {int(size * keep):,}"):
        load(path)


def test_foreign_files_are_told_apart(tmp_path):
    foreign = {
        "empty": b"",
        "short": b"abc",
        "image": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "zip": b"PK\x03\x04" + bytes(100),
        "list": (5).to_bytes(8, "little") + b"[1,2]",
    }
    for name, content in foreign.items():
        (tmp_path / name).write_bytes(content)
        assert not recognizes(tmp_path / name), name
        with pytest.raises(SourceError, match="not a ProGAN checkpoint"):
            inspect(tmp_path / name)
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors", {"format": "pt"})
    assert not recognizes(tmp_path / "other.safetensors")
    assert not recognizes(tmp_path)
    assert not recognizes(tmp_path / "missing")
    with pytest.raises(SourceError, match="missing cannot be read: No such file"):
        inspect(tmp_path / "missing")


def rewritten(path, change):
    """The same tensors under a changed header."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        header = json.loads(file.metadata()["progan"])
    save_file(tensors, path, {"progan": json.dumps(change(header))})


def without(header, name):
    return {key: value for key, value in header.items() if key != name}


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (lambda h: h | {"format_version": 2}, "format version 2; this version reads 1"),
        (lambda h: without(h, "alpha"), "has no alpha"),
        (lambda h: h | {"alpha": "half"}, "wrong type"),
        (lambda h: h | {"resolution": 12}, "resolution 12 and alpha 0.25 is none"),
        (lambda h: h | {"label_names": []}, "2 classes needs as many label names and frequencies, not 0"),
        # These three passed the check of each number, and sampling ended in an IndexError.
        (lambda h: h | {"label_distribution": [0, 0]}, "sum to 1, not to 0"),
        (lambda h: h | {"label_distribution": [1, 1]}, "sum to 1, not to 2"),
        (lambda h: h | {"label_distribution": [0.25, 0.7]}, r"sum to 1, not to 0\.95"),
        (lambda h: h | {"label_distribution": [-0.25, 1.25]}, "between 0 and 1, and others"),
        (lambda h: h | {"config": h["config"] | {"latent_size": 9}}, "do not fit .* block4.dense.weight"),
        (lambda h: h | {"resolution": 16}, "do not fit .* block16.conv0.bias"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(written, change, fact):
    rewritten(written[0], change)
    with pytest.raises(SourceError, match=fact):
        load(written[0])


def test_an_interrupted_write_leaves_the_old_file(written, monkeypatch):
    path, generator = written
    before = path.read_bytes()

    def full(*args):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PgmetricsError, match="cannot be written: no space"):
        save(path, replace(FACTS, images_shown=99), generator)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_stages_are_represented_by_their_last_checkpoint(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    generator = Generator(CONFIG)
    for images, resolution in ((100, 4), (200, 8), (300, 8), (1000, 16)):
        path = tmp_path / "checkpoints" / f"images{images:010d}-res{resolution:04d}.safetensors"
        save(path, replace(FACTS, images_shown=images, resolution=resolution), generator)
    assert [inspect(path).images_shown for path in stage_checkpoints(tmp_path)] == [100, 300, 1000]


def test_whoever_scores_a_checkpoint_learns_where_it_stands(written):
    path, _ = written
    assert describe(path) == {
        "images_shown": 12_345, "resolution": 8, "alpha": 0.25, "final_resolution": 16,
    }  # fmt: skip
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SourceError, match="cut short"):
        describe(path)


def test_weights_that_are_not_finite_are_refused_when_they_are_read(written):
    # Catches a sampler that leaves it to the pixels: a NaN in a bias that a later ReLU drops never shows.
    path, generator = written
    with torch.no_grad():
        generator.block8.conv0.bias[3] = torch.nan
    save(path, FACTS, generator)
    with pytest.raises(
        SourceError, match=r"its block8\.conv0\.bias .*\(1 of 8, the first at \[3\]\); the train"
    ) as e:
        load(path)
    assert str(e.value).startswith(str(path))
    assert "\n" not in str(e.value)
