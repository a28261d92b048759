"""A training run scored across its growth: every checkpoint, in order, resumed where it was interrupted."""

from pgmetrics.growth.checkpoints import PROTOCOLS, Finder, Snapshot, find_snapshots, open_snapshot
from pgmetrics.growth.session import FINISHED, read_scores, score_run

__all__ = [
    "FINISHED",
    "PROTOCOLS",
    "Finder",
    "Snapshot",
    "find_snapshots",
    "open_snapshot",
    "read_scores",
    "score_run",
]
