"""What Python code passes for images: each input is taken, or refused in one line with the way out."""

import functools
import io
import types

import numpy as np
import pytest
import torch
from PIL import Image

from pgmetrics import sources
from pgmetrics.errors import OptionError, PgmetricsError, SourceError
from pgmetrics.runtime.images import to_bytes
from pgmetrics.sources.generated import latents
from tests.helpers.image_files import pixels

pytestmark = [
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors"),
    pytest.mark.filterwarnings("ignore:.*uantiz"),
]

NHWC = pixels(20, 6, 9)
NCHW = np.ascontiguousarray(NHWC.transpose(0, 3, 1, 2))
TENSOR = torch.from_numpy(NCHW)
FLOATS = NCHW / 255
PICTURES = [Image.fromarray(image) for image in NHWC]
RGBA = [Image.fromarray(np.dstack([image, np.full((6, 9), 128, np.uint8)])) for image in NHWC]


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(TENSOR)

    def __len__(self):
        return len(TENSOR)


class Failing:
    """A Dataset that cannot read its items."""

    def __len__(self):
        return 20

    def __getitem__(self, index):
        raise FileNotFoundError(f"no {index}.png\nsecond line")


class Unsized(Failing):
    def __len__(self):
        raise NotImplementedError


def read_only(images):
    images = images.copy()
    images.flags.writeable = False
    return images


def opened_npz():
    file = io.BytesIO()
    np.savez(file, images=NHWC, labels=np.arange(20))
    file.seek(0)
    return np.load(file)


def ranged(value_range):
    return lambda: sources.array(FLOATS, value_range=value_range)


TAKEN = {
    "read-only": lambda: read_only(NHWC),
    "read-only floats": lambda: sources.array(read_only(FLOATS), value_range=(0, 1)),
    "not contiguous": lambda: np.repeat(NHWC, 2, 0)[::2],
    "backwards": lambda: NHWC[::-1].copy()[::-1],
    "Fortran order": lambda: np.asfortranarray(NHWC),
    "not contiguous tensor": lambda: torch.from_numpy(NHWC).permute(0, 3, 1, 2),
    "channels last": lambda: TENSOR.contiguous(memory_format=torch.channels_last),
    "tensor with a gradient": lambda: sources.array(
        torch.from_numpy(FLOATS).requires_grad_(), value_range=(0, 1)
    ),
    "inference tensor": lambda: torch.inference_mode()(TENSOR.clone)(),
    "half": lambda: sources.array(torch.from_numpy(FLOATS).half(), value_range=(0, 1)),
    "int64": lambda: sources.array(NHWC.astype(np.int64), value_range=(0, 255)),
    "range that is a tensor": lambda: sources.array(FLOATS, value_range=torch.tensor([0, 1])),
    "range that is a list": lambda: sources.dataset(list(FLOATS), value_range=[0, 1]),
    "lazily negated tensor": lambda: sources.array(
        torch.complex(TENSOR / 255, TENSOR / -255).conj().imag, value_range=(0, 1)
    ),
    "tensor with channels last, as advised": lambda: torch.from_numpy(NHWC).permute(0, 3, 1, 2),
    "int64 tensor": lambda: sources.array(TENSOR.long(), value_range=(0, 255)),
    "uint16": lambda: sources.array(NHWC.astype(np.uint16) * 257, value_range=(0, 65535)),
    "big-endian floats": lambda: sources.array(FLOATS.astype(">f4"), value_range=(0, 1)),
    "memory-mapped as the refusal advises": lambda: sources.array(
        NHWC.astype(np.int64).view(np.memmap), value_range=(0, 255)
    ),
    "list of PIL images": lambda: PICTURES,
    "list of tensors": lambda: list(TENSOR),
    "tuple of arrays": lambda: tuple(NHWC),
    "list of int64 tensors": lambda: sources.dataset(list(TENSOR.long()), value_range=(0, 255)),
    "dictionary by index": lambda: dict(enumerate(NHWC)),
    "items that are tuples": lambda: [(image, 7) for image in TENSOR],
    "items that are dictionaries": lambda: [{"label": 7, "image": image} for image in PICTURES],
    "items with the image second": lambda: sources.dataset([(7, i) for i in NHWC], column=1),
    "items with two images": lambda: sources.dataset([{"a": i[::2], "b": i} for i in NHWC], column="b"),
    "TensorDataset": lambda: torch.utils.data.TensorDataset(TENSOR, torch.arange(20)),
    "torch Subset": lambda: torch.utils.data.Subset(list(NHWC), range(20)),
    "IterableDataset as advised": lambda: list(Stream()),
    "DataLoader as advised": lambda: torch.utils.data.DataLoader(PICTURES).dataset,
    "function of fewer images, as advised": lambda: sources.function(lambda i: TENSOR[i], n=20),
    "function that gives int64": lambda: sources.function(
        lambda i: TENSOR.long()[i], n=20, value_range=(0, 255)
    ),
    "sparse tensor as advised": lambda: TENSOR.to_sparse().to_dense(),
    "quantized tensor as advised": lambda: sources.array(
        torch.quantize_per_tensor(TENSOR.float(), 1.0, 0, torch.quint8).dequantize(), value_range=(0, 255)
    ),
    "list of a nested tensor as advised": lambda: list(torch.nested.nested_tensor(list(TENSOR)).unbind()),
}


