"""What Python code passes for images: each input is taken, or refused in one line with the way out."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from pgmetrics import sources
from pgmetrics.errors import OptionError, PgmetricsError
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
