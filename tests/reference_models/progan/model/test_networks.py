"""The networks against numbers made by running the original ones, and against their own limits.

Golden numbers: the original TF1 networks.py (commit 2504c3f), in float64 for GOLDEN and in
float32 for VECTORS, on weights made by the formulas below.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.layers import BatchNorm, LayerNorm, initialize
from reference_models.progan.model.networks import Discriminator, Generator, measure_batch_norm
from tests.helpers.draws import normal_tensor

SMALL = ProGANConfig(resolution=32, fmap_base=128, fmap_max=32, latent_size=32, minibatch={4: 8})

# lod, mean G, rms G, mean D(G(z)), std D(G(z)); last: mean of plain D with group 8 on the fused G.
GOLDEN = [
    (3.0, -0.7756156822, 1.2313644833, -1.6965284329, 0.4487076842, -1.6991964075),
    (2.5, -0.1682540067, 0.6412839244, -0.3826550975, 0.1498045578, -0.3573343487),
    (2.0, 0.4391076688, 0.9134836773, -0.2045955634, 0.0756477685, -0.4702594722),
    (1.25, -0.0274010565, 0.6316507698, -0.3068843817, 0.0740686506, -0.2480854506),
    (1.0, -0.1829039649, 0.8468005374, -0.4035994560, 0.1741014108, -0.3048775534),
    (0.75, -0.0775431045, 0.6455563846, -0.3499673302, 0.1203558105, -0.2668507823),
    (0.0, 0.2385394768, 0.8302394790, -0.3941639797, 0.1403593504, -0.0853556588),
]


def by_name(name: str, shape: tuple[int, ...]) -> Tensor:
    """Numbers that look normal, by a formula of a variable's name."""
    start = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) % 1000
    i = np.arange(int(np.prod(shape)), dtype=np.float64) + start
    u = 43758.5453 * np.sin(12.9898 * i)
    u2 = 12543.123 * np.sin(78.233 * i + 1)
    u, u2 = u - np.floor(u), u2 - np.floor(u2)
    value = np.sqrt(-2 * np.log(np.maximum(u, 1e-12))) * np.cos(2 * np.pi * u2)
    return torch.from_numpy(value.reshape(shape)) * (0.1 if name.endswith("bias") else 1)


def original_names(network: torch.nn.Module, config: ProGANConfig) -> dict[str, tuple[str, str]]:
    """Our parameter's name to the original's and to how its axes lie, in the original's order."""
    r_max = config.resolution.bit_length() - 1
    rgb = {}
    for r in config.resolutions:
        lod = r_max - (r.bit_length() - 1)
        rgb[r] = [(f"from_rgb{r}", f"FromRGB_lod{lod}"), (f"to_rgb{r}", f"ToRGB_lod{lod}")]
    names: list[tuple[str, str]] = []
    if isinstance(network, Generator):
        for r in config.resolutions:
            up = "Conv0_up" if config.fused_scale else "Conv0"
            ours = ("dense", "conv") if r == 4 else ("conv0", "conv1")
            theirs = ("Dense", "Conv") if r == 4 else (up, "Conv1")
            names += [(f"block{r}.{a}", f"{r}x{r}/{b}") for a, b in zip(ours, theirs, strict=True)]
            names.append(rgb[r][1])
    else:
        for r in reversed(config.resolutions):
            names.append(rgb[r][0])
            down = "Conv1_down" if config.fused_scale else "Conv1"
            ours = ("conv", "dense0", "dense1") if r == 4 else ("conv0", "conv1")
            theirs = ("Conv", "Dense0", "Dense1") if r == 4 else ("Conv0", down)
            names += [(f"block{r}.{a}", f"{r}x{r}/{b}") for a, b in zip(ours, theirs, strict=True)]
    out = {}
    for a, b in names:
        axes = "io" if "Dense" in b else ("up" if b.endswith("Conv0_up") else "conv")
        out[f"{a}.weight"] = (f"{b}/weight", axes)
        out[f"{a}.bias"] = (f"{b}/bias", "bias")
    return out