@pytest.mark.parametrize("make", TAKEN.values(), ids=TAKEN)
def test_python_inputs_that_are_taken(make):
    np.testing.assert_array_equal(sources.open_source(make()).batch(range(20)), NCHW)


REFUSED = {
    "npz": (opened_npz, r"NpzFile holds several things by name: 'images', 'labels'; .* x\['images'\]"),
    "DatasetDict": (lambda: {"train": NHWC}, r"dict holds several things by name: 'train'; .*x\['train'\]"),
    "empty dictionary": (dict, "dict is empty"),
    "IterableDataset with a length": (Stream, r"Stream can only be read in its order; pass list\(x\)"),
    "iterator": (lambda: iter(NHWC), r"can only be read in its order; pass list\(x\)"),
    "DataLoader": (lambda: torch.utils.data.DataLoader(PICTURES), r"loader\.dataset"),
    "Dataset that fails": (Failing, r"item 0 of Failing cannot be read: FileNotFoundError: no 0\.png$"),
    "Dataset without a length": (Unsized, "Unsized has no length: NotImplementedError$"),
    "function of fewer images": (
        lambda: lambda i: TENSOR[i],
        r"fails on the indices \[0, 16666, .*IndexError.*images 0 to 49,999: .*function\(f, n=\.\.\.\)",
    ),
    "function of fewer arguments": (lambda: lambda: NCHW, "TypeError: .*called with a list of indices alone"),
    "function that gives a list": (
        lambda: sources.function(lambda i: [NHWC[j] for j in i], n=20),
        r"returned list; an array or tensor \[N, 3, H, W\].*np\.stack",
    ),
    "function that gives int64": (
        lambda: sources.function(lambda i: TENSOR.long()[i], n=20),
        r"returned int64; pass value_range=\(0, 255\)",
    ),
    "empty range": (ranged((0, 0)), "rises from a number to another"),
    "inverted range": (ranged((1, 0)), "rises from a number to another"),
    "range of a number": (ranged(1), "is two numbers"),
    "range of three numbers": (ranged((0, 1, 2)), "is two numbers"),
    "range of nothing": (ranged(()), "is two numbers"),
    "inverted range of bytes": (lambda: sources.array(NHWC, value_range=(1, 0)), "rises from a number"),
    "tensor with channels last": (lambda: torch.from_numpy(NHWC), r"needed: x\.permute\(0, 3, 1, 2\) has it"),
    "four channels": (lambda: np.concatenate([NHWC, NHWC[..., :1]], 3), r"needed: x\[\.\.\., :3\] drops the"),
    "four channels of a tensor": (lambda: torch.cat([TENSOR, TENSOR[:, :1]], 1), r"needed: x\[:, :3\] drops"),
    "int64": (lambda: NHWC.astype(np.int64), r"int64, .* pass value_range=\(0, 255\)"),
    "complex": (lambda: FLOATS + 1j, r"complex128; .*x\.real, or abs\(x\)"),
    "complex tensor": (lambda: torch.from_numpy(FLOATS + 1j), r"complex128; .*x\.real, or abs\(x\)"),
    "objects": (lambda: np.array([*NHWC, None], object)[:20], "shape"),
    "objects of images": (lambda: NHWC.astype(object), r"dtype object; .*np\.stack\(list\(x\)\)"),
    "sparse tensor": (TENSOR.to_sparse, r"array is a sparse tensor; pass x\.to_dense\(\)"),
    "meta tensor": (lambda: TENSOR.to("meta"), "array is on the meta device, which keeps no values"),
    "quantized tensor": (
        lambda: torch.quantize_per_tensor(TENSOR.float(), 1.0, 0, torch.quint8),
        r"array is a quantized tensor; pass x\.dequantize\(\), with its value_range",
    ),
    "nested tensor": (
        lambda: torch.nested.nested_tensor(list(TENSOR)),
        r"array is a nested tensor; a list of its images, list\(x\.unbind\(\)\)",
    ),
    "number in an array": (lambda: np.array(1), r"array has shape \[\]"),
    "array of a list": (lambda: sources.array(list(NHWC)), r"array is of type list; .*np\.stack\(x\)"),
    "list of paths": (lambda: ["a.png", "b.png"], r"item 0 of list is a path; .*PIL\.Image\.open\(path\)"),
    "list of numbers": (lambda: [1.0, 2.0], "item 0 of list is of type float; an image"),
    "items of two images": (
        lambda: [{"a": i, "b": i} for i in NHWC],
        r"item 0 of list is a dict with images in 'a', 'b'; .*dataset\(items, column='a'\)",
    ),
    "items with the image second": (lambda: [(7, i) for i in NHWC], r"images in 1; .*column=1\)"),
    "items without an image": (lambda: [{"label": 7}] * 2, "item 0 of list is a dict of 'label'; an image"),
    "column that is not there": (
        lambda: sources.dataset([{"image": i} for i in NHWC], column="img"),
        "item 0 of list has no column 'img'; its columns are 'image'",
    ),
    "transparent images": (lambda: RGBA, "item 0 of list has transparent pixels; .*white"),
    "none": (lambda: None, "NoneType is not a source"),
    "number": (lambda: 3, "int is not a source"),
}


