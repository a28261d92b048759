"""Sources that generate images on demand: a function of indices, or a network fed with keyed latents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pgmetrics.errors import PgmetricsError, SourceError, told
from pgmetrics.runtime import seeding
from pgmetrics.runtime.images import check_bytes, grey_to_rgb, to_bytes
from pgmetrics.runtime.seeding import Stream
from pgmetrics.sources.arrays import check_holds_values, holds_numbers, is_tensor, to_numpy
from pgmetrics.sources.base import MOST_IMAGES, ImageSource
from pgmetrics.sources.ranges import DeclaredRange, same_images

if TYPE_CHECKING:
    from torch import nn

_PROBES = 4  # images of the first call of a function, which checks that it returns as many


class FunctionSource(ImageSource):
    """Images that a Python function makes from indices.

    The function must depend only on the indices, not on a counter or a random state. It is called twice for
    a few images and refused if they differ.
    Images are identified by their pixels, which are digested as they are read.

    Args:
        make: takes a list of indices and returns their images, array or tensor, [N, 3, H, W] or
            [N, 1, H, W]; uint8, unless `value_range` is given.
        n: number of images of the source; the function is called with 0 ... n - 1.
        value_range: the float values that become 0 and 255, such as (-1, 1). Values outside are treated as
            for a `GeneratorSource`.
        name: for messages and provenance; by default the function's own.

    Raises:
        SourceError: the function does not return images, returns different images for the same indices, or
            values that the range cannot hold.
        OptionError: the value range is invalid.
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
        if not 1 <= n <= MOST_IMAGES:
            raise SourceError(f"{self.name} needs n from 1 to {MOST_IMAGES:,}, not {n}")
        self._make = make
        self._n = n
        self._range = None if value_range is None else DeclaredRange(value_range, self.name)
        self._resolution: tuple[int, int] | None = None
        probes = sorted({int(i) for i in np.linspace(0, n - 1, _PROBES)})
        with seeding.global_generators_kept():
            images = self._read(probes)
            self._resolution = images.shape[2], images.shape[3]
            # In another order, which detects a function that draws random numbers per call or batch.
            ends = sorted({probes[-1], probes[0]}, reverse=True)
            again = self._read(ends)
        if not same_images(images[[probes.index(end) for end in ends]], again):
            raise SourceError(
                f"{self.name} returned different images for the same indices: "
                f"{' and '.join(map(str, ends))} in two calls; make each image from its index alone, with "
                "a random generator seeded by it"
            )
        self.take_remarks()

    def __len__(self) -> int:
        return self._n

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width in pixels of every image."""
        assert self._resolution is not None
        return self._resolution

    def _read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        asked = [int(index) for index in indices]
        try:
            images = self._make(asked)
        except PgmetricsError:
            raise
        except Exception as error:  # a user's code may raise anything
            shown = ", ".join(map(str, asked[:_PROBES])) + (", ..." if len(asked) > _PROBES else "")
            raise SourceError(
                f"{self.name} fails on the indices [{shown}]: {told(error)}{self._hint(error)}"
            ) from error
        if not isinstance(images, np.ndarray) and not is_tensor(images):
            raise SourceError(
                f"{self.name} returned {type(images).__name__}; an array or tensor [N, 3, H, W] is needed, "
                "as np.stack or torch.stack makes of a list"
            )
        pixels = _pixels(images, self._range, self.name, indices)
        if len(pixels) != len(indices):
            raise SourceError(f"{self.name} returned {len(pixels)} images for {len(indices)} indices")
        if self._resolution not in (None, pixels.shape[2:]):
            raise SourceError(
                f"{self.name} returned images of {list(pixels.shape[2:])} after ones of "
                f"{list(self.resolution)} (height, width)"
            )
        return pixels

    def _hint(self, error: Exception) -> str:
        if isinstance(error, TypeError):
            return "; it is called with a list of indices alone"
        if isinstance(error, (IndexError, KeyError)):
            return (
                f"; it was asked for images 0 to {self._n - 1:,}: give the number that it has by "
                "pgmetrics.sources.function(f, n=...), or as module:name,n=..."
            )
        return ""

    def take_remarks(self) -> list[str]:
        """Whether values outside of the range were saturated since this was last asked."""
        return [] if self._range is None else self._range.take_remarks()


class GeneratorSource(ImageSource):
    """Images that a network makes from latents, each a function of (seed, index) alone.

    The network runs in evaluation mode and gets its previous mode back. It always runs on batches of one
    shape with image i at a fixed position, so that an image has the same bits regardless of the other
    requested images.
    `to` moves the network itself.
    Images are identified by their pixels, which are digested as they are made, since no digest of a network
    covers its attributes, hooks, closures and code.

    The first images are made twice, once in another batch. A network that draws its own noise, or whose
    images depend on their neighbors, is refused.

    A network without a final tanh overshoots its range, as the published ProGAN does. Such values are
    saturated, and a warning reports their share if more than 0.1 % lie outside by more than 5 % of the
    range's width. If more than half do, or one lies more than ten widths outside, the range cannot be right
    and the network is refused.

    Args:
        network: a module that maps latents [N, *latent_dim] to images [N, 3, H, W] or [N, 1, H, W]. Latents
            have the float dtype of its parameters.
        latent_dim: length of a latent, or its shape, such as (128, 1, 1).
        value_range: the network's values that become 0 and 255.
        n: number of images of the source.
        seed: seed of the latents.
        batch_size: number of images that the network makes at once.
        name: for messages and provenance; by default the network's class.

    Raises:
        SourceError: `network` is not a module, fails, does not return images, makes different images from
            the same latents, or its parameters or images are not finite or do not fit the range.
        OptionError: the value range is invalid.
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
        import torch

        from pgmetrics.functional.finite import not_finite

        super().__init__()
        self.name = name or str(getattr(network, "__qualname__", type(network).__name__))
        if not isinstance(network, torch.nn.Module):
            raise SourceError(
                f"{self.name} is not a torch.nn.Module; for a function of indices use "
                "pgmetrics.sources.function"
            )
        if not 1 <= n <= MOST_IMAGES or not 1 <= batch_size <= MOST_IMAGES:
            raise SourceError(
                f"{self.name} needs n and batch_size from 1 to {MOST_IMAGES:,}, not {n} and {batch_size}"
            )
        self._network = network
        self._shape = (latent_dim,) if isinstance(latent_dim, int) else tuple(latent_dim)
        self._range = DeclaredRange(value_range, self.name)
        self._n = n
        self._seed = seed
        self._batch_size = batch_size
        self._resolution = self._try_out()
        # A ReLU may have turned NaN into 0.
        if bad := not_finite(network.named_parameters()):
            raise SourceError(f"{self.name}: {bad}; such a network has diverged and cannot be scored")

    def __len__(self) -> int:
        return self._n

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width in pixels of every image."""
        return self._resolution

    def to(self, device: str) -> None:
        """Run the network on this device from now on."""
        self._network.to(device)

    def take_remarks(self) -> list[str]:
        """Whether values outside of the range were saturated since this was last asked."""
        return self._range.take_remarks()

    def _try_out(self) -> tuple[int, int]:
        """Make the first images twice; return their height and width.

        Raises:
            SourceError: an image depends on chance, or on the other images of its batch.
        """
        batch = range(min(self._batch_size, self._n))
        with seeding.global_generators_kept():
            alone = self._run([0])
            first = self._run(batch)
            if not same_images(first[:1], alone):
                if same_images(first, self._run(batch)):
                    raise SourceError(
                        f"{self.name} makes a different image from the same latent in another batch, as a "
                        "batch norm without running statistics does; give it fixed statistics"
                    )
                raise SourceError(
                    f"{self.name} makes different images from the same latents each time, since it draws "
                    "noise; fix it (StyleGAN's noise_mode='const', no dropout), or seed it by the index in a "
                    "function for pgmetrics.sources.function"
                )
        self.take_remarks()
        return first.shape[2], first.shape[3]

    def _read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        images = np.empty((len(indices), 3, *self._resolution), np.uint8)
        waiting = list(range(len(indices)))
        while waiting:
            # Image i is made at position i mod batch_size; if that is taken, in a later batch.
            turn: dict[int, int] = {}
            for request in waiting:
                turn.setdefault(indices[request] % self._batch_size, request)
            images[list(turn.values())] = self._run([indices[request] for request in turn.values()])
            made = set(turn.values())
            waiting = [request for request in waiting if request not in made]
        return images

    def _run(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        import torch

        # One shape and a fixed position for each image, since libraries round differently for others.
        places = [index % self._batch_size for index in indices]
        table = np.zeros((self._batch_size, *self._shape), np.float32)
        table[places] = latents(self._seed, indices, self._shape)
        drawn = torch.from_numpy(table).to(*_device_and_type_of(self._network))
        try:
            with _evaluating(self._network), torch.inference_mode():
                images = self._network(drawn)
        except Exception as error:  # a user's network may raise anything
            said = (str(error).strip().splitlines() or [type(error).__name__])[0]
            hint = "; wrap it in a module that takes latents only" if isinstance(error, TypeError) else ""
            raise SourceError(
                f"{self.name} fails on latents of {drawn.dtype} {list(drawn.shape)}: {said}{hint}"
            ) from error
        if not is_tensor(images) or len(images) != self._batch_size:
            got = list(images.shape) if is_tensor(images) else type(images).__name__
            raise SourceError(f"{self.name} was given {self._batch_size} latents and returned {got}")
        return _pixels(images[places], self._range, self.name, indices)


def latents(seed: int, indices: Sequence[int], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Normal latents, each a function of (seed, index) alone: float32 [N, *shape]."""
    drawn = np.empty((len(indices), *shape), np.float32)
    for place, index in zip(drawn, indices, strict=True):
        place[...] = seeding.generator(seed, Stream.LATENTS, index).standard_normal(shape, np.float32)
    return drawn


