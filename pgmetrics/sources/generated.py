"""Images that are made when asked for: a function of indices, or a network fed with keyed latents."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pgmetrics import seeding
from pgmetrics.errors import SourceError
from pgmetrics.images import check_bytes, grey_to_rgb, to_bytes
from pgmetrics.seeding import Stream
from pgmetrics.sources.arrays import is_tensor, to_numpy
from pgmetrics.sources.base import ImageSource

if TYPE_CHECKING:
    from torch import Tensor, nn

_PROBES = 4  # images of a function that stand for all of them in its fingerprint


class FunctionSource(ImageSource):
    """What a Python function makes of indices.

    The function must depend on nothing but the indices it is given: no counter, no random state.
    The fingerprint is made from its name, n and four of its images.

    Args:
        make: takes a list of indices and returns their images, array or tensor, [N, 3, H, W] or
            [N, 1, H, W]; uint8, unless `value_range` is given.
        n: how many images count as the source; the function is asked for 0 ... n - 1.
        value_range: of floats, the values that become 0 and 255, such as (-1, 1).
        name: for messages and provenance; the function's own if left out.

    Raises:
        SourceError: it returns something else than images.
    """

    def __init__(
        self,
        make: Callable[[Sequence[int]], Any],
        n: int = 50_000,
        *,
        value_range: tuple[float, float] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__()
        self.name = name or str(getattr(make, "__qualname__", type(make).__name__))
        if n < 1:
            raise SourceError(f"{self.name} needs n from 1 upwards, not {n}")
        self._make = make
        self._n = n
        self._value_range = value_range
        self._resolution: tuple[int, int] | None = None
        probes = sorted({int(i) for i in np.linspace(0, n - 1, _PROBES)})
        images = self._read(probes)
        self._resolution = images.shape[2], images.shape[3]
        content = hashlib.blake2b(images.tobytes(), digest_size=16).hexdigest()
        self.fingerprint = f"function:{self.name},{content},n={n},{self._resolution}"

    def __len__(self) -> int:
        return self._n

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width in pixels of every image."""
        assert self._resolution is not None
        return self._resolution

    def _read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        images = self._make([int(index) for index in indices])
        if not isinstance(images, np.ndarray) and not is_tensor(images):
            raise SourceError(f"{self.name} returned {type(images).__name__}; an array or tensor is needed")
        pixels = _pixels(images, self._value_range, self.name)
        if len(pixels) != len(indices):
            raise SourceError(f"{self.name} was asked for {len(indices)} images and returned {len(pixels)}")
        if self._resolution not in (None, pixels.shape[2:]):
            raise SourceError(
                f"{self.name} returned images of {list(pixels.shape[2:])} after ones of "
                f"{list(self.resolution)} (height, width)"
            )
        return pixels


class GeneratorSource(ImageSource):
    """What a network makes of latents that depend on (seed, index) alone.

    It runs in evaluation mode, whatever mode it is in before and again after, and always on
    batches of one shape with image i at one place, so that an image is the same to the bit whatever
    is asked for with it.
    `to` moves the network itself.

    Args:
        network: a module that maps latents [N, *latent_dim] to images [N, 3, H, W] or [N, 1, H, W].
        latent_dim: length of a latent, or its shape, such as (128, 1, 1).
        value_range: the network's values that become 0 and 255.
        n: how many images count as the source.
        seed: of the latents.
        batch_size: images that the network makes at once.
        name: for messages and provenance; the network's class if left out.

    Raises:
        SourceError: the network does not return images.
    """

    def __init__(
        self,
        network: nn.Module,
        latent_dim: int | tuple[int, ...],
        *,
        value_range: tuple[float, float] = (-1.0, 1.0),
        n: int = 50_000,
        seed: int = 0,
        batch_size: int = 32,
        name: str | None = None,
    ) -> None:
        super().__init__()
        self.name = name or type(network).__name__
        if n < 1 or batch_size < 1:
            raise SourceError(f"{self.name} needs n and batch_size from 1 upwards, not {n} and {batch_size}")
        self._network = network
        self._shape = (latent_dim,) if isinstance(latent_dim, int) else tuple(latent_dim)
        self._value_range = value_range
        self._n = n
        self._seed = seed
        self._batch_size = batch_size
        first = self._run([0])
        self._resolution = first.shape[2], first.shape[3]
        described = f"latents={self._shape},range={value_range},n={n},seed={seed},batch={batch_size}"
        self.fingerprint = f"generator:{_weights(network)},{described}"

    def __len__(self) -> int:
        return self._n

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width in pixels of every image."""
        return self._resolution

    def to(self, device: str) -> None:
        """Compute there from now on."""
        self._network.to(device)

    def _read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        images = np.empty((len(indices), 3, *self._resolution), np.uint8)
        waiting = list(range(len(indices)))
        while waiting:
            # Image i is made at place i mod batch_size; who finds it taken waits for the next turn.
            turn: dict[int, int] = {}
            for request in waiting:
                turn.setdefault(indices[request] % self._batch_size, request)
            images[list(turn.values())] = self._run([indices[request] for request in turn.values()])
            made = set(turn.values())
            waiting = [request for request in waiting if request not in made]
        return images

    def _run(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        import torch

        # One shape and a fixed place for each image: libraries round differently for others.
        places = [index % self._batch_size for index in indices]
        table = np.zeros((self._batch_size, *self._shape), np.float32)
        table[places] = latents(self._seed, indices, self._shape)
        drawn = torch.from_numpy(table)
        with _evaluating(self._network), torch.inference_mode():
            images = self._network(drawn.to(_device_of(self._network)))
        if not is_tensor(images) or len(images) != self._batch_size:
            got = list(images.shape) if is_tensor(images) else type(images).__name__
            raise SourceError(f"{self.name} was given {self._batch_size} latents and returned {got}")
        return _pixels(images[places], self._value_range, self.name)


def latents(seed: int, indices: Sequence[int], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Normal latents, each a function of (seed, index) alone: float32 [N, *shape]."""
    drawn = np.empty((len(indices), *shape), np.float32)
    for place, index in zip(drawn, indices, strict=True):
        place[...] = seeding.generator(seed, Stream.LATENTS, index).standard_normal(shape, np.float32)
    return drawn


def _pixels(images: Any, value_range: tuple[float, float] | None, name: str) -> NDArray[np.uint8]:
    dtype = str(images.dtype).removeprefix("torch.")
    if "float" in dtype and value_range is not None and images.ndim == 4:
        images = to_bytes(images.float() if is_tensor(images) else images, value_range, name)
    elif "float" in dtype and images.ndim == 4:
        raise SourceError(f"{name} returned {dtype}: value_range=(-1, 1), or what it is, is needed")
    if images.ndim == 4:
        images = grey_to_rgb(images)
    check_bytes(images, name)
    return np.ascontiguousarray(to_numpy(images))


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; a network that is being trained gets its modes back."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _device_of(network: nn.Module) -> Any:
    tensor: Tensor | None = next(network.parameters(), next(network.buffers(), None))
    return "cpu" if tensor is None else tensor.device


def _weights(network: nn.Module) -> str:
    digest = hashlib.blake2b(type(network).__qualname__.encode(), digest_size=16)
    for name, tensor in network.state_dict().items():
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        if is_tensor(tensor):
            digest.update(np.ascontiguousarray(to_numpy(tensor)).tobytes())
    return digest.hexdigest()
