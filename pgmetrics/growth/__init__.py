"""A training run scored across its growth: every checkpoint, in order, resumed where it was interrupted."""

from pgmetrics.growth.run import read_scores, score_run
from pgmetrics.growth.snapshots import PROTOCOLS, Finder, Snapshot, find_snapshots, open_snapshot
from pgmetrics.growth.trainer import FINISHED

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
