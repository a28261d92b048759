"""Each preset beside the tool it reproduces: that tool's own package, the same files, the same weights.

The weights are random, so the scores mean nothing; that they agree does. Fewer images than dimensions
make the covariances singular, which is the worst case for how a tool takes the root of their product:
of the differences allowed in FID most are the tools' own, up to 5e-6 by torchmetrics' eigenvalues.
"""

import contextlib
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest

from benchmarks import presets as peers
from pgmetrics import MultiScaleSSIM, SlicedWasserstein
from pgmetrics.errors import OptionError
from pgmetrics.metrics.kid import KernelInceptionDistance
from pgmetrics.metrics.prdc import PRDC
from pgmetrics.presets import PRESETS
from pgmetrics.sources import ImageSource, open_source

# What the tools' packages say about themselves while they are imported and run is not ours to fix.
pytestmark = pytest.mark.filterwarnings("ignore")

N_REAL, N_FAKE = 18, 22  # unequal, and 22 is not cut evenly into 10 splits
SEED = 5


class Oblong(ImageSource):
    """Procedural images of 57 × 64: an odd height that is not the width."""

    name = fingerprint = "oblong"

    def __init__(self, seed):
        super().__init__()
        self._square = open_source(f"synthetic:leaves,resolution=64,n=32,seed={seed}")

    def __len__(self):
        return len(self._square)

    @property
    def resolution(self):
        return 57, 64

    def _read(self, indices):
        return self._square.batch(indices)[:, :, 3:60]


def written(place, n_real, n_fake, weights):
    return peers.Sets(
        peers.write_folder(place / "real", Oblong(0), range(n_real)),
        peers.write_folder(place / "fake", Oblong(1), range(n_fake), blur=True),
        weights,
        subsets=8,
        subset_size=15,
    )


@pytest.fixture(scope="module")
def sets(tmp_path_factory, inception_weights):
    return written(tmp_path_factory.mktemp("sets"), N_REAL, N_FAKE, {"inception": inception_weights})


@contextlib.contextmanager
def quick_root():
    """scipy's matrix root, known by its trace: for the products of low rank that few images give.

    The root of a singular 2048 × 2048 product takes half a minute, and its trace is all that is used.
    `benchmarks/presets.py` runs scipy's.
    """

    def root(product, disp=True):
        # A product of rank r maps any more vectors than r onto its range; its eigenvalues are those there.
        guesses = np.random.default_rng(0).standard_normal((len(product), 64))
        basis, _ = np.linalg.qr(product @ guesses)
        within = basis.T @ product
        assert np.abs(product - basis @ within).max() < 1e-9 * np.abs(product).max()
        eigenvalues = np.linalg.eigvals(within @ basis).real.clip(0)
        return np.diag(np.sqrt(eigenvalues)), 0.0

    with mock.patch("scipy.linalg.sqrtm", root):
        yield


@pytest.fixture(scope="module")
def torch_fidelity(sets):
    """Ours and theirs."""
    return peers.ours("torch-fidelity", sets, ["fid", "is", "kid"], SEED)[0], peers.torch_fidelity(sets)


def test_torch_fidelity_fid(torch_fidelity):
    ours, theirs = torch_fidelity
    assert ours["fid"] == pytest.approx(theirs["fid"], rel=1e-5)


def test_torch_fidelity_inception_score(torch_fidelity):
    ours, theirs = torch_fidelity
    assert ours["is"] == pytest.approx(theirs["is"], rel=1e-5)
    assert ours["is sd"] == pytest.approx(theirs["is sd"], rel=1e-5)


def test_torch_fidelity_kid(torch_fidelity):
    ours, theirs = torch_fidelity
    assert ours["kid"] == pytest.approx(theirs["kid"], rel=1e-5)
    assert ours["kid sd"] == pytest.approx(theirs["kid sd"], rel=1e-5)


