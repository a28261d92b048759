"""The keyword options that every evaluation shares are declared, documented and checked here."""

from __future__ import annotations

import difflib
import functools
import inspect
import numbers
import os
import reprlib
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, cast

from pgmetrics.errors import OptionError, check_number
from pgmetrics.runtime.spill import DEFAULT_MAX_MEMORY

if TYPE_CHECKING:
    from pgmetrics.features.base import FeatureExtractor
    from pgmetrics.metrics.base import Metric
    from pgmetrics.prepared.cache import Cache

Weights = Mapping[str, str | os.PathLike[str]] | str | os.PathLike[str]
"""Files of weights by the name of their network, or the file of Inception's weights."""

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Value = TypeVar("_Value")

_WHOLE = ("num_images", "seed", "workers", "resolution", "bits", "max_memory")


def _option(default: _Value, meaning: str) -> _Value:
    """Declare a field of `Options`; every function that takes the option has `meaning` in its docstring."""
    described: _Value = field(default=default, metadata={"meaning": meaning})
    return described


@dataclass(frozen=True, kw_only=True)
class Options:
    """How images are read and metrics computed; the meaning of each option is beside its default."""

    num_images: int | None = _option(
        None,
        "number of images used of each side; a source with fewer is refused. By default each metric uses its "
        "published number, or all images if there are fewer.",
    )
    seed: int = _option(
        0,
        "seed of all random numbers: image order, latents, patches, directions, mirroring, splits, subsets.",
    )
    device: str = _option("auto", '"auto" (CUDA if there is one), "cpu", "cuda", "cuda:N" or "mps".')
    workers: int | None = _option(
        None, "processes that decode ahead; 0 decodes in this one, None takes one per core."
    )
    resolution: int | None = _option(
        None, "height and width in pixels to which all images are resized; needs `resize`."
    )
    resize: str | None = _option(
        None, 'filter: "box", "lanczos" or "bicubic"; "crop-box", ... crop the center square first.'
    )
    alpha: str | None = _option(
        None, 'how transparency is removed: "white" or "black" behind it, or "drop"; refused otherwise.'
    )
    bits: int | None = _option(None, "8 scales 16-bit images down to 8 bits; they are refused otherwise.")
    mirror: bool = _option(
        False, "flip each real image with probability 1/2, as training with mirroring does."
    )
    max_memory: int = _option(
        DEFAULT_MAX_MEMORY,
        "bytes of memory besides the interpreter's and libraries'; SWD descriptors beyond this budget spill "
        "to a temporary file; below 1 GiB all of them do.",
    )
    preset: str | None = _option(
        None,
        'compute as another tool does: "torch-fidelity", "pytorch-fid", "clean-fid" or "torchmetrics"; it '
        "fixes the metrics' parameters, the networks and the order of images.",
    )
    weights: Weights | None = _option(  # noqa: RUF009 - the default is immutable
        None,
        "files of weights by the name of their network, or the file of Inception's; by default they are "
        "searched where `pgmetrics weights` says.",
    )
    allow_unverified_weights: bool = _option(False, "accept weights whose SHA-256 is not the published one.")
    form: str | None = _option(
        None, 'form of Inception: "fast" (the default), "plain" or "compiled"; they differ in rounding.'
    )
    precision: str | None = _option(
        None, 'precision of Inception: "float32" (the default) or "bfloat16", which changes the score.'
    )
    networks: Mapping[str, FeatureExtractor] | None = _option(
        None, 'feature extractors by the name of the network that they replace, or "custom".'
    )
    cache: Cache | str | os.PathLike[str] | None = _option(  # noqa: RUF009 - likewise
        None, "directory in which states of the real images are stored between runs, or None."
    )

    def __post_init__(self) -> None:
        """Convert NumPy integers to Python integers, as JSON needs, and check the number of bytes."""
        for name in _WHOLE:
            value = getattr(self, name)
            if isinstance(value, numbers.Integral) and not isinstance(value, bool):
                object.__setattr__(self, name, int(value))
        check_number("max_memory, in bytes,", self.max_memory, 0, 2**63 - 1)

    @property
    def reading(self) -> dict[str, Any]:
        """The options that decide how files are decoded to images."""
        return {name: getattr(self, name) for name in ("resolution", "resize", "alpha", "bits")}


class SharedOptions(TypedDict, total=False):
    """The options that every function takes, for type checkers; `Options` describes them."""

    num_images: int | None
    seed: int
    workers: int | None
    resolution: int | None
    resize: str | None
    alpha: str | None
    bits: int | None
    mirror: bool
    max_memory: int
    preset: str | None
    weights: Weights | None
    allow_unverified_weights: bool
    form: str | None
    precision: str | None
    networks: Mapping[str, FeatureExtractor] | None


class CollectOptions(SharedOptions, total=False):
    """The options of functions that compute on one device."""

    device: str


class EvaluateOptions(CollectOptions, total=False):
    """All options."""

    cache: Cache | str | os.PathLike[str] | None


def listed(metrics: Sequence[str | Metric]) -> tuple[str | Metric, ...]:
    """Return the metrics as a tuple.

    Raises:
        OptionError: `metrics` is not a list. The letters of a single name would be taken for names.
    """
    if isinstance(metrics, str) or not isinstance(metrics, Iterable):
        raise OptionError(f"metrics is a list such as ['swd', 'fid'], not {reprlib.repr(metrics)}")
    return tuple(metrics)


def takes_options(taken: type[Any]) -> Callable[[_Function], _Function]:
    """Return a decorator that spells out the `**options` of a function.

    The function's signature then lists each option with its default, and its docstring has the meaning of
    each in place of the line that begins with `options:`. Any other name is refused with the nearest option.

    Args:
        taken: the `TypedDict` that the function unpacks: `SharedOptions`, `CollectOptions` or
            `EvaluateOptions`.
    """
    chosen = [option for option in fields(Options) if option.name in taken.__optional_keys__]

    def decorate(function: _Function) -> _Function:
        signature = _signature(function, chosen)
        known = list(signature.parameters)

        @functools.wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            for name in kwargs:
                if name not in known:
                    raise OptionError(_unknown(function.__name__, name, known))
            return function(*args, **kwargs)

        checked.__signature__ = signature  # type: ignore[attr-defined]
        checked.__doc__ = _documentation(function.__doc__, chosen)
        return cast(_Function, checked)

    return decorate


def _signature(function: Callable[..., Any], options: Iterable[Field[Any]]) -> inspect.Signature:
    signature = inspect.signature(function)
    parameters = signature.parameters.values()
    named = [parameter for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD]
    added = [
        inspect.Parameter(
            option.name, inspect.Parameter.KEYWORD_ONLY, default=option.default, annotation=option.type
        )
        for option in options
    ]
    return signature.replace(parameters=[*named, *added])


def _documentation(text: str | None, options: Iterable[Field[Any]]) -> str | None:
    if text is None:  # python -OO
        return None
    lines = text.splitlines()
    (place,) = (number for number, line in enumerate(lines) if line.strip().startswith("options:"))
    indent = lines[place][: -len(lines[place].lstrip())]
    described = [
        textwrap.fill(
            f"{option.name}: {option.metadata['meaning']}",
            width=110,
            initial_indent=indent,
            subsequent_indent=indent + "    ",
            break_on_hyphens=False,
        )
        for option in options
    ]
    return "\n".join([*lines[:place], *described, *lines[place + 1 :]])


def _unknown(function: str, name: str, known: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1)
    there_are = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(known)}"
    return f"{function} has no option {name}; {there_are}"
