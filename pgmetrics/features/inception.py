"""The Inception network that FID, IS and KID are defined with, in torch-fidelity's port."""

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
"""Pixels a side that the network sees."""

FORMS = ("fast", "plain", "compiled")
PRECISIONS = ("float32", "bfloat16")

# Images in a forward. In the fast form a thread takes them through by itself, and more than a few would
# leave its caches; the other forms share each operation out.
_LENGTH = {"fast": 4, "plain": 16, "compiled": 16}
_ON_DEVICE = 64

_PROBE_SIDE = 75  # pixels: the least that the network takes
_LARGEST_ACTIVATION = 2.0**64  # half way, in powers of two, to where float32 and bfloat16 overflow


class Inception(FeatureExtractor):
    """Inception v3 of 2015-12-05: "features" are the 2048 of pool3, "logits" the 1008 without their bias.

    It is always in evaluation mode, and float32 is float32: no TF32. On the CPU a row is the same bits
    whatever images are beside it and however many threads there are.

    Args:
        weights: the file; looked for as `features.weights` says where it is None.
        allow_unverified: take a file with another digest than the published one's.
        resizer: to 299 pixels, one of `resize.RESIZERS`.
        values: what is fed, one of `resize.VALUE_MAPS`.
        form: "fast" has its batch norms folded into the convolutions and images channels-last; "plain"
            is the module as torch-fidelity runs it; "compiled" is the fast form through torch.compile.
            They differ in rounding only.
        precision: of weights and activations: "float32", or "bfloat16" for an approximation.

    Raises:
        OptionError: an option has no such value.
        WeightsError: as `weights.find` and `weights.load` do.
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
    """torch-fidelity's own "tf1-bilinear", for its bits; ours is the same map to 5e-5 of a grey level."""
    from torch_fidelity import interpolate_compat_tensorflow as compat  # type: ignore[import-untyped]

    resized: Tensor = compat.interpolate_bilinear_2d_like_tensorflow1x(
        pixels.float(), size=(side, side), align_corners=False
    )
    return resized


def _load(file: weights_files.WeightsFile) -> tuple[nn.Sequential, Tensor]:
    """The layers up to the pooled features, and the weights of the classifier on top of them."""
    from torch_fidelity.feature_extractor_inceptionv3 import (  # type: ignore[import-untyped]
        FeatureExtractorInceptionV3,
    )

    class Unloaded(FeatureExtractorInceptionV3):  # type: ignore[misc]
        """The architecture alone: the constructor's unpickling is given nothing to load."""

        def load_state_dict(self, *_: Any, **__: Any) -> None: ...

    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    with torch.device("meta"):  # draws no initial values, which would be the caller's random numbers
        network = Unloaded("inception", ["2048"], empty)
    state = weights_files.load(file, network.state_dict())
    nn.Module.load_state_dict(network, state, assign=True)
    # Its own forward is these layers one after the other, with taps between them.
    layers = [layer for name, layer in network.named_children() if name != "fc"]
    return Evaluating(*layers, nn.Flatten()).requires_grad_(False), state["fc.weight"]


class Evaluating(nn.Sequential):
    """Layers in a row, in evaluation mode whatever is asked."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.train(False)

    def train(self, mode: bool = True) -> Evaluating:
        del mode
        return super().train(False)


class _ConvReLU(nn.Module):
    """A convolution with its batch norm inside, then the ReLU."""

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        assert norm.running_var is not None
        assert norm.running_mean is not None
        # In float64, so that only the product is rounded.
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
        """The same by oneDNN's fused kernel, its weights brought into oneDNN's order once.

        `conv2d` does that in every call, for a quarter of its time at a few images. Threads may pack
        at the same time; they pack the same.
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
    """The same function with each batch norm inside the convolution before it, channels-last."""
    blocks = [name for name, block in network.named_modules() if hasattr(block, "bn")]
    for name in blocks:
        block: Any = network.get_submodule(name)
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, _ConvReLU(block.conv, block.bn))
    return network.to(dtype).to(memory_format=torch.channels_last)


def _check_sound(network: nn.Module, dtype: torch.dtype, file: weights_files.WeightsFile) -> None:
    """Refuse folded weights that are not finite, or so large that sums of them may overflow.

    oneDNN's fused ReLU turns NaN into 0, so that features made of such weights look sound. Without it the
    ReLU keeps NaN, and without room for more the activations of a probe would be infinite or close to it.

    Raises:
        WeightsError: naming the file.
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
        if not top < _LARGEST_ACTIVATION:  # NaN is not below anything
            bad = f"its activations grow to {top:.3g}"
    if bad is not None:
        raise WeightsError(
            f"{file.path} holds no sound weights of {file.network}: with the batch norms folded in, {bad}"
        )


def _fuse(network: nn.Module, images: Tensor) -> None:
    """Use oneDNN's fused convolutions where this torch has them; Inductor calls them, nobody else may."""
    blocks = [block for block in network.modules() if isinstance(block, _ConvReLU)]
    for block in blocks:
        block.fuse = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    try:
        with torch.inference_mode():
            network(images)
    except (RuntimeError, AttributeError, TypeError):  # another torch, another signature
        for block in blocks:
            block.fuse = False


def _check(what: str, asked: str, known: Collection[str]) -> None:
    if asked not in known:
        raise OptionError(f"there is no {what} {asked!r} of Inception; choose from {', '.join(known)}")
