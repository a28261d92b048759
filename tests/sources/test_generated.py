"""Functions and networks as sources of images."""

import numpy as np
import pytest
import torch

from pgmetrics import sources
from pgmetrics.errors import SourceError
from pgmetrics.sources.generated import latents


class Network(torch.nn.Module):
    """Shows its latents: pixel values are a function of them that is easily undone."""

    def __init__(self, scale=0.2):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(scale))
        self.shapes = []
        self.modes = []

    def forward(self, z):
        self.shapes.append(tuple(z.shape))
        self.modes.append((self.training, torch.is_grad_enabled()))
        return (self.scale * z.reshape(len(z), 1, 2, 3)).expand(-1, 3, -1, -1)


def test_latents_depend_on_seed_and_index_alone():
    every = latents(0, range(6), (4,))
    np.testing.assert_array_equal(latents(0, [4, 1], (4,)), every[[4, 1]])
    assert len({row.tobytes() for row in np.concatenate([every, latents(1, range(6), (4,))])}) == 12
    many = latents(0, range(2_000), (4,))
    assert abs(many.mean()) < 4 / np.sqrt(many.size)  # normal: four standard errors
    assert abs(many.var() - 1) < 4 * np.sqrt(2 / many.size)


@pytest.mark.parametrize("latent_dim", [6, (6, 1, 1)])
def test_images_are_the_rounded_output(latent_dim):
    network = Network()
    source = sources.generator(network, latent_dim, n=10, seed=3, batch_size=4)
    z = latents(3, [7, 2], (6,)).reshape(2, 1, 2, 3).repeat(3, 1)
    expected = np.clip(np.rint(np.float32(0.2) * z * 127.5 + 127.5), 0, 255)
    np.testing.assert_array_equal(source.batch([7, 2]), expected)
    wanted = (latent_dim,) if isinstance(latent_dim, int) else latent_dim
    assert set(network.shapes) == {(4, *wanted)}  # one shape, however many were asked for


def test_a_network_in_training_is_left_as_it_was():
    # Catches G.eval() without a way back: the rest of a training run would be spoilt.
    network = torch.nn.Sequential(Network(), torch.nn.BatchNorm2d(3))
    network[1].eval()
    source = sources.generator(network, 6, n=4)
    source.batch([0, 1])
    assert network.training
    assert network[0].training
    assert not network[1].training
    assert set(network[0].modes) == {(False, False)}
    assert network[1].num_batches_tracked == 0


def test_fingerprint_follows_weights_and_latents():
    prints = [
        sources.generator(Network(), 6, n=4).fingerprint,
        sources.generator(Network(0.3), 6, n=4).fingerprint,
        sources.generator(Network(), 6, n=4, seed=1).fingerprint,
        sources.generator(Network(), 6, n=4, value_range=(0, 1)).fingerprint,
        sources.generator(Network(), 6, n=5).fingerprint,
    ]
    assert len(set(prints)) == 5
    assert sources.generator(Network(), 6, n=4).fingerprint == prints[0]


def test_a_diverged_network_is_named():
    with pytest.raises(SourceError, match="Network gave NaN"):
        sources.generator(Network(float("nan")), 6)


def test_what_is_no_image_is_refused():
    with pytest.raises(SourceError, match=r"Identity gave images of dtype float32 and shape \[1, 5\]"):
        sources.generator(torch.nn.Identity(), 5)
    with pytest.raises(SourceError, match="32 latents and returned"):
        sources.generator(torch.nn.Flatten(0), 5)


def ramp(indices):
    return np.stack([np.full((3, 2, 2), index, np.uint8) for index in indices])


def test_a_function_is_asked_for_plain_indices():
    asked = []

    def make(indices):
        asked.extend(indices)
        return torch.from_numpy(ramp(indices))

    source = sources.function(make, 10)
    source.batch(np.array([3, 9]))
    assert {type(index) for index in asked} == {int}
    assert max(asked) == 9  # nothing past the end is tried out


def test_a_function_may_give_floats_and_grey():
    source = sources.function(lambda i: ramp(i)[:, :1] / 255.0, 4, value_range=(0, 1))
    np.testing.assert_array_equal(source.batch([3]), ramp([3]))


@pytest.mark.parametrize(
    ("make", "fact"),
    [
        (lambda i: ramp(i)[:1], "asked for 4 images and returned 1"),
        (lambda i: list(i), "returned list"),
        (lambda i: ramp(i) / 255.0, "value_range"),
        (lambda i: ramp(i).transpose(0, 2, 3, 1), r"shape \[4, 2, 2, 3\]"),
    ],
)
def test_what_a_function_must_not_return(make, fact):
    with pytest.raises(SourceError, match=fact):
        sources.function(make, 10)


def test_a_function_that_changes_its_size_is_named():
    def make(indices):
        return ramp(indices)[..., : 1 if indices == [1] else 2]

    with pytest.raises(SourceError, match=r"images of \[2, 1\] after ones of \[2, 2\]"):
        sources.function(make, 10).batch([1])
