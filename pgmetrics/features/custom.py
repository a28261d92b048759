"""A custom network as a feature extractor: a TorchScript or torch.export file, `module:name`, an object.

A network file is a program: its graph can call what torch can call. Pickles inside a file, the
usual way to smuggle code in, are refused; otherwise open only files you would run.
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

_LENGTH = 32  # images in a forward, unless the file was exported for another number
_NEIGHBORS = 1e-3  # of the largest feature: far above rounding, far below what a batch norm does


class CustomNetwork(FeatureExtractor):
    """A network that is not one of ours; made by `custom_network`."""

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
        # Where the size of the images decides, the first of them are awaited.
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
        """Every output of the network, or of `call` in its place, checked: float32 [N, D] per layer."""
        low, high = self._range
        images = self._resize(pixels) * ((high - low) / 255) + low
        try:
            with exact_float32():
                returned = (call or self._network.call)(images)
        except Exception as error:  # whatever a stranger's network raises
            raise WeightsError(
                f"{self._shown} fails on float32 {list(images.shape)}: {first_line(error)}"
            ) from error
        return {
            layer: self._checked(output, layer, len(images))
            for layer, output in self._named(returned).items()
        }

    def _named(self, returned: Any) -> dict[str, Any]:
        """What the network returned, as features and perhaps logits."""
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
                "average or flatten in the network what lies over places or tokens"
            )
        if shape[0] != count:
            raise WeightsError(
                f"{self._shown} was given {count} images and returns {shape[0]} rows of {layer}"
            )
        if not output.is_floating_point():
            raise WeightsError(f"{self._shown} returns {layer} of {output.dtype}; a float type is needed")
        return output.float()

    def _try_out(self, height: int, width: int, device: torch.device | str = "cpu") -> tuple[str, ...]:
        """Which layers there are.

        Raises:
            WeightsError: the outputs are not rows of features, those of an image depend on the images
                beside it or on chance, or the network made anew gives others.
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
                raise WeightsError(f"{self._shown} gives other {layer} when it is made anew; {RANDOM_LAYERS}")
            if _differ(rows[0], beside[layer][0]):
                raise WeightsError(
                    f"{self._shown} gives an image other {layer} when other images are beside it, or by "
                    "chance: was it saved in training mode? network.eval() before saving"
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
    """Make a custom network; nothing about its input is guessed.

    It is put into eval mode, called with float32 [N, 3, H, W] without gradients and with TF32 off,
    and must return float [N, D]; or (features, logits), or a dict with these keys, the logits of a
    classifier for the Inception Score. It is tried out once, here if the size of its input is known,
    otherwise on the first images.

    Args:
        spec: a path of a TorchScript or torch.export file; `module:name` of a Module, of a function of
            such a tensor or of something to call once without arguments that gives one of them; or one
            of these as an object.
        resize: "none" or "NAME:SIZE", NAME a resizer of `features.resize` and SIZE in pixels, such as
            "pil-bicubic:224".
        value_range: what the pixel values 0 and 255 become, such as (-1, 1).
        resolution: height and width of the images in pixels, where they are known; matters with
            resize="none" only.
        length: images in one forward; None takes what a file was exported for, or 32.
        device: where it computes.

    Raises:
        OptionError: resize or value_range is missing or is none.
        WeightsError: there is no such network, or it does not do as above; the message says what it does.
            What is made by calling is made twice, and refused if the weights differ: a network of random
            weights would be another one in each process.
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
            "a custom network needs its value range declared: what 0 and 255 become, such as -1,1 or 0,1"
        )
    return checked_range(value_range)


def _declared_resizer(
    resize: str | None, resolution: tuple[int, int] | None
) -> tuple[Callable[[Tensor], Tensor], str, tuple[int, int] | None]:
    """The resizer, its name, and the size of what it makes, where that is known.

    Raises:
        OptionError: it is none.
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
