"""Arrays in memory and in files, tensors, Datasets."""

import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import pgmetrics
from pgmetrics import sources
from pgmetrics.errors import OptionError, SourceError
from tests.helpers.global_states import global_states
from tests.helpers.image_files import encoded, pixels, write_zip

NHWC = pixels(5, 6, 9)
NCHW = np.ascontiguousarray(NHWC.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("images", [NHWC, NCHW, torch.from_numpy(NCHW), NHWC[::-1][::-1]])
def test_the_layout_is_found(images):
    np.testing.assert_array_equal(sources.array(images).batch(range(5)), NCHW)


def test_an_ambiguous_layout_is_asked_for():
    # A guess would score images with rows for colors.
    odd = pixels(4, 3, 5).transpose(0, 1, 2, 3)
    with pytest.raises(SourceError, match=r"\[4, 3, 5, 3\], which could be NHWC or NCHW; choose with"):
        sources.array(odd)
    np.testing.assert_array_equal(sources.array(odd, layout="NHWC").batch([1])[0], odd[1].transpose(2, 0, 1))
    np.testing.assert_array_equal(sources.array(odd, layout="NCHW").batch([1])[0], odd[1])


@pytest.mark.parametrize(
    ("images", "fact"),
    [
        (NHWC[0], r"\[6, 9, 3\]"),
        (np.zeros((2, 8, 8, 4), np.uint8), r"\[2, 8, 8, 4\]"),
        (torch.zeros(2, 8, 8, 3, dtype=torch.uint8), r"\[2, 8, 8, 3\]; \[N, 3, H, W\]"),
        (np.zeros((0, 8, 8, 3), np.uint8), "holds no images"),
        (NHWC.astype(np.int64), "dtype int64"),
        (NHWC / 255, r"dtype float64, so the values of black and white are unknown.*value_range"),
        (torch.zeros(2, 3, 8, 8), "dtype float32"),
    ],
)
def test_what_is_no_image_is_refused_with_what_was_found(images, fact):
    with pytest.raises(SourceError, match=fact):
        sources.array(images)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
def test_floats_are_rounded_and_saturated(dtype):
    # Catches truncation (127.5 x + 128 cut off), and a refusal of what half precision makes of the ends.
    values = (
        torch.tensor([-1.003, -1.0, 0.0, 1.0, 1.003, 0.501 / 127.5]).reshape(1, 1, 1, 6).expand(1, 3, 2, 6)
    )
    source = sources.array(values.to(getattr(torch, dtype)), value_range=(-1, 1))
    assert source.batch([0])[0, 0, 0].tolist() == [0, 0, 128, 255, 255, 128]


_IMAGENET = (NCHW / 255 - 0.45) / 0.22


@pytest.mark.parametrize("kind", ["array", "tensor", "dataset", "float16"])
@pytest.mark.parametrize(
    ("values", "value_range", "fact"),
    [
        (NCHW / 1.0, (0, 1), r"\(0, 1\) .*from 0 to 255, 99 % of them outside; .*value_range=\(0, 255\)"),
        (NCHW / 1.0, (-1, 1), r"\(-1, 1\) .*from 0 to 255, 99 % of .*value_range=\(0, 255\)"),
        (NCHW / 127.5 - 1, (0, 1), r"from -1 to 1, 5\d % .*value_range=\(-1, 1\)"),
        (_IMAGENET, (0, 1), r"from -2.04\d to 2.5, .*normalized by ImageNet's mean and deviation\?"),
        (_IMAGENET, (-1, 1), r"normalized by ImageNet's mean and deviation\?"),
        (NCHW * (1.01 / 255), (0, 1), r"from 0 to 1.01, .* % of them outside; .*clip them"),
    ],
)
def test_values_outside_the_declared_range_are_refused(kind, values, value_range, fact):
    # Catches saturating what was declared wrongly: FD moved from 0.002 to 12 without a word.
    values = np.array(values)
    values.reshape(-1)[[0, 1]] = values.min(), values.max()
    make = {
        "array": lambda: sources.array(values, value_range=value_range),
        "float16": lambda: sources.array(values.astype(np.float16), value_range=value_range),
        "tensor": lambda: sources.array(torch.from_numpy(values).float(), value_range=value_range),
        "dataset": lambda: sources.dataset(Items(*values), value_range=value_range),
    }[kind]
    with pytest.raises(
        SourceError, match=rf"declares value_range=.*{fact}" if kind == "array" else "value_range"
    ) as e:
        make()
    assert "\n" not in str(e.value)


def test_the_refusal_counts_all_values_of_an_array():
    # Of the whole set, in pieces of 4 MB: 4 values of 6 million.
    values = np.zeros((2_000, 32, 32, 3), np.float32)
    values[[3, 1_999], 0, 0, 0] = 2, -3
    values[7, 5, 5, :2] = 1.5
    with pytest.raises(SourceError, match=r"from -3 to 2, 6\.5e-05 % of them outside"):
        sources.array(values, value_range=(0, 1))


@pytest.mark.parametrize("bad", [(1, 0), (0, 0), (0, float("nan")), (0, float("inf")), 1, "ab"])
def test_a_value_range_rises(bad):
    with pytest.raises(OptionError, match="a value range"):
        sources.array(NHWC / 255, value_range=bad)


def test_values_that_are_not_finite_name_the_image():
    values = NHWC / 255
    values[3, 0, 0, 0] = np.nan
    with pytest.raises(SourceError, match="first in image 3;"):
        sources.array(values, value_range=(0, 1)).batch([4, 3])


@pytest.mark.parametrize("draw", ["torch", "numpy", "python"])
def test_a_dataset_with_random_transforms_is_refused(draw):
    # Catches a check that puts the generators back between the two askings, and one that moves the caller's.
    coin = {
        "torch": lambda: torch.rand(()) < 0.5,
        "numpy": lambda: np.random.rand() < 0.5,  # noqa: NPY002 - as transforms do
        "python": lambda: random.random() < 0.5,
    }[draw]

    class Flipped(Items):
        def __getitem__(self, index):
            return self.items[index][:, ::-1] if coin() else self.items[index]

    before = global_states()
    with pytest.raises(SourceError, match=r"Flipped gives another image when item \d+ is read again; switch"):
        sources.dataset(Flipped(*pixels(40, 8, 8)))
    assert global_states() == before


def test_fingerprints_are_of_the_content():
    # Of all of it: 6 MB, more than is digested at a time, and one bit in its last pixel.
    images = np.zeros((200, 100, 100, 3), np.uint8)
    changed = images.copy()
    changed[-1, -1, -1, -1] ^= 1
    assert sources.array(images).fingerprint == sources.array(images.copy()).fingerprint
    assert sources.array(images).fingerprint != sources.array(changed).fingerprint
    floats = NHWC / 255
    prints = {sources.array(floats, value_range=(0, top)).fingerprint for top in (1, 2)}
    assert len(prints) == 2


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_takes_the_array_that_holds_images(tmp_path, save):
    for content in (
        {"arr_0": NHWC, "arr_1": np.arange(5)},
        {"labels": np.arange(5), "samples": NHWC},
        {"arr_0": NCHW},
        {"samples": NHWC, "masks": NHWC[..., 0]},
        {"arr_0": np.asfortranarray(NHWC)},
    ):
        save(tmp_path / "set.npz", **content)
        np.testing.assert_array_equal(sources.open_source(tmp_path / "set.npz").batch(range(5)), NCHW)


def test_an_npz_as_keras_writes_mnist_is_taken(tmp_path):
    grey = NHWC[..., 0]
    np.savez(tmp_path / "mnist.npz", x_train=grey, y_train=np.arange(5, dtype=np.uint8))
    wanted = np.repeat(grey[:, None], 3, 1)
    np.testing.assert_array_equal(sources.open_source(tmp_path / "mnist.npz").batch(range(5)), wanted)


def test_the_way_out_for_several_arrays_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("set.npz", x_train=NHWC, x_test=NHWC[:2])
    with pytest.raises(SourceError) as refusal:
        sources.open_source("set.npz")
    exec(str(refusal.value).split("of its own: ")[1], {"numpy": np})
    np.testing.assert_array_equal(sources.open_source("images.npy").batch(range(5)), NCHW)


def test_the_way_out_for_other_numbers_works(tmp_path, monkeypatch):
    # Catches advising array() for int64, which it refused.
    monkeypatch.chdir(tmp_path)
    np.save("i64.npy", NHWC.astype(np.int64))
    with pytest.raises(SourceError) as refusal:
        sources.open_source("i64.npy")
    advised = str(refusal.value).split(": call ")[1].replace("(low, high)", "(0, 255)")
    source = eval(advised, {"numpy": np, "pgmetrics": pgmetrics})
    np.testing.assert_array_equal(source.batch(range(5)), NCHW)


@pytest.mark.parametrize("content", [{"mu": np.zeros(3)}, [1, "a"], None])
def test_an_npy_of_objects_says_so(tmp_path, content):
    np.save(tmp_path / "a.npy", np.array(content, object), allow_pickle=True)
    with pytest.raises(
        SourceError, match=r"a\.npy holds pickled Python objects.*; save one array of numbers"
    ):
        sources.open_source(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        ({"mu": np.zeros(3), "sigma": np.zeros((3, 3))}, "statistics of features"),
        (
            {"x_train": NHWC[..., 0], "x_test": NHWC[:2, ..., 0], "y_train": np.arange(5)},
            r"2 arrays that could be images, x_train \[5, 6, 9\], x_test \[2, 6, 9\]; .*'\)\['x_train'\]\)$",
        ),
        ({"a": NHWC, "b": NHWC}, r"2 arrays that could be images, a \[5, 6, 9, 3\], b .*load\('.*'\)\['a'\]"),
        (
            {"arr_0": NHWC / 255},
            r"dtype float64.*sources\.array\(numpy\.load\('.*'\)\['arr_0'\], value_range",
        ),
        ({"arr_0": NHWC * 1j}, r"dtype complex128; uint8 images are needed$"),
        ({"arr_0": np.array([None])}, r"set\.npz holds pickled Python objects"),
        ({"arr_0": np.array({"mu": 1})}, r"set\.npz holds pickled Python objects"),
        ({"arr_0": np.array(3)}, r"set\.npz holds a single value"),
    ],
)
def test_an_npz_without_images_says_what_is_there(tmp_path, content, fact):
    np.savez(tmp_path / "set.npz", **content)
    with pytest.raises(SourceError, match=fact):
        sources.open_source(tmp_path / "set.npz")


