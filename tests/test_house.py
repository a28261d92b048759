"""What holds for the project as a whole: its public names, its imports, and what it leaves alone.

Who may import whom is checked by import-linter (`make lint`), not here.
"""

import inspect
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import pgmetrics
from reference_models.progan.model.checkpoint import Checkpoint, save
from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.networks import Generator

ROOT = Path(__file__).parents[1]
# Each costs a tenth of a second to several seconds; `--help` has 0.4 s for everything.
HEAVY = {"torch", "torchvision", "pandas", "scipy", "numpy", "PIL", "safetensors", "matplotlib"}


def loaded_by(code):
    """The heavy packages that a fresh interpreter has loaded after running the code."""
    report = "\nimport sys\nprint('loaded:', *sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return HEAVY & set(done.stdout.rpartition("loaded:")[2].split())


@pytest.mark.parametrize(
    "module",
    [
        "pgmetrics",
        "pgmetrics.cli",
        "pgmetrics.errors",
        "pgmetrics.results",
        "pgmetrics.testing",
        "reference_models.progan.cli",
    ],
)
def test_importing_pulls_in_nothing_heavy(module):
    assert loaded_by(f"import {module}") == set()


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("pgmetrics.cli", ["--help"]),
        ("pgmetrics.cli", ["--version"]),
        ("pgmetrics.cli", ["swd", "--help"]),
        ("pgmetrics.cli", ["ms-ssim", "--help"]),
        ("pgmetrics.cli", ["evaluate", "--help"]),
        ("pgmetrics.cli", ["growth", "--help"]),
        ("pgmetrics.cli", ["compare", "--help"]),
        ("pgmetrics.cli", ["report", "--help"]),
        ("pgmetrics.cli", ["plot", "--help"]),
        ("pgmetrics.cli", ["check", "--help"]),
        ("pgmetrics.cli", ["metrics", "--help"]),
        ("reference_models.progan.cli", ["--help"]),
        ("reference_models.progan.cli", ["train", "--help"]),
        ("reference_models.progan.cli", ["sample", "--help"]),
        ("reference_models.progan.cli", ["inspect", "--help"]),
        ("reference_models.progan.cli", ["data", "--help"]),
        ("reference_models.progan.cli", ["import", "--help"]),
        ("reference_models.progan.cli", ["video", "--help"]),
    ],
)
def test_help_waits_for_nothing_heavy(module, arguments):
    # A choice whose values come from the registry of metrics would load torch for them.
    assert loaded_by(f"from {module} import main\nmain({arguments!r}, standalone_mode=False)") == set()


def test_every_public_name_exists_and_says_what_it_is():
    # A name in the list whose home moved fails only when a user asks for it.
    for name in pgmetrics.__all__:
        assert name == "__version__" or inspect.getdoc(getattr(pgmetrics, name)), name
    with pytest.raises(AttributeError, match="no attribute 'sdw'"):
        pgmetrics.sdw  # noqa: B018


def test_type_checkers_see_the_public_names():
    # The list exists twice, for the interpreter and for type checkers: mypy would call a name that is
    # missing from the second an error in the user's code.
    source = (ROOT / "pgmetrics" / "__init__.py").read_text()
    seen = set(re.findall(r"^    from pgmetrics\S* import \w+ as (\w+)$", source, re.MULTILINE))
    assert seen == set(pgmetrics.__all__) - {"__version__"}


def test_every_public_name_is_documented():
    documents = (ROOT / "README.md").read_text() + (ROOT / "docs" / "architecture.md").read_text()
    undocumented = [name for name in pgmetrics.__all__ if not re.search(rf"\b{name}\b", documents)]
    assert undocumented == ["__version__"]


def test_there_is_one_version():
    # Bumping one of three leaves a release that calls itself by its predecessor's name.
    project = (ROOT / "pyproject.toml").read_text()
    citation = (ROOT / "CITATION.cff").read_text()
    assert f'\nversion = "{pgmetrics.__version__}"\n' in project
    assert f"\nversion: {pgmetrics.__version__}\n" in citation


MIRRORED = {
    ROOT / "pgmetrics": ROOT / "tests",
    ROOT / "reference_models": ROOT / "tests/reference_models",
    ROOT / "benchmarks": ROOT / "tests/benchmarks",
}
"""Packages, and the folders of their tests."""
WITHOUT_TESTS = {
    "pgmetrics/_version.py": "one number, which test_there_is_one_version holds",
    "pgmetrics/runtime/progress.py": "one type, which mypy holds",
}
"""Modules without a test file of their own, and why."""


def without_tests(package, tests):
    """The modules of a package that have no test file at their place among its tests.

    What stands in `__init__` is tested through the names that it gives.
    """
    modules = (path for path in package.rglob("*.py") if path.name not in ("__init__.py", "__main__.py"))
    for module in modules:
        place = module.relative_to(package)
        if not (tests / place.with_name(f"test_{place.name}")).is_file():
            yield module


def test_every_module_has_its_tests_where_a_reader_looks_for_them():
    found = {path for package, tests in MIRRORED.items() for path in without_tests(package, tests)}
    assert {path.relative_to(ROOT).as_posix() for path in found} == WITHOUT_TESTS.keys()


def test_a_module_without_tests_is_seen(tmp_path):
    for path in (
        "p/a/one.py",
        "p/a/two.py",
        "p/a/__init__.py",
        "p/three.py",
        "t/a/test_one.py",
        "t/test_two.py",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    found = without_tests(tmp_path / "p", tmp_path / "t")
    assert {path.name for path in found} == {"two.py", "three.py"}


def surroundings():
    """What belongs to the caller: every global generator's state, and torch's global settings."""
    return (
        random.getstate(),
        [np.asarray(part).tolist() for part in np.random.get_state()],  # noqa: NPY002
        torch.get_rng_state().tolist(),
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.benchmark,
    )


@pytest.fixture
def checkpoint(tmp_path):
    """An untrained ProGAN at 32 x 32."""
    config = ProGANConfig(resolution=32, fmap_base=64, fmap_max=16, latent_size=16)
    facts = Checkpoint(
        config=config, images_shown=0, resolution=32, alpha=1.0, data_fingerprint="none", licence="CC0"
    )
    save(tmp_path / "untrained.safetensors", facts, Generator(config))
    return tmp_path / "untrained.safetensors"


def test_an_evaluation_leaves_the_callers_random_numbers_and_settings_alone(checkpoint):
    # A metric that seeds torch or draws from np.random, and a network that draws its first weights from
    # torch before it loads the saved ones, make the training they watch another one.
    images = np.random.default_rng(7).integers(0, 256, (16, 3, 32, 32), dtype=np.uint8)
    before = surroundings()
    results = pgmetrics.evaluate(images, checkpoint, metrics=["swd", "ms-ssim"], num_images=16, seed=0)
    assert surroundings() == before
    assert {row["metric"] for row in results.rows} == {"swd", "ms-ssim"}
