"""Reals as a stage of training sees them, and fakes as the published evaluation enlarges them."""

import numpy as np
import pytest
import torch
from PIL import Image

from pgmetrics.errors import OptionError, SourceError
from pgmetrics.sources.arrays import ArraySource
from pgmetrics.sources.stage import AtStage, Enlarged
from reference_models.progan.data.training_images import prepare
from reference_models.progan.model.schedule import Stage
from tests.contracts.source_contract import check_source


def images(n=5, side=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 3, side, side), dtype=np.uint8)


def stage(resolution, alpha):
    return Stage(resolution=resolution, alpha=alpha, lod=0, minibatch=4, learning_rate=0.001)


@pytest.mark.parametrize("alpha", [1.0, 0.75, 0.3, 0.0])
@pytest.mark.parametrize("resolution", [4, 8, 16, 32])
def test_reals_are_those_that_the_discriminator_is_shown(resolution, alpha):
    pixels = images()
    made = AtStage(ArraySource(pixels), resolution, alpha).batch(range(5))
    shown = prepare(torch.from_numpy(pixels), None, stage(resolution, alpha)).numpy() * 127.5 + 127.5
    # Training mixes floats; here they end as bytes, so they are half a grey level apart at most.
    assert made.shape == (5, 3, resolution, resolution)
    assert np.abs(made - shown).max() <= 0.5 + 1e-4
    if alpha == 1:
        assert np.abs(made - shown).max() < 1e-4


def test_a_fade_that_begins_shows_the_coarser_stage_and_one_that_ends_the_finer():
    pixels = images()
    begun = AtStage(ArraySource(pixels), 16, 0.0).batch(range(5)).astype(int)
    before = AtStage(ArraySource(pixels), 8).batch(range(5)).astype(int)
    assert np.abs(begun - before.repeat(2, 2).repeat(2, 3)).max() <= 1  # two roundings
    assert (AtStage(ArraySource(pixels), 32).batch(range(5)) == pixels).all()


def test_a_stage_s_fingerprint_tells_resolutions_and_alphas_apart_and_keeps_the_order():
    source = ArraySource(images())
    kinds = [AtStage(source, 8), AtStage(source, 16), AtStage(source, 16, 0.5), AtStage(source, 16, 0.25)]
    assert len({one.fingerprint for one in kinds}) == 4
    assert {one.shuffled for one in kinds} == {True}  # the same images first, at every stage


def test_enlarging_repeats_pixels_as_an_image_editor_does():
    pixels = images(side=8)
    made = Enlarged(ArraySource(pixels), 32).batch([3, 1])
    for image, index in zip(made, [3, 1], strict=True):
        editor = Image.fromarray(pixels[index].transpose(1, 2, 0)).resize((32, 32), Image.Resampling.NEAREST)
        assert (image == np.asarray(editor).transpose(2, 0, 1)).all()


@pytest.mark.parametrize("make", [lambda s: AtStage(s, 8, 0.3), lambda s: Enlarged(s, 32)])
def test_they_keep_the_contract_of_a_source(make):
    check_source(make(ArraySource(images(7, 16))))


def test_what_cannot_be_shrunk_or_enlarged_by_a_whole_factor_is_refused():
    square, oblong = ArraySource(images(side=24)), ArraySource(np.zeros((2, 3, 16, 32), np.uint8))
    for make in (
        lambda: AtStage(square, 16),
        lambda: AtStage(oblong, 16),
        lambda: Enlarged(square, 32),
        lambda: Enlarged(square, 12),
        lambda: Enlarged(oblong, 32),
    ):
        with pytest.raises(SourceError, match="by a whole factor"):
            make()
    for alpha in (-0.1, 1.1, float("nan")):
        with pytest.raises(OptionError, match="faded in to"):
            AtStage(square, 8, alpha)
