"""What every place that images come from has in common."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from pgmetrics import seeding
from pgmetrics.errors import SourceError
from pgmetrics.seeding import Stream

logger = logging.getLogger("pgmetrics")


class ImageSource(ABC):
    """A finite, indexable set of uint8 RGB images, all of one size.

    `batch` is a pure function of its indices: whatever was asked before, in whichever process,
    the same indices give the same bytes.

    Attributes:
        name: how people call it, as they wrote it.
        fingerprint: stands for the images and for how they are decoded; equal fingerprints mean
            equal images. Part of caches, states and provenance.
        order_key: keys the permutation in which a listing's images are taken, or None where the
            source's own order is already without structure (generators). Unlike the fingerprint
            it does not change when the same files are copied or zipped.
        in_workers: whether decoding is worth other processes; such a source can be pickled.
        left_out: how many files of a listing are not taken, by kind, as a line for people; None where all
            are.
        notes: how often something worth telling happened while decoding, by its description.
    """

    name: str
    fingerprint: str
    order_key: str | None = None
    in_workers: bool = False
    left_out: str | None = None

    def __init__(self) -> None:
        self.notes: Counter[str] = Counter()

    @abstractmethod
    def __len__(self) -> int:
        """How many images there are."""

    @property
    @abstractmethod
    def resolution(self) -> tuple[int, int]:
        """Height and width in pixels of every image."""

    @abstractmethod
    def _read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """The images at these indices, each in range: uint8 [N, 3, H, W]."""

    def batch(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Images by index, in the order asked, repeats allowed.

        Returns:
            uint8 [N, 3, H, W].

        Raises:
            IndexError: an index is negative or past the end.
            SourceError: an image cannot be read, or is of another size than the first.
        """
        for index in indices:
            if not 0 <= index < len(self):
                raise IndexError(f"{self.name} has images 0 to {len(self) - 1}, not {index}")
        if not len(indices):
            return np.empty((0, 3, *self.resolution), np.uint8)
        return self._read(indices)

    def called(self, index: int) -> str:
        """What people call an image: its file's name, or its number."""
        return f"image {index}"

    @property
    def label_names(self) -> list[str]:
        """Names of the classes; empty where there are none."""
        return []

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """The class of each image as a place in `label_names`, or None where there are no classes."""
        return None

    def to(self, device: str) -> None:  # noqa: B027 - most sources compute nothing
        """Compute there from now on; for sources that run a network. The others need no device."""

    def take_notes(self) -> Counter[str]:
        """The notes since they were last taken."""
        taken, self.notes = self.notes, Counter()
        return taken

    def take_remarks(self) -> list[str]:
        """Sentences about the images read since they were last taken, for whoever reads the scores."""
        return []


def warn_of_left_out(sources: Iterable[ImageSource]) -> None:
    """Log which files are left out, once per listing, however many sources are slices of it."""
    for line in dict.fromkeys(source.left_out for source in sources):
        if line is not None:
            logger.warning(line)


def sequence(source: ImageSource, seed: int) -> NDArray[np.int64]:
    """The order in which a source's images are evaluated.

    A sorted listing is sorted by class, so its first n images are no fair sample: listings are
    taken in a permutation keyed by (seed, source). Generators keep their own order. Every metric
    takes the first n of this one sequence.
    """
    if source.order_key is None:
        return np.arange(len(source))
    key = seeding.text_key(source.order_key)
    return seeding.generator(seed, Stream.ORDER, *key).permutation(len(source))


class Wrapped(ImageSource):
    """A source in front of another one: the same images until a subclass changes something."""

    def __init__(self, source: ImageSource, change: str) -> None:
        """Stand before `source`; `change` tells it apart in the fingerprint."""
        super().__init__()
        self._source = source
        self.name = source.name
        self.fingerprint = f"{source.fingerprint}{change}"
        self.order_key = source.order_key
        self.in_workers = source.in_workers
        self.left_out = source.left_out

    def __len__(self) -> int:
        return len(self._source)

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width in pixels of every image."""
        return self._source.resolution

    def called(self, index: int) -> str:
        """What people call an image."""
        return self._source.called(index)

    @property
    def label_names(self) -> list[str]:
        """Names of the classes."""
        return self._source.label_names

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """The class of each image."""
        return self._source.labels

    def to(self, device: str) -> None:
        """Compute there from now on."""
        self._source.to(device)

    def take_remarks(self) -> list[str]:
        """Sentences about all images read since they were last taken."""
        return self._source.take_remarks()

    def _read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        images = self._source.batch(indices)
        self.notes += self._source.take_notes()
        return images


class Subset(Wrapped):
    """Images start ... stop of a source, over a fixed shuffled order.

    The order depends on the source alone, never on a run's seed, so that `set.zip@0:25000` and
    `set.zip@25000:50000` are disjoint halves for everybody. A generator's order is its own.
    """

    def __init__(self, source: ImageSource, start: int, stop: int) -> None:
        if not 0 <= start < stop <= len(source):
            raise SourceError(
                f"{source.name}@{start}:{stop} asks for images {start} to {stop - 1}; "
                f"{source.name} has {len(source):,}"
            )
        part = f"@{start}:{stop}"
        super().__init__(source, part)
        self.name += part
        if source.order_key is None:
            self._indices = np.arange(start, stop)
        else:
            self.order_key = f"{source.order_key}{part}"
            key = seeding.text_key(source.order_key)
            shuffled = seeding.generator(0, Stream.SLICES, *key).permutation(len(source))
            self._indices = shuffled[start:stop]

    def __len__(self) -> int:
        return len(self._indices)

    def called(self, index: int) -> str:
        """What people call an image."""
        return super().called(int(self._indices[index]))

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """The class of each image; a class that none of them has keeps its name."""
        labels = super().labels
        return None if labels is None else labels[self._indices]

    def _read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        return super()._read([int(self._indices[i]) for i in indices])


class Mirrored(Wrapped):
    """A source whose images are flipped left to right by the toss of a coin keyed by (seed, index)."""

    def __init__(self, source: ImageSource, seed: int) -> None:
        super().__init__(source, f"+mirror,seed={seed}")
        self._seed = seed

    def _read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        # A source may hand out its own memory.
        images: NDArray[np.uint8] = super()._read(indices).copy()
        for image, index in zip(images, indices, strict=True):
            word = seeding.words(self._seed, Stream.MIRROR, start=index, stop=index + 1, width=4)
            if word[0, 0] >> np.uint64(63):
                image[:] = image[:, :, ::-1].copy()
        return images
