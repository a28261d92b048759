"""The benchmark of training: the plain step trains the same network, and both tables are printed."""

import re
from contextlib import closing

import pytest
import torch
from click.testing import CliRunner

from benchmarks.progan import contestants, main
from reference_models.progan.data.training_images import TrainingImages
from reference_models.progan.training.speed import noise_images, stage_at
from tests.helpers.configs import TO_8


def test_the_plain_step_is_the_same_mathematics():
    # A contestant that does something else would be compared for nothing.
    with closing(TrainingImages(noise_images(TO_8), TO_8, workers=0)) as images:
        made = contestants(TO_8, images, compiled=False)
        for name in ("plain", "as it is"):
            made[name].run(stage_at(TO_8, 4))
    plain, fast = (made[name].average.state_dict() for name in ("plain", "as it is"))
    start = contestants(TO_8, images, compiled=False)["plain"].average.state_dict()
    for name, tensor in plain.items():
        assert torch.allclose(tensor, fast[name], rtol=1e-4, atol=1e-6), name
    assert not torch.equal(plain["block4.conv.weight"], start["block4.conv.weight"])


@pytest.mark.slow
def test_steps_have_a_row_for_each_way():
    done = CliRunner().invoke(main, ["steps", "--preset", "tiny-32", "--resolution", "4", "--turns", "1"])
    assert done.exit_code == 0, done.output
    assert re.findall(r"^\| 4 \| (.+?) \|", done.stdout, re.M) == ["plain", "as it is", "bfloat16"]


def test_the_loader_has_a_row_for_each_way():
    small = ["--resolution", "8", "--num-images", "16", "--minibatch", "4", "--turns", "1"]
    done = CliRunner().invoke(main, ["loader", *small])
    assert done.exit_code == 0, done.output
    assert re.findall(r"^\| (read.*?) \|", done.stdout, re.M) == [
        "read",
        "read ahead and made ready on the CPU",
    ]
