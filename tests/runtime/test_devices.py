"""Which device a name means."""

import pytest
import torch

import pgmetrics
from pgmetrics.errors import OptionError
from pgmetrics.runtime.devices import pick_device
from tests.helpers.counting import Counting


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "gpu"])
def test_a_device_that_is_not_here_is_refused(device):
    with pytest.raises(OptionError, match=device):
        pgmetrics.swd(Counting(8), Counting(8), device=device)


def test_names_mean_devices_that_are_here():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(OptionError, match=r"'cpu:3' is not available here .*device=auto takes what there is"):
        pick_device("cpu:3")
    with pytest.raises(OptionError, match="'meta' is not available here"):
        pick_device("meta")
