"""Import generators whose layers stand in one chain, of ptrblck, InterFaceGAN and gandissect.

A state dictionary at the final resolution: two convolutions for each block, the first of all padded so
that it makes 4 x 4 pixels of one, and one layer to colors. Each layer normalizes its input, multiplies
what it makes of it by a scale and adds its bias. ptrblck stores the scale, which is the measured one of
the Theano networks and not quite ours; the other two compute it.

Source: prog_gans_pytorch_inference of ptrblck, pggan_generator_model.py of genforce/interfacegan and
proggan.py of CSAILVision/gandissect.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod, sqrt
from typing import Literal

from pgmetrics.errors import SourceError
from reference_models.progan.importers.imported import (
    Imported,
    Layer,
    as_dense,
    assembled,
    feature_map_options,
)
from reference_models.progan.importers.torch_files import (
    MOST_BLOCKS,
    refuse_others,
    refuse_trained,
    tensors_of,
    weight,
)
from reference_models.progan.model.config import ProGANConfig


@dataclass(frozen=True)
class _Dialect:
    """How one project names the parts.

    Attributes:
        first: name of the first layer; the others are counted on from its number.
        bias: of a layer.
        stores_scale: whether a layer has `wscale.scale`.
    """

    first: str
    bias: str
    stores_scale: bool

    def layer(self, number: int) -> str:
        stem, start = self.first.rstrip("0123456789"), int(self.first[-1])
        return f"{stem}{start + number}"

    @property
    def parts(self) -> dict[str, int]:
        """Dimensions of the tensors of each layer."""
        return {"conv.weight": 4, self.bias: 1} | ({"wscale.scale": 1} if self.stores_scale else {})


Dialect = Literal["ptrblck", "interfacegan", "gandissect"]
_DIALECTS: Mapping[Dialect, _Dialect] = {
    "ptrblck": _Dialect("features.0", "wscale.b", True),
    "interfacegan": _Dialect("layer1", "wscale.bias", False),
    "gandissect": _Dialect("layer1", "wscale.b", False),
}
_OUTPUT = re.compile(r"output(?:_\d+x\d+)?")


def dialect(content: Mapping[str, object]) -> Dialect | None:
    """Which project's names a file has; None if it has those of neither."""
    state = tensors_of(content)
    for name, known in _DIALECTS.items():
        if {f"{known.first}.{part}" for part in known.parts} <= set(state):
            return name
    return None


def read(content: Mapping[str, object], which: Literal["Gs", "G"]) -> Imported:
    """Read the generator of such a file.

    Raises:
        SourceError: it is incomplete, or of a network that ours cannot be, or the generator in training
            is asked for.
    """
    refuse_trained(which)
    state, name = tensors_of(content), dialect(content)
    assert name is not None
    known = _DIALECTS[name]
    length = 0
    while f"{known.layer(length)}.conv.weight" in state and length < 2 * MOST_BLOCKS:
        length += 1
    if length % 2:
        raise SourceError(f"it has {length} feature layers where blocks have two each")
    ends = sorted({end.partition(".")[0] for end in state if _OUTPUT.fullmatch(end.partition(".")[0])})
    if len(ends) != 1:
        raise SourceError(f"it has {len(ends)} layers output to colors where one is known")
    theirs = [*map(known.layer, range(length)), ends[0]]
    refuse_others(state, {f"{layer}.{part}" for layer in theirs for part in known.parts})
    found = {
        f"{layer}.{part}": weight(state, f"{layer}.{part}", dims)
        for layer in theirs
        for part, dims in known.parts.items()
    }
    kernels = [found[f"{layer}.conv.weight"] for layer in theirs]
    fmap_base, fmap_max = feature_map_options([kernel.shape[0] for kernel in kernels[:-1:2]])
    config = ProGANConfig(
        resolution=4 << (length // 2 - 1),
        channels=kernels[-1].shape[0],
        latent_size=kernels[0].shape[1],
        # Whole minibatches, as the networks these layouts were made for.
        mbstd_group=16,
        fmap_base=fmap_base,
        fmap_max=fmap_max,
    )
    names = ["block4.dense", "block4.conv"]
    names += [f"block{4 << i // 2}.conv{i % 2}" for i in range(2, length)]
    names += [f"to_rgb{config.resolution}"]
    layers = {}
    for our, layer, kernel in zip(names, theirs, kernels, strict=True):
        if known.stores_scale:
            stored = found[f"{layer}.wscale.scale"]
            if stored.numel() != 1:
                raise SourceError(f"its {layer}.wscale.scale has {stored.numel()} numbers where one is known")
            scale = float(stored)
        else:
            scale = (1 if layer == ends[0] else sqrt(2)) / sqrt(prod(kernel.shape[1:]))
        if our == "block4.dense":
            kernel = as_dense(kernel, f"{layer}.conv.weight", transposed=False)
        layers[our] = Layer(kernel, scale, found[f"{layer}.{known.bias}"])
    return assembled(config, layers)
