"""Divide a minibatch over ranks, and into pieces that one device processes one after the other.

A piece holds whole groups of the minibatch standard deviation (`layers.minibatch_stddev`). They are ordered
such that every image has the same deviation in its piece as in the minibatch. So for any division the
gradient of a minibatch is the mean of its pieces' gradients, up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pgmetrics.errors import OptionError
from reference_models.progan.model.config import ProGANConfig


@dataclass(frozen=True)
class Share:
    """The images of a minibatch that one rank processes.

    Attributes:
        pieces: indices in the minibatch, piece by piece; all pieces have the same length.
        total: number of pieces of all ranks together.
    """

    pieces: tuple[tuple[int, ...], ...]
    total: int

    @property
    def places(self) -> tuple[int, ...]:
        """The indices of all its pieces, in order."""
        return tuple(place for piece in self.pieces for place in piece)

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole minibatch in one piece, in the original order."""
        return self.total == 1

    @property
    def slices(self) -> list[slice]:
        """The slice of `places` that each piece occupies."""
        length = len(self.pieces[0])
        return [slice(i * length, (i + 1) * length) for i in range(len(self.pieces))]


def share(
    config: ProGANConfig, resolution: int, *, rank: int = 0, ranks: int = 1, micro_batch: int | None = None
) -> Share:
    """Return the images of each minibatch at a resolution that a rank processes.

    Args:
        config: configuration of the run.
        resolution: resolution of the stage.
        rank, ranks: the rank, and the number of ranks.
        micro_batch: the largest number of images in a piece; None for all images of the rank.

    Raises:
        OptionError: the minibatch cannot be divided like this without changing its gradient.
    """
    minibatch, group = config.minibatch_at(resolution), _indivisible(config, resolution)
    groups = minibatch // group
    at = f"at {resolution} x {resolution} the minibatch of {minibatch}"
    if groups % ranks:
        raise OptionError(
            f"{at} is {_groups(config, groups, group)}, which {ranks} ranks cannot share evenly; "
            f"{_nearest_divisor(groups, ranks)} could, or take another minibatch"
        )
    each = groups // ranks
    wanted = minibatch if micro_batch is None else micro_batch
    if wanted < group:
        raise OptionError(
            f"{at} cannot be taken {wanted} images at a time, since {group} of them are compared with each "
            f"other; {group} is the least"
        )
    pieces = next(n for n in range(1, each + 1) if each % n == 0 and each // n * group <= wanted)
    columns = each // pieces
    members = range(group)

    def piece(i: int) -> tuple[int, ...]:
        # Image n is in group n mod groups: a piece has the same members of neighboring groups in a row.
        first = (rank * pieces + i) * columns
        return tuple(k * groups + first + j for k in members for j in range(columns))

    return Share(pieces=tuple(piece(i) for i in range(pieces)), total=ranks * pieces)


def check(config: ProGANConfig, *, ranks: int = 1, micro_batch: int | None = None) -> None:
    """Raise an OptionError unless the minibatches of all resolutions of a run can be divided like this."""
    for resolution in config.resolutions if config.growing else (config.resolution,):
        share(config, resolution, ranks=ranks, micro_batch=micro_batch)


def _indivisible(config: ProGANConfig, resolution: int) -> int:
    """Return how many images must stay together, because the result of one depends on the others."""
    minibatch = config.minibatch_at(resolution)
    if config.generator_norm == "batch" or config.minibatch_statistics == "discrimination":
        return minibatch
    return min(config.mbstd_group, minibatch) if config.minibatch_statistics == "stddev" else 1


def _groups(config: ProGANConfig, groups: int, group: int) -> str:
    if config.generator_norm == "batch":
        return "one whole for its batch norm (generator_norm=batch)"
    if config.minibatch_statistics == "discrimination":
        return "one whole for its minibatch discrimination"
    if group == 1:
        return f"{groups} images"
    return f"{groups} group{'s' if groups > 1 else ''} of mbstd_group={group}"


def _nearest_divisor(number: int, wanted: int) -> int:
    divisors: Sequence[int] = [n for n in range(1, number + 1) if number % n == 0]
    return max((n for n in divisors if n <= wanted), default=1)