def test_torch_fidelity_precision_and_recall(tmp_path, vgg16_weights):
    sets = written(tmp_path, 16, 18, {"vgg16": vgg16_weights})
    ours, _ = peers.ours("torch-fidelity", sets, ["prdc"], SEED)
    theirs = peers.torch_fidelity(sets, ["prdc"])
    # They are counts out of 18 and out of 16, as float32.
    assert ours == pytest.approx(theirs, abs=1e-7)
    assert 0 < theirs["recall"] < theirs["precision"] < 1


def test_pytorch_fid(sets):
    pytest.importorskip("pytorch_fid")
    ours, _ = peers.ours("pytorch-fid", sets, ["fid"], SEED)
    with quick_root():
        assert ours["fid"] == pytest.approx(peers.pytorch_fid(sets)["fid"], rel=1e-5)


def test_clean_fid(sets):
    pytest.importorskip("pytorch_fid")
    pytest.importorskip("cleanfid")
    ours, draws = peers.ours("clean-fid", sets, ["fid", "kid"], SEED)
    with quick_root():
        theirs = peers.clean_fid(sets, draws)
    # Subsets of all reals and of as many fakes.
    assert [len(draws), *map(len, draws[0])] == [100, N_REAL, N_REAL]
    assert ours["fid"] == pytest.approx(theirs["fid"], rel=1e-5)
    assert ours["kid"] == pytest.approx(theirs["kid"], rel=1e-5)


def test_torchmetrics(sets):
    pytest.importorskip("torchmetrics")
    ours, draws = peers.ours("torchmetrics", sets, ["fid", "is", "kid"], SEED)
    theirs = peers.torchmetrics(sets, draws, peers.order_for_is(N_FAKE, SEED))
    assert ours["fid"] == pytest.approx(theirs["fid"], rel=1e-5)
    assert ours["is"] == pytest.approx(theirs["is"], rel=1e-5)
    assert ours["is sd"] == pytest.approx(theirs["is sd"], rel=1e-5)
    assert ours["kid"] == pytest.approx(theirs["kid"], rel=1e-5)
    assert ours["kid sd"] == pytest.approx(theirs["kid sd"], rel=1e-5)


@pytest.mark.parametrize(
    ("preset", "names"),
    [
        ("torch-fidelity", ["fid", "is", "kid", "prdc"]),
        ("pytorch-fid", ["fid"]),
        ("clean-fid", ["fid", "kid"]),
        ("torchmetrics", ["fid", "is", "kid"]),
    ],
)
def test_a_preset_has_the_metrics_of_its_tool(preset, names):
    assert [PRESETS[preset].metric(name).name for name in names] == names
    assert list(PRESETS[preset].metrics) == names
    for other in {"swd", "ms-ssim", "fid", "is", "kid", "prdc", "fid-infinity", "memorisation"} - set(names):
        with pytest.raises(OptionError, match=rf"^{preset} computes {', '.join(names)} only, not {other};"):
            PRESETS[preset].metric(other)


def test_a_preset_takes_parameters_of_ones_own():
    # Fewer than 1,000 images: torch-fidelity has --kid-subset-size.
    smaller = replace(PRESETS["torch-fidelity"].metrics["kid"], subset_size=100)
    assert PRESETS["torch-fidelity"].metric(smaller) is smaller


@pytest.mark.parametrize(
    ("metric", "fact"),
    [
        (PRDC(), "torch-fidelity computes prdc on vgg16, not inception"),
        (KernelInceptionDistance(network="own"), "computes kid on inception, not own"),
        (SlicedWasserstein(), "computes fid, is, kid, prdc only, not swd"),
        (MultiScaleSSIM(), "only, not ms-ssim"),
    ],
)
def test_a_preset_refuses_what_its_tool_does_not_do(metric, fact):
    with pytest.raises(OptionError, match=fact):
        PRESETS["torch-fidelity"].metric(metric)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_scores_every_image_there_is(preset):
    for metric in PRESETS[preset].metrics.values():
        assert metric.usable(70_000, "fake") == metric.usable(70_000, "real") == 70_000
