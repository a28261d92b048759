"""Find the checkpoints of a training run, order them, and open them as images."""

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
    """A checkpoint of a run and its position in training.

    Attributes:
        path: the checkpoint file, or a directory of samples.
        label: name in results, such as `0000105024-32x32`, with `-a0.25` during a fade, or `untrained`. If
            the number of images shown is unknown, the label contains the file's name instead.
        images_shown: number of real images shown in training so far; None if unknown.
        resolution: side of its images in pixels; None for the final resolution, if the pattern has none.
        alpha: fade-in weight of this resolution, from 0 to 1.
        final_resolution: the resolution that the run grows to; None if only the real images determine it.
        digest: SHA-256 of the content.
    """

    path: Path
    label: str
    images_shown: int | None
    resolution: int | None
    alpha: float
    final_resolution: int | None
    digest: str


Skipped = tuple[Path, str]
"""The path of a checkpoint that could not be read, and the reason."""


class Finder:
    """Finds a run's checkpoints, repeatedly while training adds more; each file is read only once.

    Without a pattern, the checkpoints are the files that a plug-in recognizes (see `sources.plugins`).
    With a pattern, they are the paths, relative to the run, that match it. A pattern is a glob in which
    `{images}`, `{kimg}`, `{resolution}` and `{alpha}` stand for numbers, or a regular expression with groups
    of these names. A glob without such fields only selects among the files that a plug-in recognizes.

    Args:
        run: the run's directory.
        pattern: the pattern of the checkpoints' names.
        final_resolution: the resolution that the run grows to; it overrides what the checkpoints say.

    Attributes:
        patient: with a pattern that has fields, skip a file until a second search finds it unchanged. Some
            trainers write checkpoints in place, and a loader may accept a file that is half written.

    Raises:
        OptionError: the pattern is not valid, has an unknown field, or has fields but none counts images.
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
        """Return the checkpoints by images shown, the untrained one first, and those that cannot be read.

        Raises:
            SourceError: there is no such directory, or two different checkpoints have the same label.
        """
        if not os.path.isdir(self._run):
            raise SourceError(f"{self._run} is not the directory of a training run")
        found = [(path, self._look(path)) for path in self._candidates()]
        snapshots = [each for _, each in found if isinstance(each, Snapshot)]
        if self._final is not None:
            snapshots = [replace(each, final_resolution=self._final) for each in snapshots]
        skipped = [each for _, each in found if isinstance(each, tuple)]
        # Plug-ins recognize files by their content. A file that lost it counts as a damaged checkpoint if
        # its directory has checkpoints with the same suffix.
        company = {(each.path.parent, each.path.suffix) for each in snapshots}
        if not self._by_groups:
            skipped += [
                (path, _no_checkpoint(path))
                for path, each in found
                if each is None and (path.parent, path.suffix) in company
            ]
        return _in_order(snapshots), sorted(skipped)

    def advice(self) -> str | None:
        """Say how to make a checkpoint of a file in the directory; None if no plug-in knows a way."""
        files = (path for path in _walk(self._run) if path.is_file())
        return next((text for path in files if (text := advice(path))), None)

    def _candidates(self) -> Iterator[Path]:
        for path in _walk(self._run):
            if self._pattern is None:
                # A directory that is named like a checkpoint, with a suffix, is reported as a directory.
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
    """Return the checkpoints of a run by images shown, and those that cannot be read; see `Finder`.

    Raises:
        SourceError, OptionError: as `Finder` and `Finder.find`.
    """
    return Finder(Path(run), pattern).find()


def open_snapshot(
    snapshot: Snapshot, protocol: str, seed: int = 0, loader: str | None = None, final: int | None = None
) -> ImageSource:
    """Open a checkpoint as images under a protocol.

    Args:
        snapshot: a checkpoint from `find_snapshots`.
        protocol: `at-stage` for its own resolution; `at-final` repeats its pixels up to the final resolution.
        seed: seed of the latents if a plug-in generates the images.
        loader: `module:name` of a function for checkpoints that no plug-in recognizes. It takes the path and
            returns images in any form that `open_source` takes.
        final: the final resolution, if the checkpoint does not give it.

    Raises:
        SourceError: it cannot be opened, or its images do not have the resolution of its stage.
    """
    with refusing_damaged(snapshot.path.name):
        return _Foreign(_opened(snapshot, protocol, seed, loader, final), snapshot.path.name)


def _opened(
    snapshot: Snapshot, protocol: str, seed: int, loader: str | None, final: int | None
) -> ImageSource:
    at = "final" if protocol == AT_FINAL else "stage"
    facts = None if loader else _described(snapshot.path)
    if facts is not None:
        # A network of another project may not know the final resolution of its run.
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
    """Images that are generated on demand; an error that the file's content causes then is a refusal, too."""

    def __init__(self, source: ImageSource, file: str) -> None:
        super().__init__(source, "")
        self._file = file
        # These call code of the source's author. Here, the caller turns its errors into refusals.
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
    """Return the path of a checkpoint that a scores file names; it must lie within the run's directory.

    Args:
        run: the run's directory.
        name: the checkpoint's path relative to the directory, as in the scores file.

    Raises:
        SourceError: the name or a link leads out of the directory. The author of a scores file must not
            choose which of the reader's files are opened.
    """
    path = run / name
    try:
        inside = path.resolve().is_relative_to(run.resolve())
    except (OSError, ValueError, RuntimeError) as error:  # a null character, or a loop of links
        raise SourceError(f"{name!r} is no name of a checkpoint: {error}") from error
    if not inside:
        raise SourceError(f"{name} lies outside of the run's directory {run}, and is not opened")
    return path


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names, sizes and contents of a directory's files."""
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
    # The prefix distinguishes the label from those of floors, which begin with "reals".
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
    """Sort key: by images shown; checkpoints for which this is unknown come last, by their stages."""
    label, path = snapshot.label, str(snapshot.path)
    if snapshot.images_shown is None:
        return True, 0, snapshot.resolution or 0, snapshot.alpha, label, path
    return False, snapshot.images_shown, 0, 0.0, label, path


def _walk(run: Path) -> Iterator[Path]:
    """Yield everything below the directory except hidden names and the scores file."""
    been = set()
    for folder, folders, files in os.walk(run, followlinks=True):
        been.add(os.path.realpath(folder))
        # A link that leads back up would be followed forever.
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
    """Translate a glob with `{fields}` into a regular expression."""
    parts = []
    for field, any_folders, star, one, literal in _PART.findall(pattern):
        if field:
            parts.append(_NUMBER.format(field))
        elif any_folders:
            parts.append("(?:.*/)?")
        else:
            parts.append("[^/]*" if star else "[^/]" if one else re.escape(literal))
    return "".join(parts)
