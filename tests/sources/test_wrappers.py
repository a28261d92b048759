"""Sources that wrap another source: a slice of it, or its mirrored images."""

import numpy as np
import pytest

from pgmetrics import sources
from pgmetrics.errors import SourceError
from pgmetrics.sources.resize import Resized
from pgmetrics.sources.wrappers import Mirrored, Subset
from tests.helpers.image_files import encoded, write, write_zip


def test_labels_stay_with_their_images(tmp_path):
    # A slice takes shuffled images, so labels in the order of the files would be other images'.
    contents = {f"{i % 3}/{i}.png": encoded(np.full((8, 8, 3), i % 3, np.uint8)) for i in range(12)}
    path = write(tmp_path / "set", contents)
    for wrapped in (
        sources.open_source(f"{path}@2:9"),
        Mirrored(sources.open_source(path), 0),
        Resized(sources.open_source(path), "box", 4),
    ):
        assert wrapped.label_names == ["0", "1", "2"]
        assert wrapped.labels.tolist() == wrapped.batch(range(len(wrapped)))[:, 0, 0, 0].tolist()
    plain = sources.synthetic(8, 4, 0)
    assert plain.labels is None
    assert Subset(plain, 1, 3).labels is None
    assert plain.label_names == []


def test_slices_are_disjoint_and_the_same_for_everybody(tmp_path):
    # Catches slices of the sorted listing (classes apart), and slices that move with a seed.
    contents = {f"{i:03}.png": encoded(np.full((4, 4, 3), i, np.uint8)) for i in range(40)}
    path = write(tmp_path / "set", contents)
    first, second, rest = (
        set(sources.open_source(f"{path}@{part}").batch(range(length))[:, 0, 0, 0].tolist())
        for part, length in (("0:15", 15), ("15:30", 15), ("30:", 10))
    )
    assert first | second | rest == set(range(40))
    assert first != set(range(15))
    again = sources.open_source(f"{path}@0:15")
    twin = sources.open_source(write_zip(tmp_path / "set.zip", contents).as_posix() + "@0:15")
    np.testing.assert_array_equal(twin.batch(range(15)), again.batch(range(15)))
    assert twin.fingerprint == again.fingerprint


def test_slices_of_a_generator_keep_its_order():
    whole = sources.synthetic(4, 10, 0).batch(range(10))
    np.testing.assert_array_equal(
        sources.open_source("synthetic:leaves,resolution=4,n=10@4:7").batch(range(3)), whole[4:7]
    )


def test_a_slice_past_the_end_is_refused():
    with pytest.raises(SourceError, match="has 10"):
        sources.open_source("synthetic:leaves,resolution=4,n=10@4:11")
