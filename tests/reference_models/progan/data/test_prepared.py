"""A prepared set is the source it was made from, and training takes a level of it."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from pgmetrics.errors import OptionError, SourceError
from reference_models.progan.data.prepared import PreparedSource, open_training_source
from reference_models.progan.data.pyramid_levels import levels
from tests.contracts.source_contract import check_source
from tests.helpers.image_files import pixels
from tests.helpers.prepared_sets import Labeled, N, contents

pytestmark = pytest.mark.usefixtures("small_blocks")


def test_a_prepared_directory_is_plain_arrays_with_checksums(prepared):
    # What another tool would need to read it, and `sha256sum` to check it.
    source = Labeled(N)
    manifest = json.loads((prepared / "levels.json").read_text())
    for side, level in levels(source.batch(range(N))):
        name = f"level-{side:04d}.npy"
        stored = np.load(prepared / name)
        assert stored.dtype == np.uint8
        np.testing.assert_array_equal(stored, level)
        assert manifest["sha256"][name] == hashlib.sha256((prepared / name).read_bytes()).hexdigest()
    assert np.load(prepared / "labels.npy").tolist() == Labeled.labels.tolist()
    assert (
        manifest["sha256"]["labels.npy"] == hashlib.sha256((prepared / "labels.npy").read_bytes()).hexdigest()
    )
    assert sorted(contents(prepared)) == sorted([*manifest["sha256"], "levels.json"])


def test_a_prepared_set_is_the_source_it_was_made_from(prepared):
    source, again = Labeled(N), PreparedSource(prepared)
    check_source(again)
    np.testing.assert_array_equal(again.batch(range(N)), source.batch(range(N)))
    assert (again.fingerprint, again.shuffled) == (source.fingerprint, source.shuffled)
    assert (again.label_names, again.labels.tolist()) == (["cat", "dog", "eel"], Labeled.labels.tolist())
    np.testing.assert_array_equal(again.level([3, 0, 3], 4), dict(levels(source.batch([3, 0, 3])))[4])


def test_training_takes_a_level_or_any_source(prepared, tmp_path):
    half = open_training_source(str(prepared), 8)
    assert half.resolution == (8, 8)
    np.testing.assert_array_equal(half.batch(range(N)), np.load(prepared / "level-0008.npy"))
    assert half.fingerprint != PreparedSource(prepared).fingerprint
    with pytest.raises(SourceError, match="prepared at 16 x 16 and has no level of 32 x 32"):
        open_training_source(str(prepared), 32)
    with pytest.raises(OptionError, match="cannot be resized; leave --resize out"):
        open_training_source(str(prepared), 8, resize="box")
    assert open_training_source("synthetic:leaves,n=4", 8).resolution == (8, 8)
    Image.fromarray(pixels(1, 12, 12)[0]).save(tmp_path / "a.png")
    assert open_training_source(str(tmp_path), 8).resolution == (12, 12)
    assert open_training_source(str(tmp_path), 8, resize="box").resolution == (8, 8)
