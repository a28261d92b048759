"""Networks of other ProGANs: which layout a file has, and what our commands do with what was imported."""

from __future__ import annotations

import gzip
import hashlib
import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import pgmetrics
from pgmetrics.errors import OptionError, PgmetricsError, SourceError
from pgmetrics.growth.checkpoints import Finder, open_snapshot
from pgmetrics.report.run_curves import read_growth
from pgmetrics.sources.resolve import open_source
from reference_models.progan.cli import main
from reference_models.progan.importers import import_network
from reference_models.progan.model.checkpoint import inspect
from reference_models.progan.model.model_card import model_card
from tests.helpers.foreign_networks import (
    FILES,
    IMAGES,
    gan_zoo_state,
    images_of,
    imported,
    ptrblck_state,
    refuses,
)
from tests.helpers.official_snapshots import SMALL, TINY, snapshot
from tests.helpers.samplers import sample_images


def test_a_compressed_pickle_is_read_and_one_that_grows_without_end_is_not(pickled, out, tmp_path):
    path = pickled(snapshot(TINY))
    g = imported(path, out)[1]
    packed = tmp_path / "network-snapshot-000012.pkl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert import_network(packed, out)[1] == "original"
    facts, again = imported(packed, out)
    assert facts.images_shown == 12_000
    assert hashlib.sha256(packed.read_bytes()).hexdigest() in facts.data_fingerprint
    assert torch.equal(again.block4.dense.weight, g.block4.dense.weight)
    out.unlink()
    whole = packed.read_bytes()
    packed.write_bytes(whole[:-20])
    refuses(packed, out, "gzip data are cut short")
    packed.write_bytes(whole[:50] + b"\xff" * 50 + whole[100:])
    refuses(packed, out, "gzip data are damaged")
    packed.write_bytes(gzip.compress(bytes(10**8)))
    refuses(packed, out, "grow to more than 20 times")


def test_the_checkpoint_says_where_it_comes_from(pickled, out):
    path = pickled(snapshot(TINY, lod=0.25), name="network-snapshot-012345.pkl")
    facts, _ = imported(path, out, licence="CC BY-NC 4.0")
    assert (facts.images_shown, facts.licence) == (12_345_000, "CC BY-NC 4.0")
    assert hashlib.sha256(path.read_bytes()).hexdigest() in facts.data_fingerprint
    assert facts.data_fingerprint.startswith("unknown")
    assert imported(path, out, images_shown=7)[0].images_shown == 7
    assert imported(pickled(snapshot(TINY)), out)[0].images_shown is None
    assert imported(pickled(snapshot(TINY)), out, images_shown=0)[0].images_shown == 0


def test_inspect_shows_nothing_of_a_training_that_nobody_knows(pickled, out):
    imported(pickled(snapshot(TINY)), out)
    result = CliRunner().invoke(main, ["inspect", str(out)])
    shown = dict(line.split(None, 1) for line in result.stdout.splitlines())
    assert shown["images_shown"] == "unknown"
    assert shown["config.resolution"] == "16"
    assert shown["config.normalise_latents"] == "True"
    for name in (
        "loss",
        "total_images",
        "minibatch",
        "learning_rate",
        "seed",
        "ema",
        "growing",
        "mbstd_group",
    ):
        assert f"config.{name}" not in shown
    as_json = json.loads(CliRunner().invoke(main, ["inspect", str(out), "--format", "json"]).stdout)
    assert as_json["images_shown"] is None
    assert set(as_json["config"]) == {name.removeprefix("config.") for name in shown if "config." in name}
    assert "unknown" in model_card(inspect(out), out.name)


def test_commands_that_meet_a_foreign_network_name_the_one_that_imports_it(pickled, hub, saved, tmp_path):
    path = pickled(snapshot(TINY), name="celebahq.pkl")
    packed = tmp_path / "celebahq.pkl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    zoo = hub(gan_zoo_state((4, 4), latent=4)).rename(tmp_path / "zoo.pth")
    old = saved(ptrblck_state((4,), latent=4), _use_new_zipfile_serialization=False)
    for file in (path, packed, zoo, old):
        fix = f"`progan import {file} --out NAME.safetensors`"
        for arguments in (["sample", file, "--out", tmp_path / "grid.png"], ["inspect", file]):
            result = CliRunner().invoke(main, list(map(str, arguments)))
            assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
            assert fix in result.stderr
        with pytest.raises(SourceError) as refused:
            open_source(str(file))
        assert fix in str(refused.value)
    with pytest.raises(SourceError, match="network pickle of the original ProGAN"):
        open_source(path)
    run = tmp_path / "run"
    run.mkdir()
    path.rename(run / path.name)
    with pytest.raises(SourceError, match=r"run holds no checkpoints; .*celebahq\.pkl .*`progan import "):
        pgmetrics.score_run(run, "synthetic:leaves,resolution=16,n=8")


