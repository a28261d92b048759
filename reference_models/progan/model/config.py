"""The configuration of a ProGAN and its training: one frozen object.

docs/training.md explains the values of every field, who uses them, and their sources.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from pgmetrics.errors import OptionError, check_number

_CHOICES: Mapping[str, tuple[bool | str, ...]] = {
    "minibatch_statistics": ("stddev", "discrimination", "none"),
    "generator_norm": ("none", "batch"),
    "discriminator_norm": ("none", "layer"),
    "activation": ("leaky", "relu"),
    "output": ("linear", "tanh"),
    "first_bias": ("channel", "pixel"),
    "pixel_norm_epsilon": ("mean square", "root"),
    "loss": ("wgan-gp", "lsgan"),
    "gp_resolution": ("final", "current"),
    "precision": ("float32", "bfloat16"),
} | dict.fromkeys(
    (
        "fused_scale", "normalise_latents", "normalise_labels", "equalized", "pixel_norm", "growing",
        "simultaneous", "mirror", "first_pixel_norm",
    ),
    (False, True),
)  # fmt: skip

# Of networks of other projects alone. At their defaults they are left out of files, which are then
# those of versions that did not have them.
_FOREIGN = ("first_bias", "first_pixel_norm", "pixel_norm_epsilon")

_MOST_IMAGES = 10**12
_WEIGHT = {"low": 0, "high": 10**9}
_POSITIVE = {"low": 0, "high": 10**9, "open_low": True}
_SHARE = {"low": 0, "high": 1, "open_high": True}
_DURATION = {"low": 1, "high": _MOST_IMAGES, "whole": True}
# Wide on purpose: they refuse mistakes, not unwise choices.
_BOUNDS: Mapping[str, Mapping[str, Any]] = {
    # Published networks end at 1024. A file of 8 KB with one channel at 4096 x 4096 takes 9 GB to sample.
    "resolution": {"low": 1, "high": 2**11, "whole": True},
    "label_size": {"low": 0, "high": 10**6, "whole": True},
    "latent_size": {"low": 1, "high": 2**16, "whole": True},
    "fmap_base": {"low": 1, "high": 2**24, "whole": True},
    "fmap_decay": {"low": 0, "high": 16},
    "fmap_max": {"low": 1, "high": 2**16, "whole": True},
    "mbstd_group": {"low": 1, "high": 2**20, "whole": True},
    "stabilise_images": _DURATION,
    "fade_images": _DURATION,
    "total_images": _DURATION,
    "lr_rampup_images": _DURATION | {"low": 0},
    "minibatch_repeats": {"low": 1, "high": 10**6, "whole": True},
    "d_repeats": {"low": 1, "high": 10**6, "whole": True},
    "adam_beta1": _SHARE,
    "adam_beta2": _SHARE,
    "adam_epsilon": {"low": 0, "high": 1, "open_low": True},
    "noise_strength": _WEIGHT,
    "label_weight": _WEIGHT,
    "gp_lambda": _POSITIVE,
    "gp_gamma": _POSITIVE,
    "drift": _WEIGHT,
    "ema": _SHARE,
    "seed": {"low": 0, "high": 2**63 - 1, "whole": True},
}
_BOUNDS_BY_RESOLUTION: Mapping[str, Mapping[str, Any]] = {
    "minibatch": {"low": 1, "high": 2**20, "whole": True},
    "learning_rate": {"low": 0, "high": 10**6, "open_low": True},
}


_AMERICAN = {
    "normalize_latents": "normalise_latents",
    "normalize_labels": "normalise_labels",
    "stabilize_images": "stabilise_images",
}
"""Spellings that `with_options` takes, too; files keep the fields' own."""


def _default_minibatch() -> Mapping[int, int]:
    return {4: 16}


def _default_learning_rate() -> Mapping[int, float]:
    return {4: 0.001}


