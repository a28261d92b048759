"""The checkpoints of a training run: found, named, put in order, and opened as images."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pgmetrics.errors import OptionError, PgmetricsError, SourceError, printable
from pgmetrics.results.run_scores import FILE_NAME
from pgmetrics.runtime.files import kind_of, open_regular, sha256
from pgmetrics.runtime.modules import named_anew
from pgmetrics.sources.base import ImageSource
from pgmetrics.sources.plugins import PluginCheckpoint, advice, checkpoint, refusing_damaged
from pgmetrics.sources.resolve import from_object, made_twice, named, open_source
from pgmetrics.sources.stage import Enlarged
from pgmetrics.sources.wrappers import Wrapped

UNTRAINED = "untrained"
AT_FINAL, AT_STAGE = "at-final", "at-stage"
PROTOCOLS = (AT_FINAL, AT_STAGE)

_FIELDS = ("images", "kimg", "resolution", "alpha")
_NUMBER = r"(?P<{}>\d+(?:\.\d+)?)"
_PART = re.compile(r"\{(\w+)\}|(\*\*/)|(\*)|(\?)|(.)", re.DOTALL)
_CHUNK = 2**20


@dataclass(frozen=True)
class Snapshot:
    """A checkpoint of a run, and where in the run it stands.

    Attributes:
        path: of the file, or of a directory of samples.
        label: names it in results: `0000105024-32x32`, with `-a0.25` during a fade; `untrained`. Where the
            images shown are unknown, the file's name stands for them.
        images_shown: real images that training had shown; None if unknown.
        resolution: of its images in pixels; None if the pattern does not say, for the final one.
        alpha: how far that resolution is faded in.
        final_resolution: that the run grows to; None if only the real images say.
        digest: SHA-256 of its content.
    """

    path: Path
    label: str
    images_shown: int | None
    resolution: int | None
    alpha: float
    final_resolution: int | None
    digest: str


Skipped = tuple[Path, str]
"""What could not be read, and why."""


class Finder:
    """Finds a run's checkpoints, again and again while they grow in number; each file is read once.

    Without a pattern a checkpoint is whatever a plug-in recognizes (see `sources.resolve.Plugin`).
    With one it is what the pattern matches, relative to the run: a glob in which `{images}`,
    `{kimg}`, `{resolution}` and `{alpha}` stand for numbers, or a regular expression with groups
    of these names. A glob without them only chooses among those that a plug-in recognizes.

    Args:
        run: the directory.
        pattern: of the checkpoints' names.
        final_resolution: that the run grows to, whatever its checkpoints say.

    Attributes:
        patient: pass over a file until it is found as it was the time before. Not every trainer
            writes its checkpoints aside, and half of one may look whole to a loader.

    Raises:
        OptionError: the pattern has a field of another name, or none that counts images.
    """

    def __init__(self, run: Path, pattern: str | None = None, final_resolution: int | None = None) -> None:
        self._run = run
        self._final = final_resolution
        self._pattern = None if pattern is None else _compile(pattern)
        self._by_groups = self._pattern is not None and bool(self._pattern.groupindex)
        self.patient = False
        self._met: set[tuple[Path, int, int]] = set()
        self._known: dict[tuple[Path, int, int], Snapshot | Skipped | None] = {}

    def find(self) -> tuple[list[Snapshot], list[Skipped]]:
        """Checkpoints by images shown, the untrained network first, and what cannot be read.

        Raises:
            SourceError: the directory cannot be read, or two checkpoints claim to be of one moment.
        """
        if not os.path.isdir(self._run):
            raise SourceError(f"{self._run} is no directory of a training run")
        found = [(path, self._look(path)) for path in self._candidates()]
        snapshots = [each for _, each in found if isinstance(each, Snapshot)]
        if self._final is not None:
            snapshots = [replace(each, final_resolution=self._final) for each in snapshots]
        skipped = [each for _, each in found if isinstance(each, tuple)]
        # Plug-ins know their files by the content, so one that lost it is known by its company.
        company = {(each.path.parent, each.path.suffix) for each in snapshots}
        if not self._by_groups:
            skipped += [
                (path, _no_checkpoint(path))
                for path, each in found
                if each is None and (path.parent, path.suffix) in company
            ]
        return _in_order(snapshots), sorted(skipped)

    def advice(self) -> str | None:
        """Say how a file in the directory becomes a checkpoint; None if no plug-in knows one that can."""
        files = (path for path in _walk(self._run) if path.is_file())
        return next((text for path in files if (text := advice(path))), None)

    def _candidates(self) -> Iterator[Path]:
        for path in _walk(self._run):
            if self._pattern is None:
                # A directory can be called like a checkpoint, and is then named for what it is.
                if path.suffix or not path.is_dir():
                    yield path
            elif self._pattern.fullmatch(path.relative_to(self._run).as_posix()):
                yield path

    def _look(self, path: Path) -> Snapshot | Skipped | None:
        try:
            status = path.stat()
        except OSError as error:
            return path, error.strerror or str(error)
        key = path, status.st_size, status.st_mtime_ns
        if self._by_groups and self.patient and key not in self._met:
            self._met.add(key)
            return None
        if key not in self._known:
            try:
                self._known[key] = self._by_name(path) if self._by_groups else _by_content(path)
            except PgmetricsError as error:
                self._known[key] = path, str(error)
            except OSError as error:
                self._known[key] = path, error.strerror or str(error)
        return self._known[key]

    def _by_name(self, path: Path) -> Snapshot:
        assert self._pattern is not None
        match = self._pattern.fullmatch(path.relative_to(self._run).as_posix())
        assert match is not None
        if kind := kind_of(path.stat().st_mode):
            if kind != "directory":
                raise SourceError(f"{path.name} is a {kind}, and only files and directories are opened")
        groups = {name: float(text) for name, text in match.groupdict().items() if text is not None}
        if max(groups.values()) >= 2**63:
            raise SourceError(f"{path.name}: no training counts so far")
        images = round(groups["images"] if "images" in groups else 1000 * groups["kimg"])
        resolution = round(groups["resolution"]) if "resolution" in groups else None
        alpha = groups.get("alpha", 1.0)
        if not 0 <= alpha <= 1:
            raise SourceError(f"{path.name}: an alpha lies between 0 and 1, not at {alpha:g}")
        label = _label(images, resolution, alpha, path)
        return Snapshot(path, label, images, resolution, alpha, None, digest(path))


def find_snapshots(
    run: str | os.PathLike[str], pattern: str | None = None
) -> tuple[list[Snapshot], list[Skipped]]:
    """The checkpoints of a run, by images shown, and what cannot be read; as `Finder` finds them.

    Raises:
        SourceError, OptionError: as `Finder`.
    """
    return Finder(Path(run), pattern).find()


def open_snapshot(
    snapshot: Snapshot, protocol: str, seed: int = 0, loader: str | None = None, final: int | None = None
) -> ImageSource:
    """The images of a checkpoint under a protocol.

    Args:
        snapshot: one of `find_snapshots`.
        protocol: `at-stage`, its own resolution; or `at-final`, its pixels repeated up to the final one.
        seed: of the latents, where a plug-in makes the images.
        loader: `module:name` of a function that is called with the path and returns images in any
            form that `open_source` takes; for checkpoints that no plug-in knows.
        final: the final resolution, where the checkpoint does not say.

    Raises:
        SourceError: it cannot be opened, or its images are of another resolution than it says.
    """
    with refusing_damaged(snapshot.path.name):
        return _Foreign(_opened(snapshot, protocol, seed, loader, final), snapshot.path.name)


def _opened(
    snapshot: Snapshot, protocol: str, seed: int, loader: str | None, final: int | None
) -> ImageSource:
    at = "final" if protocol == AT_FINAL else "stage"
    facts = None if loader else _described(snapshot.path)
    if facts is not None:
        # A network of another project may not know how far its run grows.
        grows = final is None or facts.final_resolution == final
        given = {"at": at if grows else "stage", "seed": str(seed)}
        made = facts.plugin.open_source(os.fspath(snapshot.path), given)
        return made if grows or at == "stage" or final is None else Enlarged(made, final)
    source = open_source(snapshot.path) if loader is None else _loaded(loader, snapshot.path)
    side = snapshot.resolution or final
    allowed = {side} if at == "stage" else {side, final}
    height, width = source.resolution
    if height != width or height not in allowed:
        raise SourceError(
            f"{snapshot.path.name} gave images of {height} × {width}, and its stage is {side} × {side}"
        )
    return Enlarged(source, final) if at == "final" and final not in (None, height) else source


class _Foreign(Wrapped):
    """Images that are made as they are asked for; what a file's content causes then is a refusal, too."""

    def __init__(self, source: ImageSource, file: str) -> None:
        super().__init__(source, "")
        self._file = file
        # Asked now: these are methods of whoever wrote the source.
        self._length, self._resolution = len(source), source.resolution

    def __len__(self) -> int:
        return self._length

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width in pixels of every image."""
        return self._resolution

    def _read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        with refusing_damaged(self._file):
            return super()._read(indices)


def located(run: Path, name: str) -> Path:
    """Where a checkpoint lies that a file names, within the run's directory.

    Args:
        run: the directory.
        name: relative to it, as a store has it.

    Raises:
        SourceError: the name or a link leads out of the directory. Whoever wrote the store must not
            choose which of the reader's files are opened.
    """
    path = run / name
    try:
        inside = path.resolve().is_relative_to(run.resolve())
    except (OSError, ValueError, RuntimeError) as error:  # a zero byte, or a circle of links
        raise SourceError(f"{name!r} is no name of a checkpoint: {error}") from error
    if not inside:
        raise SourceError(f"{name} lies outside of the run's directory {run}, and is not opened")
    return path


def digest(path: Path) -> str:
    """SHA-256 of a file; of a directory, that of its files' names and content."""
    total = sha256()
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    for file in files:
        if file != path:
            total.update(f"{file.relative_to(path).as_posix()}\0{file.stat().st_size}\0".encode())
        with open_regular(file) as content:
            while chunk := content.read(_CHUNK):
                total.update(chunk)
    return total.hexdigest()


