"""The interface of every image source, and the order in which its images are evaluated."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgmetrics.errors import SourceError
from pgmetrics.runtime import seeding
from pgmetrics.runtime.files import sha256
from pgmetrics.runtime.seeding import Stream

logger = logging.getLogger("pgmetrics")
LARGEST_SIDE = 2**16
"""The largest side of an image in pixels; a larger number is damage or a mistake."""
Order = NDArray[np.int64] | range
"""Indices of a source's images; a range where an array might be of 2^32 of them, which take 34 GB."""
MOST_IMAGES = 2**32
"""The largest number of images that a generator may declare."""
IDENTITY = "v2:"
"""The prefix of every identity; older versions, which used names, sizes and times, wrote other prefixes."""

_MOST_DIGITS = 40  # 128 bits, which seeds have; Python reads more of them very slowly, and then not at all
_BYTES_AT_ONCE = 1 << 24  # of images that are read for their digests alone


class ImageSource(ABC):
    """A finite, indexable set of uint8 RGB images, all of one size.

    `batch` is a pure function of its indices: the same indices give the same bytes in every process,
    regardless of earlier calls.

    Attributes:
        name: for messages and provenance, as the user wrote it.
        shuffled: whether images are evaluated in a permutation. A sorted listing needs one; the order of a
            generator has no structure and is kept.
        in_workers: whether decoding is slow enough for worker processes; such a source can be pickled.
        left_out: one line that counts the skipped files of a listing by kind; None if none is skipped.
        notes: how often each noteworthy event happened while decoding, by its description.
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
        """The number of images."""

    @property
    @abstractmethod
    def resolution(self) -> tuple[int, int]:
        """Height and width in pixels of every image."""

    @abstractmethod
    def _read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """The images at these indices, each in range: uint8 [N, 3, H, W]."""

    def batch(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Return images by index, in the given order; indices may repeat.

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
                self._digests[int(index)] = sha256(np.ascontiguousarray(image).data).digest()
        return images

    def identity(self, indices: Sequence[int] | NDArray[np.int64]) -> str:
        """Identify the images at these indices, in that order, by their content alone.

        Equal identities mean equal images in equal order, regardless of names, times and paths. This default
        digests the pixels and does not read an image twice. Sources with a cheaper description of their
        content (encoded files, the recipe of generated images) override it.

        Args:
            indices: each in range.

        Returns:
            One line of text that begins with `IDENTITY`.
        """
        wanted = [int(index) for index in indices]
        height, width = self.resolution
        missing = [index for index in dict.fromkeys(wanted) if index not in self._digests]
        step = max(1, _BYTES_AT_ONCE // (3 * height * width))
        for start in range(0, len(missing), step):
            self.batch(missing[start : start + step])
        return f"{IDENTITY}pixels:{self._joined_digests(wanted)},{height}x{width}"

    def _joined_digests(self, indices: Sequence[int]) -> str:
        return sha256(b"".join(self._digests[index] for index in indices)).hexdigest()[:32]

    @property
    def fingerprint(self) -> str:
        """Identity of all images in the order of the listing; this may read every image."""
        return self.identity(range(len(self)))

    def take_digests(self) -> dict[int, bytes]:
        """Return the digests of the images read since the last call, by index.

        A decoding process sends them along with the images, so that no image is read twice.
        """
        taken, self._digests = dict(self._digests), _Digests()
        return taken

    def learn_digests(self, digests: Mapping[int, bytes]) -> None:
        """Store digests that another process returned from `take_digests`."""
        self._digests.update(digests)

    def forget_digests(self) -> None:
        """Drop the digests of images that may have changed since they were read, such as an array's."""
        self._digests.clear()

    def called(self, index: int) -> str:
        """The name of an image in messages: that of its file, or its index."""
        return f"image {index}"

    @property
    def by_characters(self) -> Order:
        """Indices that sort the images' names character by character, as other tools do."""
        return range(len(self))

    @property
    def label_names(self) -> list[str]:
        """Names of the classes; empty if there are none."""
        return []

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """The class of each image as an index into `label_names`, or None if there are no classes."""
        return None

    @property
    def unlabeled(self) -> str | None:
        """Why the file that should name the classes does not; None if there is no such problem."""
        return None

    def to(self, device: str) -> None:  # noqa: B027 - most sources compute nothing
        """Run the source's network on this device from now on; sources without a network ignore it."""

    def take_notes(self) -> Counter[str]:
        """Return and clear the notes."""
        taken, self.notes = self.notes, Counter()
        return taken

    def take_remarks(self) -> list[str]:
        """Return and clear the warnings about the images read so far, as sentences."""
        return []


def warn_of_left_out(sources: Iterable[ImageSource]) -> None:
    """Log the skipped files once per listing, regardless of how many sources are slices of it."""
    for line in dict.fromkeys(source.left_out for source in sources):
        if line is not None:
            logger.warning(line)


def warn_of_no_classes(source: ImageSource) -> None:
    """Log why a source has no classes although a file should name them."""
    if source.unlabeled is not None:
        logger.warning(f"{source.name} has no classes: {source.unlabeled}")


class _Digests(dict[int, bytes]):
    """Digests of images by index; pickling drops them, since another process has read no image yet."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _Digests, ()


def whole_number(text: str, option: str, spec: str) -> int:
    """Read the whole number of an option of a source.

    Args:
        text: the number as written.
        option: its name, for the message.
        spec: all that was written, for the message.

    Raises:
        SourceError: it is no whole number, or has more digits than anything has.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise SourceError(f"{spec}: {option} is a whole number, not {text!r}")
    return int(text)


def listed(indices: Sequence[int] | NDArray[np.int64]) -> str:
    """Describe indices in a few characters: `0:50000`, or a digest if they are not consecutive."""
    if isinstance(indices, range) and indices.step == 1:  # a generator may have more than memory holds
        return f"{indices.start}:{indices.stop}"
    places = np.asarray(indices, "<i8")
    if len(places) and (np.diff(places) == 1).all():
        return f"{places[0]}:{places[-1] + 1}"
    return sha256(places.tobytes()).hexdigest()[:32]


def sequence(source: ImageSource, seed: int) -> Order:
    """Return the order in which a source's images are evaluated.

    A sorted listing is sorted by class, so its first n images are not a fair sample. Listings are therefore
    permuted by a key of (seed, count), and the same images in the same order give the same numbers
    regardless of container and file names. Generators keep their own order. Every metric takes the first n of
    this sequence.
    """
    if not source.shuffled:
        return range(len(source))
    return seeding.generator(seed, Stream.ORDER, len(source)).permutation(len(source))
