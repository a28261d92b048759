"""Networks from files and names: what is opened, and what is refused as damaged or as code that could run."""

import pickle
import sys
import zipfile

import pytest
import torch
from torch import nn

from pgmetrics.errors import OptionError, WeightsError
from tests.helpers.custom_networks import (
    SIDE,
    Tiny,
    expected,
    exported,
    module_text,
    opened,
    pickled,
    pixels,
    rewritten,
    scripted,
    zipped,
)
from tests.helpers.global_states import global_states


@pytest.mark.parametrize("how", ["script", "trace", "freeze"])
def test_torchscript_gives_what_the_network_gives(tmp_path, how):
    path = scripted(Tiny().eval(), tmp_path / "net.pt", how)
    images = pixels()
    rows = opened(path).extract(images, ["features"])["features"]
    torch.testing.assert_close(rows, expected(Tiny(), images), rtol=1e-5, atol=1e-6)
    assert rows.dtype == torch.float32


@pytest.mark.slow
@pytest.mark.parametrize("fixed", [False, True])
def test_an_exported_network_gives_what_the_network_gives(tmp_path, fixed):
    path = exported(Tiny().eval(), tmp_path / "net.pt2", fixed)
    network = opened(path, length=None)
    images = pixels(7)
    rows = network.extract(images, ["features"])["features"]
    torch.testing.assert_close(rows, expected(Tiny(), images), rtol=1e-5, atol=1e-6)
    assert network.length == (4 if fixed else 32)


@pytest.mark.parametrize(
    "text",
    [
        "class make(nn.Module):\n    def forward(self, x): return x.mean((2, 3))",
        "def make(): return lambda x: x.mean((2, 3))",
        "def make(images): return images.mean((2, 3))",
        "class Net(nn.Module):\n    def forward(self, x): return x.mean((2, 3))\nmake = Net()",
    ],
    ids=["class", "factory", "function", "module"],
)
def test_a_python_name_gives_what_it_names(tmp_path, monkeypatch, text):
    network = opened(module_text(tmp_path, monkeypatch, text))
    images = pixels()
    rows = network.extract(images, ["features"])["features"]
    torch.testing.assert_close(rows, (images / 127.5 - 1).mean((2, 3)))


def test_a_file_saved_in_training_mode_is_refused(tmp_path):
    # An exported batch norm in training mode cannot be put into eval mode.
    path = exported(Tiny().train(), tmp_path / "net.pt2", fixed=True)
    with pytest.raises(WeightsError, match=r"saved in training mode, call network.eval\(\) before saving"):
        opened(path)


def test_another_length_than_the_exported_one_is_refused(tmp_path):
    path = exported(Tiny().eval(), tmp_path / "net.pt2", fixed=True)
    with pytest.raises(OptionError, match="exported for 4 images at a time, not 8"):
        opened(path, length=8)


@pytest.mark.parametrize(
    ("make", "fact"),
    [
        (lambda path: path, "cannot be opened: No such file"),
        (lambda path: path.mkdir() or path, "cannot be opened: it is a directory"),
        (
            lambda path: path.write_bytes(b"text") and path,
            "is not a TorchScript or torch.export file, or it is",
        ),
        (
            lambda path: path.write_bytes(pickle.dumps([1])) and path,
            "is not a TorchScript or torch.export file",
        ),
        (lambda path: torch.save(Tiny(), path) or path, "is a pickled torch file, which is not opened"),
        (lambda path: torch.save(Tiny().state_dict(), path) or path, "is a pickled torch file"),
        (lambda path: zipped(path, {"a.png": b"x"}), "is not a TorchScript or torch.export file; save"),
        (lambda path: zipped(path, {"n/code/a.py": b"x"}), "cannot be opened as TorchScript"),
        (lambda path: zipped(path, {"n/archive_format": b"pt2"}), "cannot be opened by torch.export"),
    ],
    ids=["missing", "directory", "text", "pickle", "module", "weights", "zip", "script", "export"],
)
def test_a_file_that_holds_no_network_is_refused(tmp_path, capfd, make, fact):
    with pytest.raises(WeightsError, match=fact) as refusal:
        opened(make(tmp_path / "net.pt"))
    assert "\n" not in str(refusal.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("form", ["script", "export"])
def test_a_truncated_file_is_refused(tmp_path, form):
    path = (scripted if form == "script" else exported)(Tiny().eval(), tmp_path / "net")
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(WeightsError, match="or it is truncated"):
        opened(path)


def test_a_truncated_file_of_files_is_refused_as_truncated(tmp_path):
    # The layout before torch 2.8: what is found at the end of the rest is the directory of a file in it.
    members = {"serialized_exported_program.json": b"{}", "serialized_state_dict.pt": pickled([1])}
    path = zipped(tmp_path / "net", members)
    with zipfile.ZipFile(path) as archive:
        end = archive.start_dir
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(WeightsError, match="or it is truncated"):
        opened(path)


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize("where", ["inputs", "weights", "older", "compiled"])
def test_an_exported_file_that_could_run_code_is_refused(tmp_path, where):
    path, mark = exported(Tiny().eval(), tmp_path / "net.pt2"), tmp_path / "ran"
    if where == "inputs":
        rewritten(path, lambda name, old: pickled(Bomb(mark)) if "_inputs" in name else old)
    elif where == "weights":
        rewritten(
            path,
            lambda name, old: (
                old.replace(b'"use_pickle": false', b'"use_pickle": true')
                if name.endswith("weights_config.json")
                else pickled(Bomb(mark))
                if "/weights/" in name or name == "serialized_state_dict.pt"
                else old
            ),
        )
    elif where == "older":  # the layout before torch 2.8
        members = {"version": b"8.8", "serialized_exported_program.json": b"{}"}
        zipped(path, members | {"serialized_state_dict.pt": pickled(Bomb(mark))})
    else:
        rewritten(path, lambda name, old: old)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("net/data/aotinductor/model/a.so", b"x")
    with pytest.raises(WeightsError, match=r"could run any code|compiled code") as refusal:
        opened(path)
    assert not mark.exists()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "name", "fact"),
    [
        ("make = 5", "mine:make", "mine:make is int; a Module, a function"),
        ("make = 5", "mine:other", "mine:other: mine has no other"),
        ("1 / 0", "mine:make", "importing mine failed: ZeroDivisionError: division by zero"),
        ("", "nowhere_at_all:make", "nowhere_at_all:make is not a file, and importing nowhere_at_all failed"),
        ("def make(): raise OSError('no disk')", "mine:make", "mine:make: calling it failed: no disk"),
    ],
)
def test_a_name_that_holds_no_network_is_refused(tmp_path, monkeypatch, text, name, fact):
    module_text(tmp_path, monkeypatch, text)
    with pytest.raises(WeightsError, match=fact) as refusal:
        opened(name)
    assert "\n" not in str(refusal.value)