def stored_shape(parameter: Tensor, axes: str) -> tuple[int, ...]:
    s = tuple(parameter.shape)
    return {
        "bias": s,
        "io": s[::-1],
        "conv": (*s[2:], s[1], s[0]) if len(s) == 4 else s,
        "up": (*s[2:], *s[:2]) if len(s) == 4 else s,
    }[axes]


def to_ours(stored: Tensor, axes: str) -> Tensor:
    if axes == "bias":
        return stored
    if axes == "io":
        return stored.T
    if axes == "conv":
        return stored.permute(3, 2, 0, 1)
    return stored.permute(2, 3, 0, 1).flip(2, 3)


@torch.no_grad()
def fill_by_name(network):
    parameters = dict(network.named_parameters())
    for ours, (theirs, axes) in original_names(network, network.config).items():
        p = parameters.pop(ours)
        p.copy_(to_ours(by_name(theirs, stored_shape(p, axes)), axes))
    assert not parameters
    return network


def build(kind, config):
    return kind(config).to(torch.float64)


def at(lod: float, config: ProGANConfig) -> tuple[int, float]:
    return config.resolution >> int(lod), 1 - (lod - int(lod))


def test_the_formula_is_the_one_the_golden_numbers_used():
    z = by_name("z", (8, 32))
    assert z[0, :3].tolist() == pytest.approx([0.3600504112, 0.9316576275, 1.1329240837], abs=1e-9)
    bias = by_name("4x4/Dense/bias", (32,))
    assert bias[:3].tolist() == pytest.approx([-0.1241107426, 0.0512990351, -0.0689826867], abs=1e-9)


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda row: f"lod{row[0]}")
def test_networks_equal_the_original(golden):
    # 1e-7: the original rounds the run-time scale to float32, which moves these by 2e-8 at most.
    lod, g_mean, g_rms, d_mean, d_std, plain_mean = golden
    config = replace(SMALL, fused_scale=True)
    resolution, alpha = at(lod, config)
    g = fill_by_name(build(Generator, config))
    d = fill_by_name(build(Discriminator, config))
    plain = fill_by_name(build(Discriminator, replace(config, fused_scale=False, mbstd_group=8)))
    with torch.no_grad():
        images = g(by_name("z", (8, 32)), resolution=resolution, alpha=alpha)
        scores, logits = d(images, alpha=alpha)
        plain_scores, _ = plain(images, alpha=alpha)
    assert images.dtype == torch.float64
    assert images.shape == (8, 3, resolution, resolution)
    assert logits.shape == (8, 0)
    assert float(images.mean()) == pytest.approx(g_mean, abs=1e-7)
    assert float(images.square().mean().sqrt()) == pytest.approx(g_rms, abs=1e-7)
    assert float(scores.mean()) == pytest.approx(d_mean, abs=1e-7)
    assert float(scores.std()) == pytest.approx(d_std, abs=1e-7)
    assert float(plain_scores.mean()) == pytest.approx(plain_mean, abs=1e-7)


# fused, lod, G[0, :, 0, 0], G[7, :, 9, 14], D of three images: the table of the original's float32
# run, printed to 1e-5.
VECTORS = [
    (True, 0, (-1.04807, -0.52327, 0.21699), (-1.39658, -1.16008, -0.33661), (0.41390, 0.35715, 0.33396)),
    (True, 0.5, (-1.05182, -0.14408, 0.73249), (-0.52622, -1.06384, -0.93644), (0.39555, 0.34039, 0.34851)),
    (True, 1, (-1.05558, 0.23512, 1.24799), (0.34413, -0.96759, -1.53626), (0.42562, 0.37100, 0.34569)),
    (True, 2, (-0.33470, -1.32050, -1.34030), (-1.30150, -0.19867, 0.87532), (0.65613, 0.53866, 0.46321)),
    (False, 0, (0.92930, 0.63531, 0.06416), (0.41205, -0.13545, -0.52349), (0.42908, 0.37809, 0.32320)),
    (False, 0.5, (-0.18028, -0.55653, -0.53730), (0.17118, -0.66039, -0.99145), (0.36520, 0.34873, 0.36281)),
    (False, 1, (-1.28985, -1.74836, -1.13876), (-0.06970, -1.18532, -1.45942), (0.36924, 0.36528, 0.38679)),
    (False, 2, (-0.33470, -1.32050, -1.34030), (-1.30150, -0.19867, 0.87532), (0.65613, 0.53866, 0.46321)),
]
TINY = ProGANConfig(resolution=16, fmap_base=16, fmap_max=4, latent_size=4, minibatch={4: 8})


