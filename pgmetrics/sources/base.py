"""What every place that images come from has in common."""

from __future__ import annotations

import hashlib
import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgmetrics.runtime import seeding
from pgmetrics.runtime.seeding import Stream

logger = logging.getLogger("pgmetrics")
LARGEST_SIDE = 2**16
"""Pixels of a side of any image; a number beyond it is damage or a mistake."""
MOST_IMAGES = 2**32
"""Images that a generator may claim to have."""
IDENTITY = "v2:"
"""How every identity begins; those of versions that looked at names, sizes and times begin otherwise."""

_BYTES_AT_ONCE = 1 << 24  # of images that are read for their digests alone


class ImageSource(ABC):
    """A finite, indexable set of uint8 RGB images, all of one size.

    `batch` is a pure function of its indices: whatever was asked before, in whichever process,
    the same indices give the same bytes.

    Attributes:
        name: how people call it, as they wrote it.
        shuffled: whether images are taken in a permutation, as those of a sorted listing must be. The
            order of a generator has no structure and is kept.
        in_workers: whether decoding is worth other processes; such a source can be pickled.
        left_out: how many files of a listing are not taken, by kind, as a line for people; None where all
            are.
        notes: how often something worth telling happened while decoding, by its description.
    """

    name: str
    shuffled: bool = False
    in_workers: bool = False
    left_out: str | None = None
    _digests_pixels: bool = True  # whether an image is identified by the pixels that `batch` gives

    def __init__(self) -> None:
        self.notes: Counter[str] = Counter()
        self._digests = _Digests()

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
        images = self._read(indices)
        if self._digests_pixels:
            for index, image in zip(indices, images, strict=True):
                self._digests[int(index)] = hashlib.sha256(np.ascontiguousarray(image).data).digest()
        return images

    def identity(self, indices: Sequence[int] | NDArray[np.int64]) -> str:
        """Identify the images at these indices, in that order, by their content and nothing else.

        Equal identities mean equal images in equal order. Names, times and places do not matter. This
        one digests the pixels, of images that were read already without reading them again; sources that
        know a cheaper content (encoded files, the recipe of generated images) override it.

        Args:
            indices: each in range.

        Returns:
            A line of text that begins with `IDENTITY`.
        """
        wanted = [int(index) for index in indices]
        height, width = self.resolution
        missing = [index for index in dict.fromkeys(wanted) if index not in self._digests]
        step = max(1, _BYTES_AT_ONCE // (3 * height * width))
        for start in range(0, len(missing), step):
            self.batch(missing[start : start + step])
        return f"{IDENTITY}pixels:{self._joined_digests(wanted)},{height}x{width}"

    def _joined_digests(self, indices: Sequence[int]) -> str:
        return hashlib.sha256(b"".join(self._digests[index] for index in indices)).hexdigest()[:32]

    @property
    def fingerprint(self) -> str:
        """Identity of all images in the order of the listing; it may read every one of them."""
        return self.identity(range(len(self)))

    def take_digests(self) -> dict[int, bytes]:
        """Digests of the images that were read since this was last called, by index.

        A decoding process sends them along with the images, so that nothing is read twice.
        """
        taken, self._digests = dict(self._digests), _Digests()
        return taken

    def learn_digests(self, digests: Mapping[int, bytes]) -> None:
        """Take over what another process was told by `take_digests`."""
        self._digests.update(digests)

    def forget_digests(self) -> None:
        """Forget the digests of images that may have changed since they were read, such as an array's."""
        self._digests.clear()

    def called(self, index: int) -> str:
        """What people call an image: its file's name, or its number."""
        return f"image {index}"

    @property
    def by_characters(self) -> NDArray[np.int64]:
        """Indices in the order of the images' names, character by character, as other tools take files."""
        return np.arange(len(self))

    @property
    def label_names(self) -> list[str]:
        """Names of the classes; empty where there are none."""
        return []

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """The class of each image as a place in `label_names`, or None where there are no classes."""
        return None

    @property
    def unlabeled(self) -> str | None:
        """Why a file that should name the classes names none; None where nothing is wrong with it."""
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


def warn_of_no_classes(source: ImageSource) -> None:
    """Log why there are no classes, where a file should name them; for what would use them."""
    if source.unlabeled is not None:
        logger.warning(f"{source.name} has no classes: {source.unlabeled}")


class _Digests(dict[int, bytes]):
    """Digests of images by index; empty again in another process, which has read none of them."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _Digests, ()


def listed(indices: Sequence[int] | NDArray[np.int64]) -> str:
    """Indices in a few characters: `0:50000`, or a digest where they are not consecutive."""
    if isinstance(indices, range) and indices.step == 1:  # a generator may have more than memory holds
        return f"{indices.start}:{indices.stop}"
    places = np.asarray(indices, "<i8")
    if len(places) and (np.diff(places) == 1).all():
        return f"{places[0]}:{places[-1] + 1}"
    return hashlib.sha256(places.tobytes()).hexdigest()[:32]


def sequence(source: ImageSource, seed: int) -> NDArray[np.int64]:
    """The order in which a source's images are evaluated.

    A sorted listing is sorted by class, so its first n images are no fair sample: listings are taken in
    a permutation keyed by (seed, count), so that the same images in the same order give the same
    numbers whatever holds them and whatever they are called. Generators keep their own order. Every
    metric takes the first n of this one sequence.
    """
    if not source.shuffled:
        return np.arange(len(source))
    return seeding.generator(seed, Stream.ORDER, len(source)).permutation(len(source))
