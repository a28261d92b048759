"""The benchmark of Inception: its pictures, its original of the resizer, and the table of forms."""

import re

import numpy as np
import torch
from click.testing import CliRunner
from PIL import Image

from benchmarks import inception
from benchmarks.inception import main, pictures, pillow_bicubic


class Toy:
    """What the benchmark asks of an extractor, and the forwards that were made."""

    length = 2
    _dtype = torch.float32

    def __init__(self, form, precision):
        self.protocol = {"form": form, "precision": precision}
        self.seen = []

    def to(self, device):
        return self

    def _run(self, images):
        self.seen.append(images.shape)
        return images.mean((1, 2, 3))


def test_each_form_has_a_row_and_runs_as_many_images(monkeypatch):
    made = []
    monkeypatch.setattr(inception, "network", lambda _, **settings: made.append(Toy(**settings)) or made[-1])
    done = CliRunner().invoke(main, ["forward", "--num-images", "4", "--turns", "1"])
    assert done.exit_code == 0, done.output
    assert re.findall(r"^\| (\w+, \w+) \|", done.stdout, re.M) == [
        "plain, float32",
        "fast, float32",
        "fast, bfloat16",
    ]
    # One to begin with; two for four images in the warm-up and in the turn.
    assert [toy.seen for toy in made] == [[(2, 3, 299, 299)] * 5] * 3


def test_pillow_s_resizer_takes_each_channel_by_itself():
    images = torch.from_numpy(pictures(None, 2, 16))
    assert images.shape == (2, 3, 16, 16)
    resized = pillow_bicubic(images, 24)
    plane = Image.fromarray(images[0, 1].numpy().astype(np.float32)).resize(
        (24, 24), Image.Resampling.BICUBIC
    )
    assert np.array_equal(resized[0, 1].numpy(), np.asarray(plane).clip(0, 255))