@dataclass(frozen=True, kw_only=True)
class ProGANConfig:
    """A network and its training run; the defaults are the original's.

    An entry of a mapping by resolution holds up to the next entry: {4: 16, 256: 14} means 16 up to 128 x 128
    and 14 from 256 x 256 on.

    Attributes:
        resolution: final side in pixels, a power of two from 4.
        channels: 3, or 1 for grey images.
        label_size: number of classes; 0 for an unconditional network.
        latent_size: length of a latent.
        fmap_base, fmap_decay, fmap_max: channels of the blocks, see `feature_maps`.
        fused_scale: up- and downscale inside a strided convolution. The generator stays the same
            function; the discriminator does not, since its activation then follows the downscale.
        mbstd_group: images per group of the minibatch standard deviation; a smaller minibatch is one group.
        minibatch_statistics: how the discriminator compares images: by the standard deviation of
            their features, by Salimans' kernels ("discrimination"), or not at all.
        normalise_latents: scale a latent to a root mean square of 1 before the first layer.
        normalise_labels: normalize latent and label together; otherwise the label is appended unscaled.
        equalized: draw weights from N(0, 1) and scale them at run time; otherwise draw them from
            N(0, scale**2) and use them unscaled.
        pixel_norm: normalize the generator's features at every pixel.
        generator_norm, discriminator_norm: "batch" and "layer" normalize between a convolution and
            its activation.
        activation: activation of the generator; the discriminator's is always leaky.
        output: "tanh" bounds the generator's images to -1 to 1, "linear" does not.
        first_bias: the generator's first layer has a bias for each channel, or for each channel at each
            of its 4 x 4 pixels.
        first_pixel_norm: normalize the features behind that layer, too, where pixel_norm is on.
        pixel_norm_epsilon: a pixel norm adds 1e-8 to the mean square; or to its root 1e-6 for latents
            and 1e-5 for features.
        growing: grow from 4 x 4 on; otherwise every step is at the final resolution.
        stabilise_images, fade_images: lengths of the two phases of a resolution. 4 x 4 has no fade.
        total_images: real images shown until training ends.
        minibatch, learning_rate: images per step and Adam's step size, by resolution.
        lr_rampup_images: number of images over which the learning rate rises at the beginning.
        minibatch_repeats: steps between two schedule updates.
        d_repeats: discriminator steps for each generator step.
        simultaneous: update both networks from the same fakes, instead of in turns.
        adam_beta1, adam_beta2, adam_epsilon: parameters of both optimizers.
        loss: "wgan-gp", or "lsgan", in which real is 0 and fake is 1.
        noise_strength: strength of LSGAN's multiplicative noise in the discriminator, see
            `losses.noise_scale`; 0 means no noise.
        label_weight: weight of the class cross entropies in both losses.
        gp_lambda, gp_gamma: the penalty is lambda / gamma**2 * (norm - gamma)**2.
        gp_resolution: "final" measures the gradient's norm on images enlarged to the final
            resolution, as the original does; "current" on those of the stage.
        drift: weight of the squared scores of reals.
        ema: decay of the averaged generator per discriminator step.
        mirror: flip half of the reals left to right.
        precision: precision of convolutions and dense layers in training, see `steps.Steps`.
        seed: seed of everything random in initialization and training.

    Raises:
        OptionError: a value is out of range, or two values are incompatible.
    """

    resolution: int = 1024
    channels: int = 3
    label_size: int = 0
    latent_size: int = 512
    fmap_base: int = 8192
    fmap_decay: float = 1.0
    fmap_max: int = 512
    fused_scale: bool = False
    mbstd_group: int = 4
    minibatch_statistics: Literal["stddev", "discrimination", "none"] = "stddev"
    normalise_latents: bool = True
    normalise_labels: bool = True
    equalized: bool = True
    pixel_norm: bool = True
    generator_norm: Literal["none", "batch"] = "none"
    discriminator_norm: Literal["none", "layer"] = "none"
    activation: Literal["leaky", "relu"] = "leaky"
    output: Literal["linear", "tanh"] = "linear"
    first_bias: Literal["channel", "pixel"] = "channel"
    first_pixel_norm: bool = True
    pixel_norm_epsilon: Literal["mean square", "root"] = "mean square"

    growing: bool = True
    stabilise_images: int = 600_000
    fade_images: int = 600_000
    total_images: int = 15_000_000
    minibatch: Mapping[int, int] = field(default_factory=_default_minibatch)
    learning_rate: Mapping[int, float] = field(default_factory=_default_learning_rate)
    lr_rampup_images: int = 0
    minibatch_repeats: int = 4
    d_repeats: int = 1
    simultaneous: bool = False
    adam_beta1: float = 0.0
    adam_beta2: float = 0.99
    adam_epsilon: float = 1e-8
    loss: Literal["wgan-gp", "lsgan"] = "wgan-gp"
    noise_strength: float = 0.0
    label_weight: float = 1.0
    gp_lambda: float = 10.0
    gp_gamma: float = 1.0
    gp_resolution: Literal["final", "current"] = "final"
    drift: float = 0.001
    ema: float = 0.999
    mirror: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, bounds in _BOUNDS.items():
            check_number(name, getattr(self, name), **bounds)
        if not _is_power_of_two(self.resolution) or self.resolution < 4:
            raise OptionError(
                f"a ProGAN doubles its resolution from 4 on, so {self.resolution} cannot be reached; "
                f"the nearest that can is {_nearest_power_of_two(self.resolution)}"
            )
        if type(self.channels) is not int or self.channels not in (1, 3):
            raise OptionError(f"images have 1 or 3 channels, not {self.channels}")
        self._check_choices()
        if self.feature_maps(self.resolution) < 1:
            raise OptionError(
                f"fmap_base={self.fmap_base} leaves no channel at {self.resolution} x {self.resolution}; "
                f"it must be at least {math.ceil(2 ** ((math.log2(self.resolution) - 1) * self.fmap_decay))}"
            )
        if self.noise_strength and self.loss != "lsgan":
            raise OptionError(
                f"noise_strength={self.noise_strength} follows scores of 0 to 1, which loss={self.loss!r} "
                "does not have; take loss='lsgan' or noise_strength=0"
            )
        if self.simultaneous and self.d_repeats != 1:
            raise OptionError(
                f"simultaneous updates step both networks once; d_repeats={self.d_repeats} needs "
                "simultaneous=False"
            )
        self._check_by_resolution()

    def _check_choices(self) -> None:
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            # 1 equals True, but is not a valid value of a switch.
            if value not in choices or type(value) is not type(choices[0]):
                raise OptionError(f"{name} is {' or '.join(map(repr, choices))}, not {value!r}")

    def _check_by_resolution(self) -> None:
        by_resolution: Mapping[str, Mapping[int, float]] = {
            "minibatch": self.minibatch,
            "learning_rate": self.learning_rate,
        }
        for name, values in by_resolution.items():
            if 4 not in values:
                raise OptionError(f"{name} needs a value from resolution 4 on; it has {dict(values)}")
            for resolution, value in values.items():
                if not _is_power_of_two(resolution):
                    raise OptionError(
                        f"{name} must start at power-of-two resolutions; got {value} from resolution "
                        f"{resolution} on"
                    )
                check_number(f"{name} from resolution {resolution} on", value, **_BOUNDS_BY_RESOLUTION[name])
        for resolution in self.resolutions:
            if self.minibatch_statistics != "stddev" or not (self.growing or resolution == self.resolution):
                continue
            minibatch = self.minibatch_at(resolution)
            group = min(self.mbstd_group, minibatch)
            if minibatch % group:
                raise OptionError(
                    f"at {resolution} x {resolution} the minibatch of {minibatch} cannot be cut into groups "
                    f"of mbstd_group={group}; take a minibatch of {minibatch - minibatch % group}, or "
                    f"mbstd_group={minibatch} for the whole minibatch"
                )

    def with_options(self, assignments: Sequence[str]) -> ProGANConfig:
        """Return this configuration with fields changed as on a command line.

        Args:
            assignments: such as "loss=lsgan", "mirror=true", "minibatch=4:16,256:14".

        Raises:
            OptionError: a field is unknown or set twice, or its value has a wrong type or is out of range.
        """
        changes: dict[str, Any] = {}
        for assignment in assignments:
            name, equals, text = assignment.partition("=")
            name = _AMERICAN.get(name, name)
            known = [each.name for each in fields(self)]
            if not equals or name not in known:
                raise OptionError(
                    f"{assignment!r} is not an option of a ProGAN; write NAME=VALUE, with a name of "
                    f"{', '.join(known)}"
                )
            if name in changes:
                raise OptionError(f"{name} is set twice, at last by {assignment!r}; set it once")
            changes[name] = _parsed(name, text, getattr(self, name))
        return replace(self, **changes)

    def generator_json(self) -> dict[str, Any]:
        """Return those fields of `to_json` that define the generator, and none of its training."""
        names = [each.name for each in fields(self)]
        generator = set(names[: names.index("growing")])
        generator -= {"mbstd_group", "minibatch_statistics", "discriminator_norm"}
        return {name: value for name, value in self.to_json().items() if name in generator}

    @property
    def resolutions(self) -> tuple[int, ...]:
        """The resolutions 4, 8, ... up to the final one."""
        return tuple(4 << i for i in range(self.resolution.bit_length() - 2))

    def feature_maps(self, resolution: int) -> int:
        """Return the channels of the block at a resolution; at 2, those of the discriminator's dense layer.

        min(fmap_base / 2**(s * fmap_decay), fmap_max) with s = log2(resolution) - 1.

        Source: `nf` in networks.py of Karras et al. 2018.
        """
        s = resolution.bit_length() - 2
        return min(int(self.fmap_base / 2.0 ** (s * self.fmap_decay)), self.fmap_max)

    def minibatch_at(self, resolution: int) -> int:
        """Return the images per step at this resolution."""
        return self.minibatch[max(r for r in self.minibatch if r <= resolution)]

    def learning_rate_at(self, resolution: int) -> float:
        """Return Adam's step size at this resolution."""
        return self.learning_rate[max(r for r in self.learning_rate if r <= resolution)]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON types; `from_json` reads them back.

        Fields of other projects' networks are left out where they have their defaults.
        """
        out: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name in _FOREIGN and value == each.default:
                continue
            out[each.name] = {str(k): v for k, v in value.items()} if isinstance(value, Mapping) else value
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ProGANConfig:
        """Return the configuration that `to_json` wrote.

        Raises:
            OptionError: a field is unknown, of a wrong type, or out of range.
        """
        known = {each.name: each for each in fields(cls)}
        unknown = sorted(set(data) - set(known))
        if unknown:
            raise OptionError(
                f"this version knows no ProGAN option {', '.join(unknown)}; a newer one may have written it"
            )
        values = dict(data)
        try:
            for name in ("minibatch", "learning_rate"):
                if name in values:
                    values[name] = {int(k): v for k, v in values[name].items()}
            return cls(**values)
        except (TypeError, ValueError, AttributeError) as error:
            if isinstance(error, OptionError):
                raise
            raise OptionError(f"a ProGAN configuration has a field of the wrong type: {error}") from error


def _parsed(name: str, text: str, like: object) -> object:
    """Parse a text as a value of the same type as `like`."""
    try:
        if isinstance(like, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(like, Mapping):
            kind = float if name == "learning_rate" else int
            parts = [part.split(":") for part in text.split(",")]
            values = {int(k): kind(v) for k, v in parts}
            if len(values) < len(parts):
                raise OptionError(f"{name} names a resolution twice: {text!r}")
            return values
        if isinstance(like, (int, float)):
            return type(like)(text)
    except OptionError:
        raise
    except (ValueError, KeyError):
        wanted = {bool: "true or false", int: "a whole number", float: "a number"}.get(type(like))
        raise OptionError(f"{name} takes {wanted or 'values such as 4:16,256:14'}, not {text!r}") from None
    return text


def _is_power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


def _nearest_power_of_two(value: int) -> int:
    return int(2 ** max(2, round(math.log2(max(value, 1)))))
