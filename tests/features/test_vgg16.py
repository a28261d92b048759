"""VGG16 against torch-fidelity's own."""

import pytest
import torch

from pgmetrics.errors import OptionError, WeightsError
from pgmetrics.features import open_network
from tests.features.test_inception import images


@pytest.mark.slow
def test_its_features_have_torch_fidelitys_bits(vgg16_weights):
    peer = pytest.importorskip("torch_fidelity.feature_extractor_vgg16")
    state = torch.get_rng_state()
    network = open_network("vgg16", weights=vgg16_weights, allow_unverified=True)
    assert torch.equal(torch.get_rng_state(), state)
    network.length = 2
    pixels = images(2, 40, 300)
    rows = network.extract(pixels, ["features"])["features"]
    assert rows.shape == (2, 4096)
    assert torch.equal(network.extract(pixels[[1, 0]], ["features"])["features"], rows[[1, 0]])
    assert network.protocol["weights"] in network.fingerprint
    del network  # half a gigabyte
    theirs = peer.FeatureExtractorVGG16("peer", ["fc2_relu"], str(vgg16_weights))
    assert torch.equal(theirs(pixels)[0], rows)


def test_it_has_no_settings_and_refuses_another_networks_file(inception_weights):
    with pytest.raises(OptionError, match=r"no settings, so resizer"):
        open_network("vgg16", resizer="pil-bicubic")
    with pytest.raises(WeightsError, match=r"vgg16: it lacks 32 tensors, such as features\.0\.weight"):
        open_network("vgg16", weights=inception_weights, allow_unverified=True)