@pytest.mark.parametrize(("make", "fact"), REFUSED.values(), ids=REFUSED)
def test_python_inputs_that_are_refused_in_one_line(make, fact):
    # Catches tracebacks: whatever has __len__ and __getitem__ was taken for a Dataset.
    with pytest.raises(PgmetricsError, match=fact) as refusal:
        sources.open_source(make())
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("alpha", ["white", "black", "drop"])
def test_transparent_images_in_a_list_are_composited_as_files_are(alpha, tmp_path):
    # Catches advising an option that only files had.
    for place, image in enumerate(RGBA):
        image.save(tmp_path / f"{place:02}.png")
    wanted = sources.open_source(tmp_path, alpha=alpha).batch(range(20))
    np.testing.assert_array_equal(sources.open_source(RGBA, alpha=alpha).batch(range(20)), wanted)
    np.testing.assert_array_equal(sources.dataset(RGBA, alpha=alpha).batch(range(20)), wanted)


def test_an_unknown_alpha_of_a_dataset_is_refused():
    with pytest.raises(OptionError, match="alpha is white, black or drop, not 'red'"):
        sources.dataset(RGBA, alpha="red")


class Network(torch.nn.Module):
    """Shows its latents; conditional, and with dropout and a batch norm, if asked."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(0.2))
        self.norm = torch.nn.Sequential(torch.nn.BatchNorm2d(1), torch.nn.Dropout(0.5))

    def forward(self, z):
        images = self.scale * z.reshape(len(z), 1, 2, 3)
        return self.norm(images).expand(-1, 3, -1, -1)

    def sample(self, z):
        return self(z)

    def conditional(self, z, c, psi=1.0):
        c = c.reshape(len(c), -1)[:, :1].to(z.dtype)
        return self(psi * z + c)


class Conditional(Network):
    def forward(self, z, labels):
        return super().forward(z + labels.reshape(-1, 1))


class Holding:
    """Not a module, but made from one."""

    def __init__(self, network):
        self.network = network

    def __call__(self, z):
        return self.network(z)


NETWORK = Network()
IMAGES = sources.generator(NETWORK, 6, n=20).batch(range(20))
GENERATORS = {
    "lambda": lambda z: NETWORK(z),
    "lambda of a local network": (lambda network: lambda z: network(z))(NETWORK),
    "decorated function": torch.no_grad()(lambda z: NETWORK(z)),
    "bound method": NETWORK.sample,
    "method of another object": Holding(NETWORK).__call__,
    "callable object": Holding(NETWORK),
    "partial": functools.partial(lambda network, z: network(z), NETWORK),
    "partial of a method": functools.partial(NETWORK.conditional, c=torch.zeros(32)),
    "tuple": lambda z: (NETWORK(z), z),
    "list": lambda z: [z, NETWORK(z)],
    "dictionary": lambda z: {"rgb": NETWORK(z), "latent": z},
    "object with images": lambda z: types.SimpleNamespace(images=NETWORK(z)),
    "object with sample": lambda z: types.SimpleNamespace(sample=NETWORK(z)),
    "array": lambda z: NETWORK(z).numpy(),
    "sparse, as advised": lambda z: NETWORK(z).to_sparse().to_dense(),
}


@pytest.mark.parametrize("make", GENERATORS.values(), ids=GENERATORS)
def test_functions_of_latents_are_scored_as_their_networks_are(make):
    # Catches a function that hides its network from eval(): dropout and batch norm would have it refused.
    NETWORK.train()
    source = sources.generator(make, 6, n=20)
    np.testing.assert_array_equal(source.batch(range(20)), IMAGES)
    assert NETWORK.training
    assert int(NETWORK.norm[0].num_batches_tracked) == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_functions_get_latents_of_their_networks_type(dtype):
    network = torch.nn.Sequential(torch.nn.Linear(6, 18), torch.nn.Tanh(), torch.nn.Unflatten(1, (3, 2, 3)))
    wide = sources.generator(network, 6, n=4).batch(range(4)).astype(int)
    network.to(dtype)
    half = sources.generator(lambda z: (network(z), z), 6, n=4).batch(range(4))
    assert np.abs(half - wide).max() <= 2


def test_a_function_moves_its_networks():
    network = Network()
    source = sources.generator(lambda z: network(z), 6, n=4)
    source.to("meta")
    assert network.scale.is_meta


@pytest.mark.parametrize(
    "labels",
    [
        np.arange(20) % 3,
        torch.arange(20) % 3,
        [i % 3 for i in range(20)],
        np.eye(3, dtype=np.float16)[[0] * 20],
    ],
    ids=["classes", "tensor", "list", "vectors"],
)
def test_labels_go_to_the_images_of_their_indices(labels):
    # Catches labels by place in the batch: image 17 lies at place 5 of a batch of 6.
    source = sources.generator(NETWORK.conditional, 6, n=20, labels=labels, batch_size=6)
    c = torch.as_tensor(labels)
    drawn = torch.from_numpy(latents(0, range(20), (6,)))
    with torch.inference_mode():
        wanted = to_bytes(NETWORK.eval().conditional(drawn, c), (-1.0, 1.0)).numpy()
    np.testing.assert_allclose(source.batch([17, 3, 3, 19, 0]).astype(int), wanted[[17, 3, 3, 19, 0]], atol=1)


REFUSED_GENERATORS = {
    "conditional": (lambda: sources.generator(Conditional(), 6), "'labels'; give a conditional .* labels="),
    "labels by another name": (
        lambda: sources.generator(lambda z, *, y: NETWORK(z), 6, n=2, labels=[0, 1]),
        r"TypeError: .*rename them in a function, as lambda z, y: G\(z, labels=y\)",
    ),
    "fewer labels": (
        lambda: sources.generator(Conditional(), 6, labels=[1]),
        r"n=50,000 images.*int64 \[1\]",
    ),
    "names as labels": (
        lambda: sources.generator(Conditional(), 6, n=1, labels=["cat"]),
        "labels are numbers",
    ),
    "ragged labels": (
        lambda: sources.generator(Conditional(), 6, n=2, labels=[[1], [1, 2]]),
        "labels are one class or vector per image; ValueError",
    ),
    "class": (lambda: sources.generator(Network, 6), "Network is a class; pass a network of it"),
    "weights": (lambda: sources.generator(NETWORK.state_dict(), 6), "OrderedDict is neither a network nor"),
    "meta": (lambda: sources.generator(torch.nn.Linear(6, 18, device="meta"), 6), "on the meta device"),
    "fails": (lambda: sources.generator(lambda z: NETWORK(z)[99], 6), r"float32 \[32, 6\]: IndexError"),
    "another latent": (
        lambda: sources.generator(NETWORK, 5),
        r"fails on latents of .* \[32, 5\]: RuntimeError",
    ),
    "nothing": (lambda: sources.generator(lambda z: None, 6), "returned NoneType; an array or tensor"),
    "two images": (
        lambda: sources.generator(lambda z: (NETWORK(z), NETWORK(z)), 6),
        r"returned tuple, with images in 0, 1; .*lambda z: G\(z\)\[0\]",
    ),
    "tuple without images": (lambda: sources.generator(lambda z: (z, z), 6), "returned tuple; an array"),
    "number": (lambda: sources.generator(lambda z: z.sum(), 6), r"given 32 latents and returned \[\]"),
    "sparse": (lambda: sources.generator(lambda z: NETWORK(z).to_sparse(), 6), r"sparse.*to_dense\(\)"),
    "complex": (lambda: sources.generator(lambda z: NETWORK(z) * 1j, 6), "dtype complex64"),
    "latent_dim of a name": (
        lambda: sources.generator(NETWORK, "6"),
        "latent_dim is a whole number or a shape",
    ),
    "latent_dim of nothing": (lambda: sources.generator(NETWORK, ()), r"latent_dim is .*; not \(\)"),
    "latent_dim of 0": (lambda: sources.generator(NETWORK, 0), "latent_dim is .*; not 0"),
    "latent_dim of a fraction": (lambda: sources.generator(NETWORK, 6.5), r"latent_dim is .*; not 6\.5"),
    "latent_dim beyond memory": (lambda: sources.generator(NETWORK, 10**12), "latent_dim is .*; not 1000"),
    "n of a name": (lambda: sources.generator(NETWORK, 6, n="9"), "needs n from 1 to .*, not '9'"),
    "n of a function": (lambda: sources.function(lambda i: TENSOR[i], n=2.5), r"needs n from 1 .*, not 2\.5"),
    "no range": (lambda: sources.generator(NETWORK, 6, value_range=None), "is two numbers.*; not None"),
}


@pytest.mark.parametrize(("make", "fact"), REFUSED_GENERATORS.values(), ids=REFUSED_GENERATORS)
def test_generators_that_are_refused_in_one_line(make, fact):
    with pytest.raises((SourceError, OptionError), match=fact) as refusal:
        make()
    assert "\n" not in str(refusal.value)
