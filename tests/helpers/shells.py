"""The command in a shell, whose streams may be closed, full or read by nobody."""

import os
import re
import subprocess
import sys
from pathlib import Path

IMAGES = "synthetic:leaves,resolution=32,n=16"


SCORE = f"ms-ssim --fake {IMAGES} --workers 0 --device cpu"


def shell(command, tmp_path, **environment):
    """What a shell says of `pgmetrics …` with redirections behind it."""
    program = f"{sys.executable} -m pgmetrics {command}"
    return subprocess.run(
        ["bash", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        env={**os.environ, "TMPDIR": str(tmp_path), **environment},
    )


def rescued(stderr):
    """The file that the last line names."""
    return Path(re.search(r"the results are in (.*)$", stderr.strip().splitlines()[-1])[1])
