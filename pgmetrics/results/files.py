"""Read and write the files of results: CSV and Parquet, and the check of a destination before any work."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any

from pgmetrics.errors import OptionError, PgmetricsError, StateError, encodable
from pgmetrics.runtime.files import check_writable, dump_json, open_regular, parse_json, resolved

FORMAT_OF_SUFFIX = {
    ".csv": "csv",
    ".json": "json",
    ".md": "markdown",
    ".txt": "table",
    ".tex": "latex",
    ".parquet": "parquet",
}
_PROVENANCE = b"pgmetrics"


def check_destination(path: str | os.PathLike[str], inputs: Iterable[object] = ()) -> str:
    """Refuse a file that `Results.save` could not write, before time is spent on computing its content.

    Args:
        path: the file to write.
        inputs: the inputs of the computation; the file must not overwrite any of them.

    Returns:
        The format that the suffix names.

    Raises:
        OptionError: the suffix is not .csv, .json, .md, .txt, .tex or .parquet.
        PgmetricsError: the directory is missing or not writable, the file is an input, or the format is
            Parquet and pyarrow is not installed.
    """
    suffix = resolved(path).suffix.lower()
    if suffix not in FORMAT_OF_SUFFIX:
        raise OptionError(f"{os.fspath(path)}: the suffix names the format: {', '.join(FORMAT_OF_SUFFIX)}")
    check_writable(path, inputs)
    if suffix == ".parquet":
        _parquet(os.fspath(path))
    return FORMAT_OF_SUFFIX[suffix]


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Return rows as CSV in valid UTF-8: floats are exact when read back, and missing values are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return encodable(text.getvalue())


def to_parquet(frame: Any, provenance: Mapping[str, Any], name: str) -> bytes:
    """Return a pandas frame as a Parquet file that carries the provenance in its schema metadata.

    Raises:
        PgmetricsError: pyarrow is not installed.
    """
    parquet = _parquet(name)
    import pyarrow

    table = pyarrow.Table.from_pandas(frame, preserve_index=False)
    about = dump_json(provenance).encode()
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), _PROVENANCE: about})
    file = io.BytesIO()
    parquet.write_table(table, file)
    return file.getvalue()


def from_parquet(path: str | os.PathLike[str], columns: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
    """Read the rows and the provenance of a file that `to_parquet` wrote.

    Raises:
        StateError: the file is something else.
        PgmetricsError: the file cannot be read, or pyarrow is not installed.
    """
    parquet = _parquet(os.fspath(path))
    import pyarrow

    try:
        with open_regular(path) as file:
            table = parquet.read_table(file)
    except OSError as error:
        raise PgmetricsError(f"{os.fspath(path)} cannot be read: {error.strerror or error}") from error
    except pyarrow.ArrowException as error:
        raise StateError(f"not a result: {' '.join(str(error).split())}") from error
    if missing := set(columns) - set(table.column_names):
        raise StateError(f"not a result: it has no column {', '.join(sorted(missing))}")
    try:
        provenance = parse_json((table.schema.metadata or {}).get(_PROVENANCE, b"{}"))
    except ValueError as error:
        raise StateError(f"not a result: its provenance cannot be read ({error})") from error
    return table.select(list(columns)).to_pylist(), provenance


def _parquet(name: str) -> ModuleType:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise PgmetricsError(f"{name}: Parquet needs pyarrow; pip install pyarrow brings it") from error
    module: ModuleType = pyarrow.parquet
    return module
