"""PyTorch files that would keep torch.load busy for years, or fill the memory, are refused at once."""

import io
import pickle
import tarfile
import zipfile

import pytest
import torch

from pgmetrics.errors import SourceError
from reference_models.progan.importers.torch_bounds import check_bounds
from reference_models.progan.importers.torch_files import read_torch
from reference_models.progan.model.foreign_files import TORCH_BEFORE_ZIP

NESTED = "nested far deeper, or repeat far more"


def in_zip(content, method=zipfile.ZIP_STORED, **more):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in {"a/data.pkl": content, "a/version": b"3\n", **more}.items():
            archive.writestr(name, data)
    return file.getvalue()


def as_before_2020(content):
    return TORCH_BEFORE_ZIP + b"\x80\x02M\xe9\x03." + b"\x80\x02}." + content + b"\x80\x02]."


def doubled(levels, twice):
    """A pickle's value that holds the one before it twice, and so on, by the opcodes that put it so."""
    return b"K\x01" + b"".join(b"q\x00h\x00" + twice for _ in range(levels))


TUPLES = b"\x86"


def lists(levels):
    return b"]" + b"q\x00](h\x00h\x00e" * levels


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [in_zip, as_before_2020])
@pytest.mark.parametrize(
    "content",
    [
        # The hash of a key: 780 bytes took two minutes, and twice that for each level more.
        b"\x80\x02}" + doubled(200, TUPLES) + b"K\x01s.",
        b"\x80\x02}" + doubled(40, TUPLES) + b"K\x01s.",
        # The text of what torch refuses to call: a minute for 10 kB.
        b"\x80\x02" + lists(40) + b")R.",
        # Filled from the outside inwards, so that each is empty when another takes it.
        b"\x80\x02" + b"".join(b"]q" + bytes([k]) for k in range(60))
        + b"".join(b"h" + bytes([k]) + b"(" + (b"h" + bytes([k + 1])) * 2 + b"e" for k in range(59))
        + b"h\x00)R.",
        # Deep tuples alone would end the process: their hash has no limit to its depth.
        b"\x80\x02}" + b"K\x01" + b"\x85" * 100_000 + b"K\x01s.",
        b"\x80\x02}(" + b"X\x00\x00\x10\x00" + b"x" * 2**20 + b"q\x00" + b"h\x00" * 90_000 + b"tK\x01s.",
    ],
    ids=["tuples", "few tuples", "lists", "outside in", "deep", "long text"],
)  # fmt: skip
def test_values_that_repeat_without_end_are_refused(wrap, content):
    with pytest.raises(SourceError, match=NESTED):
        check_bounds(wrap(content))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (in_zip(b"\x80\x02]q\x00h\x00a."), "holds itself"),
        (in_zip(b"\x80\x02" + b"N0" + b"N."), "uses POP"),
        (in_zip(b"\x80\x02" + b"N\x85" * 100_001 + b"."), "more than 200,000 steps"),
        (in_zip(b"\x80\x02h\x05."), "damaged"),
        (in_zip(b"\x80\x02("), "damaged"),
        (in_zip(pickle.dumps({}), **{"a/data/0": bytes(100)})[:-30], "damaged"),
        (in_zip(b"\x80\x02}.", zipfile.ZIP_DEFLATED, **{"a/data/0": bytes(2**20)}), "members are deflated"),
        (as_before_2020(b"\x80\x02}")[:-5], "damaged"),
    ],
)
def test_files_that_torch_does_not_write_are_refused(data, reason):
    with pytest.raises(SourceError, match=reason):
        check_bounds(data)


def test_members_that_share_their_bytes_are_refused():
    # A thousand names of one member would be loaded as a thousand storages.
    data = bytearray(in_zip(b"\x80\x02}.", **{"a/data/0": bytes(1000)}))
    entry = data.rindex(b"PK\x01\x02")
    for field in (20, 24):
        data[entry + field : entry + field + 4] = (10**6).to_bytes(4, "little")
    with pytest.raises(SourceError, match="more bytes than the file"):
        check_bounds(bytes(data))


def test_a_tar_behind_the_mark_of_a_pickle_is_refused():
    # torch reads it as a tar, whatever pickles it seems to begin with.
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    with pytest.raises(SourceError, match="it is a tar"):
        check_bounds(file.getvalue())


@pytest.mark.parametrize("zipped", [True, False])
def test_a_training_checkpoint_is_read(zipped):
    network = torch.nn.Sequential(*(torch.nn.Conv2d(4, 4, 3) for _ in range(40)))
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.zeros(1, 4, 99, 99)).sum().backward()
    optimizer.step()
    file = io.BytesIO()
    content = {
        "state_dict": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "config": {"a": [1, (2, "x")]},
    }
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    read = read_torch(file.getvalue())
    assert list(read) == list(content)
    assert torch.equal(read["state_dict"]["7.weight"], network[7].weight)
