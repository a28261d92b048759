"""Every source, and every wrapper around one, keeps the contract."""

import zipfile

import numpy as np
import pytest
import torch

from pgmetrics import sources
from pgmetrics.sources.resize import Resized
from pgmetrics.sources.wrappers import Mirrored, Subset
from tests.contracts.source_contract import check_source
from tests.helpers.image_files import encoded, pixels, write, write_zip

N, HEIGHT, WIDTH = 7, 12, 8


class Network(torch.nn.Module):
    """Mixes the images of a batch in training mode, as batch normalization does."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.linear = torch.nn.Linear(5, 3 * HEIGHT * WIDTH)
        with torch.no_grad():
            self.linear.weight.copy_(torch.randn(self.linear.weight.shape, generator=generator))
        self.norm = torch.nn.BatchNorm2d(3)

    def forward(self, z):
        return torch.tanh(self.norm(self.linear(z).reshape(-1, 3, HEIGHT, WIDTH)))


class Items:
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], index % 2


def folder_of(tmp_path, suffix=".png"):
    images = pixels(N, HEIGHT, WIDTH)
    return write(tmp_path / "set", {f"{i % 2}/{i:03}{suffix}": encoded(images[i], suffix) for i in range(N)})


def by_index(indices):
    ramp = np.arange(3 * HEIGHT * WIDTH).reshape(1, 3, HEIGHT, WIDTH)
    return ((ramp * (np.array(indices).reshape(-1, 1, 1, 1) + 1)) % 256).astype(np.uint8)


def make(kind, tmp_path):
    nhwc = pixels(N, HEIGHT, WIDTH)
    if kind in ("png", "jpg", "webp", "bmp", "tif"):
        return sources.open_source(folder_of(tmp_path, f".{kind}"))
    if kind.startswith("zip"):
        method = zipfile.ZIP_DEFLATED if kind == "zip deflated" else zipfile.ZIP_STORED
        contents = {f"{i}.png": encoded(nhwc[i]) for i in range(N)}
        return sources.open_source(write_zip(tmp_path / "set.zip", contents, method))
    if kind == "npy":
        np.save(tmp_path / "set.npy", nhwc)
        return sources.open_source(tmp_path / "set.npy")
    if kind.startswith("npz"):
        save = np.savez_compressed if kind == "npz deflated" else np.savez
        save(tmp_path / "set.npz", nhwc, np.arange(N))
        return sources.open_source(tmp_path / "set.npz")
    return {
        "array": lambda: sources.array(nhwc),
        "array of floats": lambda: sources.array(nhwc / 255.0, value_range=(0, 1)),
        "grey array": lambda: sources.array(nhwc[..., 0]),
        "tensor": lambda: sources.array(torch.from_numpy(nhwc.transpose(0, 3, 1, 2).copy())),
        "dataset": lambda: sources.dataset(Items(nhwc)),
        "function": lambda: sources.function(by_index, 9),
        "generator": lambda: sources.generator(Network(), 5, n=11, batch_size=4),
        "synthetic": lambda: sources.synthetic(16, 8, 3),
        "subset": lambda: Subset(sources.open_source(folder_of(tmp_path)), 2, 6),
        "mirrored": lambda: Mirrored(sources.open_source(folder_of(tmp_path)), 0),
        "resized": lambda: Resized(sources.synthetic(16, 8, 3), "crop-lanczos", 7),
        "resized files": lambda: sources.open_source(folder_of(tmp_path), resize="bicubic", resolution=5),
        "slice": lambda: sources.open_source(f"{folder_of(tmp_path)}@0:5"),
    }[kind]()


KINDS = [
    *("png", "jpg", "webp", "bmp", "tif", "zip stored", "zip deflated", "npy", "npz stored", "npz deflated"),
    *("array", "array of floats", "grey array", "tensor", "dataset", "function", "generator", "synthetic"),
    *("subset", "mirrored", "resized", "resized files", "slice"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_keeps_the_contract(kind, tmp_path):
    check_source(make(kind, tmp_path))
