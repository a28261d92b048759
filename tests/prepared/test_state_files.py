"""States on disk: whatever was damaged, edited or put in a file's place is refused, and never scored."""

import hashlib
import json
import logging
import os
import shutil

import numpy as np
import pytest
import torch

from pgmetrics import evaluate
from pgmetrics.errors import StateError
from pgmetrics.metrics.frechet import FrechetDistance
from pgmetrics.metrics.kid import KernelInceptionDistance
from pgmetrics.metrics.ms_ssim import MultiScaleSSIM
from pgmetrics.metrics.swd import SlicedWasserstein
from pgmetrics.prepared.state_files import StoredStates, load_state, save_state
from pgmetrics.prepared.statistics import open_statistics
from pgmetrics.runtime import seeding
from pgmetrics.runtime.blocks import Block, FeatureBlock, IndexSet
from pgmetrics.runtime.seeding import Stream

METRICS = {
    "swd": SlicedWasserstein(num_images=12, patches_per_image=4),
    "ms-ssim": MultiScaleSSIM(),
    "moments": FrechetDistance(groups=3),
    "rows": KernelInceptionDistance(network="custom"),
}
CUTS = {
    "swd": [(0, 8), (8, 12)],
    "ms-ssim": [(0, 8), (8, 12)],
    "moments": [(0, 70), (70, 210)],
    "rows": [(0, 8), (8, 20)],
}


def pixels(n, side=16):
    drawn = seeding.generator(1, Stream.RESAMPLING).integers(0, 256, (n, 3, side, side), dtype=np.uint8)
    return torch.from_numpy(drawn)


def fresh(kind):
    return METRICS[kind].new_state("real", resolution=(16, 16), source="test")


def filled(kind):
    state = fresh(kind)
    rows = torch.from_numpy(seeding.generator(2, Stream.RESAMPLING).standard_normal((210, 5), np.float32))
    for start, stop in CUTS[kind]:
        if kind in ("swd", "ms-ssim"):
            state.update(Block(start, pixels(stop)[start:stop]))
        else:
            state.update(FeatureBlock(start, rows[start:stop]))
    return state


def seal(path):
    digest = hashlib.sha256((path / "manifest.json").read_bytes()).hexdigest()
    (path / "manifest.sha256").write_text(f"{digest}  manifest.json\n")


def rewrite(path, change):
    """Edit the manifest as somebody would who also brings its digest up to date."""
    manifest = json.loads((path / "manifest.json").read_text())
    (state,) = manifest["states"].values()
    change(manifest, state)
    (path / "manifest.json").write_text(json.dumps(manifest))
    seal(path)


@pytest.fixture(params=METRICS)
def stored(request, tmp_path):
    path = tmp_path / "real.pgstats"
    save_state(filled(request.param), path)
    return request.param, path