def _pixels(
    images: Any, declared: DeclaredRange | None, name: str, indices: Sequence[int]
) -> NDArray[np.uint8]:
    check_holds_values(images, f"the output of {name}")
    dtype = str(images.dtype).removeprefix("torch.")
    numbers = dtype != "uint8" and holds_numbers(images)
    if numbers and declared is not None and images.ndim == 4:
        images = images.float() if is_tensor(images) else images
        pixels = to_bytes(images, declared.value_range, name, indices)
        declared.add(images)
        declared.check_output()
        images = pixels
    elif numbers and images.ndim == 4:
        usual = "(-1, 1)" if "float" in dtype else "(0, 255)"
        raise SourceError(
            f"{name} returned {dtype}; pass value_range={usual}, or whatever it is, to "
            "pgmetrics.sources.function"
        )
    if images.ndim == 4:
        images = grey_to_rgb(images)
    check_bytes(images, name)
    return np.ascontiguousarray(to_numpy(images))


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode inside the block, and restore the mode of each module after it."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _device_and_type_of(network: nn.Module) -> tuple[Any, Any]:
    """Return the device and float dtype for a network's latents."""
    import torch

    tensors = [*network.parameters(), *network.buffers()]
    types = (tensor.dtype for tensor in tensors if tensor.is_floating_point())
    return tensors[0].device if tensors else "cpu", next(types, torch.float32)
