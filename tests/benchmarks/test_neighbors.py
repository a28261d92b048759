"""The benchmark of nearest neighbors: its plain recipe is the definition, and ours agrees with it."""

import re

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from benchmarks.neighbors import main, plain_prdc


def test_the_plain_recipe_is_the_definition():
    # Reals at 0, 1, 2 and 10 with radii 1, 1, 1 and 8; fakes at 3 and 30 with radii of 27.
    real, fake = (torch.tensor(rows)[:, None] for rows in ([0.0, 1.0, 2.0, 10.0], [3.0, 30.0]))
    # 3 lies within the reals at 2, just so, and 10; every real lies within the fake at 3.
    assert plain_prdc(real, fake, k=1) == (0.5, 1.0, 1.0, 0.5)


@pytest.mark.slow
def test_ours_has_the_recipe_s_values():
    done = CliRunner().invoke(main, ["prdc", "--num-images", "1000", "--turns", "1"])
    assert done.exit_code == 0, done.output
    values = dict(re.findall(r"^\| (pgmetrics|plain recipe) \|.*\| (\S+ \S+ \S+ \S+) \|$", done.stdout, re.M))
    ours, plain = (np.array(values[name].split(), float) for name in ("pgmetrics", "plain recipe"))
    assert ours == pytest.approx(plain, abs=1e-6)
