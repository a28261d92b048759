import ast
import gc
import io

import numpy as np
import pytest
from numpy.lib import format as npy

from pgmetrics.runtime.npy_headers import read_npy_header

SHAPES = [(), (0,), (7,), (3, 4), (2, 3, 4, 5), (10**6, 3, 1024, 1024)]
DTYPES = ["|u1", "<f4", ">f8", "<i8", "|b1", "<f2", "<c16", "<U12", "|S7", "|O"]


def header(shape, dtype, fortran_order=False, version=(1, 0)):
    stream = io.BytesIO()
    described = {"descr": dtype, "fortran_order": fortran_order, "shape": shape}
    write = npy.write_array_header_1_0 if version == (1, 0) else npy.write_array_header_2_0
    write(stream, described)
    return stream.getvalue()


class TestReadNpyHeader:
    @pytest.mark.parametrize("version", [(1, 0), (2, 0)])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_it_reads_what_numpy_writes_and_numpy_reads(self, dtype, version):
        for shape in SHAPES:
            for fortran_order in (False, True):
                stream = io.BytesIO(header(shape, dtype, fortran_order, version) + b"data")
                assert read_npy_header(stream) == (shape, fortran_order, np.dtype(dtype))
                assert stream.read() == b"data"

    def test_it_reads_a_header_of_python_2(self):
        text = header((3, 4), "<f4").replace(b"(3, 4), ", b"(3L, 4L),")
        stream = io.BytesIO(text)
        assert read_npy_header(stream)[0] == (3, 4)

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (lambda text: text[:5], "magic"),
            (lambda text: text[:40], "not that of a plain array"),
            (lambda text: text.replace(b"(3, 4)", b"(3,,4)"), "not that of a plain array"),
            (lambda text: text.replace(b"(3, 4)", b"(3,-4)"), "not that of a plain array"),
            (lambda text: text.replace(b"<f4", b"<f3"), "unknown dtype"),
            (lambda text: text[:6] + b"\x07\x00" + text[8:], "version 7.0 is unknown"),
            (lambda text: text[:6] + b"\x02\x00\xff\xff\xff\x7f" + text[12:], "claims 2,147,483,647 bytes"),
        ],
    )
    def test_a_damaged_one_is_refused(self, damage, message):
        with pytest.raises(ValueError, match=message):
            read_npy_header(io.BytesIO(damage(header((3, 4), "<f4"))))

    def test_a_structured_dtype_is_refused(self):
        stream = io.BytesIO()
        np.save(stream, np.zeros(3, [("a", "f4"), ("b", "i8")]))
        stream.seek(0)
        with pytest.raises(ValueError, match="plain array"):
            read_npy_header(stream)

    def test_a_collector_that_parses_does_not_disturb_it(self):
        # Python 3.11.7 raises SystemError for NumPy's own reader: "AST constructor recursion depth mismatch".
        def parse(phase, info):
            ast.parse("a = 1")

        text, thresholds = header((3, 4), "<f4"), gc.get_threshold()
        gc.callbacks.append(parse)
        gc.set_threshold(1, 1, 1)
        try:
            assert read_npy_header(io.BytesIO(text)) == ((3, 4), False, np.dtype("<f4"))
        finally:
            gc.callbacks.remove(parse)
            gc.set_threshold(*thresholds)
