"""Writes a FOCUS dataset: CSV, or Parquet where pyarrow is installed, and a metadata file beside it."""

from __future__ import annotations

import csv
import datetime as dt
import io
import os
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, Final, TextIO

import msgspec

from agent.errors import FinOpsError, UsageError
from agent.files.outputs import replaceable
from exporters.focus_columns import COLUMNS, FOCUS_VERSION, PRECISION, Column, schema, schema_id

_BATCH_ROWS: Final = 20_000
_PIECE_ROWS: Final = 64              # a few milliseconds of work
_INSTANT: Final = "%Y-%m-%dT%H:%M:%SZ"
_NAMES: Final = [column.name for column in COLUMNS]
_SCALES: Final = {column.name: column.scale for column in COLUMNS if column.kind == "DECIMAL"}


class FocusTextError(Exception):
    """A text that ``write_csv`` did not write."""


def header_line() -> str:
    """The CSV's first line."""
    return next(csv_pieces(()))


def write_csv(out: TextIO, rows: Iterable[dict[str, Any]]) -> int:
    """A header and the rows, nulls as empty cells, decimals with all their digits; how many rows."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_NAMES)
    count = 0
    for row in rows:
        writer.writerow([_cell(name, row[name]) for name in _NAMES])
        count += 1
    return count


def csv_pieces(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """The same text in pieces: the header first, then some rows each."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(_NAMES)
    rows = iter(rows)
    while batch := list(islice(rows, _PIECE_ROWS)):
        writer.writerows([_cell(name, row[name]) for name in _NAMES] for row in batch)
        yield lines.getvalue()
        lines.seek(0)
        lines.truncate()
    if lines.tell():
        yield lines.getvalue()                   # a header with no row


def rows_of_csv(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """What ``write_csv`` wrote as rows again, exactly. Raises FocusTextError or csv.Error where it is something
    else."""
    found = csv.reader(lines, strict=True)
    if next(found, None) != _NAMES:
        raise FocusTextError("the columns are other ones")
    for cells in found:
        try:
            row = {column.name: _value(column, cell) for column, cell in zip(COLUMNS, cells, strict=True)}
        except (ValueError, ArithmeticError) as error:
            raise FocusTextError(str(error)) from error
        yield row


def _value(column: Column, cell: str) -> Any:
    if not cell and column.nullable:
        return None
    if column.kind == "DATETIME":
        return dt.datetime.fromisoformat(cell)
    return Decimal(cell) if column.kind == "DECIMAL" else cell


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dt.datetime):
        return value.strftime(_INSTANT)
    return format(value, f".{_SCALES[name]}f") if name in _SCALES else str(value)


def write_files(path: Path, rows: Iterator[dict[str, Any]], created: dt.datetime, version: str) -> int:
    """A dataset in a file (Parquet where its name ends so, else CSV) and its metadata in ``NAME.metadata.json``.

    Both come to be whole or not at all; what stood there before stays until then. Raises FinOpsError.
    """
    try:
        path = replaceable(path)
    except OSError as error:
        raise FinOpsError(f"{path}: cannot be written ({error.strerror}); choose another file with -o") from error
    part, metadata = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.metadata.json")
    metadata_part = path.with_name(f"{path.name}.metadata.json.part")
    parquet = path.suffix == ".parquet"
    if parquet:
        _pyarrow()
    try:
        try:
            if parquet:
                count = _write_parquet(part, rows)
            else:
                with part.open("w", encoding="utf-8", newline="") as out:
                    count = write_csv(out, rows)
            metadata_part.write_bytes(_metadata(path, count, created, version))
            metadata_part.replace(metadata)
            part.replace(path)
        finally:
            for left in (part, metadata_part):
                left.unlink(missing_ok=True)
    except OSError as error:
        raise FinOpsError(f"{path}: cannot be written ({os.strerror(error.errno) if error.errno else error}); choose another "
                          "file with -o") from error
    return count


def _metadata(path: Path, count: int, created: dt.datetime, version: str) -> bytes:
    document = {
        "DataGenerator": {"DataGenerator": "gpu-finops-agent", "DataGeneratorVersion": version},
        "Schema": {
            "SchemaId": schema_id(), "FocusVersion": FOCUS_VERSION, "CreationDate": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "DataGeneratorVersion": version, "ColumnDefinition": schema(),
        },
        "x_Dataset": {"File": path.name, "Format": "parquet" if path.suffix == ".parquet" else "csv", "Rows": count},
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _pyarrow() -> tuple[Any, Any]:
    """pyarrow and its Parquet module, loaded only when asked for: it is large, and an extra."""
    try:
        import pyarrow  # noqa: PLC0415
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError as error:
        raise UsageError("Parquet needs pyarrow, which is not installed; install gpu-finops-agent[parquet], or name a file "
                         "that ends in .csv") from error
    return pyarrow, pyarrow.parquet


def _write_parquet(path: Path, rows: Iterator[dict[str, Any]]) -> int:
    arrow, parquet = _pyarrow()
    kinds = {"STRING": arrow.string(), "JSON": arrow.string(), "DATETIME": arrow.timestamp("ms", tz="UTC")}
    table_schema = arrow.schema([
        arrow.field(c.name, arrow.decimal128(PRECISION, c.scale) if c.kind == "DECIMAL" else kinds[c.kind], nullable=c.nullable)
        for c in COLUMNS])
    count = 0
    with parquet.ParquetWriter(path, table_schema) as writer:
        while batch := list(islice(rows, _BATCH_ROWS)):
            columns = [arrow.array([_sized(name, row[name]) for row in batch], type=table_schema.field(name).type)
                       for name in _NAMES]
            writer.write_table(arrow.Table.from_arrays(columns, schema=table_schema))
            count += len(batch)
    return count


def _sized(name: str, value: Any) -> Any:
    """A decimal with its column's digits, which pyarrow wants no fewer of and no more."""
    return value if value is None or name not in _SCALES else round(value, _SCALES[name])
