"""Images that are made when asked for: a function of indices, or a network fed with keyed latents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pgmetrics.errors import SourceError
from pgmetrics.runtime import seeding
from pgmetrics.runtime.images import check_bytes, grey_to_rgb, to_bytes
from pgmetrics.runtime.seeding import Stream
from pgmetrics.sources.arrays import is_tensor, to_numpy
from pgmetrics.sources.base import MOST_IMAGES, ImageSource
from pgmetrics.sources.ranges import DeclaredRange, same_images

if TYPE_CHECKING:
    from torch import nn

_PROBES = 4  # images that a function is asked for at once, to see that it gives as many


class FunctionSource(ImageSource):
    """What a Python function makes of indices.

    The function must depend on nothing but the indices it is given: no counter, no random state. It is asked
    for a few images twice, and refused if they differ.
    Nothing is known of it but its images: their pixels identify them, and are digested as they are read.

    Args:
        make: takes a list of indices and returns their images, array or tensor, [N, 3, H, W] or
            [N, 1, H, W]; uint8, unless `value_range` is given.
        n: how many images count as the source; the function is asked for 0 ... n - 1.
        value_range: of floats, the values that become 0 and 255, such as (-1, 1). Values outside are treated
            as a `GeneratorSource`'s.
        name: for messages and provenance; the function's own if left out.

    Raises:
        SourceError: it returns something else than images, other images of the same indices, or values that
            cannot be of the range.
        OptionError: the value range is none.
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
            # In another order, so that what draws by the call or by the batch is noticed.
            ends = sorted({probes[-1], probes[0]}, reverse=True)
            again = self._read(ends)
        if not same_images(images[[probes.index(end) for end in ends]], again):
            raise SourceError(
                f"{self.name} gave other images for the same indices: {' and '.join(map(str, ends))}, asked "
                "for twice; make each image of its index alone, a random one of a generator seeded by it"
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
        images = self._make([int(index) for index in indices])
        if not isinstance(images, np.ndarray) and not is_tensor(images):
            raise SourceError(f"{self.name} returned {type(images).__name__}; an array or tensor is needed")
        pixels = _pixels(images, self._range, self.name, indices)
        if len(pixels) != len(indices):
            raise SourceError(f"{self.name} was asked for {len(indices)} images and returned {len(pixels)}")
        if self._resolution not in (None, pixels.shape[2:]):
            raise SourceError(
                f"{self.name} returned images of {list(pixels.shape[2:])} after ones of "
                f"{list(self.resolution)} (height, width)"
            )
        return pixels

    def take_remarks(self) -> list[str]:
        """Whether values outside of the range were saturated since this was last asked."""
        return [] if self._range is None else self._range.take_remarks()


class GeneratorSource(ImageSource):
    """What a network makes of latents that depend on (seed, index) alone.

    It runs in evaluation mode, whatever mode it is in before and again after, and always on
    batches of one shape with image i at one place, so that an image is the same to the bit whatever
    is asked for with it.
    `to` moves the network itself.
    No digest sees all that decides its images (attributes, hooks, closures, code), so that their pixels
    identify them, and are digested as they are made.

    The first images are made twice, once beside others: a network that draws noise of its own, or lets
    images depend on their neighbors, is refused.

    A network without a last tanh overshoots its range, as the published ProGAN does: such values are
    saturated, and a warning tells their share where more than 0.1 % lie outside by more than 5 % of the
    range's width. Where more than half do, or one lies more than ten widths outside, the range cannot be
    right and the network is refused.

    Args:
        network: a module that maps latents [N, *latent_dim] to images [N, 3, H, W] or [N, 1, H, W]. Latents
            are of its parameters' float type.
        latent_dim: length of a latent, or its shape, such as (128, 1, 1).
        value_range: the network's values that become 0 and 255.
        n: how many images count as the source.
        seed: of the latents.
        batch_size: images that the network makes at once.
        name: for messages and provenance; the network's class if left out.

    Raises:
        SourceError: it is no module, fails, does not return images, makes other images of the same latents,
            or its parameters or images are not finite or cannot be of the range.
        OptionError: the value range is none.
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
                f"{self.name} is no torch.nn.Module, which a generator is; of a function of indices "
                "pgmetrics.sources.function makes a source"
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
        """Compute there from now on."""
        self._network.to(device)

    def take_remarks(self) -> list[str]:
        """Whether values outside of the range were saturated since this was last asked."""
        return self._range.take_remarks()

    def _try_out(self) -> tuple[int, int]:
        """Height and width of the images.

        Raises:
            SourceError: an image depends on chance, or on the images beside it.
        """
        batch = range(min(self._batch_size, self._n))
        with seeding.global_generators_kept():
            alone = self._run([0])
            first = self._run(batch)
            if not same_images(first[:1], alone):
                if same_images(first, self._run(batch)):
                    raise SourceError(
                        f"{self.name} makes another image of the same latent when others are beside it, as a "
                        "batch norm without running statistics does; give it fixed statistics"
                    )
                raise SourceError(
                    f"{self.name} makes other images of the same latents each time, from noise of its own; "
                    "fix the noise (StyleGAN's noise_mode='const', no dropout), or seed it by the index in a "
                    "function for pgmetrics.sources.function"
                )
        self.take_remarks()
        return first.shape[2], first.shape[3]

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
        drawn = torch.from_numpy(table).to(*_device_and_type_of(self._network))
        try:
            with _evaluating(self._network), torch.inference_mode():
                images = self._network(drawn)
        except Exception as error:  # whatever a stranger's network raises
            said = (str(error).strip().splitlines() or [type(error).__name__])[0]
            hint = "; wrap it in a module of latents alone" if isinstance(error, TypeError) else ""
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
    dtype = str(images.dtype).removeprefix("torch.")
    if "float" in dtype and declared is not None and images.ndim == 4:
        images = images.float() if is_tensor(images) else images
        pixels = to_bytes(images, declared.value_range, name, indices)
        declared.add(images)
        declared.check_output()
        images = pixels
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


def _device_and_type_of(network: nn.Module) -> tuple[Any, Any]:
    """Where its latents belong, and of which float type."""
    import torch

    tensors = [*network.parameters(), *network.buffers()]
    types = (tensor.dtype for tensor in tensors if tensor.is_floating_point())
    return tensors[0].device if tensors else "cpu", next(types, torch.float32)