class TestDamage:
    def test_what_was_not_damaged_is_read_to_the_bit(self, stored):
        kind, path = stored
        found, expected = load_state(path, fresh(kind)).arrays(), filled(kind).arrays()
        assert found.keys() == expected.keys()
        assert all(found[name].tobytes() == expected[name].tobytes() for name in expected)

    @pytest.mark.slow
    def test_a_flipped_bit_in_any_file_is_refused(self, stored):
        # Before there were digests, nearly all of the bits in arrays gave other numbers without a word.
        kind, path = stored
        files = sorted(path.iterdir())
        assert len(files) >= 4
        for number, file in enumerate(files):
            whole = file.read_bytes()
            # The first bytes are headers, the last ones values; these and 40 others.
            bits = seeding.generator(0, Stream.RESAMPLING, number).integers(0, 8 * len(whole), 40)
            for bit in {*bits.tolist(), 0, 8 * len(whole) - 1}:
                damaged = bytearray(whole)
                damaged[bit // 8] ^= 1 << bit % 8
                file.write_bytes(damaged)
                with pytest.raises(StateError):
                    load_state(path, fresh(kind))
            file.write_bytes(whole)
        assert load_state(path, fresh(kind)).seen == filled(kind).seen

    def test_a_refusal_names_the_file_and_says_what_to_do(self, stored):
        kind, path = stored
        file = max(path.glob("*.npy"), key=lambda each: each.stat().st_size)
        damaged = bytearray(file.read_bytes())
        damaged[-1] ^= 1
        file.write_bytes(damaged)
        with pytest.raises(
            StateError, match=rf"{path} is damaged: {file.name} .*SHA-256; copy it again, or make"
        ):
            load_state(path, fresh(kind))

    def test_a_file_that_is_missing_torn_or_swapped_is_refused(self, stored, tmp_path):
        kind, path = stored
        for file in sorted(path.iterdir()):
            whole = file.read_bytes()
            file.unlink()
            with pytest.raises(StateError, match=file.name):
                load_state(path, fresh(kind))
            file.write_bytes(whole[: len(whole) // 2])
            with pytest.raises(StateError, match=file.name):
                load_state(path, fresh(kind))
            file.write_bytes(whole)
        # Two arrays of equal shape and dtype, in each other's place.
        if kind == "moments":
            counts, numbers = (path / f"moments.{name}.npy" for name in ("counts", "numbers"))
            content = counts.read_bytes()
            counts.write_bytes(numbers.read_bytes())
            numbers.write_bytes(content)
            with pytest.raises(StateError, match="is not the file that was written"):
                load_state(path, fresh(kind))

    def test_an_edited_seed_is_refused(self, stored):
        kind, path = stored
        manifest = path / "manifest.json"
        manifest.write_text(manifest.read_text().replace('"seed": 0', '"seed": 1'))
        with pytest.raises(StateError, match=r"manifest\.json is not what was written"):
            load_state(path, METRICS[kind].new_state("real", resolution=(16, 16), source="test", seed=1))

    def test_digests_are_laid_out_for_sha256sum(self, stored):
        _, path = stored
        digest, name = (path / "manifest.sha256").read_text().split()
        assert digest == hashlib.sha256((path / name).read_bytes()).hexdigest()

    def test_an_earlier_format_is_refused_with_what_to_do(self, stored):
        kind, path = stored
        rewrite(path, lambda manifest, _: manifest.update(format=2))
        (path / "manifest.sha256").unlink()
        with pytest.raises(
            StateError, match=r"has format 2 of an earlier version.*make it again with pgmetrics stats"
        ):
            load_state(path, fresh(kind))


class TestOpenedFiles:
    @pytest.mark.parametrize("put", ["link", "pipe", "directory", "device", "pickle", "archive"])
    def test_no_array_comes_from_elsewhere(self, stored, tmp_path, put):
        kind, path = stored
        array = max(path.glob("*.npy"), key=lambda each: each.stat().st_size)
        outside = tmp_path / "outside.npy"
        shutil.move(array, outside)
        {
            # The very bytes that are expected, so that the digest alone would let it pass.
            "link": lambda: array.symlink_to(outside),
            "pipe": lambda: os.mkfifo(array),
            "directory": array.mkdir,
            "device": lambda: array.symlink_to("/dev/zero"),
            "pickle": lambda: np.save(array, np.array([os.system], object), allow_pickle=True),
            "archive": lambda: array.write_bytes(archive(tmp_path)),
        }[put]()
        with pytest.raises(StateError, match=f"{path} is damaged: {array.name}"):
            load_state(path, fresh(kind))

    @pytest.mark.parametrize("name", ["manifest.json", "manifest.sha256"])
    @pytest.mark.parametrize("put", ["link", "pipe"])
    def test_the_manifest_and_its_digest_come_from_the_directory_too(self, stored, tmp_path, name, put):
        kind, path = stored
        shutil.move(path / name, tmp_path / name)
        if put == "link":
            (path / name).symlink_to(tmp_path / name)
        else:
            os.mkfifo(path / name)
        with pytest.raises(StateError, match=f"{path} is damaged.*{name} cannot be read.*{put}"):
            load_state(path, fresh(kind))
        with pytest.raises(StateError, match=name):
            open_statistics(str(path))

    def test_the_directory_itself_may_be_a_link(self, stored, tmp_path):
        kind, path = stored
        (tmp_path / "link").symlink_to(path)
        assert load_state(tmp_path / "link", fresh(kind)).seen == filled(kind).seen

    def test_names_cannot_lead_out_of_the_directory(self, stored, tmp_path):
        kind, path = stored
        shutil.copytree(path, tmp_path / "other")

        def climb(_, state):
            name = next(iter(state["arrays"]))
            state["arrays"][f"/../../other/{name}"] = state["arrays"].pop(name)

        rewrite(path, climb)
        with pytest.raises(StateError, match="a part of its manifest"):
            load_state(path, fresh(kind))


def archive(directory):
    np.savez(directory / "a.npz", a=np.zeros(3))
    return (directory / "a.npz").read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest, state: manifest.update(states=[1]),
        lambda manifest, state: manifest.update(about=None),
        lambda manifest, state: state.update(key=[1]),
        lambda manifest, state: state["key"].pop("source"),
        lambda manifest, state: state.update(arrays=["starts"]),
        lambda manifest, state: next(iter(state["arrays"].values())).pop("shape"),
        lambda manifest, state: next(iter(state["arrays"].values())).update(dtype=None),
        lambda manifest, state: next(iter(state["arrays"].values())).pop("sha256"),
        *(
            lambda manifest, state, seen=seen: state.update(seen=seen)
            for seen in (
                None, [["a", "b"]], [[0, 12.0]], [[-12, 0]], [[12, 0]], [[0, True]], [[0, 8], [4, 12]],
                [[0, 10**12]], [[1000, 1012]], [[0, 4], [5, 13]], [],
            )
        ),
    ],
)  # fmt: skip
def test_a_manifest_that_says_what_cannot_be_is_refused_in_one_line(stored, change):
    kind, path = stored
    rewrite(path, change)
    with pytest.raises(StateError) as refusal:
        load_state(path, fresh(kind))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"format": NaN}', '{"format": 3e999}', "[]", "null", "\udc80"]
)
def test_a_manifest_that_is_no_json_object_is_refused(stored, text):
    _, path = stored
    (path / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(StateError, match=r"manifest\.json cannot be read"):
        StoredStates(path)


def put(name, place, value):
    """An array with one value changed."""

    def change(arrays):
        arrays[name] = arrays[name].copy()
        arrays[name].reshape(-1)[place] = value

    return change


@pytest.mark.parametrize(
    ("kind", "change", "fact"),
    [
        ("swd", put("descriptors_16", 5, np.nan), "'descriptors_16' has values that are not finite"),
        ("swd", put("descriptors_16", 5, 1e30), "level 16 has descriptors or moments that no images"),
        ("swd", put("moments_16", 3, -1e-9), "level 16 has descriptors or moments that no images"),
        ("swd", put("moments_16", 0, 1e9), "level 16 has descriptors or moments that no images"),
        ("swd", put("starts", 1, 0), "'starts' does not cut the 12 images"),
        ("swd", put("starts", 1, 13), "'starts' does not cut the 12 images"),
        ("swd", lambda arrays: arrays.pop("starts"), "'starts' is missing"),
        ("swd", lambda arrays: arrays.update(starts=arrays["starts"].astype(float)), "'starts' is float64"),
        ("swd", lambda arrays: arrays.update(moments_16=arrays["moments_16"][:-1]), r"float64 \[11, 2, 3\]"),
        ("ms-ssim", put("scores", 0, 1.001), "scores of pairs are between 0 and 1"),
        ("ms-ssim", put("scores", 0, -1e-9), "scores of pairs are between 0 and 1"),
        ("ms-ssim", put("scores", 0, np.nan), "'scores' has values that are not finite"),
        ("ms-ssim", put("lengths", 0, 3), "'lengths' is not that of the pairs of 12 images"),
        ("ms-ssim", put("starts", 1, 7), "start at even images"),
        ("rows", put("rows", 3, np.inf), "'rows' has values that are not finite"),
        ("rows", lambda arrays: arrays.update(rows=arrays["rows"].astype(np.float64)), "'rows' is float64"),
        ("rows", put("starts", 0, 1), "'starts' does not cut the 20 images"),
        ("moments", put("means", 0, np.nan), "'means' has values that are not finite"),
        ("moments", put("scatters", 1, 1e6), "scatter of group 0 is not symmetric"),
        (
            "moments",
            put("scatters", 0, -1.0),
            "scatter of group 0 has no features or a negative sum of squares",
        ),
        ("moments", put("scatters", [1, 5], 1e6), "scatter of group 0 has features that are correlated"),
        ("moments", put("numbers", 2, 10**15), "groups of .* images were stored"),
        ("moments", put("counts", [0, 1], [65, 63]), "groups of .* images were stored"),
        ("moments", put("counts", [0, 1], [133, -5]), "groups of .* images were stored"),
        ("moments", put("waiting_starts", 0, 128), "rows that wait for others"),
        (
            "moments",
            put("waiting_lengths", 0, -18),
            r"'waiting_rows' is float64 \[18, 5\], not float64 \[-18",
        ),
        (
            "moments",
            lambda arrays: arrays.update(waiting_rows=arrays["waiting_rows"][:, :4]),
            "4 and 5 features",
        ),
    ],
)
def test_arrays_that_no_images_have_are_refused_where_they_are_used(kind, change, fact):
    # Also with digests that are right: a file that somebody made is checked like one that was damaged.
    state = filled(kind)
    arrays = dict(state.arrays())
    change(arrays)
    into = fresh(kind)
    with pytest.raises(StateError, match=fact):
        into.restore(arrays, state.seen)
    # What a refused state has taken in would be added to by whoever fills it from the images instead.
    assert len(into.seen) == 0
    assert all(array.size == 0 for array in into.arrays().values())


def test_given_moments_are_checked_when_they_are_read_back(tmp_path):
    state = type(fresh("moments")).from_moments(np.zeros(3), np.eye(3), fresh("moments").key, count=9)
    save_state(state, tmp_path / "s")
    assert load_state(tmp_path / "s", fresh("moments")).count == 9
    for arrays, seen in (
        ({**state.arrays(), "count": np.array(-9)}, IndexSet()),
        ({**state.arrays(), "covariance": -np.eye(3)}, IndexSet()),
        ({**state.arrays(), "covariance": np.eye(4)}, IndexSet()),
        (state.arrays(), IndexSet([(0, 9)])),
    ):
        with pytest.raises(StateError):
            fresh("moments").restore(arrays, seen)


class TestCache:
    """A damaged entry is a miss that says why: the numbers are those without a cache."""

    @pytest.fixture
    def score(self, tmp_path):
        images = pixels(24).permute(0, 2, 3, 1).numpy()
        np.save(tmp_path / "real.npy", images)
        np.save(tmp_path / "fake.npy", images[::-1] // 2)

        def score(metric, cache):
            real, fake = (str(tmp_path / f"{side}.npy") for side in ("real", "fake"))
            return evaluate(real, fake, [metric], cache=cache, device="cpu", workers=0).rows

        return score

    @pytest.mark.parametrize("kind", ["swd", "ms-ssim"])
    def test_a_flipped_bit_is_a_miss_and_the_entry_is_made_again(self, score, tmp_path, caplog, kind):
        caplog.set_level(logging.INFO, "pgmetrics")
        cache = tmp_path / "cache"
        uncached = score(METRICS[kind], None)
        assert score(METRICS[kind], cache) == uncached
        (entry,) = cache.iterdir()
        for number, name in enumerate(sorted(each.name for each in entry.iterdir())):
            whole = (entry / name).read_bytes()
            damaged = bytearray(whole)
            bit = int(seeding.generator(0, Stream.RESAMPLING, number).integers(0, 8 * len(whole)))
            damaged[bit // 8] ^= 1 << bit % 8
            (entry / name).write_bytes(damaged)
            caplog.clear()
            assert score(METRICS[kind], cache) == uncached
            assert "cache miss" in caplog.text
            assert name in caplog.text
            assert (entry / name).read_bytes() == whole
        caplog.clear()
        assert score(METRICS[kind], cache) == uncached
        assert "cache hit" in caplog.text

    def test_an_entry_of_an_earlier_format_is_made_again(self, score, tmp_path, caplog):
        caplog.set_level(logging.INFO, "pgmetrics")
        uncached = score(METRICS["ms-ssim"], tmp_path / "cache")
        (entry,) = (tmp_path / "cache").iterdir()
        rewrite(entry, lambda manifest, _: manifest.update(format=2))
        (entry / "manifest.sha256").unlink()
        assert score(METRICS["ms-ssim"], tmp_path / "cache") == uncached
        assert "cache miss: ms-ssim: " in caplog.text
        assert "format 2" in caplog.text
        assert json.loads((entry / "manifest.json").read_text())["format"] == 3
