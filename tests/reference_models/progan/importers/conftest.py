"""What several importers are tried on."""

from __future__ import annotations

import pytest

from tests.helpers.foreign_networks import GAN_ZOO_SETTINGS


@pytest.fixture
def hub(foreign, saved):
    """A function that writes a GAN-zoo model; its configuration's class is that project's."""
    kind = foreign("models.utils.config", "BaseConfig")

    def write(state, **settings):
        config = kind()
        config.__dict__.update(GAN_ZOO_SETTINGS | settings)
        content = {"config": config, "netG": {n: 3 * t for n, t in state.items()}, "netD": {}, "avgG": state}
        return saved(content)

    write.kind = kind
    return write
