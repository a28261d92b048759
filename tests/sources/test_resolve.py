"""What a text means, and what is said when it means nothing."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pgmetrics import sources
from pgmetrics.errors import OptionError, PgmetricsError, SourceError
from pgmetrics.sources import open_source, resolve
from pgmetrics.sources.resolve import named
from tests.helpers.global_states import global_states
from tests.helpers.image_files import encoded, pixels, write, write_zip

IMAGE = encoded(pixels(1)[0])


def test_paths_may_be_texts_or_paths(here):
    assert len(open_source("photos")) == len(open_source(Path("photos"))) == 6
    assert len(open_source("photos/")) == 6


@pytest.mark.parametrize(
    "name", ["a@0:2", "synthetic:leaves", "C:photos", "x,seed=3", "fake:a,b=c", "os:getcwd", "a,b@1:2"]
)
def test_what_exists_wins_over_the_grammar(here, plugin, name):
    # Catches a folder that cannot be opened because of the signs in its name.
    (here / "photos").rename(here / name)
    assert open_source(name).names[0] == "0.png"
    assert len(open_source(f"{name}@0:2")) == 2


def test_synthetic_takes_its_options():
    source = open_source("synthetic:leaves,resolution=16,n=7,seed=3")
    assert (len(source), source.resolution) == (7, (16, 16))
    np.testing.assert_array_equal(source.batch([5]), sources.synthetic(16, 7, 3).batch([5]))
    assert open_source("synthetic:leaves").resolution == (32, 32)
    assert len(open_source("synthetic:leaves")) == 50_000
    assert open_source("synthetic:leaves", resolution=64).resolution == (64, 64)


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("synthetic:trees", "the only one is synthetic:leaves"),
        ("synthetic:leaves,size=3", "no option size; it has resolution, n, seed"),
        ("synthetic:leaves,seed=x", "seed is a whole number, not 'x'"),
        ("synthetic:leaves,seed=-1", "not '-1'"),
        ("synthetic:leaves,resolution=33", "not 33"),
        ("synthetic:leaves,n=4@2:9", "has 4"),
        ("synthetic:leaves,n=4@3:3", "3:3"),
    ],
)
def test_synthetic_refuses_what_it_does_not_know(text, fact):
    with pytest.raises(SourceError, match=fact):
        open_source(text)


def test_an_option_given_twice_is_refused():
    with pytest.raises(OptionError, match="seed is given twice"):
        open_source("synthetic:leaves,seed=1,seed=2")


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("photoz", "photoz does not exist; there is photos"),
        ("nowhere/photos", "nowhere/photos does not exist; neither does nowhere"),
        ("", "names no images"),
        ("prgan:photos", "neither a file nor a directory.*fake:, synthetic:"),
        ("photos,seed=3", r"options need a scheme, such as progan:photos"),
        ("C:\\photos", "does not exist"),
        ("photos@0:9", "asks for images 0 to 8; photos has 6"),
        ("photos/0.png", "is a single image"),
        ("text.txt", "not a directory, zip, npz or npy of images, nor a checkpoint of fake"),
        ("empty.bin", "the file is empty"),
        ("set.pgstats", "holds statistics of images, not images"),
        ("model.pt", "pickled torch file.*sources.generator"),
        ("exported.pt2", r"written by torch.export.save.*generator\(torch.export.load\('exported.pt2'\).mod"),
        ("scripted.ts", r"written by torch.jit.save.*generator\(torch.jit.load\('scripted.ts'\), latent_dim"),
        ("archive.zip", "holds no png"),
    ],
)
def test_what_cannot_be_opened_says_what_was_found(here, plugin, text, fact):
    write(here, {"text.txt": b"hello", "empty.bin": b"", "set.pgstats/a.npy": b""})
    torch.save({"a": torch.zeros(2)}, here / "model.pt")
    write_zip(here / "exported.pt2", {"x/archive_format": b"pt2", "x/data/sample_inputs/model.pt": b""})
    write_zip(here / "scripted.ts", {"x/data.pkl": b"", "x/code/__torch__.py": b""})
    write_zip(here / "archive.zip", {"notes.txt": b""})
    with pytest.raises(PgmetricsError, match=fact) as refusal:
        open_source(text)
    assert "\n" not in str(refusal.value)


MODULE = """
import numpy as np
images = np.arange(5 * 4 * 4 * 3, dtype=np.uint8).reshape(5, 4, 4, 3)
def make(indices):
    return np.stack([images[i % 5].transpose(2, 0, 1) for i in indices])
def factory():
    return make
def array_factory(folder="x"):
    return images
class holder:
    inner = images
