"""A custom network: every form it may have, what is declared, and every refusal."""

import hashlib
import io
import pickle
import sys
import textwrap
import warnings
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from pgmetrics.errors import OptionError, WeightsError
from pgmetrics.features.custom import custom_network
from tests.helpers.global_states import global_states

SIDE = 32


class Tiny(nn.Module):
    """Eight features of an image: a convolution, a batch norm that has seen images, a mean."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2)
        self.norm = nn.BatchNorm2d(8)
        random = np.random.default_rng(1)
        for tensor in self.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.from_numpy(random.uniform(0.5, 1, tuple(tensor.shape))))

    def forward(self, images):
        return self.norm(self.conv(images)).mean((2, 3))


class WithLogits(Tiny):
    def forward(self, images):
        features = self.norm(self.conv(images)).mean((2, 3))
        return features, 2 * features[:, :5]


def pixels(n=5, height=SIDE, width=SIDE, seed=3):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (n, 3, height, width), np.uint8))


def expected(network, images, low=-1.0, high=1.0):
    """The definition, one image after the other."""
    network.eval()
    with torch.no_grad():
        return torch.cat([network(image[None] / 255 * (high - low) + low) for image in images])


def scripted(network, path, how="script"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is on its way out
        example = torch.zeros(4, 3, SIDE, SIDE)
        module = torch.jit.script(network) if how != "trace" else torch.jit.trace(network, example)
        if how == "freeze":
            module = torch.jit.freeze(module)
        torch.jit.save(module, str(path))
    return path


def exported(network, path, fixed=False):
    example = torch.zeros(4, 3, SIDE, SIDE)
    # Without a maximum, torch 2.6 finds the size at fault for not being shown to be below 2^63 - 1.
    shapes = None if fixed else ({0: torch.export.Dim("batch", max=4096)},)
    torch.export.save(torch.export.export(network, (example,), dynamic_shapes=shapes), path)
    return path


def module_text(tmp_path, monkeypatch, text):
    """A module `mine` in the current directory."""
    (tmp_path / "mine.py").write_text("import torch\nfrom torch import nn\n" + textwrap.dedent(text))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return "mine:make"


def opened(spec, **changes):
    options = {"resize": "none", "value_range": (-1, 1), "resolution": (SIDE, SIDE), "length": 4} | changes
    return custom_network(spec, **options)


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


def test_an_object_is_a_network_too():
    images = pixels()
    rows = opened(Tiny()).extract(images, ["features"])["features"]
    torch.testing.assert_close(rows, expected(Tiny(), images), rtol=1e-5, atol=1e-6)


def test_pixels_are_mapped_to_the_declared_range():
    images = pixels()
    rows = opened(lambda x: x.flatten(1), value_range=(0, 1)).extract(images, ["features"])["features"]
    torch.testing.assert_close(rows, images.flatten(1) / 255)
    ends = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].expand(2, 3, SIDE, SIDE)
    rows = opened(lambda x: x.flatten(1), value_range=(-2, 3)).extract(ends, ["features"])["features"]
    assert (rows.min(), rows.max()) == (-2, 3)


def test_images_are_brought_to_the_declared_size():
    seen = []

    def network(images):
        seen.append(images.shape)
        return images.mean((2, 3))

    extractor = opened(network, resize="pil-bicubic:24", resolution=None)
    extractor.extract(pixels(3, 40, 31), ["features"])
    assert set(seen) == {(4, 3, 24, 24)}
    constant = torch.full((4, 3, 40, 31), 51, dtype=torch.uint8)
    rows = extractor.extract(constant, ["features"])["features"]
    torch.testing.assert_close(rows, torch.full((4, 3), 51 / 127.5 - 1))


@pytest.mark.parametrize("form", ["module", "script", "export", "dict"])
def test_a_classifier_gives_logits_too(tmp_path, form):
    network = WithLogits().eval()
    if form == "script":
        network = scripted(network, tmp_path / "net.pt")
    elif form == "export":
        network = exported(network, tmp_path / "net.pt2")
    elif form == "dict":
        network = lambda x: dict(zip(["features", "logits"], WithLogits().eval()(x), strict=True))  # noqa: E731
    extractor = opened(network)
    assert extractor.layers == ("features", "logits")
    rows = extractor.extract(pixels(), ["logits", "features"])
    torch.testing.assert_close(rows["logits"], 2 * rows["features"][:, :5])
    assert opened(Tiny()).layers == ("features",)


def test_without_a_size_it_is_tried_out_on_the_first_images():
    extractor = opened(WithLogits(), resolution=None)
    rows = extractor.extract(pixels(3, 40, 31), ["logits"])["logits"]
    torch.testing.assert_close(rows, 2 * expected(Tiny(), pixels(3, 40, 31))[:, :5], rtol=1e-5, atol=1e-6)
    extractor = opened(Tiny(), resolution=None)
    with pytest.raises(WeightsError, match=r"Tiny returns no logits; \(features, logits\) gives both"):
        extractor.extract(pixels(), ["logits"])
    assert extractor.layers == ("features",)
    extractor = opened(spatial, resolution=None)
    with pytest.raises(WeightsError, match=r"shape \[4, 3, 2, 2\]"):
        extractor.extract(pixels(), ["features"])


def test_a_module_is_put_into_eval_mode():
    # In training mode a row would follow its batch, and the batch norm would follow the images.
    network = Tiny().train()
    images = pixels()
    before = network.norm.running_mean.clone()
    rows = opened(network).extract(images, ["features"])["features"]
    assert torch.equal(network.norm.running_mean, before)
    torch.testing.assert_close(rows, expected(Tiny(), images), rtol=1e-5, atol=1e-6)


def test_no_gradients_and_no_tf32_inside():
    seen = {}

    def network(images):
        seen["grad"] = torch.is_grad_enabled()
        seen["tf32"] = torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32
        return images.mean((2, 3))

    before = torch.backends.cudnn.allow_tf32
    opened(network).extract(pixels(), ["features"])
    assert seen == {"grad": False, "tf32": False}
    assert torch.backends.cudnn.allow_tf32 == before


def test_half_precision_outputs_become_float32():
    rows = opened(lambda x: x.mean((2, 3)).half()).extract(pixels(), ["features"])["features"]
    assert rows.dtype == torch.float32


def test_the_fingerprint_holds_all_that_was_declared(tmp_path, monkeypatch):
    path = scripted(Tiny().eval(), tmp_path / "net.pt")
    other = Tiny().eval()
    other.norm.running_mean += 1
    elsewhere = scripted(other, tmp_path / "other.pt")
    wide = {"resize": "pil-bicubic:16", "resolution": None}
    prints = [
        opened(path).fingerprint,
        opened(elsewhere).fingerprint,
        opened(path, value_range=(0, 1)).fingerprint,
        opened(path, **wide).fingerprint,
        opened(path, **wide | {"resize": "pil-bicubic:17"}).fingerprint,
        opened(Tiny()).fingerprint,
        opened(other).fingerprint,
    ]
    assert len(set(prints)) == len(prints)
    assert opened(path).fingerprint == prints[0]
    assert opened(Tiny()).fingerprint == prints[5]
    (tmp_path / "copy.pt").write_bytes(path.read_bytes())
    assert opened(tmp_path / "copy.pt").fingerprint == prints[0]


def test_the_protocol_is_plain_values(tmp_path):
    network = opened(scripted(Tiny().eval(), tmp_path / "net.pt"))
    protocol = network.protocol
    assert protocol["resizer"] == "none"
    assert protocol["value_range"] == [-1, 1]
    kind, digest = protocol["network"].split("=")
    assert kind == "torchscript sha256"
    assert digest == hashlib.sha256((tmp_path / "net.pt").read_bytes()).hexdigest()
    assert network.label == f"net.pt {digest[:8]} none"


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ({"resize": None}, "needs its resizer declared"),
        ({"value_range": None}, "needs its value range declared"),
        ({"resize": "pil-bicubic"}, "'pil-bicubic' is neither none nor NAME:SIZE"),
        ({"resize": "bicubicle:224"}, "'bicubicle:224' is neither none nor NAME:SIZE"),
        ({"resize": "pil-bicubic:0"}, "neither none nor NAME:SIZE"),
        ({"resize": "pil-bicubic:²"}, "neither none nor NAME:SIZE"),
        ({"value_range": (1, -1)}, "rises from a number to another, such as -1,1; not 1,-1"),
        ({"value_range": (0, float("inf"))}, "not 0,inf"),
        ({"value_range": (0, 1, 2)}, "two numbers"),
    ],
)
def test_what_is_not_declared_is_refused(options, fact):
    with pytest.raises(OptionError, match=fact) as refusal:
        opened(Tiny(), **options)
    assert "\n" not in str(refusal.value)


def spatial(images):
    return images[:, :, :2, :2]


@pytest.mark.parametrize(
    ("network", "fact"),
    [
        (lambda x: x.mean((2, 3), keepdim=True), r"shape \[4, 3, 1, 1\]; .*flatten\(1\)"),
        (spatial, r"spatial returns features of shape \[4, 3, 2, 2\]; \[N, D\] is needed"),
        (lambda x: x.mean((1, 2, 3)), r"shape \[4\]; \[N, D\] is needed"),
        (lambda x: x.mean((2, 3))[:, :0], r"shape \[4, 0\]"),
        (lambda x: x.mean((2, 3))[1:], "returns 3 rows of features for 4 images"),
        (lambda x: x.mean((2, 3)).long(), "features of torch.int64; a float type"),
        (lambda x: "text", "returns str as features; a tensor"),
        (lambda x: {"pooled": x, "tokens": x}, "a dict of pooled, tokens; .* under the key features"),
        (lambda x: (x, x, x), "returns 3 outputs"),
        (lambda x: (x.mean((2, 3)), x), r"returns logits of shape \[4, 3, 32, 32\]"),
        (lambda x: x @ torch.zeros(5, 5), r"fails on float32 \[4, 3, 32, 32\]: .*shapes"),
        (lambda x: nn.functional.batch_norm(x, None, None, training=True).amax((2, 3)), "in another batch"),
        (lambda x: nn.functional.dropout(x.flatten(1), training=True), "by chance"),
    ],
)
def test_a_network_that_does_not_make_rows_is_refused(network, fact):
    with pytest.raises(WeightsError, match=fact) as refusal:
        opened(network)
    assert "\n" not in str(refusal.value)


def test_only_the_first_line_of_a_networks_own_error_is_quoted():
    def network(images):
        raise RuntimeError("no such head\nand a page more")

    with pytest.raises(WeightsError, match=r"network fails on float32 \[4, 3, 32, 32\]: no such head$"):
        opened(network)


def test_a_file_saved_in_training_mode_is_refused(tmp_path):
    # An exported batch norm in training mode cannot be put into eval mode.
    path = exported(Tiny().train(), tmp_path / "net.pt2", fixed=True)
    with pytest.raises(WeightsError, match=r"saved in training mode, call network.eval\(\) before saving"):
        opened(path)


def test_another_length_than_the_exported_one_is_refused(tmp_path):
    path = exported(Tiny().eval(), tmp_path / "net.pt2", fixed=True)
    with pytest.raises(OptionError, match="exported for 4 images at a time, not 8"):
        opened(path, length=8)


def test_another_size_than_the_exported_one_is_refused(tmp_path):
    path = exported(Tiny().eval(), tmp_path / "net.pt2")
    with pytest.raises(WeightsError, match=r"fails on float32 \[4, 3, 24, 24\]") as refusal:
        opened(path, resize="pil-bicubic:24", resolution=None)
    assert "\n" not in str(refusal.value)


def zipped(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


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


def pickled(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def rewritten(path, change):
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    changed = {name: change(name, content) for name, content in members.items()}
    return zipped(path, {name: content for name, content in changed.items() if content is not None})


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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("form", ["module", "script", "export"])
def test_it_moves_to_a_gpu(tmp_path, form):
    network = Tiny().eval()
    if form != "module":
        network = (scripted if form == "script" else exported)(network, tmp_path / "net")
    rows = opened(network, device="cuda").extract(pixels().cuda(), ["features"])["features"]
    assert rows.is_cuda
    torch.testing.assert_close(rows.cpu(), expected(Tiny(), pixels()), rtol=1e-4, atol=1e-5)


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
