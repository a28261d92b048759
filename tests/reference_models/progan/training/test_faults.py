"""A run that was killed, interrupted or met a full disk ends with the files of an undisturbed one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
WAYS = "kill,torn,disk,interrupt,twice"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks")


def tried(first, step):
    """How many calls were struck; fails where a run did not become what it would have been."""
    program = Path(__file__).with_name("faults.py")
    done = subprocess.run(
        [sys.executable, str(program), WAYS, str(first), str(step)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    last = re.fullmatch(r"(\d+) tried\n", done.stdout)
    assert last, done.stdout + done.stderr
    return int(last[1])


@pytest.mark.slow
def test_a_spread_of_file_system_calls():
    # The step shares no factor with the calls of a file that is written, so that each kind is met.
    assert tried(3, 19) >= 20


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("PGMETRICS_NIGHTLY"), reason="takes six minutes; PGMETRICS_NIGHTLY=1 runs it"
)
def test_every_file_system_call():
    assert tried(1, 1) >= 400
