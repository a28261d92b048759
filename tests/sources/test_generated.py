"""Functions and networks as sources of images."""

import random
import warnings

import numpy as np
import pytest
import torch

from pgmetrics import sources
from pgmetrics.errors import SourceError
from pgmetrics.sources.generated import latents
from tests.helpers.global_states import global_states


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
    # Catches G.eval() without a way back: the rest of a training run would be spoiled.
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
        sources.generator(Network(), 6, n=4, value_range=(-2, 1)).fingerprint,
        sources.generator(Network(), 6, n=5).fingerprint,
    ]
    assert len(set(prints)) == 5
    assert sources.generator(Network(), 6, n=4).fingerprint == prints[0]
    assert sources.generator(Network(), 6, n=4, batch_size=3).fingerprint == prints[0]  # the same images


class Truncated(Network):
    """What a generator is besides its weights: an attribute, as StyleGAN's truncation, or a closure."""

    def __init__(self, psi):
        super().__init__()
        self.psi = psi

    def forward(self, z):
        return super().forward(self.psi * z)


class Scaled(torch.nn.Module):
    def __init__(self, make=lambda z: z):
        super().__init__()
        self.make = make

    def forward(self, z):
        return self.make(z).reshape(len(z), 1, 2, 3)


class Cube(torch.nn.Module):
    def forward(self, z):
        return (0.1 * z**3).reshape(len(z), 1, 2, 3)


class Sine(torch.nn.Module):
    def forward(self, z):
        return z.sin().reshape(len(z), 1, 2, 3)


def hooked(factor):
    network = Network()
    network.register_forward_hook(lambda module, given, made: factor * made)
    return network


def scripted(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is on its way out
        return torch.jit.trace(kind(), torch.zeros(4, 6))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: Truncated(1.0), lambda: Truncated(0.2)),
        (lambda: hooked(1.0), lambda: hooked(0.5)),
        (lambda: Scaled(lambda z: 0.1 * z), lambda: Scaled(lambda z: 0.2 * z)),
        (lambda: scripted(Cube), lambda: scripted(Sine)),
        (
            lambda: torch.nn.Sequential(torch.nn.ELU(0.1), Cube()),
            lambda: torch.nn.Sequential(torch.nn.ELU(1), Cube()),
        ),
    ],
    ids=["attribute", "hook", "closure", "TorchScript", "alpha of a layer"],
)
def test_networks_of_equal_weights_that_make_other_images_are_other_sources(one, other):
    # Catches an identity of weights and class names, by which a cache gives one's statistics for the other.
    first, second = (sources.generator(make(), 6, n=8, batch_size=4) for make in (one, other))
    assert first.fingerprint != second.fingerprint
    assert first.identity([1, 5]) != second.identity([1, 5])
    assert sources.generator(one(), 6, n=8, batch_size=4).fingerprint == first.fingerprint


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
        (lambda i: ramp(i)[:1], "returned 1 images for 4 indices"),
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


class Noisy(Network):
    """Adds noise of its own, as StyleGAN's layers do."""

    def __init__(self, draw):
        super().__init__(0.1)
        self.draw = draw

    def forward(self, z):
        return super().forward(z) + 0.02 * self.draw(len(z))


def counted():
    calls = iter(range(100))
    return lambda n: next(calls) * torch.ones(n, 3, 2, 3)


@pytest.mark.parametrize(
    "draw",
    [
        lambda n: torch.randn(n, 3, 2, 3),
        lambda n: torch.from_numpy(np.random.rand(n, 3, 2, 3)).float(),  # noqa: NPY002
        lambda n: random.random() * torch.ones(n, 3, 2, 3),
        lambda n: torch.nn.functional.dropout(torch.ones(n, 3, 2, 3)),  # trains whatever the mode
        counted(),
    ],
    ids=["torch", "numpy", "python", "dropout", "counter"],
)
def test_a_network_with_noise_of_its_own_is_refused(draw):
    # Catches a try-out that puts the generator back in between: SWD was 0.0565, and 0.0547 the next time.
    random.seed(1)  # two draws of one number may be too near to be told apart
    before = global_states()
    with pytest.raises(
        SourceError, match=r"Noisy makes different images from the same latents.*noise_mode='const'"
    ) as e:
        sources.generator(Noisy(draw), 6, n=40)
    assert "\n" not in str(e.value)
    assert global_states() == before


@pytest.mark.parametrize("batch_size", [1, 4])
def test_noise_that_is_fixed_is_taken(batch_size):
    fixed = torch.linspace(-1, 1, 18).reshape(3, 2, 3)
    source = sources.generator(Noisy(lambda n: fixed.expand(n, 3, 2, 3)), 6, n=9, batch_size=batch_size)
    np.testing.assert_array_equal(source.batch([8, 2])[1], source.batch([2])[0])


