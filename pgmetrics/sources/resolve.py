"""Opens the source that a text, path or object stands for."""

from __future__ import annotations

import difflib
import inspect
import os
import re
import sys
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from pgmetrics.errors import OptionError, PgmetricsError, SourceError, printable
from pgmetrics.runtime import seeding
from pgmetrics.runtime.files import open_regular
from pgmetrics.runtime.modules import import_from_here, named_anew
from pgmetrics.sources import arrays
from pgmetrics.sources.arrays import ArraySource, DatasetSource, FileArraySource
from pgmetrics.sources.base import ImageSource, whole_number
from pgmetrics.sources.dead_leaves import DeadLeaves
from pgmetrics.sources.decode import SUFFIXES, Decoding
from pgmetrics.sources.folder import Archive, Directory, FolderSource, open_zip
from pgmetrics.sources.generated import FunctionSource
from pgmetrics.sources.plugins import advice, installed_plugins, load_plugin
from pgmetrics.sources.ranges import same_images
from pgmetrics.sources.resize import Resized, check_policy
from pgmetrics.sources.wrappers import Subset

_SLICE = re.compile(r"(?P<base>.+)@(?P<start>\d*):(?P<stop>\d*)", re.DOTALL)
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9_.+-]+):(?P<rest>.*)", re.DOTALL)
_OPTION = re.compile(r"(?P<rest>.*),(?P<key>[A-Za-z_]\w*)=(?P<value>[^,]*)", re.DOTALL)
_LONG_TO_MAKE = 10.0  # seconds
_PYTHON_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")

# Members of the zip files that torch.export writes.
_EXPORT_MARKS = ("/archive_format", "serialized_exported_program.json")


def open_source(
    spec: object,
    *,
    resolution: int | None = None,
    resize: str | None = None,
    alpha: str | None = None,
    bits: int | None = None,
) -> ImageSource:
    """Open the images that a text, a path or an object stands for.

    Args:
        spec: a path, `PATH@START:STOP`, `synthetic:leaves,resolution=32,n=50000,seed=0`,
            `SCHEME:PATH,key=value`, `module:name`; or an ImageSource, an array, a uint8 tensor or
            a map-style Dataset.
        resolution: side in pixels of the images; without `resize` they must have this size already.
        resize: the policy for resizing to `resolution`, such as `box` or `crop-lanczos`.
        alpha: how to resolve transparency: `white`, `black` or `drop`.
        bits: 8 scales 16-bit files down.

    Raises:
        SourceError: there are no images, or not of that resolution; the message says what was found and how
            to fix it.
        OptionError: an option has an unknown value, or requires another option.
    """
    if resize is not None:
        check_policy(resize, resolution)
    decoding = Decoding(resolution if resize else None, resize, alpha, bits)
    source = _open(spec, decoding, resolution)
    if resolution is None or source.resolution == (resolution, resolution):
        return source
    if resize is not None:
        return Resized(source, resize, resolution)
    height, width = source.resolution
    raise SourceError(
        f"{source.name} has images of {height} × {width}, and {resolution} × {resolution} was asked for; "
        f"--resize box --resolution {resolution} brings them there (or lanczos, bicubic, crop-box ...)"
    )


def _open(spec: object, decoding: Decoding, resolution: int | None) -> ImageSource:
    if isinstance(spec, (str, os.PathLike)):
        text = os.fspath(spec)
        return _open_text(os.fsdecode(text), decoding, resolution)
    return from_object(spec, alpha=decoding.alpha)