class Deaf(nn.Module):
    """A network whose ReLU makes 0 of NaN, as oneDNN's does."""

    def __init__(self, value, where="weight"):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
        self.register_buffer("scale", torch.ones(2), persistent=False)
        with torch.no_grad():
            {"weight": self.conv.weight, "variance": self.norm.running_var, "scale": self.scale}[where].view(
                -1
            )[-1] = value

    def forward(self, images):
        made = torch.nan_to_num(self.norm(self.conv(images)).mean((2, 3)), 0.0, 0.0, 0.0)
        return made + (self.mask.exp() * self.scale).sum()


_DAMAGE = [("weight", torch.nan), ("weight", torch.inf), ("variance", torch.inf), ("scale", torch.nan)]


_FORMS = ["object", "script", "trace", "freeze", "export"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "where", "value"),
    # Freezing folds the batch norm, whose factor becomes 0: the infinity is gone from the file.
    [(f, *damage) for f in _FORMS for damage in _DAMAGE if (f, damage[0]) != ("freeze", "variance")],
)
def test_weights_that_are_not_finite_are_refused_whatever_the_features(tmp_path, form, where, value):
    make = {
        "object": lambda network: network,
        "export": lambda network: exported(network, tmp_path / "net.pt2"),
    }.get(form, lambda network: scripted(network, tmp_path / "net.pt", form))
    with pytest.raises(WeightsError, match=r"is damaged: its .* holds values that are not finite") as refusal:
        opened(make(Deaf(value, where).eval()))
    assert "\n" not in str(refusal.value)
    # An attention mask may hold infinities.
    assert opened(make(Deaf(0.5, where).eval())).layers == ("features",)


_NET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
    def forward(self, x): return self.conv(x).mean((2, 3))
"""


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        (_NET + "def make(): return Net()", "makes a different network each time"),
        (_NET + "make = Net", "makes a different network each time"),
        (_NET + "make = Net()", "makes a different network each time"),
        (
            _NET + "import functools\n@functools.cache\ndef make(): return Net()",
            "makes a different network each time",
        ),
        (_NET + "net = Net()\ndef make(): return nn.Sequential(net)", "makes a different network each time"),
        (
            "W = torch.rand(3, 2)\ndef make(images): return images.mean((2, 3)) @ W",
            "gives different features when",
        ),
        (
            "def make():\n    W = torch.rand(3, 2)\n    return lambda x: x.mean((2, 3)) @ W",
            "gives different features",
        ),
    ],
    ids=["factory", "class", "module", "cached", "wrapper", "function", "factory of a function"],
)
@pytest.mark.parametrize("size", [(SIDE, SIDE), None])
def test_a_name_that_is_another_network_in_each_process_is_refused(tmp_path, monkeypatch, text, fact, size):
    # Catches asking only the copy that was imported: torchvision's resnet18 scored 7.5, then 14.4.
    before = global_states()
    name = module_text(tmp_path, monkeypatch, text)
    with pytest.raises(WeightsError, match=f"mine:make {fact}.*random.*load trained weights") as refusal:
        opened(name, resolution=size).extract(pixels(), ["features"])
    assert "\n" not in str(refusal.value)
    assert global_states() == before


@pytest.mark.parametrize(
    "text",
    [
        _NET + "def make():\n    torch.manual_seed(3)\n    return Net()",
        _NET + "torch.manual_seed(3)\nmake = Net()",
        "import sys\nif '_seen' in vars(sys): raise RuntimeError('twice')\nsys._seen = 1\n"
        + _NET
        + "torch.manual_seed(3)\nmake = Net()",
    ],
    ids=["factory", "module", "imported only once"],
)
def test_weights_that_are_seeded_are_taken(tmp_path, monkeypatch, text):
    monkeypatch.delattr(sys, "_seen", raising=False)
    network = opened(module_text(tmp_path, monkeypatch, text))
    assert network.extract(pixels(), ["features"])["features"].shape == (5, 4)
