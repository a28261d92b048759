"""Shares and pieces of a minibatch: every image once, groups whole, gradients the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pgmetrics.errors import OptionError
from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.layers import minibatch_stddev
from reference_models.progan.model.presets import PRESETS
from reference_models.progan.training.microbatches import check, share

CONFIG = ProGANConfig(resolution=8, fmap_base=32, fmap_max=8, latent_size=8, minibatch={4: 16})


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("micro_batch", [None, 16, 8, 4])
@pytest.mark.parametrize("group", [1, 2, 4])
def test_every_image_is_somebody_s_once(ranks, micro_batch, group):
    config = replace(CONFIG, mbstd_group=group)
    shares = [share(config, 4, rank=r, ranks=ranks, micro_batch=micro_batch) for r in range(ranks)]
    pieces = [piece for one in shares for piece in one.pieces]
    assert sorted(place for piece in pieces for place in piece) == list(range(16))
    assert {one.total for one in shares} == {len(pieces)}
    assert len({len(piece) for piece in pieces}) == 1
    assert len(pieces[0]) <= min(micro_batch or 16, 16 // ranks)
    for one in shares:
        assert one.places == tuple(p for piece in one.pieces for p in piece)
        assert [one.places[where] for where in one.slices] == list(one.pieces)


def test_a_piece_alone_has_the_deviations_that_it_has_in_the_whole():
    # Cut in the minibatch's own order, a piece would compare other images with each other.
    x = torch.arange(16.0).square().reshape(16, 1, 1, 1).expand(16, 2, 4, 4)
    whole = minibatch_stddev(x, 4)
    for rank in range(2):
        for piece in share(CONFIG, 4, rank=rank, ranks=2, micro_batch=4).pieces:
            assert torch.equal(minibatch_stddev(x[list(piece)], 4), whole[list(piece)])


def test_an_undivided_minibatch_stays_in_its_order():
    whole = share(CONFIG, 4)
    assert whole.is_whole
    assert whole.pieces == (tuple(range(16)),)
    assert not share(CONFIG, 4, micro_batch=8).is_whole


def test_as_few_pieces_as_will_do():
    assert len(share(CONFIG, 4, micro_batch=15).pieces) == 2
    assert len(share(replace(CONFIG, mbstd_group=1, minibatch={4: 12}), 4, micro_batch=5).pieces) == 3


@pytest.mark.parametrize(
    ("changes", "ranks", "micro_batch", "fact"),
    [
        ({"mbstd_group": 16}, 2, None, r"1 group of mbstd_group=16, which 2 ranks .* 1 could"),
        ({}, 3, None, r"4 groups of mbstd_group=4, which 3 ranks cannot share evenly; 2 could"),
        ({}, 1, 3, "cannot be taken 3 images at a time.* 4 is the least"),
        ({"minibatch_statistics": "none"}, 5, None, "16 images, which 5 ranks .* 4 could"),
        ({"minibatch_statistics": "none", "generator_norm": "batch"}, 2, None, "batch norm"),
        ({"minibatch_statistics": "discrimination"}, 1, 8, "16 is the least"),
        ({"minibatch_statistics": "discrimination"}, 2, None, "minibatch discrimination"),
    ],
)
def test_what_would_be_another_minibatch_is_refused(changes, ranks, micro_batch, fact):
    with pytest.raises(OptionError, match=fact):
        share(replace(CONFIG, **changes), 4, ranks=ranks, micro_batch=micro_batch)


def test_all_stages_of_a_run_are_checked_before_it_begins():
    later = replace(CONFIG, minibatch={4: 16, 8: 12})
    check(later, ranks=1)
    check(replace(later, resolution=4), ranks=4)
    with pytest.raises(OptionError, match="8 x 8 the minibatch of 12"):
        check(later, ranks=4)
    # A run that does not grow has no step at 4 x 4.
    check(replace(later, minibatch={4: 12, 8: 16}, growing=False), ranks=4)


def test_every_preset_runs_on_one_device():
    for config in PRESETS.values():
        check(config)
