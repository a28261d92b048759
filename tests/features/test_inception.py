"""Inception against torch-fidelity's own, and what it must leave alone."""

import numpy as np
import pytest
import torch

from pgmetrics.errors import OptionError, WeightsError
from pgmetrics.features import inception as module
from pgmetrics.features import open_network

BOTH = ("features", "logits")


def images(n=16, height=40, width=52, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (n, 3, height // 4, width // 4), dtype=np.uint8)
    return torch.from_numpy(coarse.repeat(4, axis=2).repeat(4, axis=3))


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Beside other work, two threads in one operation wait for each other longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def peer(inception_weights):
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    return module.FeatureExtractorInceptionV3("peer", ["2048", "logits_unbiased"], str(inception_weights))


@pytest.fixture(scope="module")
def theirs(peer):
    """What it makes of `images()`, in one batch as long as the plain form's."""
    return peer(images())


@pytest.fixture(scope="module")
def networks(inception_weights):
    """Extractors by their settings, each made once."""
    made = {}

    def network(**settings):
        key = tuple(sorted(settings.items()))
        if key not in made:
            made[key] = open_network(
                "inception", weights=inception_weights, allow_unverified=True, **settings
            )
        return made[key]

    return network


def off(ours, theirs):
    """Relative distance of two sets of rows."""
    return float((ours.double() - theirs.double()).norm() / theirs.double().norm())


@pytest.mark.slow
def test_the_plain_form_has_torch_fidelitys_bits(theirs, networks):
    features, logits = theirs
    ours = networks(form="plain").extract(images(), BOTH)
    assert torch.equal(ours["features"], features)
    assert torch.equal(ours["logits"], logits)


@pytest.mark.slow
def test_the_fast_form_differs_by_rounding_alone(theirs, networks):
    # Another order of sums in 94 layers; the plain form on channels-last images is as far away.
    features, logits = theirs
    ours = networks().extract(images(), BOTH)
    assert {name: rows.dtype for name, rows in ours.items()} == dict.fromkeys(BOTH, torch.float32)
    assert off(ours["features"], features) < 1e-4
    assert off(ours["logits"], logits) < 1e-4
    centered = features - features.mean(0)
    assert off(ours["features"] - features.mean(0), centered) < 2e-4


@pytest.mark.slow
def test_without_fused_kernels_the_fast_form_is_the_same(networks, inception_weights, monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    unfused = open_network("inception", weights=inception_weights, allow_unverified=True)
    assert not any(block.fuse for block in unfused._network.modules() if isinstance(block, module._ConvReLU))
    fused = networks()._network.modules()
    assert all(block.fuse for block in fused if isinstance(block, module._ConvReLU))
    pixels = images(4)
    ours = [network.extract(pixels, BOTH)["logits"] for network in (unfused, networks())]
    assert off(*ours) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("form", ["fast", "plain"])
def test_a_row_does_not_depend_on_its_neighbors(networks, form, monkeypatch):
    network = networks(form=form)
    monkeypatch.setattr(network, "length", 4)
    pixels = images(6)
    rows = network.extract(pixels, BOTH)
    shuffled = torch.tensor([4, 2, 5, 0, 1, 3])
    for name, again in network.extract(pixels[shuffled], BOTH).items():
        assert torch.equal(again, rows[name][shuffled])
    for name, again in network.extract(pixels[3:6], BOTH).items():
        assert torch.equal(again, rows[name][3:6])


@pytest.mark.slow
def test_a_row_of_the_fast_form_does_not_depend_on_the_number_of_threads(networks):
    pixels = images(8)
    rows = networks().extract(pixels, ["features"])["features"]
    torch.set_num_threads(3)
    try:
        assert torch.equal(networks().extract(pixels, ["features"])["features"], rows)
    finally:
        torch.set_num_threads(1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "reference"),
    [
        ({"resizer": "torch-bilinear-antialias"}, "torchmetrics"),
        ({"resizer": "torch-bilinear", "values": "2x/255-1"}, "pytorch_fid"),
    ],
)
def test_other_tools_resizers_give_their_features(
    networks, inception_weights, monkeypatch, settings, reference
):
    pixels = images(2, 360, 320)
    if reference == "torchmetrics":
        fid = pytest.importorskip("torchmetrics.image.fid")
        theirs = fid.NoTrainInceptionV3("inception-v3-compat", ["2048"], str(inception_weights))
        expected = theirs._torch_fidelity_forward(pixels)[0]
    else:
        inception = pytest.importorskip("pytorch_fid.inception")
        state = torch.load(inception_weights, weights_only=True)
        monkeypatch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: state)
        theirs = inception.InceptionV3()
        theirs.eval()
        expected = theirs(pixels / 255)[0].flatten(1)
    network = networks(form="plain", **settings)
    monkeypatch.setattr(network, "length", 2)
    assert off(network.extract(pixels, ["features"])["features"], expected) < 1e-5
    # The resizers differ by far more than the tolerance.
    assert off(networks().extract(pixels, ["features"])["features"], expected) > 1e-2


@pytest.mark.slow
def test_bfloat16_is_near_and_says_so(networks):
    pixels = images(4)
    exact, short = (networks(precision=p) for p in ("float32", "bfloat16"))
    rows = short.extract(pixels, BOTH)["features"]
    assert rows.dtype == torch.float32
    assert 1e-3 < off(rows, exact.extract(pixels, BOTH)["features"]) < 0.1
    assert "bfloat16" in short.label
    assert "bfloat16" in short.fingerprint
    with pytest.raises(OptionError, match="plain form computes in float32"):
        networks(form="plain", precision="bfloat16")


@pytest.mark.slow
def test_the_compiled_form_goes_through_torch_compile(inception_weights, monkeypatch):
    compiled = []

    def compile_(network, **options):
        compiled.append(options)
        return network

    monkeypatch.setattr(torch, "compile", compile_)
    network = open_network("inception", weights=inception_weights, allow_unverified=True, form="compiled")
    assert network.length == 16
    network.length = 2
    rows = network.extract(images(2), BOTH)
    assert compiled == [{"dynamic": False}]
    assert rows["features"].shape == (2, 2048)


@pytest.mark.slow
def test_the_fingerprint_and_label_tell_what_decides_a_feature(networks, inception_weights, tmp_path):
    other = tmp_path / "other.pth"
    state = torch.load(inception_weights, weights_only=True)
    torch.save(state | {"fc.bias": state["fc.bias"] + 1}, other)
    different = [
        networks(),
        networks(form="plain"),
        networks(form="plain", resizer="pil-bicubic"),
        networks(form="plain", values="2x/255-1"),
        networks(precision="bfloat16"),
        open_network("inception", weights=other, allow_unverified=True),
    ]
    assert len({network.fingerprint for network in different}) == len(different)
    # The plain form is the same number to five digits: it has no column of its own.
    assert len({network.label for network in different}) == len(different) - 1
    protocol = networks().protocol
    assert len(protocol["weights"]) == 64
    assert protocol["weights"] in networks().fingerprint
    assert protocol["weights_verified"] is False
    assert protocol["weights"][:8] in networks().label
    assert "\n" not in networks().fingerprint


def test_evaluation_mode_cannot_be_left(networks):
    network = networks(form="plain")._network
    network.train()
    assert not any(part.training for part in network.modules())


@pytest.mark.slow
def test_the_callers_random_numbers_and_settings_stay(inception_weights, monkeypatch):
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    seen = []
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        network = open_network("inception", weights=inception_weights, allow_unverified=True)
        forward = network._run
        network._run = lambda images: (
            seen.append((torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()))
            or forward(images)
        )
        rows = network.extract(images(3), ["features"])["features"]
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(precision)
    assert seen == [(False, "highest")]
    assert torch.backends.cudnn.allow_tf32 is True
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert not rows.is_inference()
    assert not rows.requires_grad


@pytest.mark.parametrize(
    "settings", [{"resizer": "bilinear"}, {"values": "x"}, {"form": "quick"}, {"precision": "float16"}]
)
def test_an_unknown_option_is_refused_with_what_there_is(inception_weights, settings):
    (value,) = settings.values()
    with pytest.raises(OptionError, match=f"{value!r} of Inception; choose from"):
        open_network("inception", weights=inception_weights, allow_unverified=True, **settings)


def test_unverified_and_foreign_weights_are_refused(inception_weights, tmp_path):
    with pytest.raises(WeightsError, match="is not the published weights-inception"):
        open_network("inception", weights=inception_weights)
    state = torch.load(inception_weights, weights_only=True)
    torch.save({name: tensor for name, tensor in state.items() if "fc" not in name}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"lacks 2 tensors, such as fc\.weight"):
        open_network("inception", weights=tmp_path / "x.pth", allow_unverified=True)
    with pytest.raises(
        OptionError, match="unknown network 'resnet'; choose from inception, vgg16, or 'custom'"
    ):
        open_network("resnet")


def test_torch_fidelitys_constructor_loads_nothing_of_its_own(inception_weights, monkeypatch):
    loads = []
    load = torch.load
    monkeypatch.setattr(
        torch, "load", lambda file, **options: loads.append((file, options)) or load(file, **options)
    )
    open_network("inception", weights=inception_weights, allow_unverified=True, form="plain")
    unsafe = [file for file, options in loads if not options.get("weights_only")]
    # It insists on unpickling something: an empty dict that we wrote.
    assert [load(file.seek(0) or file, weights_only=True) for file in unsafe] == [{}]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["fast", "compiled"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("tensor", "value", "fact"),
    [
        ("Mixed_5b.branch1x1.bn.running_var", -1.0, "not finite"),  # its root is NaN in the folded weights
        ("Conv2d_1a_3x3.conv.weight", 1e37, "activations grow to"),  # inf - inf a few layers on
    ],
)
def test_finite_weights_that_lead_to_nan_are_refused(
    inception_weights, tmp_path, form, precision, tensor, value, fact
):
    # oneDNN's fused ReLU makes 0 of NaN: the fast form gave equal features for all images, and FID 0.00.
    state = torch.load(inception_weights, weights_only=True)
    state[tensor] = torch.full_like(state[tensor], value)
    torch.save(state, tmp_path / "wild.pth")
    with pytest.raises(WeightsError, match=f"wild.pth holds unusable weights of inception.*{fact}"):
        open_network(
            "inception", weights=tmp_path / "wild.pth", allow_unverified=True, form=form, precision=precision
        )