def _open_text(text: str, decoding: Decoding, resolution: int | None) -> ImageSource:
    # An existing path wins, even if its name contains ':' or '@'.
    if os.path.lexists(text):
        return _open_path(text, decoding)
    if match := _SLICE.fullmatch(text):
        whole = _open_text(match["base"], decoding, resolution)
        start = whole_number(match["start"] or "0", "the first image", text)
        stop = whole_number(match["stop"], "the last image", text) if match["stop"] else len(whole)
        return Subset(whole, start, stop)
    if match := _SCHEME.fullmatch(text):
        scheme, (rest, options) = match["scheme"], _split_options(match["rest"])
        if scheme == "synthetic":
            return _synthetic(text, rest, options, resolution)
        if scheme in (plugins := installed_plugins()):
            return load_plugin(plugins[scheme]).open_source(rest, options)
        if _PYTHON_NAME.fullmatch(scheme) and _PYTHON_NAME.fullmatch(rest):
            return _python(text, scheme, rest, options, decoding.alpha)
        raise SourceError(_unknown_scheme(text, scheme))
    raise SourceError(_missing(text))


def made_twice(
    make: Callable[[], Any],
    what: str,
    opened: Callable[[Any], ImageSource],
    anew: Callable[[], Any] = lambda: None,
) -> ImageSource:
    """Open the images that a factory returns, and refuse it if a second call returns others.

    A network with random weights, for instance, would differ between processes. A few images are compared.
    A factory that takes longer than 10 s, or returns a path, is called once.

    Args:
        make: the factory, which returns images in any form.
        what: its name in messages.
        opened: opens the factory's result as a source.
        anew: returns the result of the factory in a second copy of its module, which covers objects made on
            import; None if there is no second copy.

    Raises:
        SourceError: the factory fails, or its second result differs.
    """
    with seeding.global_generators_kept():
        try:
            started = time.monotonic()
            images = make()
            source = opened(images)
            if isinstance(images, (str, os.PathLike)) or time.monotonic() - started > _LONG_TO_MAKE:
                return source
            again, copied = make(), anew()
            alike = again is images or _alike(source, opened(again))
            alike_copy = copied is None or _alike(source, opened(copied))
        except PgmetricsError:
            raise
        except Exception as error:  # a user's code may raise anything
            raise SourceError(f"{what}: {type(error).__name__}: {error}") from error
    if not (alike and alike_copy):
        when = "import of its module" if alike else "call"
        raise SourceError(
            f"{what}: each {when} gives different images; load trained weights, and seed all random numbers"
        )
    # The images read here are a check, not part of an evaluation: drop their remarks.
    source.take_notes()
    source.take_remarks()
    return source