@torch.no_grad()
def fill_by_number(network):
    parameters = dict(network.named_parameters())
    for v, (ours, (theirs, axes)) in enumerate(original_names(network, network.config).items()):
        p = parameters[ours]
        i = torch.arange(p.numel(), dtype=torch.float64)
        value = 1.4 * torch.sin(1 + v + 0.7 * i + 0.013 * i**2) * (0.1 if theirs.endswith("bias") else 1)
        p.copy_(to_ours(value.reshape(stored_shape(p, axes)), axes))
    return network


def vector_images() -> Tensor:
    n, c, y, x = torch.meshgrid(
        *(torch.arange(k, dtype=torch.float64) for k in (8, 3, 16, 16)), indexing="ij"
    )
    return torch.sin(0.2 * n + 0.5 * c + 0.3 * y + 0.1 * x + 0.05 * n * x * y)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda row: f"{'fused' if row[0] else 'plain'}-lod{row[1]}")
def test_networks_reproduce_the_test_vectors(vector):
    fused, lod, first, last, expected = vector
    config = replace(TINY, fused_scale=fused)
    resolution, alpha = at(lod, config)
    g = fill_by_number(build(Generator, config))
    d = fill_by_number(build(Discriminator, config))
    n, i = torch.meshgrid(*(torch.arange(k, dtype=torch.float64) for k in (8, 4)), indexing="ij")
    factor = config.resolution // resolution
    with torch.no_grad():
        images = g(torch.cos(0.5 * n + 0.3 * i + 0.1), resolution=resolution, alpha=alpha)
        scores, _ = d(F.avg_pool2d(vector_images(), factor), alpha=alpha)
    assert images[0, :, 0, 0].tolist() == pytest.approx(first, abs=1e-5)
    assert images[7, :, 9 // factor, 14 // factor].tolist() == pytest.approx(last, abs=1e-5)
    assert scores[:3].tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("lod", "norms", "score"),
    [
        (0, (0.091138, 0.066825), 0.413897),
        (1, (0.191731, 0.150327), 0.402390),
        (1.5, (0.161821, 0.136336), 0.783408),
    ],
)
def test_gradient_norms_on_enlarged_images_equal_the_original(lod, norms, score):
    # Here the images go in at 16 x 16, as in the original; ours are native, so they are shrunk inside.
    d = fill_by_number(build(Discriminator, replace(TINY, fused_scale=True)))
    resolution, alpha = at(lod, TINY)
    factor = 16 // resolution
    native = vector_images()[:, :, :resolution, :resolution]
    enlarged = native.repeat_interleave(factor, 2).repeat_interleave(factor, 3).requires_grad_()
    scores, _ = d(F.avg_pool2d(enlarged, factor), alpha=alpha)
    (gradient,) = torch.autograd.grad(scores.sum(), enlarged)
    assert gradient.flatten(1).norm(dim=1)[:2].tolist() == pytest.approx(norms, abs=1e-6)
    assert float(scores[0].detach()) == pytest.approx(score, abs=1e-6)


@pytest.mark.parametrize(
    ("config", "g_count", "d_count"),
    [
        (ProGANConfig(), 23_079_115, 23_087_249),
        (ProGANConfig(resolution=256), 23_044_309, 23_052_353),
        (ProGANConfig(resolution=128, fmap_base=2048), 13_629_810, 13_636_897),
        (ProGANConfig(resolution=32), 20_719_628, 20_726_785),
        (
            ProGANConfig(resolution=32, fmap_base=4096, fmap_max=128, latent_size=128),
            1_296_908,
            1_298_689,
        ),
        (ProGANConfig(resolution=4), 6_556_163, 6_561_793),
    ],
)
def test_parameter_counts_are_the_original_s(config, g_count, d_count):
    with torch.device("meta"):
        assert sum(p.numel() for p in Generator(config).parameters()) == g_count
        assert sum(p.numel() for p in Discriminator(config).parameters()) == d_count