def _described(path: Path) -> PluginCheckpoint | None:
    return checkpoint(path) if path.is_file() else None


def _by_content(path: Path) -> Snapshot | None:
    facts = _described(path)
    if facts is None:
        return None
    label = _label(facts.images_shown, facts.resolution, facts.alpha, path)
    return Snapshot(
        path, label, facts.images_shown, facts.resolution, facts.alpha, facts.final_resolution, digest(path)
    )


def _loaded(loader: str, path: Path) -> ImageSource:
    def opened(images: object) -> ImageSource:
        if isinstance(images, (str, os.PathLike)):
            return open_source(images)
        return from_object(images, name=path.name)

    def anew() -> object:
        copied = named_anew(loader)
        return None if copied is None else copied(path)

    return made_twice(lambda: named(loader)(path), f"{loader} failed on {path.name}", opened, anew)


def _no_checkpoint(path: Path) -> str:
    kind = kind_of(path.stat().st_mode)
    reason = "it is empty or damaged at its beginning" if kind is None else f"it is a {kind}"
    return f"{path.name} holds no checkpoint; {reason}"


def _label(images_shown: int | None, resolution: int | None, alpha: float, path: Path) -> str:
    if images_shown == 0:
        return UNTRAINED
    side = "" if resolution is None else f"-{resolution}x{resolution}"
    # Apart from the labels of floors, which begin with "reals".
    moment = f"of-{printable(path.stem)}" if images_shown is None else f"{images_shown:010d}"
    return f"{moment}{side}" + (f"-a{alpha:.2f}" if alpha < 1 else "")


