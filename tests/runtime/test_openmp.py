"""What the OpenMP library itself reports when a command loads torch."""

import os
import re
import subprocess
import sys

import pytest
import torch

# A command of the kind that both programs consist of.
PROGRAM = """
import click
from pgmetrics.cli.commands import Commands

@click.group(cls=Commands)
def main(): ...

@main.command()
def load():
    import torch

main(["load"])
"""


def spins(program, **environment):
    """How often a waiting thread looks before it sleeps, as libgomp prints it while it is loaded."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=inherited | {"OMP_DISPLAY_ENV": "VERBOSE"} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(re.search(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr)[1])


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux" or "OpenMP" not in torch.__config__.parallel_info(), reason="not libgomp"
)
def test_threads_of_a_command_sleep_while_they_wait_unless_the_environment_says_otherwise():
    # Set after torch is imported, or not at all, the count is libgomp's own 300,000.
    assert spins(PROGRAM) == 0
    assert spins(PROGRAM, OMP_WAIT_POLICY="active") > 1_000_000


def test_the_demo_sets_it_before_it_imports_torch(tmp_path):
    # It is no command of the two programs. A directory that is not empty is refused before any work.
    (tmp_path / "kept").touch()
    program = f"""
import os, sys
from benchmarks.stages import main
try:
    main(["--out", {str(tmp_path)!r}], standalone_mode=False)
except Exception as error:
    print(error, os.environ["OMP_WAIT_POLICY"], "torch" in sys.modules)
"""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout.endswith("name another --out passive False\n")