def started(kind, config):
    network = kind(config).to(torch.float64)
    initialize(network, kind.__name__, 0)
    return network


def test_fused_generator_is_the_plain_one():
    plain = started(Generator, SMALL)
    fused = build(Generator, replace(SMALL, fused_scale=True))
    fused.load_state_dict(plain.state_dict())
    z = normal_tensor(3, 32)
    for lod in (0, 0.3, 1):
        resolution, alpha = at(lod, SMALL)
        a, b = (g(z, resolution=resolution, alpha=alpha) for g in (plain, fused))
        assert float((a - b).detach().abs().max()) < 1e-12


@pytest.mark.parametrize("fused", [False, True])
def test_fading_starts_at_the_stage_before(fused):
    config = replace(SMALL, fused_scale=fused)
    g, d = started(Generator, config), started(Discriminator, config)
    z = normal_tensor(8, 32)
    for r in (8, 16, 32):
        before = g(z, resolution=r // 2)
        up = before.repeat_interleave(2, 2).repeat_interleave(2, 3)
        assert float((g(z, resolution=r, alpha=0.0) - up).detach().abs().max()) < 1e-12
        images = normal_tensor(8, 3, r, r)
        faded, _ = d(images, alpha=0.0)
        coarse, _ = d(F.avg_pool2d(images, 2))
        assert float((faded - coarse).detach().abs().max()) < 1e-12
        # and it changes something on the way
        assert float((d(images, alpha=0.5)[0] - coarse).detach().abs().max()) > 1e-3


def test_every_parameter_of_a_stage_gets_a_gradient():
    g, d = started(Generator, SMALL), started(Discriminator, SMALL)
    d(g(normal_tensor(8, 32), resolution=32, alpha=0.5), alpha=0.5)[0].sum().backward()
    for network in (g, d):
        for name, p in network.named_parameters():
            used = not any(name.startswith(f"{kind}{r}.") for kind in ("to_rgb", "from_rgb") for r in (4, 8))
            assert (p.grad is not None and bool(p.grad.abs().sum() > 0)) == used, name


def test_latents_are_normalized_once_and_together_with_labels():
    config = replace(SMALL, label_size=4)
    g = started(Generator, config)
    z, labels = normal_tensor(5, 32), torch.eye(4, dtype=torch.float64)[[0, 1, 2, 3, 0]]
    images = g(z, labels, resolution=8)
    assert torch.allclose(images, g(7 * z, 7 * labels, resolution=8), atol=1e-6)
    # Labels left out of the norm would make 7 z alone harmless.
    assert not torch.allclose(images, g(7 * z, labels, resolution=8), atol=1e-2)


def test_features_have_unit_rms_after_every_block():
    # Pixel norm before the activation would leave 0.722.
    g = started(Generator, SMALL)
    seen = {}
    for name, module in g.named_modules():
        if name.startswith("block") and "." not in name:
            module.register_forward_hook(lambda m, a, out, name=name: seen.update({name: out.detach()}))
    first_conv_input = []
    g.block4.conv.register_forward_pre_hook(lambda m, args: first_conv_input.append(args[0].detach()))
    images = g(normal_tensor(4, 32), resolution=32)
    assert len(seen) == 4
    for features in [*seen.values(), *first_conv_input]:
        assert torch.allclose(
            features.square().mean(1).sqrt(), torch.ones((), dtype=torch.float64), atol=1e-5
        )
    assert float(images.detach().abs().max()) > 1  # linear output: tanh would keep it below


def test_from_rgb_is_activated():
    d = build(Discriminator, SMALL)
    with torch.no_grad():
        d.from_rgb4.bias.fill_(-1)
    features = []
    d.block4.register_forward_pre_hook(lambda m, args: features.append(args[0].detach()))
    d(normal_tensor(8, 3, 4, 4))
    assert torch.allclose(features[0], torch.full((), -0.2, dtype=torch.float64))


def test_discriminator_has_a_score_and_logits():
    d = started(Discriminator, replace(SMALL, label_size=10))
    scores, logits = d(normal_tensor(8, 3, 8, 8))
    assert scores.shape == (8,)
    assert logits.shape == (8, 10)


def test_scores_do_not_depend_on_other_kinds_of_images():
    # Judged together, the deviation would mix reals and fakes.
    d = started(Discriminator, SMALL)
    real, fake = normal_tensor(8, 3, 8, 8), 0.1 * normal_tensor(8, 3, 8, 8)
    together, _ = d(torch.cat([real, fake]))
    apart = torch.cat([d(real)[0], d(fake)[0]])
    assert not torch.allclose(together, apart, atol=1e-3)


def test_initial_weights_do_not_depend_on_the_final_resolution():
    small, large = Generator(SMALL), Generator(replace(SMALL, resolution=64))
    initialize(small, "generator", 3)
    initialize(large, "generator", 3)
    for name, p in small.named_parameters():
        assert torch.equal(p, large.get_parameter(name)), name
    other = Generator(SMALL)
    initialize(other, "generator", 4)
    assert not torch.equal(other.block4.conv.weight, small.block4.conv.weight)
    assert float(small.block4.dense.weight.detach().std()) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_color(channels):
    config = replace(SMALL, channels=channels)
    images = started(Generator, config)(normal_tensor(8, 32), resolution=16, alpha=0.5)
    assert images.shape == (8, channels, 16, 16)
    assert started(Discriminator, config)(images, alpha=0.5)[0].shape == (8,)


def test_labels_join_latents_before_or_after_the_norm():
    # 512 numbers of a root mean square of 1 and ten labels: the label is 1 afterwards in the paper's
    # Theano code, and sqrt(522 / 513) in the TensorFlow version.
    config = replace(SMALL, latent_size=512, label_size=10)
    z = normal_tensor(4, 512)
    z = z / z.square().mean(1, keepdim=True).sqrt()
    labels = torch.eye(10, dtype=torch.float64)[[3, 1, 4, 1]]
    seen = {}
    for together in (True, False):
        g = started(Generator, replace(config, normalise_labels=together))
        g.block4.register_forward_pre_hook(lambda m, args, key=together: seen.update({key: args[0]}))
        g(z, labels, resolution=4)
    assert torch.allclose(seen[True][:, 512:], labels * (522 / 513) ** 0.5, atol=1e-7)
    assert torch.equal(seen[False][:, 512:], labels)
    assert torch.allclose(seen[False][:, :512], z, atol=1e-7)


def test_latents_that_are_not_normalized_enter_as_they_are():
    config = replace(SMALL, normalise_latents=False, label_size=3)
    g = started(Generator, config)
    seen = []
    g.block4.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    z, labels = normal_tensor(5, 32), torch.eye(3, dtype=torch.float64)[[0, 1, 2, 0, 1]]
    g(z, labels, resolution=4)
    assert torch.equal(seen[0], torch.cat([z, labels], 1))


def test_tanh_bounds_the_faded_image():
    # Over the mixture of both resolutions, as the Theano code has it, not over each.
    linear = started(Generator, SMALL)
    bounded = build(Generator, replace(SMALL, output="tanh"))
    bounded.load_state_dict(linear.state_dict())
    z = normal_tensor(4, 32)
    for alpha in (0.4, 1.0):
        images = linear(z, resolution=16, alpha=alpha)
        assert torch.equal(bounded(z, resolution=16, alpha=alpha), images.tanh())


ABLATED = replace(
    SMALL,
    pixel_norm=False,
    generator_norm="batch",
    discriminator_norm="layer",
    activation="relu",
    minibatch_statistics="none",
    equalized=False,
)


@pytest.mark.parametrize("fused", [False, True])
def test_norms_of_the_ablation_stand_between_convolution_and_activation(fused):
    config = replace(ABLATED, fused_scale=fused)
    g, d = started(Generator, config), started(Discriminator, config)
    seen = {}

    def look(network, prefix):
        for name, module in network.named_modules():
            if name.startswith("block"):
                module.register_forward_hook(
                    lambda m, a, out, name=name: seen.update({prefix + name: (a[0].detach(), out.detach())})
                )

    look(g, "g.")
    look(d, "d.")
    d(g(normal_tensor(8, 32), resolution=16))
    for r in (4, 8, 16):
        for k in (0, 1):
            _, out = seen[f"g.block{r}.norm{k}"]
            assert torch.allclose(out.mean((0, 2, 3)), torch.zeros(()).double(), atol=1e-10)
            assert torch.allclose(out.var((0, 2, 3), correction=0), torch.ones(()).double(), atol=0.05)
            _, out = seen[f"d.block{r}.norm{k}"]
            assert torch.allclose(out.flatten(1).mean(1), torch.zeros(()).double(), atol=1e-10)
        assert torch.equal(seen[f"g.block{r}"][1], seen[f"g.block{r}.norm1"][1].relu())
        second = seen["d.block4.dense0" if r == 4 else f"d.block{r}.conv1"][0]
        assert torch.equal(second, F.leaky_relu(seen[f"d.block{r}.norm0"][1], 0.2).reshape(second.shape))
    norms = [m for n in (g, d) for m in n.modules() if isinstance(m, BatchNorm | LayerNorm)]
    assert len(norms) == 16
    # A norm takes the layer's own bias away, and has one of its own.
    biased = {n for n, _ in g.named_parameters() if n.endswith("bias") and "norm" not in n}
    assert biased == {f"to_rgb{r}.bias" for r in (4, 8, 16, 32)}
    biased = {n for n, _ in d.named_parameters() if n.endswith("bias") and "norm" not in n}
    assert biased == {"block4.dense1.bias", *(f"from_rgb{r}.bias" for r in (4, 8, 16, 32))}


def test_the_discriminator_is_leaky_in_every_configuration():
    d = build(Discriminator, ABLATED)
    with torch.no_grad():
        d.from_rgb4.bias.fill_(-1)
    features = []
    d.block4.register_forward_pre_hook(lambda m, args: features.append(args[0].detach()))
    d(normal_tensor(8, 3, 4, 4))
    assert torch.allclose(features[0], torch.full((), -0.2, dtype=torch.float64))


def test_measured_batch_norm_makes_the_images_of_training_mode():
    g = started(Generator, ABLATED)
    z = normal_tensor(64, 32)
    trained = g(z, resolution=16, alpha=0.5)
    measure_batch_norm(g, z, resolution=16, alpha=0.5)
    assert g.training
    g.eval()
    assert torch.allclose(g(z, resolution=16, alpha=0.5), trained, atol=1e-10)
    # One image alone is now what it is among others; over the minibatch it would not be.
    alone = g(z[:1], resolution=16, alpha=0.5)
    assert torch.allclose(alone, trained[:1], atol=1e-10)
    assert not torch.allclose(g.train()(z[:8], resolution=16, alpha=0.5), trained[:8], atol=1e-2)
    # Hooks are gone, and steps leave what was measured alone.
    before = {name: b.clone() for name, b in g.named_buffers()}
    g(normal_tensor(8, 32) + 1, resolution=16)
    assert all(torch.equal(b, before[name]) for name, b in g.named_buffers())
    assert torch.equal(g.block32.norm0.variance, torch.ones(8).double())


def test_without_batch_norm_there_is_nothing_to_measure():
    g = started(Generator, SMALL).eval()
    measure_batch_norm(g, normal_tensor(4, 32), resolution=8)
    assert not g.training
    assert not list(g.buffers())


@pytest.mark.parametrize(
    ("statistics", "compared"), [("none", False), ("stddev", True), ("discrimination", True)]
)
def test_scores_depend_on_the_minibatch_where_images_are_compared(statistics, compared):
    d = started(Discriminator, replace(SMALL, minibatch_statistics=statistics))
    images = 0.1 * normal_tensor(8, 3, 8, 8)
    others = torch.cat([images[:1], 3 * images[1:]])
    same = torch.allclose(d(images)[0][0], d(others)[0][0], rtol=1e-9)
    assert same != compared


def test_discrimination_is_appended_behind_the_first_dense_layer():
    d = build(Discriminator, replace(SMALL, minibatch_statistics="discrimination", label_size=2))
    assert d.block4.conv.weight.shape == (32, 32, 3, 3)
    assert d.block4.dense1.weight.shape == (3, 32 + 100)


@pytest.mark.parametrize("options", [{}, {"fused_scale": True}, {"minibatch_statistics": "none"}], ids=str)
def test_noise_multiplies_every_channel_before_every_convolution(options):
    # 1 + sqrt(channels) times the number that belongs to the image, the layer and the channel.
    d = started(Discriminator, replace(SMALL, **options))
    last = 32 + (d.config.minibatch_statistics == "stddev")
    layers = {
        "block16.conv0": 16, "block16.conv1": 16, "block8.conv0": 32, "block8.conv1": 32,
        "block4.conv": last, "block4.dense0": 32,
    }  # fmt: skip
    images, size = normal_tensor(8, 3, 16, 16), sum(layers.values())
    assert d.noise_size(16) == size

    def inputs(noise):
        seen = {}
        hooks = [
            d.get_submodule(name).register_forward_pre_hook(
                lambda m, args, name=name: seen.update({name: args[0].detach().flatten(1)})
            )
            for name in (*layers, "block4.dense1")
        ]
        d(images, alpha=0.5, noise=noise)
        for hook in hooks:
            hook.remove()
        return seen

    calm = inputs(None)
    assert all(torch.equal(x, calm[name]) for name, x in inputs(torch.zeros(8, size).double()).items())
    start = 0
    for place, (name, channels) in enumerate(layers.items()):
        noise = torch.zeros(8, size, dtype=torch.float64)
        noise[:, start : start + channels] = 0.1 * normal_tensor(8, channels)
        start += channels
        noisy = inputs(noise)
        factor = 1 + channels**0.5 * 0.1 * normal_tensor(8, channels)
        pixels = calm[name].shape[1] // channels
        assert torch.allclose(noisy[name], calm[name] * factor.repeat_interleave(pixels, 1), atol=1e-12)
        assert all(torch.equal(noisy[before], calm[before]) for before in list(layers)[:place])
        assert not torch.equal(noisy["block4.dense1"], calm["block4.dense1"])


def test_alpha_may_be_a_tensor():
    # For a compiled step, which would be compiled again for every other number, and which cannot look
    # at it: neither can one on tensors without data.
    with torch.device("meta"):
        g, d, unknown = Generator(SMALL), Discriminator(SMALL), torch.ones(())
        d(g(torch.empty(8, 32), resolution=16, alpha=unknown), alpha=unknown)
    g, d = started(Generator, SMALL), started(Discriminator, SMALL)
    z = normal_tensor(8, 32)
    for alpha in (0.0, 0.3, 1.0):
        tensor = torch.tensor(alpha, dtype=torch.float64)
        images = g(z, resolution=16, alpha=alpha)
        assert torch.allclose(g(z, resolution=16, alpha=tensor), images, atol=1e-12)
        assert torch.allclose(d(images, alpha=tensor)[0], d(images, alpha=alpha)[0], atol=1e-12)


def test_scores_are_float32_whatever_the_activations_are():
    d = started(Discriminator, replace(SMALL, label_size=2)).float()
    with torch.autocast("cpu", torch.bfloat16):
        scores, logits = d(normal_tensor(8, 3, 8, 8).float())
    assert scores.dtype == logits.dtype == torch.float32
    # The last layer computes in float32, too: rounded scores would be equal to their bfloat16.
    assert not torch.equal(scores, scores.bfloat16().float())


def test_images_are_float32_whatever_the_activations_are():
    # A fade of rounded images would be rounded again, and reals are mixed with them.
    g = started(Generator, SMALL).float()
    with torch.autocast("cpu", torch.bfloat16):
        for alpha in (0.3, 1.0):
            assert g(normal_tensor(8, 32).float(), resolution=16, alpha=alpha).dtype == torch.float32