def _in_order(snapshots: list[Snapshot]) -> list[Snapshot]:
    snapshots.sort(key=_moment)
    once: dict[str, Snapshot] = {}
    for each in snapshots:
        other = once.setdefault(each.label, each)
        if other.digest != each.digest:
            raise SourceError(
                f"{other.path} and {each.path} are both of {each.label}; --pattern says which files are "
                "the run's"
            )
    return list(once.values())


def _moment(snapshot: Snapshot) -> tuple[bool, int, int, float, str, str]:
    """Sorts by images shown; checkpoints of which they are unknown come last, by their stages."""
    label, path = snapshot.label, str(snapshot.path)
    if snapshot.images_shown is None:
        return True, 0, snapshot.resolution or 0, snapshot.alpha, label, path
    return False, snapshot.images_shown, 0, 0.0, label, path


def _walk(run: Path) -> Iterator[Path]:
    """Everything below, hidden names and the scores left out."""
    been = set()
    for folder, folders, files in os.walk(run, followlinks=True):
        been.add(os.path.realpath(folder))
        # A link that leads back up would be followed for ever.
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and os.path.realpath(os.path.join(folder, name)) not in been
        )
        for name in sorted([*folders, *files]):
            if not name.startswith(".") and name != FILE_NAME:
                yield Path(folder, name)


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern if "(?P<" in pattern else _from_glob(pattern))
    except re.error as error:
        raise OptionError(f"the pattern {pattern!r} is no regular expression: {error}") from error
    fields = set(compiled.groupindex)
    if unknown := sorted(fields - set(_FIELDS)):
        raise OptionError(f"the pattern {pattern!r} has {', '.join(unknown)}; there are {', '.join(_FIELDS)}")
    if fields and not fields & {"images", "kimg"}:
        raise OptionError(
            f"the pattern {pattern!r} does not say how many images were shown: {{images}} or {{kimg}}"
        )
    return compiled


def _from_glob(pattern: str) -> str:
    """A glob with `{fields}` as a regular expression."""
    parts = []
    for field, any_folders, star, one, literal in _PART.findall(pattern):
        if field:
            parts.append(_NUMBER.format(field))
        elif any_folders:
            parts.append("(?:.*/)?")
        else:
            parts.append("[^/]*" if star else "[^/]" if one else re.escape(literal))
    return "".join(parts)
