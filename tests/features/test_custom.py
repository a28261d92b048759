"""A custom network: every form it may have, what is declared, and every refusal."""

import hashlib

import pytest
import torch
from torch import nn

from pgmetrics.errors import OptionError, WeightsError
from tests.helpers.custom_networks import (
    SIDE,
    Tiny,
    WithLogits,
    expected,
    exported,
    opened,
    pixels,
    scripted,
)


def test_an_object_is_a_network_too():
    images = pixels()
    rows = opened(Tiny()).extract(images, ["features"])["features"]
    torch.testing.assert_close(rows, expected(Tiny(), images), rtol=1e-5, atol=1e-6)


def test_pixels_are_mapped_to_the_declared_range():
    images = pixels()
    rows = opened(lambda x: x.flatten(1), value_range=(0, 1)).extract(images, ["features"])["features"]
    torch.testing.assert_close(rows, images.flatten(1) / 255)
    ends = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].expand(2, 3, SIDE, SIDE)
    rows = opened(lambda x: x.flatten(1), value_range=(-2, 3)).extract(ends, ["features"])["features"]
    assert (rows.min(), rows.max()) == (-2, 3)


def test_images_are_brought_to_the_declared_size():
    seen = []

    def network(images):
        seen.append(images.shape)
        return images.mean((2, 3))

    extractor = opened(network, resize="pil-bicubic:24", resolution=None)
    extractor.extract(pixels(3, 40, 31), ["features"])
    assert set(seen) == {(4, 3, 24, 24)}
    constant = torch.full((4, 3, 40, 31), 51, dtype=torch.uint8)
    rows = extractor.extract(constant, ["features"])["features"]
    torch.testing.assert_close(rows, torch.full((4, 3), 51 / 127.5 - 1))


@pytest.mark.parametrize("form", ["module", "script", "export", "dict"])
def test_a_classifier_gives_logits_too(tmp_path, form):
    network = WithLogits().eval()
    if form == "script":
        network = scripted(network, tmp_path / "net.pt")
    elif form == "export":
        network = exported(network, tmp_path / "net.pt2")
    elif form == "dict":
        network = lambda x: dict(zip(["features", "logits"], WithLogits().eval()(x), strict=True))  # noqa: E731
    extractor = opened(network)
    assert extractor.layers == ("features", "logits")
    rows = extractor.extract(pixels(), ["logits", "features"])
    torch.testing.assert_close(rows["logits"], 2 * rows["features"][:, :5])
    assert opened(Tiny()).layers == ("features",)


def test_without_a_size_it_is_tried_out_on_the_first_images():
    extractor = opened(WithLogits(), resolution=None)
    rows = extractor.extract(pixels(3, 40, 31), ["logits"])["logits"]
    torch.testing.assert_close(rows, 2 * expected(Tiny(), pixels(3, 40, 31))[:, :5], rtol=1e-5, atol=1e-6)
    extractor = opened(Tiny(), resolution=None)
    with pytest.raises(WeightsError, match=r"Tiny returns no logits; \(features, logits\) gives both"):
        extractor.extract(pixels(), ["logits"])
    assert extractor.layers == ("features",)
    extractor = opened(spatial, resolution=None)
    with pytest.raises(WeightsError, match=r"shape \[4, 3, 2, 2\]"):
        extractor.extract(pixels(), ["features"])


def test_a_module_is_put_into_eval_mode():
    # In training mode a row would follow its batch, and the batch norm would follow the images.
    network = Tiny().train()
    images = pixels()
    before = network.norm.running_mean.clone()
    rows = opened(network).extract(images, ["features"])["features"]
    assert torch.equal(network.norm.running_mean, before)
    torch.testing.assert_close(rows, expected(Tiny(), images), rtol=1e-5, atol=1e-6)


def test_no_gradients_and_no_tf32_inside():
    seen = {}

    def network(images):
        seen["grad"] = torch.is_grad_enabled()
        seen["tf32"] = torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32
        return images.mean((2, 3))

    before = torch.backends.cudnn.allow_tf32
    opened(network).extract(pixels(), ["features"])
    assert seen == {"grad": False, "tf32": False}
    assert torch.backends.cudnn.allow_tf32 == before


def test_half_precision_outputs_become_float32():
    rows = opened(lambda x: x.mean((2, 3)).half()).extract(pixels(), ["features"])["features"]
    assert rows.dtype == torch.float32


