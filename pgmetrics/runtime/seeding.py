"""All random numbers of the project, each a function of (seed, stream, key).

No generator is shared or keeps a state between calls: the same arguments give the same numbers,
regardless of what was drawn before, of the process and of the order. NumPy's Philox is counter-based,
so reading a table of numbers can start at any row at no cost.

Numbers are drawn on the CPU and copied to the device, so that a GPU gets the same ones.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from pgmetrics.errors import OptionError, check_number
from pgmetrics.runtime.files import sha256

LARGEST_SEED = 2**128 - 1
"""As many bits as NumPy itself draws for a seed; results hold whole numbers of up to 40 digits."""

Generator = np.random.Generator  # for annotations elsewhere, since no other module may use numpy.random


class Stream(IntEnum):
    """The purpose of random numbers. Results depend on the values: never renumber them."""

    LATENTS = 1
    LABELS = 2
    PATCHES = 3
    DIRECTIONS = 4
    ORDER = 5
    SLICES = 6
    MIRROR = 7
    SYNTHETIC = 8
    INITIALIZATION = 9
    TRAINING_LATENTS = 10
    TRAINING_LABELS = 11
    TRAINING_ORDER = 12
    TRAINING_MIRROR = 13
    GRADIENT_PENALTY = 14
    SPLITS = 15
    SUBSETS = 16
    EXTRAPOLATION = 17
    CELLS = 18
    RANDOMIZATION = 19
    RESAMPLING = 20
    TRAINING_NOISE = 21


def generator(seed: int, stream: Stream, *key: int) -> np.random.Generator:
    """Return a new generator that depends only on (seed, stream, key).

    This takes about 30 microseconds; for many rows of uniform numbers, `words` is faster.

    Args:
        seed: from 0 to LARGEST_SEED.
        stream: the purpose of the numbers.
        key: non-negative integers below 2**32, such as an image's index or a level's pixels.
            The length of the key counts, too: (1,) and (1, 0) are different keys.

    Raises:
        OptionError: the seed or a key is out of range.
    """
    return np.random.Generator(np.random.Philox(_sequence(seed, stream, key)))


def words(seed: int, stream: Stream, *key: int, start: int, stop: int, width: int) -> NDArray[np.uint64]:
    """Return rows `start` to `stop` of an endless table of independent uniform 64-bit words.

    Row i is the same in whatever range it is requested.

    Args:
        seed, stream, key: as in `generator`.
        start, stop: the rows, 0 <= start <= stop.
        width: words in a row, a multiple of 4 (Philox makes four at a time).

    Returns:
        uint64 [stop - start, width], each value uniform over all 2**64.

    Raises:
        OptionError: the seed, a key or the width is out of range.
    """
    if width % 4 or width <= 0:
        raise OptionError(f"a row of random words needs a width that is a multiple of 4, not {width}")
    counter_key = _sequence(seed, stream, key).generate_state(2, np.uint64)
    table = np.random.Philox(key=counter_key, counter=start * (width // 4))
    return table.random_raw((stop - start) * width).reshape(stop - start, width)


def below(random_words: NDArray[np.uint64], bound: int) -> NDArray[np.int64]:
    """Turn the low 32 bits of each word into an integer uniform over 0 ... bound - 1.

    It multiplies and shifts instead of rejecting numbers. A value's probability is therefore off by at
    most 2**-32, which no test could detect for the few hundred positions of a patch.

    Args:
        random_words: uint64, any shape.
        bound: 1 to 2**31.
    """
    low = random_words & np.uint64(0xFFFFFFFF)
    scaled: NDArray[np.uint64] = (low * np.uint64(bound)) >> np.uint64(32)
    return scaled.astype(np.int64)


def text_key(text: str) -> tuple[int, int, int, int]:
    """Return four 32-bit integers that represent a text in a key."""
    digest = sha256(text.encode()).digest()
    a, b, c, d = (int.from_bytes(digest[4 * i : 4 * i + 4], "little") for i in range(4))
    return a, b, c, d


def legacy_permutation(seed: int, n: int) -> NDArray[np.int64]:
    """Permute 0 ... n - 1 by NumPy's legacy RandomState(seed), to reproduce the scores of other tools."""
    return np.random.RandomState(seed).permutation(n)


def legacy_subsets(
    seed: int, populations: tuple[int, int], size: int, num: int
) -> list[list[NDArray[np.int64]]]:
    """Draw pairs of subsets one after the other, without replacement, by NumPy's legacy RandomState(seed).

    Args:
        seed: seed of the generator.
        populations: sizes of the populations of the first and the second subset of each pair.
        size: size of each subset.
        num: number of pairs.
    """
    state = np.random.RandomState(seed)
    return [[state.choice(n, size, replace=False) for n in populations] for _ in range(num)]


@contextmanager
def global_generators_kept() -> Iterator[None]:
    """Restore the states of Python's, NumPy's and torch's global generators when the context ends.

    A user's network or data set may draw from them, which must not change the caller's random numbers.
    """
    torch = sys.modules.get("torch")
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 - the caller may use it
    devices = range(torch.cuda.device_count()) if torch is not None and torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng(devices) if torch is not None else nullcontext():
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002


@contextmanager
def global_generators_elsewhere() -> Iterator[None]:
    """Reseed Python's, NumPy's and torch's global generators within the context, as in another process.

    This reveals random numbers that a user's code draws without a seed. CUDA generators are not reseeded.
    """
    with global_generators_kept():
        random.seed()
        np.random.seed()  # noqa: NPY002
        if (torch := sys.modules.get("torch")) is not None:
            torch.default_generator.seed()  # torch.seed would also seed CUDA, even if it is not in use yet
        yield


def _sequence(seed: int, stream: Stream, key: tuple[int, ...]) -> np.random.SeedSequence:
    check_number("a seed", seed, 0, LARGEST_SEED, whole=True)
    # Larger integers would be split into several words, so that two keys could coincide.
    if any(not 0 <= part < 2**32 for part in key):
        raise OptionError(f"a random key is made of integers from 0 to 2**32 - 1, not {key}")
    return np.random.SeedSequence(seed, spawn_key=(int(stream), *key))