number = 3
import torch
network = torch.nn.Linear(3, 4)
"""


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("user_images:images", 5),
        ("user_images:make", 50_000),
        ("user_images:make,n=9", 9),
        ("user_images:factory,n=9", 9),
        ("user_images:array_factory", 5),
        ("user_images:holder.inner", 5),
        ("user_images:images@1:3", 2),
    ],
)
def test_python_names_may_be_images_functions_or_factories(here, text, length):
    (here / "user_images.py").write_text(MODULE)
    try:
        path = list(sys.path)
        source = open_source(text)
        assert len(source) == length
        assert source.batch([0]).shape == (1, 3, 4, 4)
        assert sys.path == path
    finally:
        sys.modules.pop("user_images", None)


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("user_images:nothing", "user_images has no nothing"),
        ("user_images:number", "int is not a source"),
        ("user_images:images,n=3", "has its own length"),
        ("user_images:make,seed=3", "the only option of module:name is n, not seed"),
        ("user_images:network", r"is a network; wrap it in pgmetrics\.sources\.generator"),
        ("broken_images:make", "importing broken_images failed: ZeroDivisionError"),
        ("user_image:make", "neither a Python module"),
    ],
)
def test_python_names_that_are_no_images(here, text, fact):
    (here / "user_images.py").write_text(MODULE)
    (here / "broken_images.py").write_text("1 / 0")
    try:
        with pytest.raises(SourceError, match=fact):
            open_source(text)
    finally:
        sys.modules.pop("user_images", None)


def test_objects_become_sources():
    source = sources.synthetic(8, 4, 0)
    assert open_source(source) is source
    nhwc = pixels(3)
    nchw = nhwc.transpose(0, 3, 1, 2)
    for images in (nhwc, nchw, torch.from_numpy(nchw.copy()), list(nhwc), lambda i: nchw[i]):
        if callable(images):
            images = sources.function(images, 3)
        np.testing.assert_array_equal(open_source(images).batch(range(3)), nchw)
    with pytest.raises(SourceError, match="float is not a source"):
        open_source(3.0)


def test_importing_sources_loads_no_torch():
    # Every decoding process would wait for it.
    code = (
        "import sys, pgmetrics.sources.loading, pgmetrics.sources as s\n"
        "[getattr(s, name) for name in s.__all__]\n"
        "s.open_source('synthetic:leaves').batch([0])\n"
        "print('torch' in sys.modules, 'pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_a_python_name_is_whatever_stands_there_uncalled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loader_of_mine.py").write_text("def load(path='x'):\n    return path\n")
    assert named("loader_of_mine:load")("y") == "y"
    with pytest.raises(SourceError, match="has no unload"):
        named("loader_of_mine:unload")
    for text in ("loader_of_mine", "loader_of_mine:", "no/path:name"):
        with pytest.raises(SourceError, match="is written module:name"):
            named(text)


_MAKERS = """
import functools, numpy as np, torch
from torch import nn
from pgmetrics import sources

def network(seed=None):
    if seed is not None:
        torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 12), nn.Tanh(), nn.Unflatten(1, (3, 2, 2)))

def random_network(): return sources.generator(network(), 4, n=40)
def seeded_network(): return sources.generator(network(5), 4, n=40)
inner = network()
at_import = sources.generator(network(), 4, n=40)
random_at_import = np.random.randint(0, 256, (9, 4, 4, 3)).astype(np.uint8)
seeded_at_import = sources.generator(network(5), 4, n=40)
def of_import(): return sources.generator(inner, 4, n=40)
@functools.cache
def remembered(): return random_array()
def function(indices): return random_at_import[np.array(indices) % 9].transpose(0, 3, 1, 2)

def random_array(): return np.random.randint(0, 256, (9, 4, 4, 3)).astype(np.uint8)
def seeded_array(): return np.random.default_rng(1).integers(0, 256, (9, 4, 4, 3)).astype(np.uint8)
def fails(): raise ZeroDivisionError("no such layer")
calls = []
def slow():
    calls.append(len(calls))
    return random_array()
"""


@pytest.fixture
def makers(tmp_path, monkeypatch):
    (tmp_path / "makers.py").write_text(_MAKERS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield "makers"
    sys.modules.pop("makers", None)


@pytest.mark.parametrize("name", ["random_network", "random_array"])
def test_a_maker_that_gives_other_images_each_time_is_refused(makers, name):
    before = global_states()
    with pytest.raises(
        SourceError, match=f"makers:{name}: each call gives different images; load trained"
    ) as refusal:
        open_source(f"{makers}:{name}")
    assert "\n" not in str(refusal.value)
    assert global_states() == before


@pytest.mark.parametrize(
    "name", ["at_import", "random_at_import", "of_import", "remembered", "function", "function,n=9"]
)
def test_what_chance_decides_when_the_module_is_imported_is_refused(makers, name):
    # Catches asking only the copy that was imported: another network in each process, and nothing said.
    before = global_states()
    # From here on the module is known, and the generators stand where they stood before it was imported.
    assert len(open_source(f"{makers}:seeded_at_import")) == 40
    message = f"makers:{name}: each import of its module gives different images; load trained weights"
    with pytest.raises(SourceError, match=message) as refusal:
        open_source(f"{makers}:{name}")
    assert "\n" not in str(refusal.value)
    assert global_states() == before


def test_a_module_that_can_be_imported_once_is_taken_and_told(tmp_path, monkeypatch, caplog):
    text = "import sys\nif hasattr(sys, '_met'): raise RuntimeError('met')\nsys._met = 1\n" + _MAKERS
    (tmp_path / "makers_once.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "_met", 1, raising=False)
    monkeypatch.delattr(sys, "_met")
    try:
        for _ in range(2):
            assert len(open_source("makers_once:random_at_import")) == 9
    finally:
        sys.modules.pop("makers_once")
    (record,) = caplog.records
    assert re.match(
        r"makers_once:random_at_import: makers_once cannot be imported twice \(met\): it was not seen",
        record.getMessage(),
    )


@pytest.mark.parametrize("name", ["seeded_network", "seeded_array", "seeded_at_import"])
def test_a_maker_that_is_seeded_is_taken(makers, name):
    before = global_states()
    source = open_source(f"{makers}:{name}")
    assert source.batch([0]).shape[1] == 3
    assert global_states() == before


def test_a_maker_that_fails_is_one_line(makers):
    with pytest.raises(SourceError, match=r"makers:fails: ZeroDivisionError: no such layer$"):
        open_source(f"{makers}:fails")


def test_a_maker_that_takes_long_is_called_once(makers, monkeypatch):
    now = iter(range(0, 1000, 11))
    monkeypatch.setattr(resolve.time, "monotonic", lambda: next(now))
    open_source(f"{makers}:slow")
    assert sys.modules["makers"].calls == [0]
