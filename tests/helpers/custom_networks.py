"""Small custom networks in every form, and files that only look like one."""

import io
import sys
import textwrap
import warnings
import zipfile

import numpy as np
import torch
from torch import nn

from pgmetrics.features.custom import custom_network

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


def zipped(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def pickled(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def rewritten(path, change):
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    changed = {name: change(name, content) for name, content in members.items()}
    return zipped(path, {name: content for name, content in changed.items() if content is not None})
