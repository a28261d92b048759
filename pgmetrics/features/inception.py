"""The Inception network that defines FID, IS and KID, in torch-fidelity's port."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Mapping, Sequence
from os import PathLike
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pgmetrics.errors import OptionError, WeightsError
from pgmetrics.features import weights as weights_files
from pgmetrics.features.base import FeatureExtractor
from pgmetrics.features.preprocess import RESIZERS, VALUE_MAPS
from pgmetrics.functional.finite import not_finite
from pgmetrics.functional.float_precision import exact_float32
from pgmetrics.runtime.threads import share_out

SIDE = 299
"""Side of the network's input in pixels."""

FORMS = ("fast", "plain", "compiled")
PRECISIONS = ("float32", "bfloat16")

# Images in a forward pass. In the fast form one thread runs a whole pass, and more than a few images would
# not fit into its caches; in the other forms the threads share each operation.
_LENGTH = {"fast": 4, "plain": 16, "compiled": 16}
_ON_DEVICE = 64

_PROBE_SIDE = 75  # pixels: the smallest input of the network
_LARGEST_ACTIVATION = 2.0**64  # the square root of where float32 and bfloat16 overflow


class Inception(FeatureExtractor):
    """Inception v3 of 2015-12-05: "features" are the 2048 of pool3, "logits" the 1008 without their bias.

    It is always in evaluation mode and never uses TF32. On the CPU the bits of a row do not depend on the
    other images and on the number of threads.

    Args:
        weights: the weights file; None searches for it as `features.weights` does.
        allow_unverified: accept a file whose digest is not the published one.
        resizer: the resizer to 299 pixels, one of `preprocess.RESIZERS`.
        values: the map from pixel values to inputs, one of `preprocess.VALUE_MAPS`.
        form: "fast" folds the batch norms into the convolutions and runs channels-last; "plain" is
            torch-fidelity's module; "compiled" is the fast form through torch.compile. They differ only in
            rounding.
        precision: of weights and activations: "float32", or "bfloat16" for an approximation.

    Raises:
        OptionError: an option has an unknown value.
        WeightsError: raised by `weights.find` and `weights.load`.
    """

    name = "inception"
    layers = ("features", "logits")

    def __init__(
        self,
        weights: str | PathLike[str] | None = None,
        *,
        allow_unverified: bool = False,
        resizer: str = "tf1-bilinear",
        values: str = "(x-128)/128",
        form: str = "fast",
        precision: str = "float32",
    ) -> None:
        _check("resizer", resizer, RESIZERS)
        _check("value map", values, VALUE_MAPS)
        _check("form", form, FORMS)
        _check("precision", precision, PRECISIONS)
        if form == "plain" and precision != "float32":
            raise OptionError(f"the plain form computes in float32; {precision} needs form='fast'")
        file = weights_files.find("inception", weights, allow_unverified=allow_unverified)
        self._network, self._head = _load(file)
        self._form = form
        self._resize = RESIZERS[resizer]
        if form == "plain" and resizer == "tf1-bilinear":
            self._resize = torch_fidelity_bilinear
        self._values = VALUE_MAPS[values]
        self._dtype = getattr(torch, precision)
        self._run: Callable[[Tensor], Tensor] = self._network
        if form != "plain":
            self._run = self._network = _folded(self._network, self._dtype)
            _check_sound(self._network, self._dtype, file)
        if form == "compiled":
            self._run = torch.compile(self._network, dynamic=False)
        self.length = _LENGTH[form]
        if form == "fast":
            blank = torch.zeros(self.length, 3, SIDE, SIDE, dtype=self._dtype)
            _fuse(self._network, blank.contiguous(memory_format=torch.channels_last))
        self.protocol: dict[str, Any] = {
            "network": "inception",
            "weights": file.digest,
            "weights_verified": file.verified,
            "resizer": resizer,
            "rounding": "none",
            "values": values,
            "form": form,
            "precision": precision,
            "tf32": False,
        }
        marks = ["inception", "" if file.verified else file.digest[:8], resizer]
        marks += [mark for mark in (values, precision) if mark not in ("(x-128)/128", "float32")]
        self.label = " ".join(filter(None, marks))
        self.fingerprint = (
            f"inception {file.digest}, {resizer} to {SIDE} unrounded, {values}, {form}, {precision}, no TF32"
        )

    def to(self, device: str) -> None:
        self._network.to(device)
        self._head = self._head.to(device)
        self.length = _LENGTH[self._form] if torch.device(device).type == "cpu" else _ON_DEVICE

    def extract(self, pixels: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        extract = super().extract
        with exact_float32():
            if self._form != "fast" or pixels.device.type != "cpu":
                return extract(pixels, layers)
            made = share_out(lambda piece: extract(piece, layers), torch.split(pixels, self.length))
        return {layer: torch.cat([rows[layer] for rows in made]) for layer in layers}

    def _forward(self, pixels: Tensor, layers: Sequence[str]) -> Mapping[str, Tensor]:
        images = self._values(self._resize(pixels, SIDE)).to(self._dtype)
        layout = torch.contiguous_format if self._form == "plain" else torch.channels_last
        images = images.contiguous(memory_format=layout)
        features = self._run(images).float()
        outputs = {"features": features}
        if "logits" in layers:
            outputs["logits"] = features.mm(self._head.T)
        return {layer: outputs[layer] for layer in layers}


def torch_fidelity_bilinear(pixels: Tensor, side: int) -> Tensor:
    """torch-fidelity's own "tf1-bilinear", to the bit; ours equals it to 5e-5 of a grey level."""
    from torch_fidelity import interpolate_compat_tensorflow as compat  # type: ignore[import-untyped]

    resized: Tensor = compat.interpolate_bilinear_2d_like_tensorflow1x(
        pixels.float(), size=(side, side), align_corners=False
    )
    return resized


def architecture(output: str) -> nn.Module:
    """Return torch-fidelity's Inception without any weights, on the meta device.

    Args:
        output: what it returns, by torch-fidelity's name, such as "2048" or "logits_unbiased".
    """
    from torch_fidelity.feature_extractor_inceptionv3 import (  # type: ignore[import-untyped]
        FeatureExtractorInceptionV3,
    )

    class Unloaded(FeatureExtractorInceptionV3):  # type: ignore[misc]
        """The architecture without weights: the constructor's loading does nothing."""

        def load_state_dict(self, *_: Any, **__: Any) -> None: ...

    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    with torch.device("meta"):  # does not draw initial values from the caller's random state
        network: nn.Module = Unloaded("inception", [output], empty)
    return network


def _load(file: weights_files.WeightsFile) -> tuple[nn.Sequential, Tensor]:
    """Return the layers up to the pooled features, and the weights of the classifier behind them."""
    network = architecture("2048")
    state = weights_files.load(file, network.state_dict())
    nn.Module.load_state_dict(network, state, assign=True)
    # The original forward applies these layers in sequence, with outputs between them.
    layers = [layer for name, layer in network.named_children() if name != "fc"]
    return Evaluating(*layers, nn.Flatten()).requires_grad_(False), state["fc.weight"]


class Evaluating(nn.Sequential):
    """A sequence of layers that always stays in evaluation mode."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.train(False)

    def train(self, mode: bool = True) -> Evaluating:
        del mode
        return super().train(False)


class _ConvReLU(nn.Module):
    """A convolution with its batch norm folded in, followed by the ReLU."""

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        assert norm.running_var is not None
        assert norm.running_mean is not None
        # Computed in float64, so that only the result is rounded.
        gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        conv.weight = _frozen(conv.weight.double() * gain[:, None, None, None])
        conv.bias = _frozen(norm.bias.double() - norm.running_mean.double() * gain)
        self.conv = conv
        self.fuse = False
        self._packed: tuple[torch.Size, Tensor] | None = None

    def forward(self, images: Tensor) -> Tensor:
        if self.fuse and images.device.type == "cpu":
            return self._fused(images)
        return F.relu_(self.conv(images))

    def _fused(self, images: Tensor) -> Tensor:
        """Run the block with oneDNN's fused kernel, whose weights are packed once.

        `conv2d` packs them in every call, which takes a quarter of its time for a few images. Threads may
        pack at the same time, with equal results.
        """
        conv, ops = self.conv, torch.ops.mkldnn
        geometry = [list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups]
        if self._packed is None or self._packed[0] != images.shape:
            packed = ops._reorder_convolution_weight(conv.weight, *geometry, list(images.shape))
            self._packed = images.shape, packed
        made: Tensor = ops._convolution_pointwise(
            images, self._packed[1], conv.bias, *geometry, "relu", [], ""
        )
        return made


def _frozen(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.float(), requires_grad=False)


def _folded(network: nn.Sequential, dtype: torch.dtype) -> nn.Sequential:
    """Return the same function with each batch norm folded into its convolution, channels-last."""
    blocks = [name for name, block in network.named_modules() if hasattr(block, "bn")]
    for name in blocks:
        block: Any = network.get_submodule(name)
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, _ConvReLU(block.conv, block.bn))
    return network.to(dtype).to(memory_format=torch.channels_last)


def _check_sound(network: nn.Module, dtype: torch.dtype, file: weights_files.WeightsFile) -> None:
    """Refuse folded weights that are not finite, or so large that sums of them may overflow.

    oneDNN's fused ReLU turns NaN into 0, so that features from such weights would look valid. The check runs
    test images through the network without it, where NaN stays NaN, and bounds the activations.

    Raises:
        WeightsError: the message names the file.
    """
    bad = not_finite(network.named_parameters())
    if bad is None:
        largest: list[Tensor] = []
        blocks = [block for block in network.modules() if isinstance(block, _ConvReLU)]
        hooks = [
            block.register_forward_hook(lambda _block, _images, made: largest.append(made.abs().max()))
            for block in blocks
        ]
        places = torch.arange(3 * _PROBE_SIDE**2)
        probe = (places * places % 251 / 125 - 1).reshape(1, 3, _PROBE_SIDE, _PROBE_SIDE)
        with torch.inference_mode(), exact_float32():
            network(probe.to(dtype).contiguous(memory_format=torch.channels_last))
        for hook in hooks:
            hook.remove()
        top = float(torch.stack(largest).max())
        if not top < _LARGEST_ACTIVATION:  # also true for NaN
            bad = f"its activations grow to {top:.3g}"
    if bad is not None:
        raise WeightsError(
            f"{file.path} holds unusable weights of {file.network}: with the batch norms folded in, {bad}"
        )


def _fuse(network: nn.Module, images: Tensor) -> None:
    """Use oneDNN's fused convolutions if this torch has them; they are internal to its compiler Inductor."""
    blocks = [block for block in network.modules() if isinstance(block, _ConvReLU)]
    for block in blocks:
        block.fuse = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    try:
        with torch.inference_mode():
            network(images)
    except (RuntimeError, AttributeError, TypeError):  # another version of torch may have another signature
        for block in blocks:
            block.fuse = False


def _check(what: str, asked: str, known: Collection[str]) -> None:
    if asked not in known:
        raise OptionError(f"unknown {what} {asked!r} of Inception; choose from {', '.join(known)}")