def test_a_network_whose_images_depend_on_their_neighbors_is_refused():
    # eval() does not help: without running statistics a batch norm takes those of the batch.
    network = torch.nn.Sequential(Network(), torch.nn.BatchNorm2d(3, track_running_stats=False))
    with pytest.raises(
        SourceError, match=r"Sequential makes a different image from .* in another batch"
    ) as e:
        sources.generator(network, 6, n=40)
    assert "\n" not in str(e.value)


def test_parameters_that_are_not_finite_are_refused_even_if_no_image_shows_it():
    network = Network()
    network.unused = torch.nn.Parameter(torch.tensor([1.0, torch.nan]))
    with pytest.raises(SourceError, match=r"Network: its unused holds values that are not finite \(1 of 2"):
        sources.generator(network, 6)


def test_a_late_image_that_is_not_finite_is_named():
    class Late(Network):
        def forward(self, z):
            images = super().forward(z)
            images = images.clone()
            images[(z.reshape(len(z), 6) == wanted).all(1)] = torch.inf
            return images

    wanted = torch.from_numpy(latents(0, [53], (6,)))
    source = sources.generator(Late(), 6, n=60)
    source.batch(range(50))
    with pytest.raises(SourceError, match="Late gave NaN or infinite values, first in image 53;"):
        source.batch(range(50, 60))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_latents_are_of_the_networks_type(dtype):
    network = torch.nn.Sequential(torch.nn.Linear(6, 18), torch.nn.Tanh(), torch.nn.Unflatten(1, (3, 2, 3)))
    wide = sources.generator(network, 6, n=4).batch(range(4)).astype(int)
    assert np.abs(sources.generator(network.to(dtype), 6, n=4).batch(range(4)) - wide).max() <= 2


def test_what_is_no_unconditional_network_is_refused():
    class Conditional(Network):
        def forward(self, z, labels):
            return super().forward(z)

    with pytest.raises(
        SourceError,
        match=r"Conditional fails on latents of torch\.float32 \[32, 6\]: .*'labels'; give .*labels=",
    ):
        sources.generator(Conditional(), 6)


class Linear(Network):
    """Standard normal values times the scale plus a shift: a network without a last tanh."""

    def __init__(self, scale, shift=0.0):
        super().__init__(scale)
        self.shift = shift

    def forward(self, z):
        return super().forward(z) + self.shift


@pytest.mark.parametrize(
    ("scale", "shift", "value_range", "fact"),
    [
        (60.0, 127.5, (-1, 1), r"has values from .* of them outside"),  # 0 to 255 for -1 to 1
        (0.3, -1.0, (0, 1), "has values from .* of them outside"),  # mostly black, of -1 to 1
        (0.002, 127.5, (0, 255.0 / 255), r"from 127\.\d to 127\.\d, 1e\+02 % of them outside"),
    ],
)
def test_output_that_cannot_be_of_the_range_is_refused(scale, shift, value_range, fact):
    with pytest.raises(SourceError, match=f"Linear declares value_range=.*{fact}"):
        sources.generator(Linear(scale, shift), 6, n=64, value_range=value_range)


def test_a_network_that_overshoots_is_saturated_and_the_share_told():
    # Before training, ProGAN's linear output is about N(0, 1): 2 (1 - Phi(1.1)) = 27 % overshoot by 5 % of 2.
    source = sources.generator(Linear(1.0), 6, n=2_000)
    images = source.batch(range(2_000))
    assert (images == 255).mean() > 0.15
    (remark,) = source.take_remarks()
    share = float(remark.split(", ")[-1].split(" %")[0])
    assert abs(share - 27.1) < 4 * 100 * np.sqrt(0.27 * 0.73 / 12_000)
    assert "Linear declares value_range=(-1, 1) and has values from -" in remark
    assert source.take_remarks() == []
    # A trained one overshoots on white and black: 1 % of the range's width is nothing to tell of.
    gentle = sources.generator(Linear(0.005, 1.0), 6, n=200)
    gentle.batch(range(200))
    assert gentle.take_remarks() == []


@pytest.mark.parametrize(
    "make",
    [
        lambda i: np.random.randint(0, 256, (len(i), 3, 2, 2)).astype(np.uint8),  # noqa: NPY002
        lambda i: torch.randint(0, 256, (len(i), 3, 2, 2), dtype=torch.uint8),
        lambda i: np.arange(len(i) * 12).reshape(len(i), 3, 2, 2).astype(np.uint8) + np.uint8(5 * len(i)),
    ],
    ids=["numpy", "torch", "by its place in the batch"],
)
def test_a_function_of_more_than_its_indices_is_refused(make):
    before = global_states()
    with pytest.raises(
        SourceError, match=r"<lambda> returned different images for the same indices: 9 and 0.* seeded by it"
    ):
        sources.function(make, 10)
    assert global_states() == before


def test_a_functions_floats_are_held_to_their_range():
    with pytest.raises(SourceError, match=r"ramp declares value_range=\(0, 1\) and has values from 0 to 255"):
        sources.function(lambda i: ramp(i) * 85.0, 4, value_range=(0, 1), name="ramp")