def test_pickles_in_arrays_are_never_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    trap = np.array([Trap()], dtype=object)
    np.save(tmp_path / "a.npy", trap, allow_pickle=True)
    np.savez(tmp_path / "a.npz", trap)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(SourceError):
            sources.open_source(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["set.npy", "set.npz"])
def test_an_incomplete_file_is_named(tmp_path, name):
    path = tmp_path / name
    (np.save if name == "set.npy" else np.savez)(path, NHWC)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(SourceError, match=name):
        sources.open_source(path)


def test_an_npz_whose_content_is_shorter_than_announced_is_named(tmp_path):
    np.save(tmp_path / "a.npy", NHWC)
    write_zip(tmp_path / "set.npz", {"arr_0.npy": (tmp_path / "a.npy").read_bytes()[:-50]})
    with pytest.raises(SourceError, match=r"set\.npz is incomplete: its header announces \[5, 6, 9, 3\]"):
        sources.open_source(tmp_path / "set.npz")


MEASURE = """
import resource, sys, numpy as np
from pgmetrics.sources import open_source

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024

source = open_source(sys.argv[1])
before = peak = anonymous()
for start in range(0, len(source), 50):
    source.batch(range(start, start + 50))
    peak = max(peak, anonymous())
print(peak - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["npy", "npz stored", "npz deflated"])
def test_files_are_read_in_pieces(tmp_path, kind):
    # 48 MB of images; catches np.load, which holds them all, and reading a whole member of a zip.
    images = np.zeros((1_000, 128, 128, 3), np.uint8)
    path = tmp_path / f"set.{kind[:3]}"
    {"npy": np.save, "npz stored": np.savez, "npz deflated": np.savez_compressed}[kind](path, images)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 16


class Items:
    def __init__(self, *items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


@pytest.mark.parametrize(
    "item",
    [
        Image.fromarray(NHWC[0]),
        NHWC[0],
        NCHW[0],
        torch.from_numpy(NCHW[0]),
        (NHWC[0], 7),
        [Image.fromarray(NHWC[0]), "label"],
    ],
)
def test_dataset_items_may_be_images_arrays_tensors_or_tuples(item):
    np.testing.assert_array_equal(sources.dataset(Items(item, item)).batch([1]), NCHW[:1])


def test_dataset_floats_need_their_range():
    items = Items(torch.from_numpy(NCHW[0]) / 255)
    with pytest.raises(SourceError, match="item 0 of Items has dtype float32"):
        sources.dataset(items)
    np.testing.assert_array_equal(sources.dataset(items, value_range=(0, 1)).batch([0]), NCHW[:1])


def test_dataset_faults_name_the_item():
    with pytest.raises(SourceError, match="item 0 is 6 × 9, item 1 is 4 × 4"):
        sources.dataset(Items(NHWC[0], pixels(1, 4, 4)[0])).batch([0, 1])
    with pytest.raises(SourceError, match="item 0 of Items is of type str"):
        sources.dataset(Items(("cat", 3)), column=0)
    with pytest.raises(SourceError, match="Items is empty"):
        sources.dataset(Items())
    transparent = Image.fromarray(np.dstack([NHWC[0], np.zeros((6, 9), np.uint8)]))
    with pytest.raises(SourceError, match="item 0 of Items has transparent pixels"):
        sources.dataset(Items(transparent))


def test_an_npz_called_zip_is_recognized_by_its_content(tmp_path):
    np.savez(tmp_path / "a.npz", NHWC)
    (tmp_path / "a.npz").rename(tmp_path / "a.zip")
    np.testing.assert_array_equal(sources.open_source(tmp_path / "a.zip").batch(range(5)), NCHW)
    write_zip(tmp_path / "b.npz", {"a.png": encoded(NHWC[0])})
    np.testing.assert_array_equal(sources.open_source(tmp_path / "b.npz").batch([0]), NCHW[:1])
