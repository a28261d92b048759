"""A flipped bit in a checkpoint or a state is refused, and so is a hostile header; earlier files are read."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pgmetrics.errors import SourceError, StateError
from pgmetrics.runtime import seeding
from pgmetrics.runtime.seeding import Stream
from reference_models.progan.model import checkpoint as checkpoints
from reference_models.progan.model.checkpoint import Checkpoint
from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.layers import initialize
from reference_models.progan.model.networks import Generator
from reference_models.progan.training import resume_state as states
from reference_models.progan.training.resume_state import TrainingState

CONFIG = ProGANConfig(resolution=16, fmap_base=32, fmap_max=8, latent_size=8)
FACTS = Checkpoint(
    config=CONFIG, images_shown=12_345, resolution=8, alpha=0.25, data_fingerprint="leaves", licence="CC0 é"
)
COMMITTED = sorted(Path("benchmarks/results/progan-cifar10").glob("*.safetensors"))


@pytest.fixture
def written(tmp_path):
    generator = Generator(CONFIG)
    initialize(generator, "generator", 1)
    checkpoints.save(tmp_path / "c.safetensors", FACTS, generator)
    return tmp_path / "c.safetensors"


@pytest.fixture
def state(tmp_path):
    tensors = {"score_average": torch.tensor(0.5), "generator.weight": torch.arange(600.0).reshape(20, 30)}
    states.save(tmp_path / "s.safetensors", TrainingState(images_shown=8, skipped=3, tensors=tensors))
    return tmp_path / "s.safetensors"


def flips(path, num):
    """The file with one bit flipped, many times: half of the bits are of the header."""
    whole = path.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    for number, bits in enumerate((8 * (8 + length), 8 * len(whole))):
        for bit in seeding.generator(0, Stream.RESAMPLING, number).integers(0, bits, num // 2).tolist():
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << bit % 8
            path.write_bytes(damaged)
            yield bit
    path.write_bytes(whole)


def test_a_flipped_bit_in_a_checkpoint_is_refused(written):
    # In a weight it gave other images without a word, and in `images_shown` another moment.
    for _ in flips(written, 200):
        with pytest.raises(SourceError, match=r"c\.safetensors"):
            checkpoints.load(written)
    assert checkpoints.load(written)[0] == FACTS


def test_a_flipped_bit_in_a_header_is_refused_without_reading_the_tensors(written):
    whole = written.read_bytes()
    for name in (b"images_shown", b"12345", b"CC0", b"sha256_header", b"sha256_tensors"):
        place = whole.index(name)
        written.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(
            SourceError, match=r"c\.safetensors is damaged: its header .*SHA-256; copy it again"
        ):
            checkpoints.inspect(written)


def test_a_flipped_bit_in_a_state_is_refused(state):
    for _ in flips(state, 200):
        with pytest.raises(StateError, match=r"s\.safetensors"):
            states.load(state)
    assert states.load(state).images_shown == 8


def test_equal_files_are_equal_to_the_byte_and_safetensors_reads_them(written, state, tmp_path):
    generator = checkpoints.load(written)[1]
    for _ in range(3):
        checkpoints.save(tmp_path / "again.safetensors", FACTS, generator)
        assert (tmp_path / "again.safetensors").read_bytes() == written.read_bytes()
    assert load_file(state)["generator.weight"].sum() == 599 * 300
    with safe_open(written, "pt") as file:
        assert json.loads(file.metadata()["progan"])["licence"] == "CC0 é"


def test_files_of_earlier_versions_are_read(written, state):
    for path, key, load in ((written, "progan", checkpoints.load), (state, "progan-state", states.load)):
        with safe_open(path, "pt") as file:
            text = file.metadata()[key]
        save_file(load_file(path), path, {key: text})
        load(path)
    assert len(COMMITTED) == 4
    assert [checkpoints.inspect(path).resolution for path in COMMITTED] == [4, 8, 16, 32]
    checkpoints.load(COMMITTED[0])


def rewritten(path, about=None, header=None):
    """The file with its JSON or its header edited, without digests, as anybody could write it."""
    whole = path.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    parts = json.loads(whole[8 : 8 + length])
    facts = json.loads(parts["__metadata__"]["progan"])
    if about is not None:
        about(facts)
    parts["__metadata__"] = {"progan": json.dumps(facts)}
    if header is not None:
        header(parts)
    text = json.dumps(parts).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + whole[8 + length :])


@pytest.mark.parametrize(
    "edit",
    [
        lambda facts: facts.update(images_shown=float("inf")),
        lambda facts: facts.update(images_shown=-5),
        lambda facts: facts.update(images_shown=10**39),
        lambda facts: facts.update(images_shown=10**4000),
        lambda facts: facts.update(images_shown=16.0),
        lambda facts: facts.update(images_shown=True),
        lambda facts: facts.update(resolution=8.0),
        lambda facts: facts.update(alpha=float("nan")),
        lambda facts: facts.update(alpha="0.25"),
        lambda facts: facts.update(licence=None),
        lambda facts: facts.update(label_names="cat"),
        lambda facts: facts.update(value_range=[0, 1]),
        lambda facts: facts.update(config=None),
        lambda facts: facts.update(config=[1]),
        *(
            lambda facts, changes=changes: facts["config"].update(changes)
            for changes in (
                {"latent_size": 10**9}, {"latent_size": 3 * 10**7}, {"latent_size": 8.5},
                {"latent_size": 8.0},
                {"latent_size": float("nan")}, {"latent_size": True}, {"label_size": 10**9},
                {"resolution": 16.0}, {"resolution": 2**20, "fmap_base": 2**22}, {"resolution": 2**2000},
                {"fmap_base": 10**9, "fmap_max": 10**6}, {"fmap_decay": 1e300},
                {"fmap_decay": float("inf")},
                {"learning_rate": {"4": float("nan")}}, {"minibatch": {"4": 16.5}},
                {"minibatch": {"4": None}}, {"minibatch": {"4.0": 16}}, {"minibatch": [4]},
                {"total_images": 1e9}, {"channels": 1}, {"seed": "0"},
            )
        ),
    ],
)  # fmt: skip
def test_a_header_that_says_what_cannot_be_is_refused_in_one_line(written, edit):
    rewritten(written, about=edit)
    for read in (checkpoints.inspect, checkpoints.describe, checkpoints.load):
        with pytest.raises(SourceError) as refusal:
            read(written)
        assert "\n" not in str(refusal.value)
        assert len(str(refusal.value)) < 500


@pytest.mark.parametrize("dtype", ["I32", "U32", "\n\x1b[2J"])
def test_tensors_of_other_types_are_refused_before_anything_is_built(written, monkeypatch, dtype):
    # Integers of four bytes each passed as the weights that a generator was built with.
    def edit(parts):
        for name in set(parts) - {"__metadata__"}:
            parts[name]["dtype"] = dtype

    rewritten(written, header=edit)
    monkeypatch.setattr("reference_models.progan.model.networks.Generator", None)
    for read in (checkpoints.inspect, checkpoints.load):
        with pytest.raises(SourceError, match=r"holds tensors of type .*are F32") as refusal:
            read(written)
        assert str(refusal.value).isprintable()


def test_images_that_take_gigabytes_are_refused_before_anything_is_built(written):
    # A file of 8 kilobytes, one channel wide at 4096 x 4096, took 9 GB to sample, at 16,384 a traceback.
    def edit(facts):
        facts.update(resolution=4096)
        facts["config"].update(resolution=4096, fmap_base=2**24)

    rewritten(written, about=edit)
    with pytest.raises(SourceError, match=r"resolution.*2,?048"):
        checkpoints.inspect(written)


def in_metadata(text):
    return lambda parts: parts["__metadata__"].update(progan=text)


@pytest.mark.parametrize(
    "edit",
    [
        in_metadata("[" * 100_000),
        in_metadata("[]"),
        in_metadata("null"),
        in_metadata('{"format_version": 1, "format_version": 1}'),
        in_metadata(["x"]),
        lambda parts: parts["__metadata__"].update(other="x"),
        lambda parts: parts["block4.conv.bias"].update(data_offsets=[-100, 4]),
        lambda parts: parts["block4.conv.bias"].update(data_offsets=[0, float("inf")]),
        lambda parts: parts["block4.conv.bias"].update(shape=[2**40, 2**40]),
        lambda parts: parts["block4.conv.bias"].update(shape=None),
        lambda parts: parts["block4.conv.bias"].update(dtype="F16"),
        lambda parts: parts.update({"block4.conv.bias": []}),
        lambda parts: parts.update({"block4.conv.bias": parts["block4.conv.weight"]}),
    ],
)
def test_a_header_that_is_none_is_refused_in_one_line(written, edit):
    rewritten(written, header=edit)
    with pytest.raises(SourceError) as refusal:
        checkpoints.load(written)
    assert "\n" not in str(refusal.value)
    checkpoints.recognizes(written)  # whatever it says, without a traceback


@pytest.mark.parametrize("text", [b"[" * 200_000, b'{"a":' + b"[" * 200_000, b'{"a": 1e999}', b"\xff" * 50])
def test_a_header_that_is_no_json_is_no_checkpoint(written, text):
    written.write_bytes(struct.pack("<Q", len(text)) + text)
    assert not checkpoints.recognizes(written)
    with pytest.raises(SourceError, match="not a ProGAN checkpoint"):
        checkpoints.load(written)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_is_neither_a_checkpoint_nor_a_state(tmp_path):
    # safetensors and open() wait for a writer for ever.
    os.mkfifo(tmp_path / "p.safetensors")
    assert not checkpoints.recognizes(tmp_path / "p.safetensors")
    with pytest.raises(SourceError, match="it is a pipe"):
        checkpoints.load(tmp_path / "p.safetensors")
    with pytest.raises(StateError, match="it is a pipe"):
        states.load(tmp_path / "p.safetensors")


@pytest.mark.parametrize("count", [float("inf"), -1, 8.0, "8", None])
def test_counts_of_a_state_are_checked(state, count):
    tensors = load_file(state)
    header = {"format_version": 1, "images_shown": count, "skipped": 0}
    save_file(tensors, state, {"progan-state": json.dumps(header)})
    with pytest.raises(StateError, match="is no state of a training run"):
        states.load(state)
