"""A pair as one row of a Parquet file, and back, to the last bit.

Images are lossless WebP, which decodes faster than PNG and is smaller
(``benchmarks/image_formats.py``). Object-ID masks are PNG, the one lossless
format that keeps a single channel. Nothing else is compressed, so that a row can be read alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from dig_env.scenes.measure.pair import Box, Certificate, Difference, Pair
from dig_env.scenes.photos.plan import PhotoPlan
from dig_env.scenes.plans.plan import PairPlan, Plan
from dig_env.scenes.render.settings import MAX_SIDE_PX

PICTURE_FORMATS = {"image_a": "WEBP", "ids_a": "PNG", "image_b": "WEBP", "ids_b": "PNG"}
"""The columns that hold pictures, in the order of their joint checksum, and their formats."""
ROWS_PER_GROUP = 10
"""Rows that are read together; with 100 a single row takes twice as long, with 1 the footer grows
to 3 % of the file."""

# The layout that Hugging Face's `datasets` gives an Image; the path stays empty.
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_BOX = pa.list_(pa.float64())
_ARROW = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    Box: _BOX,
    Box | None: _BOX,
}


def _struct_of(cls: type) -> pa.DataType:
    return pa.struct([(name, _ARROW[hint]) for name, hint in get_type_hints(cls).items()])


SCHEMA = pa.schema(
    [
        ("pair_seed", pa.int64()),
        ("stage", pa.string()),
        ("image_a", _IMAGE),
        ("image_b", _IMAGE),
        ("ids_a", _IMAGE),
        ("ids_b", _IMAGE),
        ("differences", pa.list_(_struct_of(Difference))),
        ("certificate", _struct_of(Certificate)),
        ("plan", pa.string()),
        ("pixels_sha256", pa.string()),
    ]
)

# What makes `datasets` decode the pictures; it infers the other features from the Arrow types.
_HUGGINGFACE = {"info": {"features": {name: {"_type": "Image"} for name in PICTURE_FORMATS}}}


def encode(pair: Pair, stage: str) -> dict[str, Any]:
    """The row of a pair: plain values under the names of ``SCHEMA``."""
    return {
        "pair_seed": pair.plan.seed,
        "stage": stage,
        "image_a": _to_webp(pair.image_a),
        "image_b": _to_webp(pair.image_b),
        "ids_a": _to_png(pair.ids_a),
        "ids_b": _to_png(pair.ids_b),
        "differences": [dataclasses.asdict(diff) for diff in pair.differences],
        "certificate": dataclasses.asdict(pair.certificate),
        "plan": json.dumps(pair.plan.to_json()),
        "pixels_sha256": pixels_sha256(pair),
    }


def decode(row: dict[str, Any]) -> Pair:
    """The pair of a row.

    Raises:
        Exception: of many kinds, since a damaged row can break any of the decoders.
    """
    pixels = {name: _pixels(row[name]["bytes"], kind) for name, kind in PICTURE_FORMATS.items()}
    return Pair(
        differences=tuple(_difference(fields) for fields in row["differences"]),
        certificate=Certificate(**row["certificate"]),
        plan=_plan(row["plan"]),
        **pixels,
    )


def pixels_sha256(pair: Pair) -> str:
    """SHA-256 of the raw bytes of image_a, ids_a, image_b and ids_b, one after the other."""
    digest = hashlib.sha256()
    for name in PICTURE_FORMATS:
        digest.update(np.ascontiguousarray(getattr(pair, name)).data)
    return digest.hexdigest()


def to_parquet(rows: list[dict[str, Any]], origin: dict[str, Any]) -> bytes:
    """The bytes of a Parquet file: the same for the same rows, however they were collected.

    Args:
        rows: what ``encode`` gave.
        origin: JSON values that say where the rows come from; ``read_origin`` gives them back.
    """
    metadata = {"huggingface": json.dumps(_HUGGINGFACE), "dig_env": json.dumps(origin)}
    table = pa.Table.from_pylist(rows, SCHEMA.with_metadata(metadata))
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        row_group_size=ROWS_PER_GROUP,
        compression="none",
        use_dictionary=False,
        write_statistics=["pair_seed", "stage"],
        write_page_checksum=True,  # damaged WebP is decoded to other pixels
    )
    return sink.getvalue().to_pybytes()


def read_origin(path: Path) -> tuple[dict[str, Any], int]:
    """A file's origin, as given to ``to_parquet``, and its number of rows.

    Raises:
        ValueError, OSError, KeyError: the file is damaged, or not one of ours.
    """
    metadata = pq.read_metadata(path)
    return json.loads((metadata.metadata or {})[b"dig_env"]), metadata.num_rows


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All rows of a file."""
    with _open(path) as file:
        return file.read(use_threads=False).to_pylist()


def read_row(path: Path, index: int) -> dict[str, Any]:
    """One row of a file, in about half a millisecond, from any thread."""
    group, place = divmod(index, ROWS_PER_GROUP)
    with _open(path, memory_map=True) as file:
        return file.read_row_group(group, use_threads=False).slice(place, 1).to_pylist()[0]


def read_changes(path: Path) -> list[list[str]]:
    """The change types of each row's differences, without a look at the pictures."""
    with _open(path) as file:
        rows = file.read(["differences.list.element.change"], use_threads=False).to_pylist()
    return [[difference["change"] for difference in row["differences"]] for row in rows]


def read_column(path: Path, name: str) -> list[Any]:
    """A plain column of a file, such as "plan", without a look at the pictures."""
    with _open(path) as file:
        return file.read([name], use_threads=False)[name].to_pylist()


def _open(path: Path, memory_map: bool = False) -> pq.ParquetFile:
    return pq.ParquetFile(path, memory_map=memory_map, page_checksum_verification=True)


def _pixels(content: bytes, kind: str) -> np.ndarray:
    # Pillow would try all its decoders on bytes that may come from anywhere.
    with Image.open(io.BytesIO(content), formats=[kind]) as picture:
        if max(picture.size) > MAX_SIDE_PX:
            raise ValueError(
                f"a picture of {picture.size} pixels; {MAX_SIDE_PX} a side are allowed"
            )
        return np.asarray(picture)


def _difference(fields: dict[str, Any]) -> Difference:
    """Parquet has no tuples: turn the lists of the boxes back into them."""
    values: dict[str, Any] = {
        key: tuple(val) if isinstance(val, list) else val for key, val in fields.items()
    }
    return Difference(**values)


def _plan(text: str) -> Plan:
    fields = json.loads(text)
    return PhotoPlan.from_json(fields) if "photo" in fields else PairPlan.from_json(fields)


def _to_webp(image: np.ndarray) -> dict[str, Any]:
    return _encoded(image, format="WEBP", lossless=True, method=2, quality=0)


def _to_png(ids: np.ndarray) -> dict[str, Any]:
    return _encoded(ids, format="PNG")


def _encoded(array: np.ndarray, **options: Any) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, **options)
    return {"bytes": buffer.getvalue(), "path": None}
