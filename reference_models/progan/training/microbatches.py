"""Divide a minibatch over ranks, and into micro-batches ("pieces") that a device processes in turn.

A piece holds whole groups of the minibatch standard deviation (`layers.minibatch_stddev`). Its images are
ordered such that each is grouped with the same images as in the whole minibatch. Therefore the gradient of a
minibatch is the mean of the gradients of its pieces, up to rounding, however the minibatch is divided.
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
        pieces: for each piece the indices of its images in the minibatch; all pieces have the same length.
        total: number of pieces over all ranks.
    """

    pieces: tuple[tuple[int, ...], ...]
    total: int

    @property
    def places(self) -> tuple[int, ...]:
        """The indices of the images of all pieces, in order."""
        return tuple(place for piece in self.pieces for place in piece)

    @property
    def is_whole(self) -> bool:
        """Whether the share is the whole minibatch in one piece, in the original order."""
        return self.total == 1

    @property
    def slices(self) -> list[slice]:
        """The slice of `places` that each piece occupies."""
        length = len(self.pieces[0])
        return [slice(i * length, (i + 1) * length) for i in range(len(self.pieces))]


def share(
    config: ProGANConfig, resolution: int, *, rank: int = 0, ranks: int = 1, micro_batch: int | None = None
) -> Share:
    """Return which images of each minibatch at a resolution a rank processes, and in which pieces.

    Args:
        config: configuration of the run.
        resolution: resolution of the stage.
        rank, ranks: number of this rank, and number of ranks.
        micro_batch: the largest number of images in a piece; None puts all images of the rank into one.

    Raises:
        OptionError: this division would change the gradient of the minibatch.
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
        # Image n belongs to group n mod groups. A piece takes the same members of consecutive groups.
        first = (rank * pieces + i) * columns
        return tuple(k * groups + first + j for k in members for j in range(columns))

    return Share(pieces=tuple(piece(i) for i in range(pieces)), total=ranks * pieces)


def check(config: ProGANConfig, *, ranks: int = 1, micro_batch: int | None = None) -> None:
    """Raise an OptionError if `share` refuses the minibatch of any resolution of a run."""
    for resolution in config.resolutions if config.growing else (config.resolution,):
        share(config, resolution, ranks=ranks, micro_batch=micro_batch)


def _indivisible(config: ProGANConfig, resolution: int) -> int:
    """Return the number of images that must stay together, since their results depend on each other."""
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
