"""Custom networks as feature extractors: TorchScript and torch.export files, `module:name`, and objects.

A network file is a program whose graph can call everything in torch. Pickles inside a file, the usual way to
hide code, are refused; apart from that, open only files that you would run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pgmetrics.errors import OptionError, WeightsError
from pgmetrics.features.base import FeatureExtractor
from pgmetrics.features.network_files import RANDOM_LAYERS, LoadedNetwork, first_line, read_network
from pgmetrics.features.preprocess import RESIZERS
from pgmetrics.functional.float_precision import exact_float32
from pgmetrics.runtime import seeding
from pgmetrics.runtime.images import checked_range

_LENGTH = 32  # images in a forward pass, unless the file was exported for another number
_NEIGHBORS = 1e-3  # relative to the largest feature: far above rounding, far below the effect of batch norm


class CustomNetwork(FeatureExtractor):
    """A network that the user supplies; made by `custom_network`."""

    name = "custom"

    def __init__(
        self,
        network: LoadedNetwork,
        shown: str,
        resize: Callable[[Tensor], Tensor],
        resize_name: str,
        value_range: tuple[float, float],
        resolution: tuple[int, int] | None,
        length: int,
    ) -> None:
        self._network, self._shown, self._resize, self._range = network, shown, resize, value_range
        self.length = length
        self.fingerprint_is_whole = network.is_file
        low, high = value_range
        self.protocol = {
            "network": network.identity,
            "resizer": resize_name,
            "value_range": [low, high],
            "precision": "float32",
        }
        self.fingerprint = f"custom:{network.identity},{resize_name},{low:g}..{high:g}"
        of = f" {network.digest[:8]}" if network.digest else ""
        self.label = f"{os.path.basename(shown)}{of} {resize_name}"
        # If the input size depends on the images, the check waits for the first of them.
        self.layers = ("features", "logits")
        self._tried = resolution is not None
        if resolution is not None:
            self.layers = self._try_out(*resolution)

    def to(self, device: str) -> None:
        self._network.call = self._network.move(device)

    def _forward(self, pixels: Tensor, layers: Sequence[str]) -> Mapping[str, Tensor]:
        if not self._tried:
            height, width = pixels.shape[2:]
            self.layers = self._try_out(height, width, pixels.device)
            self._tried = True
        missing = [layer for layer in layers if layer not in self.layers]
        if missing:
            raise WeightsError(
                f"{self._shown} returns no {' and no '.join(missing)}; (features, logits) gives both"
            )
        outputs = self._outputs(pixels)
        return {layer: outputs[layer] for layer in layers}

    def _outputs(self, pixels: Tensor, call: Callable[[Tensor], Any] | None = None) -> dict[str, Tensor]:
        """Return the checked outputs of the network, or of `call` instead: float32 [N, D] per layer."""
        low, high = self._range
        images = self._resize(pixels) * ((high - low) / 255) + low
        try:
            with exact_float32():
                returned = (call or self._network.call)(images)
        except Exception as error:  # a user's network may raise anything
            raise WeightsError(
                f"{self._shown} fails on float32 {list(images.shape)}: {first_line(error)}"
            ) from error
        return {
            layer: self._checked(output, layer, len(images))
            for layer, output in self._named(returned).items()
        }

    def _named(self, returned: Any) -> dict[str, Any]:
        """Name the network's outputs: features, and logits if it returned two."""
        if isinstance(returned, Mapping):
            if "features" not in returned:
                raise WeightsError(
                    f"{self._shown} returns a dict of {', '.join(map(str, returned)) or 'nothing'}; "
                    "its features are needed under the key features, its logits under logits"
                )
            return {layer: returned[layer] for layer in ("features", "logits") if layer in returned}
        if isinstance(returned, (tuple, list)):
            if len(returned) not in (1, 2):
                raise WeightsError(
                    f"{self._shown} returns {len(returned)} outputs; features alone or (features, logits) "
                    "are needed"
                )
            return dict(zip(("features", "logits"), returned, strict=False))
        return {"features": returned}

    def _checked(self, output: Any, layer: str, count: int) -> Tensor:
        if not isinstance(output, Tensor):
            raise WeightsError(
                f"{self._shown} returns {type(output).__name__} as {layer}; a tensor is needed"
            )
        shape = list(output.shape)
        if output.ndim == 4 and shape[2:] == [1, 1]:
            raise WeightsError(
                f"{self._shown} returns {layer} of shape {shape}; [N, D] is needed: "
                "flatten(1) them in the network"
            )
        if output.ndim != 2 or not shape[-1]:
            raise WeightsError(
                f"{self._shown} returns {layer} of shape {shape}; [N, D] is needed: "
                "average or flatten over positions or tokens in the network"
            )
        if shape[0] != count:
            raise WeightsError(f"{self._shown} returns {shape[0]} rows of {layer} for {count} images")
        if not output.is_floating_point():
            raise WeightsError(f"{self._shown} returns {layer} of {output.dtype}; a float type is needed")
        return output.float()

    def _try_out(self, height: int, width: int, device: torch.device | str = "cpu") -> tuple[str, ...]:
        """Run the network on test images and return its layers.

        Raises:
            WeightsError: the outputs are not rows of features, an image's row depends on chance or on the
                other images, or a second instance of the network gives different rows.
        """
        places = torch.arange(self.length * 3 * height * width, device=device)
        images = (places * places % 251).to(torch.uint8).reshape(self.length, 3, height, width)
        twin, self._network.twin = self._network.twin, None
        with torch.inference_mode(), seeding.global_generators_kept():
            alone = self._outputs(images)
            beside = self._outputs(torch.cat([images[:1], 255 - images[1:]]))
            anew = alone if twin is None else self._outputs(images, twin)
        for layer, rows in alone.items():
            if layer not in anew or _differ(rows, anew[layer]):
                raise WeightsError(
                    f"{self._shown} gives different {layer} when it is made again; {RANDOM_LAYERS}"
                )
            if _differ(rows[0], beside[layer][0]):
                raise WeightsError(
                    f"{self._shown} gives an image different {layer} in another batch, or by chance; "
                    "if it was saved in training mode, call network.eval() before saving"
                )
        return tuple(alone)


