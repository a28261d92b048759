"""Custom networks from files, modules and objects, without running code inside a file."""

from __future__ import annotations

import inspect
import io
import logging
import os
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from pgmetrics.errors import WeightsError
from pgmetrics.functional.finite import not_finite
from pgmetrics.runtime import seeding
from pgmetrics.runtime.files import check_regular, open_regular, parse_json, sha256
from pgmetrics.runtime.modules import import_from_here, named_anew

_PYTHON_NAME = re.compile(
    r"(?P<module>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):(?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)"
)
_EXPORT_MARKS = ("/archive_format", "serialized_exported_program.json")
RANDOM_LAYERS = (
    "its weights are random, so that each process would score with another network: load trained weights, "
    "or save it once with torch.export.save or torch.jit.save"
)
_SAVE = "save a network with torch.export.save or torch.jit.save, or name it as module:name"


@dataclass
class LoadedNetwork:
    """A loaded network, before its outputs are checked.

    Attributes:
        call: maps float32 [N, 3, H, W] to the network's output of any type.
        move: moves the network to a device and returns the callable for it.
        kind: "torchscript", "torch.export", or the network's name in Python.
        digest: digest of its weights in hexadecimal; empty if they are inaccessible.
        length: the number of images that it was exported for; None if any number works.
        twin: a second instance whose outputs must be equal, if the weights are inaccessible.
    """

    call: Callable[[Tensor], Any]
    move: Callable[[str], Callable[[Tensor], Any]]
    kind: str
    digest: str = ""
    length: int | None = None
    twin: Callable[[Tensor], Any] | None = None

    @property
    def is_file(self) -> bool:
        """Whether the network is a file, of which `digest` is the digest."""
        return self.kind in ("torchscript", "torch.export")

    @property
    def identity(self) -> str:
        """The network's identity in keys."""
        return f"{self.kind} sha256={self.digest}" if self.digest else f"{self.kind} unseen"


def read_network(spec: object) -> tuple[str, LoadedNetwork]:
    """Return the network's name for messages, and the network."""
    if not isinstance(spec, (str, os.PathLike)):
        shown = type(spec).__name__ if isinstance(spec, nn.Module) else _name(spec)
        return shown, _from_object(spec, shown)
    text = os.fsdecode(os.fspath(spec))
    # An existing path wins, even if its name contains ':'.
    if not os.path.lexists(text) and (match := _PYTHON_NAME.fullmatch(text)):
        module, name = match["module"], match["name"]
        with seeding.global_generators_kept():
            target = _imported(text, module, name)
            return text, _from_object(target, text, lambda: named_anew(text))
    return text, _from_file(text)


def _from_file(text: str) -> LoadedNetwork:
    try:
        check_regular(text)
        with zipfile.ZipFile(text) as archive:
            names = archive.namelist()
            # In a truncated archive of archives, the last inner archive could be mistaken for the file.
            if min((member.header_offset for member in archive.infolist()), default=0) > 0:
                raise zipfile.BadZipFile
    except OSError as error:
        raise WeightsError(f"the network {text} cannot be opened: {error.strerror or error}") from error
    except zipfile.BadZipFile as error:
        raise WeightsError(
            f"{text} is not a TorchScript or torch.export file, or it is truncated; {_SAVE}"
        ) from error
    if any(name.endswith(_EXPORT_MARKS) for name in names):
        return _exported(text, names)
    if any("/code/" in name for name in names):
        return _scripted(text)
    if any(name.endswith("data.pkl") for name in names):
        raise WeightsError(
            f"{text} is a pickled torch file, which is not opened since it could run any code; {_SAVE}"
        )
    raise WeightsError(f"{text} is not a TorchScript or torch.export file; {_SAVE}")


