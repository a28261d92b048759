"""What a network file holds becomes our configuration."""

from __future__ import annotations

import pytest

from reference_models.progan.importers.imported import feature_map_options


@pytest.mark.parametrize(
    ("channels", "options"),
    [
        ((512, 512, 512, 512, 256, 128, 64, 32, 16), (8192, 512)),
        ((512, 512, 512, 512, 256, 128, 64), (8192, 512)),
        ((512, 512, 512, 512), (8192, 512)),
        ((128, 64, 32), (256, 128)),
        ((5,), (10, 5)),
    ],
)
def test_channels_tell_their_options(channels, options):
    assert feature_map_options(channels) == options
