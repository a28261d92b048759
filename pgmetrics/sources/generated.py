"""Sources that generate images on demand: a function of indices, or a network fed with keyed latents."""

from __future__ import annotations

import functools
import inspect
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pgmetrics.errors import OptionError, PgmetricsError, SourceError, printable, told
from pgmetrics.runtime import seeding
from pgmetrics.runtime.images import check_bytes, grey_to_rgb, to_bytes
from pgmetrics.runtime.seeding import Stream
from pgmetrics.sources.arrays import check_holds_values, holds_numbers, is_tensor, to_numpy
from pgmetrics.sources.base import MOST_IMAGES, ImageSource
from pgmetrics.sources.ranges import DeclaredRange, same_images

if TYPE_CHECKING:
    from torch import nn

_LARGEST_LATENT = 1 << 24  # numbers
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
        self._make = make
        self._n = _count(n, "n", self.name)
        self._range = None if value_range is None else DeclaredRange(value_range, self.name)
        self._resolution: tuple[int, int] | None = None
        probes = sorted({int(i) for i in np.linspace(0, self._n - 1, _PROBES)})
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
        images = _images_in(images, self.name, "np.stack or torch.stack makes one of a list")
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
    A function of latents may stand for a network, such as `lambda z: G(z, truncation=0.7)`. The networks that
    it is made from (a method's, a partial's, those that a function names) are treated as one passed itself.
    Images are identified by their pixels, which are digested as they are made, since no digest of a network
    covers its attributes, hooks, closures and code.

    The first images are made twice, once in another batch. A network that draws its own noise, or whose
    images depend on their neighbors, is refused.

    A network without a final tanh overshoots its range, as the published ProGAN does. Such values are
    saturated, and a warning reports their share if more than 0.1 % lie outside by more than 5 % of the
    range's width. If more than half do, or one lies more than ten widths outside, the range cannot be right
    and the network is refused.

    Args:
        network: a module or function that maps latents [N, *latent_dim] to images [N, 3, H, W] or
            [N, 1, H, W], alone or with other things in a tuple, a dict or an object's `images` or `sample`.
            Latents have the float dtype of its parameters, and lie on their device.
        latent_dim: length of a latent, or its shape, such as (128, 1, 1).
        value_range: the network's values that become 0 and 255.
        n: number of images of the source.
        seed: seed of the latents.
        batch_size: number of images that the network makes at once.
        labels: for a conditional network, one per image along the first axis, classes [n] or vectors [n, L];
            its second argument, int64 or the float dtype of the latents.
        name: for messages and provenance; by default the network's class.

    Raises:
        SourceError: `network` cannot be called, fails, does not return images, makes different images from
            the same latents, or its parameters or images are not finite or do not fit the range.
        OptionError: the value range, `latent_dim` or `labels` is invalid.
    """

    def __init__(
        self,
        network: Callable[..., Any],
        latent_dim: int | tuple[int, ...],
        *,
        value_range: tuple[float, float] = (-1.0, 1.0),
        n: int = 50_000,
        seed: int = 0,
        batch_size: int = 32,
        name: str | None = None,
        labels: Any = None,
    ) -> None:
        from pgmetrics.functional.finite import not_finite

        super().__init__()
        self.name = name or str(getattr(network, "__qualname__", type(network).__name__))
        if inspect.isclass(network):
            raise SourceError(f"{self.name} is a class; pass a network of it, with trained weights")
        if not callable(network):
            raise SourceError(
                f"{self.name} is neither a network nor a function of latents; load weights into a network, "
                "and take the module() of an exported program"
            )
        self._network = network
        self._networks = _networks_in(network)
        for part in self._networks:
            if any(tensor.is_meta for tensor in (*part.parameters(), *part.buffers())):
                raise SourceError(
                    f"{self.name} has parameters on the meta device, which keeps no values; load its weights"
                )
        self._shape = _latent_shape(latent_dim)
        self._range = DeclaredRange(value_range, self.name)
        self._n = _count(n, "n", self.name)
        self._seed = seed
        self._batch_size = _count(batch_size, "batch_size", self.name)
        self._labels = None if labels is None else _label_table(labels, self._n)
        self._resolution = self._try_out()
        # A ReLU may have turned NaN into 0.
        for part in self._networks:
            if bad := not_finite(part.named_parameters()):
                raise SourceError(f"{self.name}: {bad}; such a network has diverged and cannot be scored")

    def __len__(self) -> int:
        return self._n

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width in pixels of every image."""
        return self._resolution

    def to(self, device: str) -> None:
        """Run the network on this device from now on."""
        for part in self._networks:
            part.to(device)

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
                        "batch norm does in training mode or without running statistics; call eval() on the "
                        "network, or give it fixed statistics"
                    )
                raise SourceError(
                    f"{self.name} makes different images from the same latents each time, since it draws "
                    "noise; fix it (StyleGAN's noise_mode='const', no dropout), or seed it by the index in a "
                    "function for pgmetrics.sources.function"
                )
        self.take_remarks()
        return first.shape[2], first.shape[3]

    def _hint(self, error: Exception) -> str:
        if not isinstance(error, TypeError):
            return ""
        if self._labels is None:
            return (
                "; give a conditional network its labels=, one per image, and any other a function of "
                "latents alone, as lambda z: G(z, 0.7)"
            )
        return "; labels are its second argument: rename them in a function, as lambda z, y: G(z, labels=y)"

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
        device, dtype = _device_and_type_of(self._networks)
        given = [torch.from_numpy(table).to(device, dtype)]
        if self._labels is not None:
            of_batch = np.zeros((self._batch_size, *self._labels.shape[1:]), self._labels.dtype)
            of_batch[places] = self._labels[list(indices)]
            tensor = torch.from_numpy(of_batch)
            given.append(tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype))
        try:
            with _evaluating(self._networks), torch.inference_mode():
                output = self._network(*given)
        except PgmetricsError:
            raise
        except Exception as error:  # a user's network may raise anything
            called = " and ".join(f"{tensor.dtype} {list(tensor.shape)}" for tensor in given)
            raise SourceError(
                f"{self.name} fails on latents of {called}: {told(error)}{self._hint(error)}"
            ) from error
        images = _images_in(output, self.name, "pass a function that returns it, as lambda z: G(z)[0] does")
        if images.ndim == 0 or len(images) != self._batch_size:
            raise SourceError(
                f"{self.name} was given {self._batch_size} latents and returned {list(images.shape)}"
            )
        return _pixels(images[places], self._range, self.name, indices)


