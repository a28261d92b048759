"""Each preset beside the tool it reproduces: that tool's own package, the same files, the same weights.

The weights are random, so the scores mean nothing; that they agree does.
"""

import contextlib
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch

from benchmarks import presets as peers
from pgmetrics import MultiScaleSSIM, SlicedWasserstein
from pgmetrics.errors import OptionError
from pgmetrics.evaluation.presets import PRESETS
from pgmetrics.metrics.kid import KernelInceptionDistance
from pgmetrics.metrics.prdc import PRDC
from pgmetrics.sources import ImageSource, open_source

# What the tools' packages say about themselves while they are imported and run is not ours to fix.
pytestmark = pytest.mark.filterwarnings("ignore")

N_REAL, N_FAKE = 16, 17  # unequal, and 17 is not cut evenly into 10 splits
SEED = 5


class Oblong(ImageSource):
    """Procedural images of 411 × 64: they shrink in height and grow in width to 299, or to 224."""

    name = fingerprint = "oblong"

    def __init__(self, seed):
        super().__init__()
        self._square = open_source(f"synthetic:leaves,resolution=512,n=22,seed={seed}")

    def __len__(self):
        return len(self._square)

    @property
    def resolution(self):
        return 411, 64

    def _read(self, indices):
        return self._square.batch(indices)[:, :, 3:414, 100:164]


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
def true_rank():
    """The tools' eigenvalues and matrix roots, taken on the range of the product of covariances.

    Of so few images it has a rank below 64 in 2048 dimensions; the roots of the other eigenvalues, which
    are rounding, add up to 1e-5 of FID in these tools, and scipy's root takes half a minute.
    `benchmarks/presets.py` leaves all of it as it is.
    """
    numpys = np.linalg.eigvals

    def eigenvalues(product):
        # A product of rank r maps any more vectors than r onto its range.
        guesses = np.random.default_rng(0).standard_normal((len(product), 64))
        basis, _ = np.linalg.qr(product @ guesses)
        within = basis.T @ product
        assert np.abs(product - basis @ within).max() < 1e-9 * np.abs(product).max()
        return numpys(within @ basis).real.clip(0)

    with (
        mock.patch("numpy.linalg.eigvals", eigenvalues),
        mock.patch("torch.linalg.eigvals", lambda product: torch.from_numpy(eigenvalues(product.numpy()))),
        # All that is used of the root is its trace.
        mock.patch("scipy.linalg.sqrtm", lambda product, disp: (np.diag(np.sqrt(eigenvalues(product))), 0.0)),
    ):
        yield


@pytest.fixture(scope="module")
def torch_fidelity(sets):
    """Ours and theirs."""
    ours, _ = peers.ours("torch-fidelity", sets, ["fid", "is", "kid"], SEED)
    with true_rank():
        return ours, peers.torch_fidelity(sets)


@pytest.mark.slow
def test_torch_fidelity_fid(torch_fidelity):
    ours, theirs = torch_fidelity
    assert ours["fid"] == pytest.approx(theirs["fid"], rel=1e-5)


@pytest.mark.slow
def test_torch_fidelity_inception_score(torch_fidelity):
    ours, theirs = torch_fidelity
    assert ours["is"] == pytest.approx(theirs["is"], rel=1e-5)
    assert ours["is sd"] == pytest.approx(theirs["is sd"], rel=1e-5)


@pytest.mark.slow
def test_torch_fidelity_kid(torch_fidelity):
    ours, theirs = torch_fidelity
    assert ours["kid"] == pytest.approx(theirs["kid"], rel=1e-5)
    assert ours["kid sd"] == pytest.approx(theirs["kid sd"], rel=1e-5)


@pytest.mark.slow
def test_torch_fidelity_precision_and_recall(tmp_path, vgg16_weights):
    sets = written(tmp_path, 12, 13, {"vgg16": vgg16_weights})
    ours, _ = peers.ours("torch-fidelity", sets, ["prdc"], SEED)
    theirs = peers.torch_fidelity(sets, ["prdc"])
    # They are counts out of 13 and out of 12, as float32.
    assert ours == pytest.approx(theirs, abs=1e-7)
    assert 0 < theirs["recall"] < 1


@pytest.mark.slow
def test_pytorch_fid(sets):
    pytest.importorskip("pytorch_fid")
    ours, _ = peers.ours("pytorch-fid", sets, ["fid"], SEED)
    with true_rank():
        assert ours["fid"] == pytest.approx(peers.pytorch_fid(sets)["fid"], rel=1e-5)


@pytest.mark.slow
def test_clean_fid(sets):
    pytest.importorskip("pytorch_fid")
    pytest.importorskip("cleanfid")
    ours, draws = peers.ours("clean-fid", sets, ["fid", "kid"], SEED)
    with true_rank():
        theirs = peers.clean_fid(sets, draws)
    # Subsets of all reals and of as many fakes.
    assert [len(draws), *map(len, draws[0])] == [100, N_REAL, N_REAL]
    assert ours["fid"] == pytest.approx(theirs["fid"], rel=1e-5)
    assert ours["kid"] == pytest.approx(theirs["kid"], rel=1e-5)


@pytest.mark.slow
def test_torchmetrics(sets):
    pytest.importorskip("torchmetrics")
    ours, draws = peers.ours("torchmetrics", sets, ["fid", "is", "kid"], SEED)
    with true_rank():
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
        (KernelInceptionDistance(network="custom"), "computes kid on inception, not custom"),
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
