"""Training images: which, how small, how mirrored, how faded."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pgmetrics import sources
from pgmetrics.errors import SampleError, SourceError
from reference_models.progan.data.prepare import prepare as prepare_levels
from reference_models.progan.data.prepared import PreparedSource
from reference_models.progan.data.training_images import IndexStream, TrainingImages, fitted, prepare
from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.schedule import Stage, stage
from tests.helpers.image_files import encoded, pixels, write
from tests.helpers.prepared_sets import Noise

CPU = torch.device("cpu")


CONFIG = ProGANConfig(
    resolution=16,
    fmap_base=32,
    fmap_max=8,
    latent_size=8,
    minibatch={4: 4},
    stabilise_images=100,
    fade_images=100,
    total_images=500,
)


def at(resolution: int, alpha: float = 1.0, minibatch: int = 4) -> Stage:
    lod = (CONFIG.resolution // resolution).bit_length() - 1 + 1 - alpha
    return Stage(resolution, alpha, lod, minibatch, 0.001)


def test_every_image_once_in_an_epoch():
    stream = IndexStream(7, seed=1)
    shown = np.concatenate([stream.take(n, 3) for n in range(0, 42, 3)])
    epochs = shown.reshape(6, 7)
    assert (np.sort(epochs, axis=1) == np.arange(7)).all()
    # and in another order each time
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 6


def test_the_order_can_be_entered_anywhere():
    # A sampler with a history would lose its place on resuming.
    whole = IndexStream(7, seed=1).take(0, 40)
    stream = IndexStream(7, seed=1)
    assert (stream.take(30, 10) == whole[30:]).all()
    assert (stream.take(5, 20) == whole[5:25]).all()
    assert (IndexStream(7, seed=2).take(0, 40) != whole).any()


def test_reals_are_box_means_with_a_level_s_rounding():
    # Bilinear or nearest shrinking, both seen in ports, give other pixels.
    pixels = torch.from_numpy(np.random.default_rng(3).integers(0, 256, (4, 3, 16, 16)).astype(np.uint8))
    level = F.avg_pool2d(pixels.double(), 4).round()
    assert torch.allclose(prepare(pixels, None, at(4)).double(), level / 127.5 - 1, atol=1e-6)
    out = prepare(
        torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1).expand(2, 3, 16, 16), None, at(16)
    )
    assert out.dtype == torch.float32
    assert out[:, 0, 0, 0].tolist() == [-1, 1]


def test_reals_are_faded_in_float():
    # Truncated to bytes, as one original did, the mean would fall by half a level.
    pixels = torch.from_numpy(np.random.default_rng(3).integers(0, 256, (4, 3, 16, 16)).astype(np.uint8))
    full, coarse = prepare(pixels, None, at(16)), F.avg_pool2d(prepare(pixels, None, at(16)), 2)
    coarse = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(prepare(pixels, None, at(16, alpha=0.0)), coarse)
    faded = prepare(pixels, None, at(16, alpha=0.25))
    assert torch.allclose(faded, 0.25 * full + 0.75 * coarse, atol=1e-6)
    assert float((faded - full).mean().abs()) < 1e-6


def test_half_of_the_images_are_mirrored_and_each_for_itself():
    config = ProGANConfig.from_json(CONFIG.to_json() | {"mirror": True, "minibatch": {"4": 400}})
    source = Noise(400)
    images = TrainingImages(source, config)
    out = images.minibatch(0, at(16, minibatch=400), CPU)
    plain = TrainingImages(source, CONFIG).minibatch(0, at(16, minibatch=400), CPU)
    same = (out == plain).all(dim=(1, 2, 3))
    flipped = (out == plain.flip(3)).all(dim=(1, 2, 3))
    assert bool((same ^ flipped).all())
    assert 150 < int(flipped.sum()) < 250
    # by place in the run, not by minibatch
    assert torch.equal(images.minibatch(100, at(16), CPU), out[100:104])


@pytest.mark.parametrize("max_bytes", [0, 1 << 30])
def test_minibatches_are_the_same_from_memory_and_from_the_source(max_bytes):
    source = Noise()
    images = TrainingImages(source, CONFIG, max_bytes=max_bytes)
    shown = [images.minibatch(n, at(16), CPU)[:, 0, 0, 0] for n in range(0, 40, 4)]
    numbers = ((torch.cat(shown) + 1) * 127.5).round().int().tolist()
    assert numbers == IndexStream(10, seed=0).take(0, 40).tolist()
    assert max(Counter(source.read).values()) == (1 if max_bytes else 4)


# Forwards, again, onwards, into a fade, to another resolution, back (as on resuming), across epochs.
STEPS = [
    (0, 4, 1.0),
    (0, 4, 1.0),
    (4, 4, 1.0),
    (8, 8, 0.25),
    (12, 8, 0.5),
    (16, 16, 1.0),
    (4, 8, 1.0),
    (95, 8, 1.0),
]


@pytest.fixture(params=["prepared", "prepared larger", "decoded each time", "in other processes"])
def otherwise(request, tmp_path):
    """TrainingImages of the same images from everywhere but memory; call it with the configuration."""
    images = pixels(11, 16, 16)
    if request.param == "prepared larger":
        images = images.repeat(2, axis=1).repeat(2, axis=2)
    source = sources.open_source(
        write(tmp_path / "set", {f"{i % 2}/{i:02}.png": encoded(image) for i, image in enumerate(images)})
    )
    if request.param.startswith("prepared"):
        source = prepare_levels(source, tmp_path / "levels")
        source = PreparedSource(tmp_path / "levels", 16)
    workers = 2 if request.param == "in other processes" else 0
    made: list[TrainingImages] = []

    def make(config: ProGANConfig) -> TrainingImages:
        made.append(TrainingImages(source, config, max_bytes=0, workers=workers))
        return made[-1]

    yield make
    for each in made:
        each.close()


def from_memory(tmp_path, config, **options):
    path = write(
        tmp_path / "plain", {f"{i % 2}/{i:02}.png": encoded(im) for i, im in enumerate(pixels(11, 16, 16))}
    )
    return TrainingImages(sources.open_source(path), config, workers=0, **options)


@pytest.mark.slow
def test_it_does_not_matter_where_images_are_kept(otherwise, tmp_path):
    # A level read ahead for another stage, a stream entered at the wrong place, other rounding.
    config = replace(CONFIG, mirror=True)
    memory, other = from_memory(tmp_path, config), otherwise(config)
    for shown, resolution, alpha in STEPS:
        expected = memory.minibatch(shown, at(resolution, alpha), CPU)
        assert expected.shape == (4, 3, resolution, resolution)
        assert torch.equal(other.minibatch(shown, at(resolution, alpha), CPU), expected), (shown, resolution)
    other.close()
    assert torch.equal(other.minibatch(0, at(4), CPU), memory.minibatch(0, at(4), CPU))


@pytest.mark.slow
def test_a_rank_gets_its_images_of_the_minibatch(otherwise, tmp_path):
    # Mirrored by place in the minibatch, not by place in the rank's share.
    config = replace(CONFIG, mirror=True, minibatch={4: 8})
    memory, other = from_memory(tmp_path, config), otherwise(config)
    flips = 0
    for shown in (0, 8, 16):
        whole = memory.minibatch(shown, at(8, minibatch=8), CPU)
        for places in ([1, 3, 5, 7], [0, 2, 4, 6]):
            part = other.minibatch(shown, at(8, minibatch=8), CPU, places=places)
            assert torch.equal(part, whole[places])
            assert torch.equal(memory.minibatch(shown, at(8, minibatch=8), CPU, places=places), part)
            flips += int(
                (
                    part != from_memory(tmp_path, CONFIG).minibatch(shown, at(8, minibatch=8), CPU)[places]
                ).any()
            )
    assert flips


def test_a_prepared_set_is_read_at_the_stage_s_level(tmp_path, monkeypatch):
    # From the final level a step at 4 x 4 of a large run would read 65,536 times as much.
    source = prepare_levels(Noise(), tmp_path / "levels")
    read: list[tuple[int, int]] = []
    level = source.level

    def told(indices, resolution):
        read.append((len(indices), resolution))
        return level(indices, resolution)

    monkeypatch.setattr(source, "level", told)
    images = TrainingImages(source, CONFIG, max_bytes=1 << 30)
    assert read == []
    images.minibatch(0, at(4), CPU)
    images.minibatch(4, at(4), CPU)
    images.close()
    # and each minibatch once; whether the one after the last was begun is up to the thread
    assert set(read) == {(4, 4)}
    assert len(read) in (2, 3)


def test_memory_is_counted_with_all_levels_that_are_shown():
    growing = Noise()
    TrainingImages(growing, CONFIG, max_bytes=10 * 3 * (256 + 64 + 16) - 1)
    assert growing.read == []
    TrainingImages(growing, CONFIG, max_bytes=10 * 3 * (256 + 64 + 16))
    assert len(growing.read) == 10
    fixed = Noise()
    images = TrainingImages(fixed, replace(CONFIG, growing=False), max_bytes=10 * 3 * 256)
    assert len(fixed.read) == 10
    assert images.minibatch(0, at(16), CPU).shape == (4, 3, 16, 16)
    assert len(fixed.read) == 10


@pytest.mark.parametrize("max_bytes", [0, 1 << 30])
def test_the_center_is_cropped_where_that_is_asked_for(max_bytes):
    source = Noise(width=21)
    images = TrainingImages(source, CONFIG, crop=True, max_bytes=max_bytes)
    expected = torch.from_numpy(source.batch(IndexStream(10, seed=0).take(0, 4).tolist())[..., 2:18])
    assert torch.allclose(images.minibatch(0, at(16), CPU), expected / 127.5 - 1, atol=1e-6)
    coarse = F.avg_pool2d(expected.double(), 4).round() / 127.5 - 1
    assert torch.allclose(images.minibatch(0, at(4), CPU).double(), coarse, atol=1e-6)
    assert images.fingerprint == source.fingerprint + "+crop"
    assert TrainingImages(Noise(), CONFIG, crop=True).fingerprint == Noise().fingerprint
    with pytest.raises(SourceError, match="32 x 24; this training needs 16 x 16"):
        TrainingImages(Noise(side=24, width=32), CONFIG, crop=True)


class Labeled(Noise):
    """Image i is of class i modulo 5, but the first half is of class 0."""

    label_names = ("a", "b", "c", "d", "e")

    @property
    def labels(self):
        labels = np.arange(len(self)) % 5
        labels[: len(self) // 2] = 0
        return labels


def test_labels_are_those_of_the_images_shown(otherwise, tmp_path):
    config = replace(CONFIG, label_size=5, minibatch={4: 8})
    images = TrainingImages(Labeled(400), config)
    for shown in (0, 8, 397):
        reals = images.minibatch(shown, at(16, minibatch=8), CPU)
        numbers = IndexStream(400, seed=0).take(shown, 8)
        labels = images.labels(shown, at(16, minibatch=8), CPU)
        assert ((reals[:, 0, 0, 0] + 1) * 127.5).round().int().tolist() == (numbers % 256).tolist()
        assert labels.dtype == torch.float32
        assert labels.argmax(1).tolist() == Labeled(400).labels[numbers].tolist()
        assert labels.sum(1).tolist() == [1.0] * 8
    # from files and from a prepared directory alike
    two = replace(CONFIG, label_size=2)
    memory, other = from_memory(tmp_path, two), otherwise(two)
    assert memory.label_names == other.label_names == ("0", "1")
    assert torch.equal(memory.labels(8, at(8), CPU), other.labels(8, at(8), CPU))
    assert memory.label_distribution == (6 / 11, 5 / 11)


def test_drawn_labels_are_as_frequent_as_the_images():
    # Uniform over the classes instead would be 0.2 each.
    images = TrainingImages(Labeled(400), replace(CONFIG, label_size=5))
    stage_of_many = at(16, minibatch=20_000)
    drawn = images.drawn_labels(4, stage_of_many, CPU)
    assert drawn.dtype == torch.float32
    assert images.label_distribution == (0.6, 0.1, 0.1, 0.1, 0.1)
    # Five standard deviations of a frequency of 0.6 over 20,000.
    assert np.allclose(drawn.mean(0).numpy(), images.label_distribution, atol=0.0175)
    assert torch.equal(images.drawn_labels(4, stage_of_many, CPU), drawn)
    assert not torch.equal(images.drawn_labels(8, stage_of_many, CPU), drawn)
    # not those of the reals of the same step
    assert not torch.equal(drawn[:4], images.labels(4, at(16), CPU))


def test_unconditional_networks_have_no_labels():
    images = TrainingImages(Labeled(), CONFIG)
    assert images.labels(0, at(4), CPU) is None
    assert images.drawn_labels(0, at(4), CPU) is None
    assert (images.label_names, images.label_distribution) == ((), ())


def test_classes_that_do_not_fit_are_refused():
    with pytest.raises(SourceError, match="noise has no classes and label_size=5 needs that many"):
        TrainingImages(Noise(), replace(CONFIG, label_size=5))
    with pytest.raises(SourceError, match="noise has 5 classes and the network 4; train with label_size=5"):
        TrainingImages(Labeled(), replace(CONFIG, label_size=4))
    with pytest.raises(SourceError, match="noise has no classes to condition on; put its images"):
        fitted(CONFIG, Noise(), conditional=True)


def test_data_decide_on_classes_and_mirroring(tmp_path):
    assert fitted(CONFIG, Labeled()) == CONFIG
    assert fitted(CONFIG, Labeled(), conditional=True) == replace(CONFIG, label_size=5)
    mirrored = replace(CONFIG, mirror=True)
    for flag, expected in ((None, mirrored), (True, mirrored), (False, CONFIG)):
        prepared = prepare_levels(Noise(), tmp_path / str(flag), mirror=flag)
        assert fitted(mirrored, prepared) == expected
    assert fitted(CONFIG, PreparedSource(tmp_path / "True")) == mirrored


def test_grey_images_have_one_channel(tmp_path):
    config = ProGANConfig.from_json(CONFIG.to_json() | {"channels": 1})
    images = TrainingImages(Noise(grey=True), config)
    first = images.minibatch(0, stage(0, config), CPU)
    assert first.shape == (4, 1, 4, 4)
    for channels in (1, 3):
        # stored either way, shown either way
        prepared = prepare_levels(Noise(grey=True), tmp_path / str(channels), channels=channels)
        again = TrainingImages(prepared, config)
        assert torch.equal(again.minibatch(0, stage(0, config), CPU), first)
        again.close()
        again = TrainingImages(prepared, CONFIG)
        assert torch.equal(again.minibatch(0, stage(0, config), CPU), first.expand(4, 3, 4, 4))
        again.close()
    with pytest.raises(SourceError, match="noise has images in color"):
        TrainingImages(Noise(), config)


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(SourceError, match="8 x 8, smaller than the final resolution 16"):
        TrainingImages(Noise(side=8), CONFIG)
    with pytest.raises(SourceError, match="24 x 16; this training needs 16 x 16"):
        TrainingImages(Noise(width=24), CONFIG)
    with pytest.raises(SampleError, match="3 images, fewer than the largest minibatch, 4"):
        TrainingImages(Noise(count=3), CONFIG)


def test_more_images_than_an_epoch_can_order_are_refused():
    endless = sources.open_source("synthetic:leaves,resolution=16,n=4294967296")
    with pytest.raises(SampleError, match=r"has 4,294,967,296 images; .*@0:1000000 takes the first million"):
        TrainingImages(endless, CONFIG)
