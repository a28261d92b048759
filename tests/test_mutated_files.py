"""Valid files with some bytes changed are read or refused in one line: no other exception, no hang.

PGMETRICS_MUTATIONS sets the number of mutations per kind of file; 10,000 take some minutes a kind.
"""

import io
import os
import resource
import struct
import zipfile
import zlib

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgmetrics.errors import PgmetricsError
from pgmetrics.sources import open_source
from reference_models.progan.importers.torch_files import read_torch
from reference_models.progan.importers.unpickling import loads
from reference_models.progan.model import checkpoint as checkpoints
from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.layers import initialize
from reference_models.progan.model.networks import Generator
from tests.helpers.image_files import encoded, pixels
from tests.sources.test_hostile_files import claiming, deflated

MUTATIONS = int(os.environ.get("PGMETRICS_MUTATIONS", "300"))
# What a few hundred bytes may make Python and NumPy hold.
MOST_MEMORY = 2**28
NUMBERS = [
    b"\0" * 8,
    b"\xff" * 8,
    b"\xff" * 4,
    b"\x7f" + b"\xff" * 3,
    struct.pack("<Q", 2**63),
    b"[" * 80,
    b"1e999",
]
CHANGES = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(["flip", "put", "remove", "repeat", "cut"]),
        st.one_of(st.sampled_from(NUMBERS), st.binary(min_size=1, max_size=8)),
    ),
    min_size=1,
    max_size=4,
)


def mutated(data, changes):
    for share, kind, new in changes:
        place = int(share * len(data))
        if kind == "flip":
            data = data[:place] + bytes([data[place] ^ new[0]]) + data[place + 1 :] if data else data
        elif kind == "put":
            data = data[:place] + new + data[place + len(new) :]
        elif kind == "remove":
            data = data[:place] + data[place + len(new) :]
        elif kind == "repeat":
            data = data[:place] + data[max(0, place - 100) :]
        else:
            data = data[:place]
    return data


def zipped(method):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for number, image in enumerate(pixels(2)):
            archive.writestr(f"{number}.png", encoded(image))
        archive.writestr("dataset.json", '{"labels": [["0.png", 0], ["1.png", 1]]}')
    return file.getvalue()


def zip_of_64_bits(path):
    content = encoded(pixels(1)[0])
    claiming(path, "b.png", deflated(content), size=len(content), crc=zlib.crc32(content))
    return path.read_bytes()


def arrays(save):
    file = io.BytesIO()
    save(file, pixels(2))
    return file.getvalue()


def of_torch(zipped):
    file = io.BytesIO()
    content = {"state_dict": {"layer0.weight": torch.ones(2, 3), "layer0.bias": torch.zeros(2)}, "alpha": 0.5}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def checkpoint(path):
    """A checkpoint without digests, as earlier versions wrote it and anybody can."""
    from tests.reference_models.progan.model.test_seal import rewritten

    config = ProGANConfig(resolution=8, fmap_base=8, fmap_max=2, latent_size=2, label_size=2)
    generator = Generator(config)
    initialize(generator, "generator", 1)
    facts = checkpoints.Checkpoint(
        config=config, images_shown=1, resolution=8, alpha=0.5, data_fingerprint="x", licence="x",
        label_names=("a", "b"), label_distribution=(0.5, 0.5),
    )  # fmt: skip
    checkpoints.save(path, facts, generator)
    rewritten(path)
    return path.read_bytes()


def read_source(path):
    source = open_source(path)
    source.batch(range(min(len(source), 4)))
    assert source.labels is None or len(source.labels) == len(source)


FILES = {
    "zip": ("a.zip", lambda path: zipped(zipfile.ZIP_STORED), read_source),
    "deflated zip": ("a.zip", lambda path: zipped(zipfile.ZIP_DEFLATED), read_source),
    "zip of 64 bits": ("a.zip", zip_of_64_bits, read_source),
    "npy": ("a.npy", lambda path: arrays(np.save), read_source),
    "npz": ("a.npz", lambda path: arrays(np.savez_compressed), read_source),
    **{
        suffix: (
            f"images/a{suffix}",
            lambda path, s=suffix: encoded(pixels(1)[0], s),
            lambda p: read_source(p.parent),
        )
        for suffix in (".png", ".jpg", ".tif", ".gif", ".webp", ".bmp")
    },
    "checkpoint": ("a.safetensors", checkpoint, checkpoints.load),
    "torch": ("a.pth", lambda path: of_torch(True), lambda path: read_torch(path.read_bytes())),
    "old torch": ("a.pth", lambda path: of_torch(False), lambda path: read_torch(path.read_bytes())),
    "pickle": ("a.pkl", lambda path: of_torch(False)[20:], lambda path: loads(path.read_bytes())),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", FILES)
def test_mutated_files_are_read_or_refused(kind, tmp_path):
    name, make, read = FILES[kind]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    whole = make(path)

    @settings(
        max_examples=MUTATIONS, deadline=10_000, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(CHANGES)
    def mutations(changes):
        path.write_bytes(mutated(whole, changes))
        try:
            read(path)
        except PgmetricsError as refusal:
            refusals.append(str(refusal))

    refusals: list[str] = []
    path.write_bytes(whole)
    if kind != "pickle":
        read(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    mutations()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_MEMORY // 1024
    assert refusals
    assert not [refusal for refusal in refusals if "\n" in refusal]
