"""Every refusal of the project: what was asked, what was found, and the way out."""

from __future__ import annotations


class PgmetricsError(Exception):
    """Anything pgmetrics refuses to do; its text is one line a person can act on."""


class SampleError(PgmetricsError, ValueError):
    """The images are too few, too small or of the wrong shape for what was asked."""


class SourceError(PgmetricsError, ValueError):
    """A place that images come from cannot be opened, read or used as asked."""


class StateError(PgmetricsError, ValueError):
    """Two accumulators do not belong together, or one on disk is not what it should be."""


class OptionError(PgmetricsError, ValueError):
    """A parameter has a value outside what its meaning allows."""


class WeightsError(PgmetricsError, ValueError):
    """A network's weights are missing, damaged or another network's."""
