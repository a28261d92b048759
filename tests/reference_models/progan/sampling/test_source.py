"""Samples depend on (checkpoint, seed, index) and on nothing else."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from pgmetrics.errors import OptionError, SourceError
from pgmetrics.runtime import images as byte_images
from pgmetrics.sources import resolve
from reference_models.progan.model.checkpoint import load
from reference_models.progan.sampling.latents import latents
from reference_models.progan.sampling.source import ProGANSource, open_source
from tests.helpers.samplers import sample_images


def test_an_image_is_the_same_bytes_in_any_batch(path):
    # Convolutions and matrix products round differently by batch shape and by place in the batch.
    source = ProGANSource(path, seed=3)
    whole = source.batch(range(150))
    assert whole.dtype == np.uint8
    assert whole.shape == (150, 3, 16, 16)
    for indices in ([149], [7, 3, 71, 7, 135], list(range(60, 70)), list(range(149, -1, -7))):
        assert (ProGANSource(path, seed=3).batch(indices) == whole[indices]).all()
    assert (ProGANSource(path, seed=4).batch(range(4)) != whole[:4]).any()


def test_an_image_is_the_same_float_in_any_batch(path, monkeypatch):
    # Bytes hide small differences most of the time; what is rounded must not differ at all.
    seen = []
    original = byte_images.to_bytes
    monkeypatch.setattr(
        byte_images, "to_bytes", lambda x, *rest: (seen.append(x.clone()), original(x, *rest))[1]
    )
    ProGANSource(path).batch(range(64))
    ProGANSource(path).batch([37])
    ProGANSource(path).batch([64 + 36, 37])
    assert torch.equal(seen[0][37], seen[1][37])
    assert torch.equal(seen[0][37], seen[2][37])


def test_samples_are_rounded_and_saturated(path):
    # Truncating darkens by half a level; rescaling a grid's values changes them all.
    _, generator = load(path)
    z = torch.from_numpy(latents(0, range(64), 48))
    expected = (generator(z, resolution=16, alpha=0.5) * 127.5 + 127.5).round().clamp(0, 255)
    source = ProGANSource(path)
    assert float(expected.max()) == 255
    assert (source.batch(range(64)) == expected.to(torch.uint8).numpy()).all()


def test_at_final_repeats_pixels(path):
    stage, final = ProGANSource(path), ProGANSource(path, at="final")
    assert stage.resolution == (16, 16)
    assert final.resolution == (32, 32)
    small, large = stage.batch(range(5)), final.batch(range(5))
    assert (large == small.repeat(2, axis=2).repeat(2, axis=3)).all()
    assert stage.fingerprint != final.fingerprint


def test_fingerprint_is_of_the_content(path, make, tmp_path):
    copy = tmp_path / "other name.bin"
    copy.write_bytes(path.read_bytes())
    assert ProGANSource(copy).fingerprint == ProGANSource(path).fingerprint
    assert ProGANSource(path, seed=1).fingerprint != ProGANSource(path).fingerprint
    assert ProGANSource(make(resolution=32)).fingerprint != ProGANSource(path).fingerprint
    assert not ProGANSource(path).shuffled


def test_grey_networks_give_rgb(make):
    out = ProGANSource(make(channels=1)).batch([0, 1])
    assert out.shape == (2, 3, 16, 16)
    assert (out[:, :1] == out).all()


def test_conditional_networks_draw_their_labels(make):
    source = ProGANSource(make(label_size=3))
    whole = source.batch(range(70))
    assert (source.batch([69, 2]) == whole[[69, 2]]).all()


def test_a_class_is_taken_by_its_name(make):
    path = make(label_size=3, mbstd_group=2)  # a file of its own
    source = ProGANSource(path, label="class 1")
    _, generator = load(path)
    z = torch.from_numpy(latents(0, range(64), 48))
    one = torch.eye(3)[[1] * 64]
    expected = generator(z, one, resolution=16, alpha=0.5).mul(127.5).add(127.5).round().clamp(0, 255)
    whole = source.batch(range(70))
    assert (whole[:64] == expected.to(torch.uint8).numpy()).all()
    assert (source.batch([69, 2]) == whole[[69, 2]]).all()
    assert (ProGANSource(path, label="class 2").batch([0]) != whole[:1]).any()


def test_a_truncated_image_is_the_same_bytes_in_any_batch(path):
    source = ProGANSource(path, truncation=0.5)
    whole = source.batch(range(70))
    assert (ProGANSource(path, truncation=0.5).batch([69, 2]) == whole[[69, 2]]).all()
    assert (whole[:2] != ProGANSource(path).batch([0, 1])).any()
    # Nothing is further out than this, so nothing changes.
    assert (ProGANSource(path, truncation=9.0).batch([0, 1]) == ProGANSource(path).batch([0, 1])).all()


def test_fingerprint_and_name_tell_classes_and_truncations_apart(make):
    path = make(label_size=3)
    chosen = [
        {}, {"label": "class 0"}, {"label": "class 1"}, {"truncation": 0.5}, {"truncation": 0.25},
        {"label": "class 1", "truncation": 0.5}, {"at": "final"}, {"seed": 1},
    ]  # fmt: skip
    sources = [ProGANSource(path, **options) for options in chosen]
    assert len({source.fingerprint for source in sources}) == len(chosen)
    assert len({source.name for source in sources}) == len(chosen)
    # How many images it claims to have makes no other image.
    assert ProGANSource(path, n=9).identity(range(9)) == sources[0].identity(range(9))
    # A name opens the source again.
    for source in sources:
        assert resolve.open_source(source.name).fingerprint == source.fingerprint


def test_options_are_read(path, make):
    source = open_source(str(path), {"seed": "3", "n": "500", "at": "final"})
    assert len(source) == 500
    assert (source.batch([2]) == ProGANSource(path, seed=3, at="final").batch([2])).all()
    assert len(open_source(str(path), {})) == 1_000_000
    with pytest.raises(IndexError):
        source.batch([500])
    labeled = make(label_size=3)
    source = open_source(str(labeled), {"label": "class 2", "truncation": ".5"})
    expected = ProGANSource(labeled, label="class 2", truncation=0.5)
    assert (source.batch([3]) == expected.batch([3])).all()
    with pytest.raises(OptionError, match=r"no class 'dog'; it has class 0, class 1, class 2$"):
        open_source(str(labeled), {"label": "dog"})
    with pytest.raises(OptionError, match=r"no class '3'; it has (class [0-9]+, ){9}class 9 and 20 more$"):
        ProGANSource(make(label_size=30), label="3")
    with pytest.raises(OptionError, match=r"no class 'clas 17'; it has class 17, [^,]*, [^,]* and 27 more$"):
        ProGANSource(make(label_size=30), label="clas 17")


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ({"sed": "3"}, "no option sed; it knows seed, n, at, label and truncation"),
        ({"seed": "x"}, "seed is a whole number, not 'x'"),
        ({"n": "-1"}, "n is a whole number, not '-1'"),
        ({"n": "0"}, "n=0"),
        ({"at": "end"}, "at=stage or at=final, not at=end"),
        ({"label": "cat"}, "is unconditional; it makes no images of a class 'cat'"),
        ({"truncation": "much"}, "a number for truncation, not 'much'"),
        ({"truncation": "0"}, "truncation from 0.001 to 100, not 0.0"),
        ({"truncation": "1e300"}, "truncation from 0.001 to 100, not 1e"),
        ({"truncation": "nan"}, "truncation from 0.001 to 100, not nan"),
    ],
)
def test_wrong_options_are_refused(path, options, fact):
    with pytest.raises((SourceError, OptionError), match=fact):
        open_source(str(path), options)


def test_recognizing_does_not_import_torch(path):
    code = (
        "import sys; from pathlib import Path; from reference_models.progan.sampling import source; "
        f"assert source.recognizes(Path({str(path)!r})); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_global_random_numbers_are_left_alone(path):
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    sample_images(path, 3)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
