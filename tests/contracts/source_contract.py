"""What every image source must survive; each check names the mistake it would catch."""

import pickle

import numpy as np
import pytest

from pgmetrics.sources.base import IDENTITY, ImageSource


def check_source(source: ImageSource) -> None:
    """Hold a source of at least four images to everything that the metrics rely on."""
    n = len(source)
    height, width = source.resolution
    assert n >= 4
    every = source.batch(range(n))

    # A source that returns floats, NHWC, fewer channels, or a read-only view of a file.
    assert every.dtype == np.uint8
    assert every.shape == (n, 3, height, width)
    assert every.flags.c_contiguous
    assert every.flags.writeable

    # Images that are all one and the same would make the checks below say nothing.
    assert len({image.tobytes() for image in every}) > 1

    # A counter, a random state, or an open file whose position matters.
    np.testing.assert_array_equal(source.batch(range(n)), every)
    # Images that depend on how many are asked for at once.
    np.testing.assert_array_equal(np.concatenate([source.batch([i]) for i in range(n)]), every)
    pieces = [source.batch(range(0, 3)), source.batch(range(3, n))]
    np.testing.assert_array_equal(np.concatenate(pieces), every)
    # Images in the order of the files rather than in the order asked, and repeats dropped.
    some = [n - 1, 0, 2, 2, 1, n - 1]
    np.testing.assert_array_equal(source.batch(some), every[some])
    np.testing.assert_array_equal(source.batch(np.array(some)), every[some])
    # A buffer that is handed out twice: writing into one answer changes the next.
    source.batch([0])[:] = 0
    np.testing.assert_array_equal(source.batch([0]), every[:1])

    # Python's negative indices would silently take images from the other end.
    assert source.batch([]).shape == (0, 3, height, width)
    for outside in (-1, n):
        with pytest.raises(IndexError, match=str(outside)):
            source.batch([0, outside])

    assert source.name
    # An identity of a few probes, of the images whatever their order, or of how often they were asked for.
    identities = [source.identity(part) for part in (range(n), [0, 1], [1, 0], [0, 1, 2], [0, 1, 3])]
    assert len(set(identities)) == 5
    assert all(identity.startswith(IDENTITY) and "\n" not in identity for identity in identities)
    assert source.fingerprint == identities[0] == source.identity(np.arange(n))
    # One that is taken while the images are read, and another one that is asked for before.
    source.forget_digests()
    assert source.identity([1, 0]) == identities[2]
    # Loading hands such sources to other processes.
    if source.in_workers:
        source.take_digests()
        twin = pickle.loads(pickle.dumps(source))
        assert twin.fingerprint == source.fingerprint
        assert twin.shuffled == source.shuffled
        np.testing.assert_array_equal(twin.batch(some), every[some])
