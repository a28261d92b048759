"""Quick metrics, and rows picked from a table of results."""

from pgmetrics.metrics.swd import SlicedWasserstein

SWD = SlicedWasserstein(patches_per_image=16, directions=8, repeats=2)


def rows(results, **wanted):
    """The rows that have these values in these columns."""
    return [row for row in results.rows if all(row[column] == value for column, value in wanted.items())]
