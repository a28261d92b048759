"""Import the original's network pickles: those of its TensorFlow version, and those converted from Theano.

Such a file is a pickled tuple of three networks (G, D, Gs); a list of them, and a generator alone,
are read as well. Each network carries its arguments, its source code, which is treated as text, and
its variables, which are unscaled float32 arrays. An argument that is absent has the default of the
original: the converter from Theano leaves out label_size, for one. Networks trained by the
TensorFlow version have fused up- and downscaling, the converted ones plain convolutions; the names
of the variables tell which.

Source: the pickle format of `tfutil.Network` and the variables of networks.py of Karras et al. 2018.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import floor, isfinite
from typing import Literal

import torch
from torch import Tensor

from pgmetrics.errors import SourceError
from reference_models.progan.importers.imported import MAX_SIDE, Imported, blank
from reference_models.progan.importers.unpickling import (
    Global,
    Made,
    float32_array,
    loads,
    plain_number,
    shown,
)
from reference_models.progan.model.config import ProGANConfig

_VERSION = 2
# Arguments that must have these values; our networks support no others.
_AS_OURS: Mapping[str, object] = {"pixelnorm_epsilon": 1e-8, "dtype": "float32"}
# Arguments that are read elsewhere, or that change how a function is computed but not which one.
_KNOWN = (
    "num_channels", "resolution", "label_size", "latent_size", "fmap_base", "fmap_decay", "fmap_max",
    "normalize_latents", "use_wscale", "use_pixelnorm", "use_leakyrelu", "fused_scale", "mbstd_group_size",
    "structure", "is_template_graph",
)  # fmt: skip
_NO_NETWORKS = "its pickle holds no networks of the original, (G, D, Gs) or a generator alone"
# For each kind of variable, the axis of our parameter that each stored axis becomes.
_AXES: Mapping[str, tuple[int, ...]] = {
    "conv": (2, 3, 1, 0),
    "up": (2, 3, 0, 1),
    "dense": (1, 0),
    "bias": (0,),
}


def read(data: bytes, which: Literal["Gs", "G"] = "Gs") -> Imported:
    """Read one of the generators of a snapshot.

    Args:
        data: the file's bytes.
        which: "Gs" is the averaged one, "G" the one in training.

    Raises:
        SourceError: it is no such snapshot, or of a network that ours cannot be.
    """
    generator, discriminator = _networks(loads(data), which)
    found = _variables(generator)
    fused = any(name.endswith("/Conv0_up/weight") for name in found)
    if discriminator is None:
        # As of every network of its kind: the converted ones were trained on groups of 16.
        group = 4 if fused else 16
    else:
        if fused != any(name.endswith("/Conv1_down/weight") for name in _variables(discriminator)):
            raise SourceError(
                "one of its networks has fused_scale and the other has not, which our networks cannot have"
            )
        group = _whole(_arguments(discriminator), "mbstd_group_size", 4, least=0)
    config = _config(_arguments(generator), group, fused)
    resolution, alpha = _stage(found.pop("lod", None), config)
    return Imported(
        config=config,
        weights=_weights(found, config),
        resolution=resolution,
        alpha=alpha,
    )


def _networks(
    content: object, which: Literal["Gs", "G"]
) -> tuple[Mapping[str, object], Mapping[str, object] | None]:
    """Return the generator that is asked for, and the discriminator if there is one."""
    networks = content if isinstance(content, tuple | list) else (content,)
    if not 1 <= len(networks) <= 3:
        raise SourceError(f"{_NO_NETWORKS}, but {len(networks)} objects")
    states = [_state(network) for network in networks]
    generators = [state for state in states if state["build_func_name"] == "G_paper"]
    discriminators = [state for state in states if state["build_func_name"] == "D_paper"]
    if len(generators) == 2 and len(discriminators) <= 1:
        generator = generators[0 if which == "G" else 1]
    elif len(generators) == 1 and len(discriminators) <= 1:
        # A converted network does not say by its name which of the two it is.
        generator = generators[0]
        if which == "Gs" and generator.get("name") == "G":
            raise SourceError("it holds no averaged generator Gs; --which G takes the other")
        if which == "G" and generator.get("name") != "G":
            raise SourceError("it holds one generator, the averaged one, and --which G asks for the other")
    else:
        raise SourceError(
            f"{_NO_NETWORKS}, but {len(generators)} generators and {len(discriminators)} discriminators"
        )
    return generator, discriminators[0] if discriminators else None


def _state(network: object) -> Mapping[str, object]:
    match network:
        case Made(Global.NETWORK, (), dict(state)):
            pass
        case _:
            raise SourceError(f"{_NO_NETWORKS}, but {_briefly(network)}")
    version = state.get("version")
    if version != _VERSION:
        raise SourceError(f"its networks have version {_briefly(version)}; {_VERSION} can be read")
    function = state.get("build_func_name")
    if function not in ("G_paper", "D_paper"):
        raise SourceError(
            f"a network in it was built by {_briefly(function)} where G_paper or D_paper is known"
        )
    return state


def _variables(state: Mapping[str, object]) -> dict[str, object]:
    """Return the records of the variables by name, without reading them."""
    variables = state.get("variables")
    out: dict[str, object] = {}
    for pair in variables if isinstance(variables, list) else (None,):
        match pair:
            case (str(name), value) if name not in out:
                out[name] = value
            case _:
                raise SourceError("its variables are no list of names, each once, and arrays")
    return out


def _arguments(state: Mapping[str, object]) -> Mapping[str, object]:
    """Return the arguments the network was built with, after checking that ours supports all of them."""
    held = state.get("static_kwargs")
    if not isinstance(held, dict):
        raise SourceError("its networks carry no static_kwargs")
    arguments = {name: plain_number(value) for name, value in held.items()}
    for name, value in arguments.items():
        if name in _AS_OURS:
            wanted = _AS_OURS[name]
            if type(value) is not type(wanted) or value != wanted:
                raise SourceError(f"its {name} is {_briefly(value)}; our networks have {wanted}")
        # The original ignores what it does not know; a modified one may not, unless it is off.
        elif name not in _KNOWN and value not in (None, False, 0):
            raise SourceError(
                f"it was built with {shown(name)}={_briefly(value)}, which our networks do not have"
            )
    return arguments


def _config(arguments: Mapping[str, object], group: int, fused: bool) -> ProGANConfig:
    fmap_base = _whole(arguments, "fmap_base", 8192, MAX_SIDE * MAX_SIDE)
    fmap_max = _whole(arguments, "fmap_max", 512)
    decay = arguments.get("fmap_decay", 1.0)
    if isinstance(decay, bool) or not isinstance(decay, int | float) or not 0 <= decay <= 16:
        raise SourceError(f"its fmap_decay is {_briefly(decay)}, which is not a number from 0 to 16")
    latent_size = min(fmap_base, fmap_max)
    if arguments.get("latent_size") is not None:
        latent_size = _whole(arguments, "latent_size", None)
    return ProGANConfig(
        resolution=_whole(arguments, "resolution", 32),
        channels=_whole(arguments, "num_channels", 1),
        label_size=_whole(arguments, "label_size", 0, least=0),
        latent_size=latent_size,
        fmap_base=fmap_base,
        fmap_decay=float(decay),
        fmap_max=fmap_max,
        fused_scale=fused,
        # A group of one compares nothing.
        mbstd_group=max(group, 1),
        minibatch_statistics="stddev" if group > 1 else "none",
        normalise_latents=_flag(arguments, "normalize_latents"),
        equalized=_flag(arguments, "use_wscale"),
        pixel_norm=_flag(arguments, "use_pixelnorm"),
        activation="leaky" if _flag(arguments, "use_leakyrelu") else "relu",
        # The file does not say the minibatch; any that the group divides is valid.
        minibatch={4: 16 if group and 16 % group == 0 else max(group, 1)},
    )


def _whole(
    arguments: Mapping[str, object], name: str, default: int | None, most: int = MAX_SIDE, least: int = 1
) -> int:
    value = arguments.get(name, default)
    if isinstance(value, float) and isfinite(value) and value.is_integer():
        value = int(value)
    if type(value) is not int or not least <= value <= most:
        raise SourceError(
            f"its {name} is {_briefly(value)}, which is not a whole number from {least} to {most:,}"
        )
    return value


def _flag(arguments: Mapping[str, object], name: str) -> bool:
    """Read a switch, which is on in the original unless the file says otherwise."""
    value = arguments.get(name, True)
    if type(value) is not bool:
        raise SourceError(f"its {name} is {_briefly(value)}, which is neither true nor false")
    return value


def _briefly(value: object) -> str:
    """Show a foreign value in a message: text and numbers, or the type of anything else."""
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, float) or (isinstance(value, int) and abs(value) < 10**18):
        return str(value)
    return f"of type {type(value).__name__}"


def _stage(value: object, config: ProGANConfig) -> tuple[int, float]:
    """Return the resolution and alpha of a level of detail, which counts halvings of the final one."""
    if value is None:
        raise SourceError("it has no variable lod, so its stage is unknown")
    array = float32_array(value, "lod")
    lod = float(array) if array.shape == () else -1.0
    if not 0 <= lod <= len(config.resolutions) - 1:
        raise SourceError(
            f"its lod is none of a network that grows to {config.resolution} x {config.resolution}, "
            f"which are 0 to {len(config.resolutions) - 1}"
        )
    return config.resolution >> floor(lod), 1 - (lod - floor(lod))


def _weights(found: Mapping[str, object], config: ProGANConfig) -> dict[str, Tensor]:
    names = dict(_names(config))
    if set(found) != set(names):
        first = sorted(set(found) ^ set(names))[0]
        raise SourceError(
            f"it {'lacks' if first in names else 'has'} the variable {shown(first)}, unlike a network of its "
            "static_kwargs"
        )
    parameters = dict(blank(config).named_parameters())
    weights = {}
    for theirs, (ours, kind) in names.items():
        array = float32_array(found[theirs], theirs)
        shape = [parameters[ours].shape[axis] for axis in _AXES[kind]]
        if list(array.shape) != shape:
            raise SourceError(
                f"its {theirs} has shape {list(array.shape)} where its static_kwargs ask for {shape}"
            )
        tensor = torch.from_numpy(array.copy()).permute(
            sorted(range(array.ndim), key=_AXES[kind].__getitem__)
        )
        # A transposed convolution writes its kernel where ours reads, hence rotated.
        weights[ours] = (tensor.flip(2, 3) if kind == "up" else tensor).contiguous()
    return weights


def _names(config: ProGANConfig) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield the names of the original's variables, our parameters, and the kinds of their axes."""
    for lod, r in enumerate(reversed(config.resolutions)):
        layers = [(f"ToRGB_lod{lod}", f"to_rgb{r}", "conv")]
        if r == 4:
            layers += [("4x4/Dense", "block4.dense", "dense"), ("4x4/Conv", "block4.conv", "conv")]
        else:
            up = ("Conv0_up", "up") if config.fused_scale else ("Conv0", "conv")
            layers += [(f"{r}x{r}/{up[0]}", f"block{r}.conv0", up[1])]
            layers += [(f"{r}x{r}/Conv1", f"block{r}.conv1", "conv")]
        for theirs, ours, kind in layers:
            yield f"{theirs}/weight", (f"{ours}.weight", kind)
            yield f"{theirs}/bias", (f"{ours}.bias", "bias")
