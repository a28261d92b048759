"""Configurations refuse what cannot work, and survive JSON."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from pgmetrics.errors import OptionError
from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.presets import PRESETS, preset


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ({"resolution": 96}, "96 cannot be reached; the nearest that can is 128"),
        ({"resolution": 2}, "2 cannot be reached; the nearest that can is 4"),
        ({"channels": 4}, "1 or 3 channels, not 4"),
        # The first released configuration's 14 images at 256 x 256, with the later one's groups.
        ({"minibatch": {4: 16, 256: 14}}, r"at 256 x 256 the minibatch of 14 .* groups of mbstd_group=4"),
        ({"minibatch": {8: 16}}, "minibatch needs a value from resolution 4 on"),
        (
            {"learning_rate": {4: 0.0}},
            "learning_rate from resolution 4 on is a number above 0 and at most 1,000,000, not 0.0",
        ),
        ({"fmap_base": 256}, "fmap_base=256 leaves no channel at 1024 x 1024; it must be at least 512"),
        ({"gp_resolution": "native"}, "'final' or 'current', not 'native'"),
        ({"simultaneous": True, "d_repeats": 2}, "d_repeats=2 needs simultaneous=False"),
        ({"ema": 1.0}, "ema is a number at least 0 and below 1, not 1.0"),
        (
            {"stabilise_images": 0},
            "stabilise_images is a whole number at least 1 and at most 1,000,000,000,000, not 0",
        ),
        ({"seed": -1}, "seed is a whole number at least 0 and .*, not -1"),
        ({"gp_gamma": float("nan")}, "gp_gamma is a number above 0 and at most 1,000,000,000, not nan"),
        ({"loss": "hinge"}, "loss is 'wgan-gp' or 'lsgan', not 'hinge'"),
        ({"minibatch_statistics": "std"}, "'stddev' or 'discrimination' or 'none', not 'std'"),
        ({"equalized": 1}, "equalized is False or True, not 1"),
        ({"growing": "no"}, "growing is False or True, not 'no'"),
        ({"noise_strength": 0.2}, "noise_strength=0.2 follows scores of 0 to 1.*loss='lsgan'"),
        ({"label_weight": -1.0}, "label_weight is a number at least 0"),
        ({"lr_rampup_images": -1}, "lr_rampup_images is a whole number at least 0"),
    ],
)
def test_what_cannot_work_is_refused(options, fact):
    with pytest.raises(OptionError, match=fact):
        ProGANConfig(**options)


NUMBERS = [name for name, value in ProGANConfig().to_json().items() if type(value) in (int, float)]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, True, "1", None])
@pytest.mark.parametrize("name", [*NUMBERS, "minibatch", "learning_rate"])
def test_every_number_is_bounded_and_finite(name, value):
    # NaN passes `not value <= 0`, infinity `value > 0`, and True is the integer 1.
    given = {4: value} if name in ("minibatch", "learning_rate") else value
    with pytest.raises(OptionError, match=rf"^{name.replace('channels', 'images have')}[^\n]*, not [^\n]+$"):
        ProGANConfig(**{name: given})


@pytest.mark.parametrize("name", [name for name in NUMBERS if type(getattr(ProGANConfig(), name)) is int])
def test_a_whole_number_is_no_float(name):
    # A file may hold 3.0, and an image of 3.0 channels ends in a traceback far away.
    with pytest.raises(OptionError, match=r"not \d+\.0$"):
        ProGANConfig(**{name: float(getattr(ProGANConfig(), name))})


def test_a_minibatch_below_the_group_is_one_group():
    assert ProGANConfig(mbstd_group=16, minibatch={4: 16, 256: 14, 512: 6, 1024: 3})


def test_groups_matter_only_where_they_are_made():
    odd = {4: 16, 256: 14}
    assert ProGANConfig(minibatch=odd, minibatch_statistics="none")
    assert ProGANConfig(minibatch={4: 14, 1024: 16}, growing=False)
    with pytest.raises(OptionError, match="at 1024 x 1024 the minibatch of 14"):
        ProGANConfig(minibatch=odd, growing=False)


def test_what_an_older_version_wrote_is_read_as_it_was_meant():
    # The fields of the first released format: what it did not know stays off.
    old = ProGANConfig(seed=3).to_json()
    for name in (
        "minibatch_statistics", "normalise_latents", "normalise_labels", "equalized", "pixel_norm",
        "generator_norm", "discriminator_norm", "activation", "output", "growing", "lr_rampup_images", "loss",
        "noise_strength", "label_weight", "precision",
    ):  # fmt: skip
        del old[name]
    assert len(old) == 27
    assert ProGANConfig.from_json(old) == ProGANConfig(seed=3)


def test_what_only_other_projects_networks_have_is_in_files_where_it_is_used():
    assert not {"first_bias", "first_pixel_norm", "pixel_norm_epsilon"} & set(ProGANConfig().to_json())
    config = ProGANConfig().with_options(["first_bias=pixel"])
    assert config.to_json()["first_bias"] == "pixel"
    assert ProGANConfig.from_json(config.to_json()) == config
    with pytest.raises(OptionError, match="first_bias is 'channel' or 'pixel', not 'image'"):
        ProGANConfig().with_options(["first_bias=image"])


def test_american_spellings_are_taken_and_files_keep_their_names():
    written = ["stabilize_images=40", "normalize_latents=false", "normalize_labels=false"]
    config = ProGANConfig().with_options(written)
    assert config == ProGANConfig(stabilise_images=40, normalise_latents=False, normalise_labels=False)
    assert config.to_json().keys() == ProGANConfig().to_json().keys()
    with pytest.raises(OptionError, match="stabilise_images is set twice"):
        ProGANConfig().with_options(["stabilise_images=40", "stabilize_images=40"])


def test_options_as_written_on_a_command_line():
    config = ProGANConfig().with_options(
        ["loss=lsgan", "noise_strength=0.2", "mirror=true", "minibatch=4:16,256:12", "learning_rate=4:0.002"]
    )
    assert (config.loss, config.noise_strength, config.mirror) == ("lsgan", 0.2, True)
    assert config.minibatch == {4: 16, 256: 12}
    assert config.learning_rate == {4: 0.002}
    assert ProGANConfig().with_options(["resolution=64", "drift=0"]) == ProGANConfig(resolution=64, drift=0.0)


@pytest.mark.parametrize(
    ("written", "fact"),
    [
        ("sharpness=3", "'sharpness=3' is not an option of a ProGAN; .* with a name of resolution, channels"),
        ("mirror", "'mirror' is not an option"),
        ("mirror=1", "mirror takes true or false, not '1'"),
        ("resolution=big", "resolution takes a whole number, not 'big'"),
        ("drift=none", "drift takes a number, not 'none'"),
        ("minibatch=16", "minibatch takes values such as 4:16,256:14, not '16'"),
        ("loss=hinge", "'wgan-gp' or 'lsgan', not 'hinge'"),
    ],
)
def test_options_that_mean_nothing_are_refused(written, fact):
    with pytest.raises(OptionError, match=fact):
        ProGANConfig().with_options([written])


@pytest.mark.parametrize("name", PRESETS)
def test_json_gives_the_same_configuration(name):
    config = replace(preset(name), label_size=3, seed=5)
    assert ProGANConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"sharpness": 3}, "no ProGAN option sharpness"),
        ({"resolution": "big"}, "resolution is a whole number .*, not 'big'"),
        ({"minibatch": 16}, "wrong type"),
        ({"resolution": 33}, "33 cannot be reached"),
    ],
)
def test_foreign_json_is_refused(change, fact):
    with pytest.raises(OptionError, match=fact):
        ProGANConfig.from_json(ProGANConfig().to_json() | change)


def test_an_unknown_preset_names_the_known_ones():
    with pytest.raises(OptionError, match=r"'cifar'; choose from .*cifar10-32"):
        preset("cifar")


def test_channels_of_the_paper():
    config = ProGANConfig()
    assert [config.feature_maps(r) for r in config.resolutions] == [512, 512, 512, 512, 256, 128, 64, 32, 16]
    assert config.feature_maps(2) == 512


def test_presets_keep_what_the_original_runs_set():
    v1, v2, cifar = (PRESETS[n] for n in ("celebahq-1024-v1", "celebahq-1024-v2", "cifar10-32"))
    assert (v1.mbstd_group, v1.fused_scale, v1.mirror, v1.total_images) == (16, False, True, 19_000_000)
    assert (v2.minibatch_at(64), v2.learning_rate_at(1024), v2.stabilise_images) == (32, 0.0015, 600_000)
    assert (cifar.gp_gamma, cifar.simultaneous, cifar.latent_size) == (750, True, 128)
    adam = {(c.adam_beta1, c.adam_beta2, c.adam_epsilon, c.drift) for c in (v1, v2, cifar)}
    assert adam == {(0.0, 0.99, 1e-8, 0.001)}


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        (["loss=lsgan", "loss=wgan-gp"], r"loss is set twice, at last by 'loss=wgan-gp'"),
        (["minibatch=4:16,8:8,4:2"], r"minibatch names a resolution twice: '4:16,8:8,4:2'"),
    ],
)
def test_an_option_that_is_set_twice_is_refused(options, refusal):
    with pytest.raises(OptionError, match=refusal):
        ProGANConfig().with_options(options)
