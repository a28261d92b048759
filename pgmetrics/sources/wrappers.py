"""Sources that wrap another source: a slice of it, or its mirrored images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pgmetrics.errors import SourceError
from pgmetrics.runtime import seeding
from pgmetrics.runtime.files import sha256
from pgmetrics.runtime.seeding import Stream
from pgmetrics.sources.base import ImageSource, Order


class Wrapped(ImageSource):
    """A source that wraps another one and returns the same images unless a subclass changes them."""

    _digests_pixels = False  # the wrapped source digests its own images

    def __init__(self, source: ImageSource, change: str = "") -> None:
        """Wrap `source`; `change` distinguishes the images from the source's in an identity.

        A subclass whose change depends on an image's index overrides `identity`.
        """
        super().__init__()
        self._source = source
        self._change = change
        self.name = source.name
        self.shuffled = source.shuffled
        self.in_workers = source.in_workers
        self.left_out = source.left_out

    def identity(self, indices: Sequence[int] | NDArray[np.int64]) -> str:
        """Identify images by the wrapped source's identity and the change."""
        return self._source.identity(indices) + self._change

    def take_digests(self) -> dict[int, bytes]:
        """Return the digests of the wrapped source."""
        return self._source.take_digests()

    def learn_digests(self, digests: Mapping[int, bytes]) -> None:
        """Pass digests to the wrapped source."""
        self._source.learn_digests(digests)

    def forget_digests(self) -> None:
        """Drop the digests of the wrapped source."""
        self._source.forget_digests()

    def __len__(self) -> int:
        return len(self._source)

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width in pixels of every image."""
        return self._source.resolution

    def called(self, index: int) -> str:
        """The name of an image in messages."""
        return self._source.called(index)

    @property
    def by_characters(self) -> Order:
        """Indices that sort the wrapped source's names character by character."""
        return self._source.by_characters

    @property
    def label_names(self) -> list[str]:
        """Names of the classes."""
        return self._source.label_names

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """The class of each image."""
        return self._source.labels

    @property
    def unlabeled(self) -> str | None:
        """Why the wrapped source has no classes although a file should name them."""
        return self._source.unlabeled

    def to(self, device: str) -> None:
        """Run the source's network on this device from now on."""
        self._source.to(device)

    def take_remarks(self) -> list[str]:
        """Return and clear the warnings about the images read so far."""
        return self._source.take_remarks()

    def _read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        images = self._source.batch(indices)
        self.notes += self._source.take_notes()
        return images


class Chosen(Wrapped):
    """Images of a source by their indices, in the order given; an index may repeat.

    They have the identity of a directory that holds only these images, in their order.
    """

    def __init__(self, source: ImageSource, indices: Order) -> None:
        super().__init__(source)
        self._indices = indices

    def identity(self, indices: Sequence[int] | NDArray[np.int64]) -> str:
        """Identify images as the wrapped source does."""
        wanted = np.asarray(indices, np.int64)
        if isinstance(self._indices, range):
            return super().identity(self._indices.start + self._indices.step * wanted)
        return super().identity(self._indices[wanted])

    def __len__(self) -> int:
        return len(self._indices)

    def called(self, index: int) -> str:
        """The name of an image in messages."""
        return super().called(int(self._indices[index]))

    @property
    def by_characters(self) -> Order:
        """The order given; no other tool has these images by name."""
        return range(len(self))

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """The class of each image; classes without images stay in `label_names`."""
        labels = super().labels
        return None if labels is None else labels[self._indices]

    def _read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        return super()._read([int(self._indices[i]) for i in indices])


class Subset(Chosen):
    """Images start ... stop of a source in a fixed shuffled order.

    The order depends on the number of images alone, not on a run's seed, so that `set.zip@0:25000` and
    `set.zip@25000:50000` are the same disjoint halves for everybody. A generator keeps its own order. A slice
    has the identity of a directory that holds only its images, in their order.
    """

    def __init__(self, source: ImageSource, start: int, stop: int) -> None:
        if not 0 <= start < stop <= len(source):
            raise SourceError(
                f"{source.name}@{start}:{stop} asks for images {start} to {stop - 1}; "
                f"{source.name} has {len(source):,}"
            )
        indices: Order = range(start, stop)
        if source.shuffled:
            indices = seeding.generator(0, Stream.SLICES, len(source)).permutation(len(source))[start:stop]
        super().__init__(source, indices)
        self.name += f"@{start}:{stop}"


class Mirrored(Wrapped):
    """A source whose images are flipped left to right by a coin keyed by (seed, index)."""

    def __init__(self, source: ImageSource, seed: int) -> None:
        super().__init__(source)
        self._seed = seed

    def identity(self, indices: Sequence[int] | NDArray[np.int64]) -> str:
        """Identify images by the wrapped source's identity and by which of them are flipped."""
        coins = self._flipped(np.asarray(indices, np.int64))
        return f"{super().identity(indices)}+mirror:{sha256(coins.tobytes()).hexdigest()[:16]}"

    def _flipped(self, indices: NDArray[np.int64]) -> NDArray[np.bool_]:
        if not len(indices):
            return np.empty(0, np.bool_)
        start, stop = int(indices.min()), int(indices.max()) + 1
        words = seeding.words(self._seed, Stream.MIRROR, start=start, stop=stop, width=4)
        flipped: NDArray[np.bool_] = words[indices - start, 0] >> np.uint64(63) == 1
        return flipped

    def _read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        # The wrapped source may return its own memory, so flip a copy.
        images: NDArray[np.uint8] = super()._read(indices).copy()
        for place in np.flatnonzero(np.concatenate([self._flipped(np.array([i])) for i in indices])):
            images[place] = images[place, :, :, ::-1].copy()
        return images
