"""What a run that was logged offline would send to wandb."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

BLOCK = 32768
"""Bytes of a block of LevelDB's log format, which the file is in after a header of its own."""


def wandb_lines(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics of an offline run's folder, in order."""
    (path,) = folder.glob("*.wandb")
    lines = []
    for data in _records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.HasField("history"):
            items = record.history.item
            keys = [item.key or item.nested_key[0] for item in items]
            values = [json.loads(item.value_json) for item in items]
            lines.append(dict(zip(keys, values, strict=True)))
    return lines


def _records(data: bytes) -> Iterator[bytes]:
    """The whole records; each part of one has a checksum, its length and its kind before it."""
    at, parts = 7, b""
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:  # no room for a part: the block is filled up
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""
