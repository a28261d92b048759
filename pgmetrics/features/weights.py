"""Where a network's weights are: find the file, check its digest, load it; say where to get it.

Looked for in this order: the path given, the variable PGMETRICS_WEIGHTS_INCEPTION or
PGMETRICS_WEIGHTS_VGG16 (a file), the variable PGMETRICS_WEIGHTS (a directory, as `make_bundle` makes), torch
hub's cache, and then the network. A score depends on every byte of the file, so one with another digest
is refused wherever it was found.
"""

from __future__ import annotations

import http.client
import logging
import os
import re
import shutil
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pgmetrics.errors import OptionError, WeightsError
from pgmetrics.functional.finite import not_finite
from pgmetrics.runtime.files import open_regular, set_aside, sha256

logger = logging.getLogger("pgmetrics")

BUNDLE = "PGMETRICS_WEIGHTS"
"""Environment variable that names a directory of weights files."""

_ALLOW = "--allow-unverified-weights (allow_unverified=True) takes a file of your own"


@dataclass(frozen=True)
class Published:
    """A weights file that anyone can get, and what is known of it.

    Attributes:
        network: "inception" or "vgg16".
        urls: where the same bytes lie; the file is known by the last part of each.
        sha256: the whole digest, in hexadecimal.
        size: in bytes.
    """

    network: str
    urls: tuple[str, ...]
    sha256: str
    size: int

    @property
    def names(self) -> tuple[str, ...]:
        """The published file names."""
        return tuple(url.rpartition("/")[2] for url in self.urls)

    @property
    def variable(self) -> str:
        """The environment variable that names such a file."""
        return f"{BUNDLE}_{self.network.upper()}"

    def __str__(self) -> str:
        return f"{self.names[0]} ({self.size:,} bytes, SHA-256 {self.sha256})"


PUBLISHED = {
    published.network: published
    for published in (
        Published(
            network="inception",
            urls=(
                "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
                "weights-inception-2015-12-05-6726825d.pth",
                "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
                "pt_inception-2015-12-05-6726825d.pth",
            ),
            sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
            size=95_628_359,
        ),
        Published(
            network="vgg16",
            urls=("https://download.pytorch.org/models/vgg16-397923af.pth",),
            sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
            size=553_433_881,
        ),
    )
}
"""The files that networks of this package are loaded from, by network."""


@dataclass(frozen=True)
class WeightsFile:
    """A weights file that was found.

    Attributes:
        network: whose weights it is said to hold.
        path: where it lies.
        digest: its SHA-256 in hexadecimal.
        verified: whether that is the published file's.
    """

    network: str
    path: Path
    digest: str
    verified: bool


def find(
    network: str,
    path: str | os.PathLike[str] | None = None,
    *,
    allow_unverified: bool = False,
    download: bool = True,
) -> WeightsFile:
    """The file that holds a network's weights, downloaded where it is nowhere else.

    Args:
        network: "inception" or "vgg16".
        path: of the file; looked for as the module says where it is None.
        allow_unverified: take a file with another digest than the published one's.
        download: whether it may be fetched into torch hub's cache.

    Raises:
        OptionError: there is no such network.
        WeightsError: the file is missing, unreadable or another one.
    """
    wanted = published(network)
    found = locate(network, path)
    if found is None:
        if not download:
            raise WeightsError(_missing(wanted, "it may not be downloaded here"))
        found = _download(wanted)
    digest = _sha256(found, network)
    verified = digest == wanted.sha256
    if not verified and not allow_unverified:
        raise WeightsError(
            f"{found} is not the published {wanted.names[0]}: its SHA-256 is {digest} "
            f"({found.stat().st_size:,} bytes), expected {wanted.sha256} ({wanted.size:,} bytes). "
            f"Remove it if it is a broken download; {_ALLOW}"
        )
    return WeightsFile(network, found, digest, verified)


def published(network: str) -> Published:
    """What is known of a network's file.

    Raises:
        OptionError: there is no such network.
    """
    if network not in PUBLISHED:
        raise OptionError(
            f"there are no weights of a network {network!r}; choose from {', '.join(PUBLISHED)}"
        )
    return PUBLISHED[network]


def locate(network: str, path: str | os.PathLike[str] | None = None) -> Path | None:
    """Where a network's file lies on this machine, unopened; None where it does not.

    Raises:
        WeightsError: a path that was given, here or by a variable, leads nowhere.
    """
    wanted = published(network)
    for said, by in ((path, "the path given"), (os.environ.get(wanted.variable), wanted.variable)):
        if said:
            if not Path(said).expanduser().exists():
                raise WeightsError(f"there is no {said}, which {by} names as the weights of {network}")
            return Path(said).expanduser()
    directories = [_cache()]
    bundled = os.environ.get(BUNDLE)
    if bundled:
        if not Path(bundled).expanduser().is_dir():
            raise WeightsError(f"{BUNDLE} names {bundled}, which is no directory of weights")
        directories.insert(0, Path(bundled).expanduser())
    candidates = (directory / name for directory in directories for name in wanted.names)
    return next((candidate for candidate in candidates if candidate.exists()), None)


