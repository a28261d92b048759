"""Pickles are read as data: every protocol of a network, and nothing else, and nothing of them is run."""

from __future__ import annotations

import contextlib
import pickle
import struct

import numpy as np
import pytest
import torch

from pgmetrics.errors import SourceError
from reference_models.progan.importers import import_network
from reference_models.progan.importers.unpickling import MAX_OPCODES, loads
from tests.helpers.foreign_networks import imported, refuses
from tests.helpers.official_snapshots import TINY, changed_variable, snapshot


def test_pickles_of_older_numpy_and_older_protocols_are_read(pickled, out):
    path = pickled(snapshot(TINY))
    g = imported(path, out)[1]
    # NumPy called its module numpy.core until version 2; frames have no length for us.
    new, old = (name.encode() for name in ("numpy._core.multiarray", "numpy.core.multiarray"))
    data = path.read_bytes().replace(bytes([0x8C, len(new)]) + new, bytes([0x8C, len(old)]) + old)
    assert old in data
    assert new not in data
    path.write_bytes(data)
    assert torch.equal(imported(path, out)[1].block8.conv0.weight, g.block8.conv0.weight)
    path = pickled(snapshot(TINY), protocol=3)
    assert torch.equal(imported(path, out)[1].block8.conv0.weight, g.block8.conv0.weight)


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_and_numpy_s_integers_as_arguments_are_read(pickled, out, protocol):
    g = imported(pickled(snapshot(TINY)), out)[1]
    states = snapshot(
        TINY,
        d_arguments={"mbstd_group_size": np.int64(8)},
        resolution=np.int64(16),
        num_channels=np.int32(3),
        label_size=np.uint8(0),
        fmap_decay=np.float32(1),
        use_wscale=np.True_,
    )
    # Protocol 5 has another form for arrays whose numbers lie in a row, in either order.
    states[2]["variables"] = [
        (name, np.asfortranarray(v) if "Conv1" in name else v) for name, v in states[2]["variables"]
    ]
    path = pickled(states, protocol=protocol)
    assert (b"_frombuffer" in path.read_bytes()) == (protocol == 5)
    facts, again = imported(path, out)
    assert facts.config.mbstd_group == 8
    assert facts.config.resolution == 16
    for name, weight in g.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight)


def test_a_number_that_is_not_its_data_s_stays_refused(pickled, out):
    class Odd:
        """Pickles as an int64 of four bytes."""

        def __reduce__(self):
            function, (dtype, data) = np.int64(16).__reduce__()
            return function, (dtype, data[:4])

    refuses(pickled(snapshot(TINY, resolution=Odd())), out, "resolution is of type Made")


@pytest.mark.parametrize("module", [b"numpy.core.numeric", b"numpy._core.numeric"])
def test_frombuffer_has_the_name_of_either_numpy(pickled, out, module):
    path = pickled(snapshot(TINY), protocol=5)
    g = imported(path, out)[1]
    data = path.read_bytes()
    written = next(n for n in (b"numpy.core.numeric", b"numpy._core.numeric") if n in data)
    path.write_bytes(data.replace(bytes([0x8C, len(written)]) + written, bytes([0x8C, len(module)]) + module))
    assert torch.equal(imported(path, out)[1].block8.conv0.weight, g.block8.conv0.weight)


def test_columns_first_arrays_keep_their_places(pickled, out):
    states = snapshot(TINY)
    g = imported(pickled(states), out)[1]
    states[2]["variables"] = [
        (name, np.asfortranarray(v) if v.ndim else v) for name, v in states[2]["variables"]
    ]
    turned = imported(pickled(states), out)[1]
    assert torch.equal(turned.block8.conv0.weight, g.block8.conv0.weight)


