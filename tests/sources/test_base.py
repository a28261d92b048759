"""The interface of every image source, and the order in which its images are evaluated."""

import logging
import pickle

import numpy as np
import pytest

from pgmetrics.errors import SourceError
from pgmetrics.sources.base import ImageSource, listed, sequence, warn_of_left_out, whole_number


class Plain(ImageSource):
    """The least that a source must have: a number, a size, and images of which image i shows i alone."""

    name = "plain"
    shuffled = True

    def __init__(self, count=5):
        super().__init__()
        self.count = count
        self.read = []

    def __len__(self):
        return self.count

    @property
    def resolution(self):
        return 2, 3

    def _read(self, indices):
        self.read += indices
        return np.stack([np.full((3, 2, 3), index, np.uint8) for index in indices])


def test_images_come_in_the_order_asked_and_others_are_refused():
    source = Plain()
    assert source.batch([3, 0, 3])[:, 0, 0, 0].tolist() == [3, 0, 3]
    assert source.batch([]).shape == (0, 3, 2, 3)
    for index in (-1, 5):
        with pytest.raises(IndexError, match=f"plain has images 0 to 4, not {index}"):
            source.batch([0, index])


def test_an_image_is_read_once_for_its_pixels_and_its_identity():
    # Catches an identity that reads a generator's images a second time.
    source = Plain()
    source.batch([0, 1])
    once = source.identity([0, 1, 2])
    assert source.read == [0, 1, 2]
    told = Plain()
    told.learn_digests(source.take_digests())
    assert told.identity([0, 1, 2]) == once
    assert told.read == []
    told.forget_digests()
    assert told.identity([0, 1, 2]) == once
    assert told.read == [0, 1, 2]


def test_an_identity_tells_images_and_their_order_apart():
    source = Plain()
    orders = ([0, 1], [1, 0], [0], [0, 0], [0, 2])
    assert len({source.identity(order) for order in orders}) == len(orders)
    assert source.fingerprint == Plain().identity(range(5))


def test_digests_stay_behind_when_a_source_is_sent():
    source = Plain()
    source.batch([0, 1])
    sent = pickle.loads(pickle.dumps(source))
    assert sent.take_digests() == {}
    assert set(source.take_digests()) == {0, 1}


def test_consecutive_indices_are_told_in_words_and_others_by_a_digest():
    assert listed(range(7)) == listed(np.arange(7)) == "0:7"
    assert listed([3, 4]) == "3:5"
    assert listed(range(2**32)) == "0:4294967296"
    digests = {listed(order) for order in ([0, 2], [2, 0], range(0, 4, 2), [0, 2, 4])}
    assert len(digests) == 3  # range(0, 4, 2) is [0, 2]
    assert all(len(digest) == 32 for digest in digests)


def test_a_listing_is_permuted_by_seed_and_count_and_a_generator_is_not():
    order = sequence(Plain(50), 3)
    assert sorted(order) == list(range(50))
    assert list(order) != list(range(50))
    assert list(order) == list(sequence(Plain(50), 3)) != list(sequence(Plain(50), 4))
    drawn = Plain(50)
    drawn.shuffled = False
    assert sequence(drawn, 3) == range(50)


@pytest.mark.parametrize("text", ["", "-1", "1.0", "1e3", "٣", "1" * 41])
def test_what_is_no_whole_number_is_refused(text):
    with pytest.raises(SourceError, match="n is a whole number, not"):
        whole_number(text, "n", "synthetic:leaves")
    assert whole_number("0" * 38 + "12", "n", "") == 12


def test_slices_of_one_listing_are_told_of_once(caplog):
    parts = Plain(), Plain(), Plain()
    for part in parts[:2]:
        part.left_out = "3 files are left out"
    with caplog.at_level(logging.WARNING, "pgmetrics"):
        warn_of_left_out(parts)
    assert [record.getMessage() for record in caplog.records] == ["3 files are left out"]