def _count(value: Any, what: str, name: str) -> int:
    try:
        count = operator.index(value)
    except TypeError:
        count = 0
    if not 1 <= count <= MOST_IMAGES:
        raise SourceError(f"{name} needs {what} from 1 to {MOST_IMAGES:,}, not {value!r}")
    return count


def _latent_shape(latent_dim: Any) -> tuple[int, ...]:
    try:
        shape = tuple(map(operator.index, latent_dim if np.iterable(latent_dim) else (latent_dim,)))
    except TypeError:
        shape = ()
    if not shape or min(shape) < 1 or math.prod(shape) > _LARGEST_LATENT:
        raise OptionError(
            f"latent_dim is a whole number or a shape, such as 128 or (128, 1, 1), of at most "
            f"{_LARGEST_LATENT:,} numbers; not {latent_dim!r}"
        )
    return shape


def _label_table(labels: Any, n: int) -> NDArray[Any]:
    """Return labels as int64 or float32, [n, ...]."""
    try:
        table = to_numpy(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise OptionError(f"labels are one class or vector per image; {told(error)}") from error
    if table.ndim == 0 or len(table) != n or table.dtype.kind not in "biuf":
        raise OptionError(
            f"labels are numbers, one class or vector for each of the n={n:,} images, not an array of "
            f"{table.dtype} {list(table.shape)}"
        )
    return table.astype(np.float32 if table.dtype.kind == "f" else np.int64)


def _networks_in(make: Any) -> list[nn.Module]:
    """Return the networks that a function of latents is made from, to evaluate and move them with it."""
    import torch

    if isinstance(make, torch.nn.Module):
        return [make]
    if isinstance(make, functools.partial):
        return _networks_in(make.func) + [
            part for part in (*make.args, *make.keywords.values()) if isinstance(part, torch.nn.Module)
        ]
    if inspect.ismethod(make):
        return _networks_in(make.__self__)
    if inspect.isfunction(make):
        try:
            named = inspect.getclosurevars(inspect.unwrap(make))
        except ValueError:  # a name without a value as yet
            return []
        held = {**named.globals, **named.nonlocals}
    else:
        held = getattr(make, "__dict__", {})
    return [part for part in held.values() if isinstance(part, torch.nn.Module)]


def _images_in(output: Any, name: str, hint: str) -> Any:
    """Return the images of what a network or function returned: itself, or the one batch of images in it."""
    if is_tensor(output) or isinstance(output, np.ndarray):
        check_holds_values(output, f"the output of {name}")
        return output
    if isinstance(output, Mapping):
        parts = dict(output)
    elif isinstance(output, (tuple, list)):
        parts = dict(enumerate(output))
    else:
        parts = {key: getattr(output, key) for key in ("images", "sample") if hasattr(output, key)}
    batches = {key: part for key, part in parts.items() if _is_batch(part)}
    if len(batches) == 1:
        return _images_in(next(iter(batches.values())), name, hint)
    found = f", with images in {', '.join(map(repr, batches))}" if batches else ""
    raise SourceError(
        f"{name} returned {type(output).__name__}{printable(found)}; an array or tensor [N, 3, H, W] is "
        f"needed: {hint}"
    )


def _is_batch(part: Any) -> bool:
    return (is_tensor(part) or isinstance(part, np.ndarray)) and part.ndim == 4 and part.shape[1] in (1, 3)


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
def _evaluating(networks: Sequence[nn.Module]) -> Iterator[None]:
    """Put networks into evaluation mode inside the block, and restore the mode of each module after it."""
    training = [module for network in networks for module in network.modules() if module.training]
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _device_and_type_of(networks: Sequence[nn.Module]) -> tuple[Any, Any]:
    """Return the device and float dtype for the latents of networks."""
    import torch

    tensors = [tensor for network in networks for tensor in (*network.parameters(), *network.buffers())]
    types = (tensor.dtype for tensor in tensors if tensor.is_floating_point())
    return tensors[0].device if tensors else "cpu", next(types, torch.float32)