def _differ(rows: Tensor, others: Tensor) -> bool:
    """Whether features differ by more than rounding."""
    if rows.shape != others.shape:
        return True
    return bool((rows - others).abs().max() > _NEIGHBORS * rows.abs().max())


def custom_network(
    spec: object,
    *,
    resize: str | None,
    value_range: tuple[float, float] | None,
    resolution: tuple[int, int] | None = None,
    length: int | None = None,
    device: str = "cpu",
) -> CustomNetwork:
    """Make a feature extractor from a custom network; nothing about its input is guessed.

    The network is put into eval mode and called with float32 [N, 3, H, W], without gradients and with TF32
    off. It must return float [N, D], or (features, logits), or a dict with these keys; the Inception score
    needs the logits. It is tested here if its input size is known, otherwise on the first images.

    Args:
        spec: the path of a TorchScript or torch.export file; `module:name` of a Module, of a function of
            such a tensor, or of a factory without arguments that returns one of them; or such an object.
        resize: "none" or "NAME:SIZE", with NAME a resizer of `features.preprocess` and SIZE in pixels, such
            as "pil-bicubic:224".
        value_range: the values that the network expects for the pixels 0 and 255, such as (-1, 1).
        resolution: height and width of the images in pixels if known; used only with resize="none".
        length: number of images in a forward pass; None means the number that a file was exported for, or 32.
        device: where the network runs.

    Raises:
        OptionError: resize or value_range is missing or invalid.
        WeightsError: there is no such network, or it does not behave as described; the message says how. The
            result of a factory is made twice and refused if the weights differ, since a network with random
            weights would differ between processes.
    """
    low, high = _declared_range(value_range)
    resizer, name, size = _declared_resizer(resize, resolution)
    shown, network = read_network(spec)
    if length is not None and network.length not in (None, length):
        raise OptionError(f"{shown} was exported for {network.length} images at a time, not {length}")
    extractor = CustomNetwork(
        network, shown, resizer, name, (low, high), size, length or network.length or _LENGTH
    )
    if torch.device(device).type != "cpu":
        extractor.to(device)
    return extractor


def _declared_range(value_range: tuple[float, float] | None) -> tuple[float, float]:
    if value_range is None:
        raise OptionError(
            "a custom network needs its value range declared: the values of black and white, such as -1,1"
        )
    return checked_range(value_range)


def _declared_resizer(
    resize: str | None, resolution: tuple[int, int] | None
) -> tuple[Callable[[Tensor], Tensor], str, tuple[int, int] | None]:
    """Return the resizer, its name, and the size of its output if known.

    Raises:
        OptionError: there is no such resizer.
    """
    known = ", ".join(sorted(RESIZERS))
    if resize is None:
        raise OptionError(
            f"a custom network needs its resizer declared: none, or NAME:SIZE with NAME one of {known}"
        )
    if resize == "none":
        return torch.Tensor.float, resize, resolution
    name, _, size = resize.partition(":")
    if name not in RESIZERS or not (size.isascii() and size.isdigit() and len(size) < 6 and int(size)):
        raise OptionError(f"{resize!r} is neither none nor NAME:SIZE in pixels with NAME one of {known}")
    side = int(size)
    resizer = RESIZERS[name]
    return lambda pixels: resizer(pixels, side), f"{name}:{side}", (side, side)