def load(file: WeightsFile, layout: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a weights file, on the CPU; nothing in it is executed.

    Args:
        file: as `find` gave it.
        layout: the tensors that the network has, by name; only their shapes are read.

    Returns:
        One tensor for each of the layout, float32 where it holds fractions.

    Raises:
        WeightsError: the file holds no tensors, more than tensors, those of another network, or a value
            that is NaN or infinite.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript files come with one beside the error
            state = torch.load(file.path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a file of arbitrary bytes makes an unpickler raise
        # Not torch's own words, which recommend to run whatever the file says.
        asked = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it asks to run {asked[1]}" if asked else type(error).__name__
        raise WeightsError(
            f"{file.path} is no plain file of tensors, as torch.save(network.state_dict(), PATH) writes "
            f"and {file.network} needs ({reason})"
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{file.path} holds a {type(state).__name__} that is no state dict of tensors")
    difference = _difference(state, layout)
    if difference:
        raise WeightsError(
            f"{file.path} holds another network's weights, not those of {file.network}: {difference}"
        )
    made = {name: _plain(state[name]) for name in layout}
    # A ReLU may turn NaN into 0, and the features would look sound.
    if bad := not_finite(made.items()):
        raise WeightsError(f"{file.path} is damaged: {bad}; get it again, or save it from a sound network")
    return made


def survey(network: str) -> dict[str, Any]:
    """What is known of a network's file and whether it is here, as plain values for people.

    Its `state` is "missing", "at PATH", or what is wrong with what is there; `path` is None where none is.

    Raises:
        OptionError: there is no such network.
    """
    wanted = published(network)
    path = None
    try:
        path = locate(network)
        state = "missing" if path is None else f"at {find(network, path).path}"
    except WeightsError as error:
        state = str(error)
    return {
        "network": network,
        "state": state,
        "path": None if path is None else str(path),
        "file": " or ".join(wanted.names),
        "bytes": wanted.size,
        "sha256": wanted.sha256,
        "urls": list(wanted.urls),
    }


def make_bundle(
    directory: str | os.PathLike[str], networks: Collection[str] = tuple(PUBLISHED)
) -> list[Path]:
    """Make a directory of weights files for a machine without a network, which PGMETRICS_WEIGHTS names.

    Files that are there already, with the right digest, are left; what is found or downloaded is
    copied beside its place and renamed, so that no file is ever half there.

    Args:
        directory: made where it is missing.
        networks: whose files to put there.

    Returns:
        The files, in the order of the networks.

    Raises:
        WeightsError: some file cannot be had; the others are there nevertheless.
    """
    place = Path(directory)
    paths, refused = [], []
    for network in networks:
        try:
            paths.append(_put(published(network), place))
        except WeightsError as error:
            refused.append(str(error))
    if refused:
        raise WeightsError(f"{place} lacks {len(refused)} of {len(networks)} files: " + "; ".join(refused))
    return paths


_README = f"""Weights for pgmetrics, to be used without a network:

    export {BUNDLE}=/path/to/this/directory

`sha256sum -c SHA256SUMS` checks the files, and so does pgmetrics whenever it loads one.
"""


def _put(wanted: Published, place: Path) -> Path:
    """The file in the bundle, with the lines about it."""
    target = place / wanted.names[0]
    if not target.is_file() or _sha256(target, wanted.network) != wanted.sha256:
        source = find(wanted.network).path
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WeightsError(f"cannot make the directory {place}: {error.strerror}") from error
        _write(target, source)
    here = [published for published in PUBLISHED.values() if (place / published.names[0]).is_file()]
    _write(place / "SHA256SUMS", "".join(f"{one.sha256}  {one.names[0]}\n" for one in here))
    _write(place / "README.txt", _README)
    return target


def _write(target: Path, content: str | Path) -> None:
    """Write a text, or another file's bytes, aside and rename."""
    try:
        with set_aside(target) as aside:
            with aside.open("wb") as file:
                if isinstance(content, str):
                    file.write(content.encode())
                else:
                    with open_regular(content) as source:
                        shutil.copyfileobj(source, file, 2**20)
            aside.replace(target)
    except OSError as error:
        raise WeightsError(f"cannot write {target}: {error.strerror}") from error


def _cache() -> Path:
    """Where torch hub keeps files."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def _download(wanted: Published) -> Path:
    reasons = []
    for url in wanted.urls:
        target = _cache() / url.rpartition("/")[2]
        logger.info("downloading the weights of %s from %s to %s", wanted.network, url, target)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(target), hash_prefix=wanted.sha256)
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            reasons.append(" ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__)
        else:
            return target
    raise WeightsError(_missing(wanted, f"it cannot be downloaded ({'; '.join(dict.fromkeys(reasons))})"))


def _missing(wanted: Published, why: str) -> str:
    return (
        f"{wanted.network} needs {wanted}, which is not on this machine, and {why}. "
        f"Get it from {wanted.urls[0]} and put it into {_cache()}, or say where it is: "
        f"--weights {wanted.network}=PATH or {wanted.variable}=PATH"
    )


def _sha256(path: Path, network: str) -> str:
    if path.is_dir():
        raise WeightsError(
            f"{path} is a directory; the weights of {network} are a file. {BUNDLE} names a directory of them"
        )
    try:
        with open_regular(path) as file:
            return sha256(file)
    except OSError as error:
        raise WeightsError(f"{path}, the weights of {network}, cannot be read: {error.strerror}") from error


def _difference(state: Mapping[str, Tensor], layout: Mapping[str, Tensor]) -> str:
    """What tells a state dict from a layout, empty where nothing does."""
    missing = [name for name in layout if name not in state]
    unexpected = [name for name in state if name not in layout]
    if missing or unexpected:
        parts = [
            f"{what} {len(names)} tensors, such as {names[0]}"
            for what, names in (("it lacks", missing), ("it has unknown", unexpected))
            if names
        ]
        return " and ".join(parts)
    for name, expected in layout.items():
        if state[name].shape != expected.shape:
            return f"{name} is {list(state[name].shape)}, expected {list(expected.shape)}"
    return ""


def _plain(tensor: Any) -> Tensor:
    made: Tensor = tensor.float() if tensor.is_floating_point() else tensor
    return made.contiguous()
