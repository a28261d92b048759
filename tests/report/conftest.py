"""A small scored run: checkpoints of networks that were never trained, and numbers by a formula."""

import hashlib
import math
from pathlib import Path

import pytest

from pgmetrics.report import plots
from pgmetrics.report.run_curves import read_growth
from pgmetrics.results import run_scores
from reference_models.progan.model.checkpoint import Checkpoint, save
from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.layers import initialize
from reference_models.progan.model.networks import Generator

CONFIG = ProGANConfig(resolution=32, fmap_base=64, fmap_max=16, latent_size=16)
# Images shown, resolution, alpha: the ends of fades and of stabilizations, and one within a fade.
PLACES = (
    (11008, 4, 1.0),
    (22016, 8, 1.0),
    (33024, 8, 1.0),
    (38016, 16, 0.4537),
    (44032, 16, 1.0),
    (55040, 16, 1.0),
    (66048, 32, 1.0),
    (77056, 32, 1.0),
)
REAL = "synthetic:leaves,resolution=32,n=96,seed=0"
SETTINGS = {
    "metrics": {"swd": {"patches_per_image": 128, "directions": 128, "repeats": 4}, "ms-ssim": {}},
    "num_images": 2048,
    "seed": 0,
    "protocols": ["at-final", "at-stage"],
    "real_spec": REAL,
}


def row(label, subject, metric, level, value, stderr, kind, protocol):
    two_sided = metric not in ("ms-ssim", "is")
    return {
        "run": label,
        "subject": subject,
        "metric": metric,
        "level": level,
        "value": value,
        "stderr": stderr,
        "stderr_kind": kind,
        "n_real": 2048 if two_sided or subject == "real" else None,
        "n_fake": None if subject == "real" else 2048,
        "seed": 0,
        "protocol": protocol,
    }


def scores(label, subject, distance, alike, resolution, protocol):
    """SWD at the levels that a resolution has and on average, and MS-SSIM."""
    if resolution < 16:
        return []
    levels = {32: 1.3 * distance, 16: 0.7 * distance} if resolution == 32 else {16: 0.9 * distance}
    rows = [row(label, subject, "swd", k, v, v / 40, "directions", protocol) for k, v in levels.items()]
    mean = sum(levels.values()) / len(levels)
    rows.append(row(label, subject, "swd", None, mean, mean / 50, "directions", protocol))
    rows.append(row(label, subject, "ms-ssim", None, alike, 0.004, "pairs", protocol))
    return rows


def network_scores(label, subject, distance, protocol):
    """FID, KID and IS, of which KID has values below 0 and IS a deviation for an error."""
    named = f"{protocol}, inception-2015-12-05 fast float32"
    rows = [
        row(label, subject, "fid", None, 9000 * distance**1.2, 12 * distance, "images (jackknife)", named),
        row(label, subject, "kid", None, 2 * distance**1.5 - 0.002, 0.001, "images", named),
    ]
    if subject == "fake":
        rows.append(row(label, subject, "is", None, 1.2 + 0.2 / distance**0.7, 0.11, "splits (sd)", named))
    return rows


def write_run(folder, settings=SETTINGS, networks=False, series="series-1"):
    """A run's directory with checkpoints and a store."""
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    places = [(0, 32, 1.0, "untrained"), *((*place, "checkpoint") for place in PLACES)]
    with run_scores.Journal(folder) as store:
        store.append(run_scores.Entry(series, {"kind": "settings"}, settings=settings))
        for resolution in (16, 32):
            label = f"reals-{resolution}x{resolution}"
            item = {"kind": "floor", "label": label, "resolution": resolution, "final_resolution": 32}
            rows = scores(label, "real", 0.0085, 0.069, resolution, "at-stage")
            if resolution == 32:
                rows += scores(label, "real", 0.0085, 0.069, 32, "at-final")
                rows += network_scores(label, "real", 0.0085, "at-final") if networks else []
            store.append(run_scores.Entry(series, item, rows, {"device": "cpu", "notes": ["few pairs"]}))
        for number, place in enumerate(places):
            store.append(entry_of(folder, number, *place, networks, series))
    return folder


def entry_of(folder, number, shown, resolution, alpha, kind, networks, series):
    fade = f"-a{alpha:.2f}" if alpha < 1 else ""
    label = "untrained" if kind == "untrained" else f"{shown:010d}-{resolution}x{resolution}{fade}"
    file = "untrained.safetensors" if kind == "untrained" else f"checkpoints/{label}.safetensors"
    write_checkpoint(folder / file, number, shown, resolution, alpha)
    distance = 0.18 if kind == "untrained" else 0.03 + 0.09 * math.exp(-shown / 20_000)
    alike = 0.075 if kind == "untrained" else 0.09 + 0.2 * math.exp(-shown / 15_000)
    rows = scores(label, "fake", distance, alike, 32, "at-final")
    rows += network_scores(label, "fake", distance, "at-final") if networks else []
    rows += scores(label, "fake", 0.9 * distance, alike, resolution, "at-stage")
    item = {
        "kind": kind,
        "label": label,
        "file": file,
        "digest": hashlib.sha256((folder / file).read_bytes()).hexdigest(),
        "images_shown": shown,
        "resolution": resolution,
        "alpha": alpha,
        "final_resolution": 32,
    }
    about = {"device": "cpu", "versions": {"pgmetrics": "0.1.0", "torch": "2.9"}, "notes": ["few pairs"]}
    return run_scores.Entry(series, item, rows, about)


def write_checkpoint(path, number, shown, resolution, alpha):
    generator = Generator(CONFIG)
    initialize(generator, "generator", number)
    facts = Checkpoint(
        config=CONFIG, images_shown=shown, resolution=resolution, alpha=alpha,
        data_fingerprint="none", licence="CC0",
    )  # fmt: skip
    save(Path(path), facts, generator)


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A scored run through 4, 8, 16 and 32 pixels under both protocols."""
    return write_run(tmp_path_factory.mktemp("runs") / "leaves <32> & co")


@pytest.fixture(scope="session")
def network_run(tmp_path_factory):
    """The same with metrics of features."""
    return write_run(tmp_path_factory.mktemp("runs") / "features", networks=True)


@pytest.fixture(scope="module")
def growth(network_run):
    return read_growth(network_run)


def drawn(growth, name):
    return next(plot for plot in plots.plots(growth) if plot.name == name)
