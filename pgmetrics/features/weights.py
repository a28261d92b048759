"""Weights files: search for them, download them, verify their digests, and load them.

The search order is: the given path; the variable PGMETRICS_WEIGHTS_INCEPTION or PGMETRICS_WEIGHTS_VGG16 (a
file); the variable PGMETRICS_WEIGHTS (a directory, as `make_bundle` makes it); torch hub's cache; a download,
unless PGMETRICS_OFFLINE=1 is set.
A score depends on every byte of the file, so a file with another digest is refused wherever it is found.
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
from pgmetrics.runtime.files import open_regular, sha256, written_atomically

logger = logging.getLogger("pgmetrics")

BUNDLE = "PGMETRICS_WEIGHTS"
"""Environment variable that names a directory of weights files."""

OFFLINE = "PGMETRICS_OFFLINE"
"""Environment variable that forbids downloads, unless it is empty or 0."""

_ALLOW = "--allow-unverified-weights (allow_unverified=True) accepts a file of your own"


@dataclass(frozen=True)
class Published:
    """A published weights file.

    Attributes:
        network: "inception" or "vgg16".
        urls: addresses of the same bytes; the last part of each is a file name.
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
"""The published files by network."""


@dataclass(frozen=True)
class WeightsFile:
    """A weights file on this machine.

    Attributes:
        network: the network that it is loaded for.
        path: its path.
        digest: its SHA-256 in hexadecimal.
        verified: whether the digest is that of the published file.
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
    """Find the file with a network's weights; download it if it is not on this machine.

    Args:
        network: "inception" or "vgg16".
        path: path of the file; None searches in the order of this module's docstring.
        allow_unverified: accept a file whose digest is not the published one.
        download: whether it may be downloaded into torch hub's cache.

    Raises:
        OptionError: the network is unknown.
        WeightsError: the file is missing, unreadable or not the published one.
    """
    wanted = published(network)
    located = locate(network, path)
    if located is None:
        if not download:
            raise WeightsError(_missing(wanted, "it may not be downloaded here"))
        if os.environ.get(OFFLINE, "0") not in ("", "0"):
            raise WeightsError(_missing(wanted, f"{OFFLINE} forbids downloads"))
        located = _download(wanted)
    digest = _sha256(located, network)
    verified = digest == wanted.sha256
    if not verified and not allow_unverified:
        raise WeightsError(
            f"{located} is not the published {wanted.names[0]}: its SHA-256 is {digest} "
            f"({located.stat().st_size:,} bytes), expected {wanted.sha256} ({wanted.size:,} bytes). "
            f"Remove it if it is a broken download; {_ALLOW}"
        )
    return WeightsFile(network, located, digest, verified)


def published(network: str) -> Published:
    """Return the published file of a network.

    Raises:
        OptionError: the network is unknown.
    """
    if network not in PUBLISHED:
        raise OptionError(f"unknown network {network!r}; choose from {', '.join(PUBLISHED)}")
    return PUBLISHED[network]


def locate(network: str, path: str | os.PathLike[str] | None = None) -> Path | None:
    """Return the path of a network's file on this machine without opening it; None if it is missing.

    Raises:
        WeightsError: the given path, or that of a variable, does not exist.
    """
    wanted = published(network)
    for said, by in ((path, "the path given"), (os.environ.get(wanted.variable), wanted.variable)):
        if said:
            if not os.path.exists(os.path.expanduser(said)):
                raise WeightsError(f"{said}, which {by} names as the weights of {network}, does not exist")
            return Path(os.path.expanduser(said))
    directories = [_cache()]
    bundled = os.environ.get(BUNDLE)
    if bundled:
        if not os.path.isdir(os.path.expanduser(bundled)):
            raise WeightsError(f"{BUNDLE} names {bundled}, which is not a directory of weights")
        directories.insert(0, Path(os.path.expanduser(bundled)))
    candidates = (directory / name for directory in directories for name in wanted.names)
    return next((candidate for candidate in candidates if candidate.exists()), None)


def load(file: WeightsFile, layout: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Load the tensors of a weights file on the CPU, without executing anything in it.

    Args:
        file: the result of `find`.
        layout: the network's tensors by name; only their shapes are used.

    Returns:
        One tensor for each of the layout; floating-point tensors are float32.

    Raises:
        WeightsError: the file holds no tensors, other objects, tensors of another network, or values that are
            NaN or infinite.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # for TorchScript files torch warns and then raises
            state = torch.load(file.path, map_location="cpu", weights_only=True)
    except Exception as error:  # arbitrary bytes make an unpickler raise anything
        # Not torch's own message, which recommends running the file's code.
        asked = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it asks to run {asked[1]}" if asked else type(error).__name__
        raise WeightsError(
            f"{file.path} is not a plain file of tensors, as torch.save(network.state_dict(), PATH) writes "
            f"and {file.network} needs ({reason})"
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{file.path} holds a {type(state).__name__}, not a state dict of tensors")
    difference = _difference(state, layout)
    if difference:
        raise WeightsError(
            f"{file.path} holds another network's weights, not those of {file.network}: {difference}"
        )
    made = {name: _plain(state[name]) for name in layout}
    # A ReLU may turn NaN into 0, and the features would look valid.
    if bad := not_finite(made.items()):
        raise WeightsError(f"{file.path} is damaged: {bad}; get it again, or save it from a sound network")
    return made


def survey(network: str) -> dict[str, Any]:
    """Describe a network's published file and its copy on this machine, as plain values for display.

    The value `state` is "missing", "at PATH", or the problem with the copy; `path` is None without a copy.

    Raises:
        OptionError: the network is unknown.
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
    """Make a directory of weights files for a machine without internet access; PGMETRICS_WEIGHTS names it.

    Existing files with the right digest stay. Others are copied under a temporary name and renamed, so that
    no file is ever incomplete.

    Args:
        directory: where to put the files; created if missing.
        networks: the networks whose files are needed.

    Returns:
        The files, in the order of the networks.

    Raises:
        WeightsError: some file is unavailable; the others are written nevertheless.
        PgmetricsError: a file cannot be written.
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


_README = f"""Weights for pgmetrics, for use without internet access:

    export {BUNDLE}=/path/to/this/directory

