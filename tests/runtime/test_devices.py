"""Which device a name means."""

import pytest

import pgmetrics
from pgmetrics.errors import OptionError
from tests.helpers.counting import Counting


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "gpu"])
def test_a_device_that_is_not_here_is_refused(device):
    with pytest.raises(OptionError, match=device):
        pgmetrics.swd(Counting(8), Counting(8), device=device)