def test_the_fingerprint_holds_all_that_was_declared(tmp_path, monkeypatch):
    path = scripted(Tiny().eval(), tmp_path / "net.pt")
    other = Tiny().eval()
    other.norm.running_mean += 1
    elsewhere = scripted(other, tmp_path / "other.pt")
    wide = {"resize": "pil-bicubic:16", "resolution": None}
    prints = [
        opened(path).fingerprint,
        opened(elsewhere).fingerprint,
        opened(path, value_range=(0, 1)).fingerprint,
        opened(path, **wide).fingerprint,
        opened(path, **wide | {"resize": "pil-bicubic:17"}).fingerprint,
        opened(Tiny()).fingerprint,
        opened(other).fingerprint,
    ]
    assert len(set(prints)) == len(prints)
    assert opened(path).fingerprint == prints[0]
    assert opened(Tiny()).fingerprint == prints[5]
    (tmp_path / "copy.pt").write_bytes(path.read_bytes())
    assert opened(tmp_path / "copy.pt").fingerprint == prints[0]


def test_the_protocol_is_plain_values(tmp_path):
    network = opened(scripted(Tiny().eval(), tmp_path / "net.pt"))
    protocol = network.protocol
    assert protocol["resizer"] == "none"
    assert protocol["value_range"] == [-1, 1]
    kind, digest = protocol["network"].split("=")
    assert kind == "torchscript sha256"
    assert digest == hashlib.sha256((tmp_path / "net.pt").read_bytes()).hexdigest()
    assert network.label == f"net.pt {digest[:8]} none"


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ({"resize": None}, "needs its resizer declared"),
        ({"value_range": None}, "needs its value range declared"),
        ({"resize": "pil-bicubic"}, "'pil-bicubic' is neither none nor NAME:SIZE"),
        ({"resize": "bicubicle:224"}, "'bicubicle:224' is neither none nor NAME:SIZE"),
        ({"resize": "pil-bicubic:0"}, "neither none nor NAME:SIZE"),
        ({"resize": "pil-bicubic:²"}, "neither none nor NAME:SIZE"),
        ({"value_range": (1, -1)}, "rises from a number to another, such as -1,1; not 1,-1"),
        ({"value_range": (0, float("inf"))}, "not 0,inf"),
        ({"value_range": (0, 1, 2)}, "two numbers"),
    ],
)
def test_what_is_not_declared_is_refused(options, fact):
    with pytest.raises(OptionError, match=fact) as refusal:
        opened(Tiny(), **options)
    assert "\n" not in str(refusal.value)


def spatial(images):
    return images[:, :, :2, :2]


@pytest.mark.parametrize(
    ("network", "fact"),
    [
        (lambda x: x.mean((2, 3), keepdim=True), r"shape \[4, 3, 1, 1\]; .*flatten\(1\)"),
        (spatial, r"spatial returns features of shape \[4, 3, 2, 2\]; \[N, D\] is needed"),
        (lambda x: x.mean((1, 2, 3)), r"shape \[4\]; \[N, D\] is needed"),
        (lambda x: x.mean((2, 3))[:, :0], r"shape \[4, 0\]"),
        (lambda x: x.mean((2, 3))[1:], "returns 3 rows of features for 4 images"),
        (lambda x: x.mean((2, 3)).long(), "features of torch.int64; a float type"),
        (lambda x: "text", "returns str as features; a tensor"),
        (lambda x: {"pooled": x, "tokens": x}, "a dict of pooled, tokens; .* under the key features"),
        (lambda x: (x, x, x), "returns 3 outputs"),
        (lambda x: (x.mean((2, 3)), x), r"returns logits of shape \[4, 3, 32, 32\]"),
        (lambda x: x @ torch.zeros(5, 5), r"fails on float32 \[4, 3, 32, 32\]: .*shapes"),
        (lambda x: nn.functional.batch_norm(x, None, None, training=True).amax((2, 3)), "in another batch"),
        (lambda x: nn.functional.dropout(x.flatten(1), training=True), "by chance"),
    ],
)
def test_a_network_that_does_not_make_rows_is_refused(network, fact):
    with pytest.raises(WeightsError, match=fact) as refusal:
        opened(network)
    assert "\n" not in str(refusal.value)


def test_only_the_first_line_of_a_networks_own_error_is_quoted():
    def network(images):
        raise RuntimeError("no such head\nand a page more")

    with pytest.raises(WeightsError, match=r"network fails on float32 \[4, 3, 32, 32\]: no such head$"):
        opened(network)


def test_another_size_than_the_exported_one_is_refused(tmp_path):
    path = exported(Tiny().eval(), tmp_path / "net.pt2")
    with pytest.raises(WeightsError, match=r"fails on float32 \[4, 3, 24, 24\]") as refusal:
        opened(path, resize="pil-bicubic:24", resolution=None)
    assert "\n" not in str(refusal.value)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("form", ["module", "script", "export"])
def test_it_moves_to_a_gpu(tmp_path, form):
    network = Tiny().eval()
    if form != "module":
        network = (scripted if form == "script" else exported)(network, tmp_path / "net")
    rows = opened(network, device="cuda").extract(pixels().cuda(), ["features"])["features"]
    assert rows.is_cuda
    torch.testing.assert_close(rows.cpu(), expected(Tiny(), pixels()), rtol=1e-4, atol=1e-5)