`sha256sum -c SHA256SUMS` checks the files, and so does pgmetrics whenever it loads one.
"""


def _put(wanted: Published, place: Path) -> Path:
    """Put a file into the bundle and update SHA256SUMS."""
    target = place / wanted.names[0]
    if not os.path.isfile(target) or _sha256(target, wanted.network) != wanted.sha256:
        source = find(wanted.network).path
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WeightsError(f"cannot make the directory {place}: {error.strerror}") from error
        _write(target, source)
    here = [published for published in PUBLISHED.values() if (place / published.names[0]).is_file()]
    _write(place / "SHA256SUMS", "".join(f"{file.sha256}  {file.names[0]}\n" for file in here))
    _write(place / "README.txt", _README)
    return target


def _write(target: Path, content: str | Path) -> None:
    """Write a text, or copy a file, atomically."""
    with written_atomically(target) as aside, aside.open("wb") as file:
        if isinstance(content, str):
            file.write(content.encode())
        else:
            with open_regular(content) as source:
                shutil.copyfileobj(source, file, 2**20)


def _cache() -> Path:
    """The directory of torch hub's files."""
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
        f"--weights {wanted.network}=PATH or {wanted.variable}=PATH; or copy the directory that "
        f"pgmetrics weights --bundle DIR makes on a machine with internet access, and set {BUNDLE}=DIR"
    )


def _sha256(path: Path, network: str) -> str:
    if path.is_dir():
        raise WeightsError(
            f"{path} is a directory; the weights of {network} are a file. {BUNDLE} names a directory of them"
        )
    try:
        with open_regular(path) as file:
            return sha256(file).hexdigest()
    except OSError as error:
        raise WeightsError(f"{path}, the weights of {network}, cannot be read: {error.strerror}") from error


def _difference(state: Mapping[str, Tensor], layout: Mapping[str, Tensor]) -> str:
    """Describe the first difference between a state dict and a layout; empty if there is none."""
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