class Runs:
    """Unpickles by calling a function, as a malicious file would."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_a_pickle_that_would_run_a_command_is_refused_and_does_not(tmp_path, out, monkeypatch):
    import os

    mark = tmp_path / "executed"
    path = tmp_path / "evil.pkl"
    for run in (Runs(os.system, f"touch '{mark}'"), Runs(exec, f"open({str(mark)!r}, 'w')")):
        for content in (run, (run, run, run), {"netG": run}):
            path.write_bytes(pickle.dumps(content, protocol=4))
            refuses(path, out, "asks for '(posix.system|builtins.exec)', .* nothing of it was run")
        torch.save({"config": run, "netG": {}}, path)
        refuses(path, out, "holds code, which was not run")
        torch.save({"config": run, "netG": {}}, path, _use_new_zipfile_serialization=False)
        refuses(path, out, "holds code, which was not run")
    assert not mark.exists()
    # The files do what they are feared for.
    path.write_bytes(pickle.dumps(Runs(os.system, f"touch '{mark}'"), protocol=4))
    pickle.loads(path.read_bytes())
    assert mark.exists()


def test_source_code_inside_a_network_stays_text(pickled, out, monkeypatch):
    states = snapshot(TINY)
    assert "SystemExit" in states[2]["build_module_src"]
    imported(pickled(states), out)


def op(text):
    return b"\x8c" + bytes([len(text)]) + text.encode()


def stack_global(module, name):
    return op(module) + op(name) + b"\x93"


RECONSTRUCT = stack_global("numpy.core.multiarray", "_reconstruct")


DTYPE = stack_global("numpy", "dtype")


NETWORK = stack_global("tfutil", "Network")


OBJECT = stack_global("builtins", "object")


@pytest.mark.parametrize(
    ("program", "fact"),
    [
        # What the five globals can be made to do elsewhere.
        (RECONSTRUCT + NETWORK + b"K\x00\x85C\x01b\x87R", "no networks of the original"),
        (NETWORK + b")R", "makes a call that no"),
        (DTYPE + b")\x81", "makes a call that no"),
        (stack_global("_codecs", "encode") + op("00") + op("hex") + b"\x86R", "makes a call that no"),
        (stack_global("_codecs", "encode") + op("x") + op("latin1") * 2 + b"\x87R", "makes a call that no"),
        (stack_global("_codecs", "encode") + b"\x8c\x02\xc4\x80" + op("latin1") + b"\x86R", "damaged"),
        (stack_global("copyreg", "_reconstructor") + DTYPE + OBJECT + b"N\x87R", "makes a call that no"),
        (stack_global("copyreg", "_reconstructor") + NETWORK + NETWORK + b"N\x87R", "makes a call that no"),
        (stack_global("builtins", "bytes") + b"K\x7f\x85R", "makes a call that no"),
        (OBJECT + b")R", "makes a call that no"),
        (stack_global("builtins", "eval"), "asks for 'builtins.eval'"),
        (stack_global("numpy", "ndarray") + b"J\xff\xff\xff\x7f\x85R", "makes a call that no"),
        (b"K\x01)R", "makes a call that no"),
        (NETWORK + b"}b", "gives a state to an object that takes none"),
        (NETWORK + b")\x81}b}b", "gives a state to an object that takes none"),
        (DTYPE + b"}b", "gives a state to an object that takes none"),
        # Other ways to a global or to a call.
        (b"cos\nsystem\n", "asks for 'os.system'"),
        (stack_global("builtins", "getattr"), "asks for 'builtins.getattr'"),
        (stack_global("tfutil", "Network.__init__"), "asks for 'tfutil.Network.__init__'"),
        (stack_global("numpy.core.multiarray", "fromfile"), "asks for 'numpy.core.multiarray.fromfile'"),
        (b"K\x01K\x02\x93", "by something that is not text"),
        (b"(S'touch x'\nios\nsystem\n", "uses STRING"),
        (b"(ios\nsystem\n", "uses INST"),
        (b"(cos\nsystem\no", "asks for 'os.system'"),
        (b"(" + NETWORK + b"o", "uses OBJ"),
        (NETWORK + b")}\x92", "uses NEWOBJ_EX"),
        (b"\x82\x01", "uses EXT1"),
        (b"Pabc\n", "uses PERSID"),
        (b"K\x01Q", "uses BINPERSID"),
        (b"\x97", "uses NEXT_BUFFER"),
        (b"K\x012", "uses DUP"),
        # The Theano version's networks.
        (b"cnetwork\nNetwork\n)\x81}b", "network of the Theano version"),
        # Structures that do not fit, and programs that take what is not there.
        (b"}K\x01K\x02s", "keys are not text"),
        (b"](K\x01K\x02u", "keys are not text"),
        (b"}(K\x01u", "keys are not text"),
        (b"K\x01K\x02a", "appends to something that is not"),
        (b"", "damaged"),
        (b"a", "damaged"),
        (b"e", "damaged"),
        (b"h\x07", "damaged"),
        (b"\x8d" + struct.pack("<Q", 2**62), "damaged"),
        (b"C\xffabc", "damaged"),
        (b"\xff", "damaged"),
        (b"\x8c\x01\xff", "damaged"),
    ],
    ids=lambda value: repr(value)[:40],
)  # fmt: skip
def test_programs_other_than_a_network_s_are_refused(tmp_path, out, program, fact):
    path = tmp_path / "file.pkl"
    path.write_bytes(b"\x80\x04" + program + b".")
    refuses(path, out, fact)


def test_what_a_class_does_when_it_is_made_is_not_done(foreign, tmp_path, out):
    # A stub found by name is still a class whose methods a pickle reaches.
    kind = foreign("tfutil", "Network")
    called = []
    kind.__setstate__ = lambda self, state: called.append(state)
    path = tmp_path / "file.pkl"
    each = kind()
    each.__dict__["x"] = 1
    path.write_bytes(pickle.dumps((each, each, each), protocol=4))
    refuses(path, out, "version None")
    assert called == []


def test_sizes_have_limits(tmp_path, out, monkeypatch):
    path = tmp_path / "file.pkl"
    path.write_bytes(b"\x80\x04" + b"K\x01" * (MAX_OPCODES + 1) + b".")
    refuses(path, out, "more than 200,000 steps")
    monkeypatch.setattr("reference_models.progan.importers.unpickling.MAX_BYTES", 100)
    refuses(path, out, "more than 100 bytes")
    with pytest.raises(SourceError, match="has 101 bytes"):
        loads(bytes(101))


@pytest.mark.parametrize(
    "shape", [(3,), (16,), (2**40,), (2**31, 2**31), (-4,), ("4",), (1,) * 4 + (4,), (0, 4)], ids=str
)
def test_shapes_that_are_not_the_data_s_are_refused(pickled, out, shape):
    class Huge:
        """Pickles as an array of 16 bytes that claims this shape."""

        def __reduce__(self):
            array = np.zeros(4, np.float32)
            function, arguments, state = array.__reduce__()
            return function, arguments, (state[0], shape, *state[2:])

    states = changed_variable(snapshot(TINY), "4x4/Conv/bias", lambda v: Huge())
    refuses(pickled(states), out, "another size than its 16 bytes")


@pytest.mark.slow
def test_deep_and_circular_pickles_end_in_a_line(tmp_path, out):
    path = tmp_path / "file.pkl"
    for program in (b")" + b"\x85" * 150_000, b"]" * 50_000 + b"a" * 49_999, b"]\x94h\x00a"):
        path.write_bytes(b"\x80\x04" + program + b".")
        refuses(path, out, "no networks of the original|0 objects")
    # Nested so deep, a key's hash would end the process.
    path.write_bytes(b"\x80\x04})" + b"\x85" * 150_000 + b"K\x01s.")
    refuses(path, out, "keys are not text")


@pytest.mark.slow
def test_no_truncation_and_no_flipped_byte_ends_in_a_traceback(pickled, out, tmp_path):
    size = {"resolution": 4, "base": 2, "most": 1, "latent": 1}
    whole = pickled(snapshot(size)).read_bytes()
    path = tmp_path / "damaged.pkl"
    for length in range(len(whole)):
        with pytest.raises(SourceError, match="damaged or was cut short"):
            loads(whole[:length])
    for position in range(1, len(whole), 7):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        with contextlib.suppress(SourceError):
            import_network(path, out)
