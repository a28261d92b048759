"""The same images give the same bits: cached or not, interrupted or straight, from any place or container."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import pgmetrics
from pgmetrics import KernelInceptionDistance, SlicedWasserstein
from tests.helpers.image_files import encoded, pixels, write, write_zip
from tests.helpers.toy_network import ToyNetwork

ROOT = Path(__file__).parents[2]
METRICS = [
    SlicedWasserstein(patches_per_image=16, directions=8, repeats=1),
    "ms-ssim",
    "fd",
    KernelInceptionDistance(network="custom", subsets=3, subset_size=20),
]
ENCODED = ["directory", "copy", "touched", "zip", "deflated zip"]
HOLDERS = [*ENCODED, "bmp", "npz", "npy", "array", "dataset"]
N = 60


class Items:
    """A map-style Dataset."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


@pytest.fixture(scope="module")
def images():
    """More of them than are taken, and smooth enough for every metric."""
    return pixels(N, 8, 8, seed=3).repeat(4, axis=1).repeat(4, axis=2)


@pytest.fixture(scope="module")
def fake():
    return pixels(N, 8, 8, seed=4).repeat(4, axis=1).repeat(4, axis=2)


def held(holder, images, tmp_path):
    # Without leading zeros: sorted by characters, 10 would come before 2.
    contents = {f"{i}.png": encoded(image) for i, image in enumerate(images)}
    if holder == "bmp":
        return write(tmp_path / "b", {f"frame {i:04}.bmp": encoded(x, ".bmp") for i, x in enumerate(images)})
    if "zip" in holder:
        method = zipfile.ZIP_DEFLATED if holder == "deflated zip" else zipfile.ZIP_STORED
        return write_zip(
            tmp_path / "set.zip", {f"set/{name}": data for name, data in contents.items()}, method
        )
    if holder == "npz":
        np.savez_compressed(tmp_path / "set.npz", images)
        return tmp_path / "set.npz"
    if holder == "npy":
        np.save(tmp_path / "set.npy", images)
        return tmp_path / "set.npy"
    if holder in ("array", "dataset"):
        return Items(images) if holder == "dataset" else images
    folder = write(tmp_path / "set", contents)
    if holder == "copy":
        shutil.copytree(folder, tmp_path / "copy")
        shutil.rmtree(folder)
        return tmp_path / "copy"
    if holder == "touched":
        for number, path in enumerate(sorted(folder.iterdir())):
            os.utime(path, (number, number))
    return folder


def score(real, fake, out, cache=None, **options):
    """The bytes of the table, and what the reals are identified by."""
    networks = {"custom": ToyNetwork("custom")}
    found = pgmetrics.evaluate(
        real, fake, METRICS, networks=networks, cache=cache, run="r", num_images=40, **options
    )
    found.save(out)
    return out.read_bytes(), found.provenance["sources"]["real"]["fingerprint"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 7])
def test_no_holder_place_or_cache_changes_a_bit(tmp_path, images, fake, caplog, seed):
    # Wrong: an order keyed by names or by what holds them; characters for numbers; a cache that is found by
    # names and times.
    out = tmp_path / "scores.csv"
    expected, _ = score(images, fake, out, seed=seed)
    found = {}
    for holder in HOLDERS:
        (tmp_path / holder).mkdir()
        real = held(holder, images, tmp_path / holder)
        plain, found[holder] = score(real, fake, out, seed=seed, workers=0)
        assert plain == expected, holder
        # Each into a cache of its own; in the second run every state comes from it.
        cache = tmp_path / f"{holder} cache"
        assert score(real, fake, out, cache, seed=seed, workers=2)[0] == expected, holder
        caplog.clear()
        with caplog.at_level(logging.INFO, "pgmetrics"):
            assert score(real, fake, out, cache, seed=seed) == (expected, found[holder]), holder
        assert "cache miss" not in caplog.text
        assert caplog.text.count("cache hit") == 4
    # Equal files are one set, and so are equal pixels.
    assert len({found[holder] for holder in ENCODED}) == 1
    assert len({found[holder] for holder in ("npz", "npy", "array", "dataset")}) == 1
    assert len(set(found.values())) == 3
    if seed:
        return
    # What one of them left in the cache is the others', too.
    caplog.clear()
    with caplog.at_level(logging.INFO, "pgmetrics"):
        score(tmp_path / "zip" / "set.zip", fake, out, tmp_path / "touched cache")
    assert "cache miss" not in caplog.text


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_no_interruption_changes_a_bit_wherever_the_images_lie(tmp_path):
    # Wrong: a cache entry that a kill left half written; a line of scores for a checkpoint that is not whole;
    # training that is resumed with fresh optimizers; a fingerprint of names or places.
    program = Path(__file__).with_name("interrupted.py")
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ends = {"straight": [0], "kill": [-signal.SIGKILL, 0], "stop": [128 + signal.SIGTERM, 0]}
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(outcomes) == 2 * (3 + 4 + 3)
    expected = {each["work"]: each["files"] for each in reversed(outcomes) if each["how"] == "straight"}
    for each in outcomes:
        called = " ".join(str(each[part]) for part in ("work", "holder", "cached", "how"))
        assert each["exits"] == ends[each["how"]], f"{called}\n{done.stderr}"
        assert each["files"] == expected[each["work"]], called


def test_other_images_with_equal_names_sizes_and_times_are_not_taken_for_those_in_the_cache(
    tmp_path, images, fake
):
    scores = []
    for name, shown in (("a", images), ("b", images[::-1])):
        folder = write(tmp_path / name, {f"{i}.bmp": encoded(image, ".bmp") for i, image in enumerate(shown)})
        for path in folder.iterdir():
            os.utime(path, (315532800, 315532800))
        cached, plain = (
            score(folder, fake, tmp_path / "s.csv", cache)[0] for cache in (tmp_path / "c", None)
        )
        assert cached == plain
        scores.append(plain)
    assert scores[0] != scores[1]


def test_the_identity_of_what_was_taken_does_not_depend_on_the_seed_where_all_was_taken(
    tmp_path, images, fake
):
    all_taken = {score(images[:40], fake, tmp_path / "s.csv", seed=seed)[1] for seed in (0, 1)}
    some_taken = {score(images, fake, tmp_path / "s.csv", seed=seed)[1] for seed in (0, 1)}
    assert (len(all_taken), len(some_taken)) == (1, 2)


def test_metrics_that_take_unlike_numbers_are_told_apart(tmp_path, images, fake):
    swd = SlicedWasserstein(num_images=20, patches_per_image=16, directions=8)
    both = pgmetrics.evaluate(images, fake, [swd, "ms-ssim"]).provenance["sources"]["real"]
    alone = pgmetrics.evaluate(images, fake, [swd]).provenance["sources"]["real"]
    assert both["metrics"] == {"swd": alone["fingerprint"]}
    assert both["fingerprint"] != alone["fingerprint"]
    assert "metrics" not in alone
