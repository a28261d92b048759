"""The classes of a StyleGAN data set."""

import json
import re

import pytest

from pgmetrics import sources
from pgmetrics.sources.wrappers import Subset
from tests.helpers.image_files import encoded, pixels, write_zip

IMAGES = pixels(6)


def stylegan_set(tmp_path, content):
    images = {f"00000/{name}.png": encoded(IMAGES[0]) for name in "ab"}
    return write_zip(tmp_path / "set.zip", {"dataset.json": content, **images})


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([["00000/b.png", 0], ["00000/a.png", 2]], [2, 0]),
        ([["00000/b.png", 21_840], ["00000/a.png", 0], ["00000/c.png", 7]], [0, 21_840]),
        ([["00000/b.png", 99_999], ["00000/a.png", 0]], [0, 99_999]),
        (None, None),
        ([], None),
    ],
)
def test_stylegan_sets_carry_their_labels(tmp_path, labels, expected):
    # The folder 00000 is a shard there, not a class.
    source = sources.open_source(stylegan_set(tmp_path, json.dumps({"labels": labels}).encode()))
    assert source.ignored == 0
    assert (source.labels is None) if expected is None else (source.labels.tolist() == expected)
    assert len(source.label_names) == (0 if expected is None else max(expected) + 1)
    assert source.unlabeled is None


def labeled(a, b=0):
    return f'{{"labels": [["00000/a.png", {a}], ["00000/b.png", {b}]]}}'


UNUSABLE = [
    ("{", "cannot be read as JSON: Expecting property name"),
    ("\xff", "cannot be read as JSON: "),
    ("[" * 100 + "]" * 100, "cannot be read as JSON: it is nested too deeply"),
    (labeled("1e999"), "cannot be read as JSON: the number 1e999 is beyond a double's range"),
    ("[]", "holds no labels"),
    ("{}", "holds no labels"),
    ('{"labels": 3}', r'does not hold {"labels": \[\[name, class\], …\]}'),
    ('{"labels": [3]}', r'does not hold {"labels": \[\[name, class\], …\]}'),
    ('{"labels": [["00000/a.png", 0]]}', r"gives 00000/b\.png no class"),
    ('{"labels": [["x.png", 0]]}', r"gives 00000/a\.png no class"),
    (labeled("[0.5, 0.5]"), r"gives 00000/a\.png a vector; a class is a whole number"),
    (labeled("-1"), r"gives 00000/a\.png -1; a class is a whole number from 0 upwards"),
    (labeled("2.5"), r"gives 00000/a\.png 2\.5; a class is a whole number"),
    (labeled("true"), r"gives 00000/a\.png True; a class is a whole number"),
    (labeled("null"), r"gives 00000/a\.png None; a class is a whole number"),
    (labeled("2000000000"), r"gives 00000/a\.png class 2,000,000,000; at most 100,000 classes are taken"),
    (labeled("9" * 39), r"gives 00000/a\.png class 9.*; at most 100,000 classes are taken"),
    (
        '{"labels": [["00000/a.png", 0], ["00000/b.png", 0], ["00000/a.png", 1]]}',
        r"gives 00000/a\.png two classes",
    ),
]


@pytest.mark.parametrize(("content", "reason"), UNUSABLE)
def test_labels_that_are_no_classes_are_none_and_the_reason_is_told(tmp_path, content, reason):
    # Catches a broken file that silently means "no classes", and 2·10⁹ names of classes in memory.
    source = sources.open_source(stylegan_set(tmp_path, content.encode("latin-1")))
    for one in (source, Subset(source, 0, 2)):
        assert one.labels is None
        assert one.label_names == []
        assert re.match(f"dataset.json {reason}", one.unlabeled)
    # Scores need no classes, so nothing is told with them.
    assert source.batch([0]).shape == (1, 3, 8, 8)
    assert source.take_remarks() == []