def test_a_directory_of_imported_networks_is_a_run_whose_moments_are_unknown(saved, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for name, channels in (("late", (4, 4, 4, 4)), ("early", (4, 4, 4))):
        import_network(saved(ptrblck_state(channels, latent=4)), run / f"{name}.safetensors")
    asked = {
        "real": "synthetic:leaves,resolution=32,n=8",
        "metrics": ["ms-ssim"],
        "num_images": 8,
        "workers": 0,
        "floor": False,
    }
    results, skipped = pgmetrics.score_run(run, **asked)
    assert [row["run"] for row in results.rows] == ["of-late-32x32"]
    assert [path.name for path, _ in skipped] == ["early.safetensors"]
    assert "--final-resolution 32 says so" in skipped[0][1]
    results, skipped = pgmetrics.score_run(run, **asked, final_resolution=32)
    assert not skipped
    assert [row["run"] for row in results.rows] == ["of-early-16x16", "of-late-32x32"]
    assert np.isfinite([row["value"] for row in results.rows]).all()
    table = results.to_pandas(stages=True)
    assert table["images_shown"].isna().all()
    assert list(table["resolution"]) == [16, 32]
    # The pixels of the stage, repeated.
    early = Finder(run, final_resolution=32).find()[0][0]
    made = open_snapshot(early, "at-final", final=32).batch(range(3))
    assert (made == sample_images(run / "early.safetensors", 3).repeat(2, 2).repeat(2, 3)).all()
    with pytest.raises(PgmetricsError, match="of-early-16x16 does not say how many images it was shown"):
        read_growth(run)


def test_imported_networks_sample_and_score_like_our_own(pickled, out):
    imported(pickled(snapshot(SMALL, lod=0.75)), out)
    source = open_source(str(out))
    assert source.resolution == (32, 32)
    made = sample_images(out, 4, seed=3)
    assert (open_source(f"progan:{out},seed=3").batch(range(4)) == made).all()
    # Saturated at both ends, and not all grey: the range of values is the original's.
    assert made.min() == 0
    assert made.max() == 255
    scores = pgmetrics.evaluate(
        "synthetic:leaves,resolution=32", str(out), metrics=["swd", "ms-ssim"], num_images=16, workers=0
    )
    assert np.isfinite([row["value"] for row in scores.rows]).all()


def test_what_cannot_be_written_is_refused(pickled, tmp_path):
    with pytest.raises(PgmetricsError, match="cannot be written"):
        import_network(pickled(snapshot(TINY)), tmp_path / "nowhere" / "x.safetensors")
    path = pickled(snapshot(TINY))
    before = path.read_bytes()
    with pytest.raises(OptionError, match="is the file to import"):
        import_network(path, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", [name for name in IMAGES if name != "z"])
def test_files_of_the_projects_own_code_make_their_images(out, name):
    file, _, which = name.partition(" ")
    facts, g = imported(FILES / file, out, which=which or "Gs")
    made = images_of(facts, g, torch.from_numpy(IMAGES["z"])).numpy()
    assert made.shape == IMAGES[name].shape
    assert np.abs(made - IMAGES[name]).max() < 1e-4
    assert np.abs(IMAGES[name]).max() > 0.5
    side = facts.resolution
    assert sample_images(out, 2).shape == (2, 3, side, side)


@pytest.mark.parametrize("file", ["mmagic-1.2.0-plain.pth", "pro-gan-pth-3.4.bin"])
def test_a_state_dictionary_alone_is_read_as_the_whole_file(saved, out, file):
    content = torch.load(FILES / file, weights_only=True)
    alone = content.get("shadow_generator", content)["state_dict"]
    facts, g = imported(saved(alone), out)
    made = images_of(facts, g, torch.from_numpy(IMAGES["z"])).numpy()
    assert np.abs(made - IMAGES[file]).max() < 1e-4


def test_a_refusal_lists_what_was_looked_for(saved, out):
    refuses(
        saved({"model": {"progression_4.conv.weight": torch.zeros(1)}}),
        out,
        r"looked for features.0.conv.weight \(ptrblck\), .*noise2feat \(mmgen\).* --loader MODULE:NAME",
    )
    refuses(saved(torch.nn.Linear(1, 1)), out, "holds code, which was not run; .*--loader MODULE:NAME")