def _scripted(path: str) -> LoadedNetwork:
    with warnings.catch_warnings():
        # torch warns in favor of torch.export, but the published files are TorchScript.
        warnings.filterwarnings("ignore", message=".*torch.jit.load.*", category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*torch.jit.load.*", category=DeprecationWarning)
        try:
            module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise WeightsError(f"{path} cannot be opened as TorchScript: {first_line(error)}") from error
    _check_weights(path, _frozen_tensors(module))
    return _from_module(module, path, "torchscript", _file_digest(path))


def _frozen_tensors(module: Any) -> Iterator[tuple[str, Tensor]]:
    """Iterate over weights that torch.jit.freeze turned into constants of the graph."""
    graph = module.inlined_graph  # kept in a variable, since its nodes do not keep it alive
    for node in graph.findAllNodes("prim::Constant", recurse=True):
        value = node.output().toIValue()
        if isinstance(value, Tensor):
            yield node.output().debugName(), value


def _check_weights(shown: str, tensors: Iterable[tuple[str, Any]]) -> None:
    """Refuse weights with NaN or infinite values: a ReLU may turn NaN into 0, and features would look valid.

    Args:
        shown: the network's name for messages.
        tensors: its parameters, buffers and constants, by name; objects that are not tensors are skipped.

    Raises:
        WeightsError: the message names the network and the tensor.
    """
    floating = (
        (name, tensor)
        for name, tensor in tensors
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and not _is_attention_mask(tensor)
    )
    if bad := not_finite(floating):
        raise WeightsError(f"{shown} is damaged: {bad}; get it again, or save it from a sound network")


def _is_attention_mask(tensor: Tensor) -> bool:
    return bool(((tensor == 0) | (tensor == -torch.inf)).all())


def _exported(path: str, names: list[str]) -> LoadedNetwork:
    # Imported here, since it imports SymPy.
    from torch.export import load
    from torch.export.passes import move_to_device_pass

    _refuse_code(path, names)
    log = logging.getLogger("torch.export")
    level = log.level
    log.setLevel(logging.CRITICAL)  # it would print a traceback in addition to raising
    try:
        program = load(path)
    except Exception as error:  # on damaged files its reader raises exceptions of many types
        raise WeightsError(
            f"{path} cannot be opened by torch.export of torch {torch.__version__}: {first_line(error)}"
        ) from error
    finally:
        log.setLevel(level)
    _check_weights(path, [*program.state_dict.items(), *program.constants.items()])
    inputs = program.graph_signature.user_inputs
    images = [n for n in program.graph.nodes if n.op == "placeholder" and n.name in inputs]
    if len(images) != 1:
        raise WeightsError(f"{path} takes {len(images)} inputs; a network of one batch of images is needed")
    count = images[0].meta["val"].shape[0]

    def moved(device: str) -> Callable[[Tensor], Any]:
        return cast(Callable[[Tensor], Any], move_to_device_pass(program, device).module())

    # An exported network has a fixed mode; the test run detects training mode.
    return LoadedNetwork(
        cast(Callable[[Tensor], Any], program.module()),
        moved,
        "torch.export",
        _file_digest(path),
        count if isinstance(count, int) else None,
    )


def _refuse_code(path: str, names: list[str]) -> None:
    """Refuse an exported file with pickles that torch.export would load unguarded, or compiled code.

    torch.export.load falls back to unrestricted unpickling and has no option against it.

    Raises:
        WeightsError: the message names the member.
    """
    with zipfile.ZipFile(path) as archive:
        for name in names:
            if "/aotinductor/" in name:
                raise WeightsError(f"{path} holds compiled code ({name}), which is not run; {_SAVE}")
            try:
                if name.endswith("_config.json"):
                    safe = not _mentions_pickle(parse_json(archive.read(name)))
                elif name.endswith((".pt", ".pkl")):
                    torch.load(io.BytesIO(archive.read(name)), map_location="cpu", weights_only=True)
                    safe = True
                else:
                    safe = True
            except Exception:  # damaged or malicious: do not open it
                safe = False
            if not safe:
                raise WeightsError(
                    f"{path} holds a pickle ({name}) that could run any code, and is not opened; "
                    "export the network with plain tensors as weights and example inputs"
                )


def _mentions_pickle(config: Any) -> bool:
    if isinstance(config, dict):
        return config.get("use_pickle") is True or any(map(_mentions_pickle, config.values()))
    return isinstance(config, list) and any(map(_mentions_pickle, config))


def _imported(text: str, module: str, name: str) -> Any:
    """Import the object `module:name`."""
    try:
        target: Any = import_from_here(module)
    except Exception as error:
        raise WeightsError(
            f"{text} is not a file, and importing {module} failed: {type(error).__name__}: "
            f"{first_line(error)}"
        ) from error
    for part in name.split("."):
        if not hasattr(target, part):
            raise WeightsError(f"{text}: {module} has no {name}")
        target = getattr(target, part)
    return target


def _from_object(target: Any, shown: str, find_anew: Callable[[], Any] = lambda: None) -> LoadedNetwork:
    """Return the network that an object is or makes.

    Args:
        target: a Module, a function of images, or a factory for one of these.
        shown: its name for messages.
        find_anew: imports the object from a second copy of its module; returns None if that is impossible.

    Raises:
        WeightsError: the object is none of these, its weights are not finite, or they differ when it is made
            again.
    """
    with seeding.global_generators_kept():
        named, target = target, _made(target, shown)
        # A factory may return a stored object, or one that its module made on import.
        again, anew = _made(named, shown), find_anew()
        twins = [again, None if anew is None else _made(anew, shown)]
        twins = [twin for twin in twins if twin is not None and twin is not target]
    if isinstance(target, nn.Module):
        digest = _state_digest(target)
        for other in (_state_digest(twin) for twin in twins if isinstance(twin, nn.Module)):
            if other != digest:
                raise WeightsError(
                    f"{shown} makes a different network each time (SHA-256 of its weights {digest[:8]}, "
                    f"then {other[:8]}); {RANDOM_LAYERS}"
                )
        return _from_module(target, shown, shown, digest)
    if not callable(target):
        raise WeightsError(
            f"{shown} is {type(target).__name__}; a Module, a function of a float tensor or a factory for "
            "one of these is needed"
        )
    # The code and data of a function are inaccessible, and it chooses its device itself.
    return LoadedNetwork(
        target,
        lambda device: cast(Callable[[Tensor], Any], target),
        shown,
        twin=twins[-1] if twins and callable(twins[-1]) else None,
    )


def _made(target: Any, shown: str) -> Any:
    """Return the result of a factory; return any other object unchanged.

    Raises:
        WeightsError: calling the factory fails.
    """
    if isinstance(target, nn.Module) or not takes_no_arguments(target):
        return target
    try:
        return target()
    except Exception as error:
        raise WeightsError(f"{shown}: calling it failed: {first_line(error)}") from error


def _from_module(module: nn.Module, shown: str, kind: str, digest: str) -> LoadedNetwork:
    _check_weights(shown, [*module.named_parameters(), *module.named_buffers()])
    module.eval()

    def moved(device: str) -> Callable[[Tensor], Any]:
        return module.to(device)

    return LoadedNetwork(module, moved, kind, digest)


def takes_no_arguments(target: Any) -> bool:
    """Whether a callable is a factory without arguments rather than a function of images."""
    if inspect.isclass(target):
        return True
    if not inspect.isroutine(target):
        return False
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return False
    # A function of (*args) may take images.
    return all(p.default is not p.empty or p.kind is p.VAR_KEYWORD for p in parameters)


def _name(target: object) -> str:
    return str(getattr(target, "__qualname__", type(target).__name__))


def _file_digest(path: str) -> str:
    with open_regular(path) as file:
        return sha256(file).hexdigest()


def _state_digest(module: nn.Module) -> str:
    """SHA-256 of the parameters and buffers, with their names and types."""
    digest = sha256(type(module).__qualname__.encode())
    for name, tensor in sorted(module.state_dict().items()):
        if isinstance(tensor, Tensor):
            raw = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(raw.tobytes())
    return digest.hexdigest()


def first_line(error: Exception) -> str:
    """Return the first line of an exception's message, or its type's name."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
