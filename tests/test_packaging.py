"""The wheel, as people install it: everything in it, nothing else, and both commands run.

It is built from the source archive, so a file that the archive forgot is missed here too. No network:
the dependencies of the new environment are those of the environment that runs the tests.
"""

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import pgmetrics

ROOT = Path(__file__).parents[1]
SUBCOMMANDS = {
    "pgmetrics": (
        "swd", "ms-ssim", "fid", "is", "kid", "prdc", "fd", "memorisation",
        "evaluate", "growth", "compare", "report", "plot", "stats", "weights", "check",
    ),
    "progan": ("train", "sample", "inspect", "presets", "data", "import", "video"),
}  # fmt: skip

pytestmark = pytest.mark.slow


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """A folder with the source archive and the wheel built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT))
    return folder


@pytest.fixture(scope="module")
def wheel(dist):
    (path,) = dist.glob("pgmetrics-*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """The scripts' folder of a new environment into which the wheel was installed."""
    home = tmp_path_factory.mktemp("environment").resolve()
    venv.create(home, with_pip=True, symlinks=os.name != "nt")
    scripts = home / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / Path(sys.executable).name
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(run(str(python), "-c", ask).stdout.strip())
    # A path in a .pth comes after the environment's own packages, and the .pth files in it are not
    # obeyed: dependencies are found there, this project's editable installation is not.
    (packages / "dependencies.pth").write_text(
        "\n".join(path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")) + "\n"
    )
    run(str(python), "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", str(wheel))
    return scripts


@pytest.fixture
def outside(tmp_path):
    """Where and how a command runs so that it can find the checkout by no route; warnings are errors."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {"cwd": tmp_path, "env": {**env, "PYTHONWARNINGS": "error"}}


def test_the_wheel_holds_every_module_and_nothing_else(wheel):
    # A package that .gitignore names by accident is left out silently; tests at the top of a wheel
    # land in everybody's site-packages.
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    modules = {
        path.relative_to(ROOT).as_posix()
        for package in ("pgmetrics", "reference_models")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert inside == modules
    assert {"pgmetrics/py.typed", "reference_models/py.typed"} <= inside


def test_the_licence_travels_with_the_wheel(wheel):
    version = pgmetrics.__version__
    with zipfile.ZipFile(wheel) as archive:
        inside = archive.read(f"pgmetrics-{version}.dist-info/licenses/LICENSE").decode()
        metadata = archive.read(f"pgmetrics-{version}.dist-info/METADATA").decode()
    assert inside == (ROOT / "LICENSE").read_text()
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Python: >=3.10" in metadata


def test_the_source_archive_can_run_the_tests(dist):
    (archive,) = dist.glob("pgmetrics-*.tar.gz")
    with tarfile.open(archive) as content:
        names = {name.partition("/")[2] for name in content.getnames()}
    assert {"Makefile", "README.md", "LICENSE", "tests/test_packaging.py", "benchmarks/__init__.py"} <= names


def test_the_installed_package_is_the_one_from_the_wheel(environment, outside):
    # Without this the tests below might run the checkout and prove nothing.
    python = environment / Path(sys.executable).name
    for package in ("pgmetrics", "reference_models"):
        where = run(str(python), "-c", f"import {package}; print({package}.__file__)", **outside).stdout
        assert Path(where).is_relative_to(environment.parent)
    # Not `tests`: torch-fidelity installs one of its own.
    absent = "import importlib.util as u; print(u.find_spec('benchmarks'))"
    assert run(str(python), "-c", absent, **outside).stdout == "None\n"


@pytest.mark.parametrize("script", SUBCOMMANDS)
def test_both_scripts_run(environment, outside, script):
    # An entry point whose module or function was renamed shows only once installed.
    text = run(str(environment / script), "--help", **outside).stdout
    for name in SUBCOMMANDS[script]:
        assert f"\n  {name}" in text
        assert f"Usage: {script} {name}" in run(str(environment / script), name, "--help", **outside).stdout


def test_the_version_is_the_packages(environment, outside):
    text = run(str(environment / "pgmetrics"), "--version", **outside).stdout
    assert pgmetrics.__version__ in text.split()[-1]


def test_progan_checkpoints_are_found_through_the_entry_point(environment, outside):
    # pgmetrics never imports reference_models; a wrong name there is noticed by nobody else.
    python = environment / Path(sys.executable).name
    code = (
        "from importlib.metadata import entry_points;"
        "(entry,) = entry_points(group='pgmetrics.sources', name='progan'); print(entry.load())"
    )
    plain = {**outside, "env": {n: v for n, v in outside["env"].items() if n != "PYTHONWARNINGS"}}
    assert "reference_models" in run(str(python), "-c", code, **plain).stdout