def _alike(source: ImageSource, again: ImageSource) -> bool:
    """Whether a few images of two sources are equal."""
    if (len(source), source.resolution) != (len(again), again.resolution):
        return False
    few = sorted({0, len(source) // 2, len(source) - 1})
    return same_images(source.batch(few), again.batch(few))


def named(text: str) -> Any:
    """Import the object `module:name`.

    Raises:
        SourceError: there is no such module or name, or the import fails.
    """
    module, _, name = text.partition(":")
    if not (_PYTHON_NAME.fullmatch(module) and _PYTHON_NAME.fullmatch(name)):
        raise SourceError(f"{text}: a Python name is written module:name")
    return _named(text, module, name)


def from_object(
    images: object, name: str | None = None, n: int | None = None, alpha: str | None = None
) -> ImageSource:
    """Return an ImageSource unchanged, and an array, tensor, Dataset or function of indices as a source.

    Raises:
        SourceError: the object is none of these; the message says how to get one from it.
    """
    if isinstance(images, ImageSource):
        return images
    if isinstance(images, np.ndarray) or arrays.is_tensor(images):
        return ArraySource(images, name=name or "array")
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(images, torch.nn.Module):
        raise SourceError(
            f"{name or type(images).__name__} is a network; wrap it in "
            "pgmetrics.sources.generator(G, latent_dim=...)"
        )
    if torch is not None and isinstance(images, torch.utils.data.DataLoader):
        raise SourceError(f"{name or 'the DataLoader'} makes batches; pass its Dataset, loader.dataset")
    if isinstance(images, Mapping) and 0 not in list(images):
        raise SourceError(_of_a_mapping(images, name))
    in_order = torch is not None and isinstance(images, torch.utils.data.IterableDataset)
    if not in_order and hasattr(images, "__getitem__") and hasattr(images, "__len__"):
        return DatasetSource(cast(arrays.MapDataset, images), name=name, alpha=alpha)
    if callable(images):
        return FunctionSource(images, 50_000 if n is None else n, name=name)
    if isinstance(images, Iterable):
        raise SourceError(
            f"{name or type(images).__name__} can only be read in its order; pass list(x), or "
            "list(itertools.islice(x, 1000)) of one that is long or does not end"
        )
    raise SourceError(
        f"{type(images).__name__} is not a source; a path, an array, a tensor, "
        "a map-style Dataset, a function of indices or an ImageSource is needed"
    )


def _of_a_mapping(images: Mapping[Any, Any], name: str | None) -> str:
    held = [repr(key) for key in images]
    named = printable(", ".join(held[:5]) + (", ..." if len(held) > 5 else ""))
    if not held:
        return f"{name or type(images).__name__} is empty"
    return (
        f"{name or type(images).__name__} holds several things by name: {named}; pass the one that holds the "
        f"images, such as x[{printable(held[0])}]"
    )


def _open_path(path: str, decoding: Decoding) -> ImageSource:
    if os.path.isdir(path):
        if path.rstrip("/\\").endswith(".pgstats"):
            raise SourceError(
                f"{printable(path)} holds statistics of images, not images; only --real accepts statistics"
            )
        return FolderSource(Directory(path), decoding)
    try:
        with open_regular(path) as file:
            head = file.read(16)
    except OSError as error:
        raise SourceError(f"{printable(path)} cannot be opened: {error.strerror}") from error
    if head.startswith(arrays.NPY_MAGIC):
        return FileArraySource(path)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")) or zipfile.is_zipfile(path):
        return _open_zip(path, decoding)
    if path.lower().endswith(SUFFIXES):
        raise SourceError(f"{printable(path)} is a single image; a directory or zip of images is needed")
    plugins = installed_plugins()
    for plugin in map(load_plugin, plugins.values()):
        if plugin.recognizes(Path(path)):
            return plugin.open_source(path, {})
    raise SourceError(
        advice(Path(path))
        or f"{printable(path)} is not a directory, zip, npz or npy of images, nor a checkpoint of "
        f"{' or '.join(sorted(plugins)) or 'any installed kind'}"
        + ("; the file is empty" if not head else "")
    )


def _open_zip(path: str, decoding: Decoding) -> ImageSource:
    with open_zip(path) as archive:
        names = archive.namelist()
    pickled = any(name.endswith("data.pkl") for name in names)
    if any(name.endswith(_EXPORT_MARKS) for name in names):
        raise SourceError(_network_file(path, "torch.export.save", f"torch.export.load({path!r}).module()"))
    if pickled and any("/code/" in name for name in names):
        raise SourceError(_network_file(path, "torch.jit.save", f"torch.jit.load({path!r})"))
    if pickled:
        about = advice(Path(path)) or (
            f"{printable(path)} is a pickled torch file, which is not opened since it could run any code"
        )
        raise SourceError(
            f"{about}; open any other network in Python with pgmetrics.sources.generator(G, latent_dim=...)"
        )
    if any(name.endswith(".npy") for name in names) and not any(n.lower().endswith(SUFFIXES) for n in names):
        return FileArraySource(path)
    return FolderSource(Archive(path), decoding)


def _network_file(path: str, writer: str, loaded: str) -> str:
    return (
        f"{printable(path)} is a network written by {writer}, and holds no images; make its images in Python "
        f"with pgmetrics.sources.generator({printable(loaded)}, latent_dim=...)"
    )


def _synthetic(text: str, kind: str, options: dict[str, str], resolution: int | None) -> ImageSource:
    if kind != "leaves":
        raise SourceError(f"{text}: unknown synthetic set {kind!r}; the only one is synthetic:leaves")
    numbers = {"resolution": resolution or 32, "n": 50_000, "seed": 0}
    for key, value in options.items():
        if key not in numbers:
            raise SourceError(f"{text}: synthetic:leaves has no option {key}; it has {', '.join(numbers)}")
        numbers[key] = whole_number(value, key, text)
    return DeadLeaves(**numbers)


def _python(text: str, module: str, name: str, options: dict[str, str], alpha: str | None) -> ImageSource:
    """Open `module:name`: images in any form, a function of indices, or a factory for one of these."""
    if unknown := options.keys() - {"n"}:
        raise SourceError(f"{text}: the only option of module:name is n, not {', '.join(sorted(unknown))}")
    n = whole_number(options["n"], "n", text) if "n" in options else None
    source = made_twice(
        lambda: _made(_named(text, module, name)),
        text,
        lambda images: from_object(images, name=text, n=n, alpha=alpha),
        lambda: _made(named_anew(f"{module}:{name}")),
    )
    if n is not None and not isinstance(source, FunctionSource):
        raise SourceError(
            f"{text}: n is the number of images of a function; {module}:{name} has its own length"
        )
    return source


def _named(text: str, module: str, name: str) -> Any:
    try:
        target: Any = import_from_here(module)
    except ModuleNotFoundError as error:
        if error.name is None or not (module + ".").startswith(error.name + "."):
            raise SourceError(f"{text}: importing {module} failed: {error}") from error
        raise SourceError(_unknown_scheme(text, module)) from error
    except Exception as error:
        raise SourceError(f"{text}: importing {module} failed: {type(error).__name__}: {error}") from error
    try:
        for part in name.split("."):
            target = getattr(target, part)
    except AttributeError as error:
        raise SourceError(f"{text}: {module} has no {name}") from error
    return target


def _made(target: Any) -> Any:
    """Return the result of a factory; return any other object unchanged."""
    return target() if _takes_nothing(target) else target


def _takes_nothing(function: Any) -> bool:
    """Whether a callable is a factory without arguments rather than a function of indices."""
    if not (inspect.isroutine(function) or inspect.isclass(function)):
        return False  # a network, for instance, has a signature that accepts anything
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    return all(p.default is not p.empty or p.kind is p.VAR_KEYWORD for p in parameters)


def _split_options(text: str) -> tuple[str, dict[str, str]]:
    """Split off trailing `,key=value` parts, unless the text with its commas is an existing file."""
    options: dict[str, str] = {}
    while not os.path.lexists(text) and (match := _OPTION.fullmatch(text)):
        text = match["rest"]
        if match["key"] in options:
            raise OptionError(f"{match['key']} is given twice")
        options = {match["key"]: match["value"], **options}
    return text, options


def _unknown_scheme(text: str, scheme: str) -> str:
    known = ", ".join(f"{name}:" for name in sorted({"synthetic", *installed_plugins()}))
    return (
        f"{printable(text)} is neither a file nor a directory, and {scheme} is neither a Python module that "
        f"can be imported nor one of {known}"
    )


def _missing(text: str) -> str:
    if not text:
        return "an empty text names no images; a directory, zip, npz or checkpoint is needed"
    if _split_options(text)[1]:
        base = _split_options(text)[0]
        if os.path.lexists(base):
            return f"{printable(text)}: options need a scheme, such as progan:{printable(base)},seed=0"
    folder, name = os.path.split(os.path.abspath(text))
    if not os.path.isdir(folder):
        return f"{printable(text)} does not exist; neither does {printable(os.path.dirname(text) or folder)}"
    try:
        near = difflib.get_close_matches(name, os.listdir(folder), n=1)
    except OSError:
        near = []
    meant = f"; there is {printable(os.path.join(os.path.dirname(text), near[0]))}" if near else ""
    return f"{printable(text)} does not exist{meant}"
