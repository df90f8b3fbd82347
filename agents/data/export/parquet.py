"""Rows of pairs as Parquet, which `datasets` of any version since 2 reads with decoded images."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from dig_env.drawing import png
from dig_env.scenes import Pair

ROWS_AT_ONCE = 50
"""Rows that are in memory at once."""

STRING, INT = pa.string(), pa.int64()
IMAGE_LIST = pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
MESSAGES = pa.list_(pa.struct([("role", STRING), ("content", STRING)]))
BOXES = pa.list_(pa.list_(pa.float64()))

# `datasets` 4 calls a list "List", which 3 does not know; both know "Sequence" and "_type"-less
# lists. All features must be named once one is.
_FEATURES = {
    STRING: {"dtype": "string", "_type": "Value"},
    INT: {"dtype": "int64", "_type": "Value"},
    IMAGE_LIST: {"feature": {"_type": "Image"}, "_type": "Sequence"},
}


def write_parquet(
    file: Path | BinaryIO, columns: dict[str, pa.DataType], rows: Iterable[dict]
) -> None:
    """Write rows, some at a time.

    Args:
        file: where to; its folder exists.
        columns: name and type of each; one of type ``IMAGE_LIST`` is decoded by `datasets`.
        rows: values under the names of ``columns``.
    """
    features = {name: _feature(kind) for name, kind in columns.items()}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    schema = pa.schema(list(columns.items())).with_metadata(metadata)
    rows = iter(rows)
    with pq.ParquetWriter(file, schema, compression="none") as writer:
        while group := list(itertools.islice(rows, ROWS_AT_ONCE)):
            writer.write_table(pa.Table.from_pylist(group, schema))


def image_cells(pair: Pair) -> list[dict[str, Any]]:
    """Both images as a cell of type ``IMAGE_LIST``."""
    images = (pair.image_a, pair.image_b)
    return [{"bytes": png(image, compress_level=1), "path": None} for image in images]


def _feature(kind: pa.DataType) -> Any:
    if kind in _FEATURES:
        return _FEATURES[kind]
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    if pa.types.is_list(kind):
        inner = _feature(kind.value_type)
        # A "Sequence" of named fields would turn into named sequences.
        if pa.types.is_struct(kind.value_type):
            return [inner]
        return {"feature": inner, "_type": "Sequence"}
    return {"dtype": "float64", "_type": "Value"}
