"""Lossless image formats for datasets: time to decode and encode, and size.

python benchmarks/image_formats.py --out docs/results/image_formats.json
"""

from __future__ import annotations

import io
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from PIL import Image

from dig_env.agents.reporting.report import write_results
from dig_env.scenes import STAGES, Renderer, RenderSettings, available_cores, plan_pair

FORMATS: dict[str, dict[str, Any]] = {
    "PNG, level 1": {"format": "PNG", "compress_level": 1},
    "PNG, level 6": {"format": "PNG", "compress_level": 6},
    "PNG, level 9": {"format": "PNG", "compress_level": 9},
    "WebP, method 0, effort 0": {"format": "WEBP", "lossless": True, "method": 0, "quality": 0},
    "WebP, method 2, effort 0": {"format": "WEBP", "lossless": True, "method": 2, "quality": 0},
    "WebP, method 2, effort 25": {"format": "WEBP", "lossless": True, "method": 2, "quality": 25},
    "WebP, method 6, effort 100": {"format": "WEBP", "lossless": True, "method": 6, "quality": 100},
}


def main(images: int = 10, out: Path = Path("docs/results/image_formats.json")) -> None:
    """Encode and decode the same pictures in each format.

    Args:
        images: 320x240 standard pictures.
        out: file for the results.
    """
    with Renderer(RenderSettings(device="cpu"), None) as renderer:
        pairs = renderer.imap(plan_pair(seed, STAGES["mixed"]) for seed in range(images))
        pictures = [Image.fromarray(pair.image_b) for pair in pairs]
    rows = []
    for name, options in FORMATS.items():
        files = [_encoded(picture, options) for picture in pictures]
        rows.append(
            {
                "format": name,
                "decode_ms": _milliseconds(lambda: [_decoded(file) for file in files], images),  # noqa: B023
                "encode_ms": _milliseconds(
                    lambda: [_encoded(picture, options) for picture in pictures],  # noqa: B023
                    images,
                ),
                "kilobytes": round(float(np.mean([len(file) for file in files])) / 1e3, 1),
            }
        )
        print(rows[-1])
    table = {
        "command": "python benchmarks/image_formats.py",
        "machine": f"{available_cores()} cores, {platform.machine()}",
        "rows": rows,
    }
    bars = {row["format"]: row["decode_ms"] for row in rows}
    write_results(out, table, "milliseconds to decode an image", bars)


def _encoded(picture: Image.Image, options: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, **options)
    return stream.getvalue()


def _decoded(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file)))


def _milliseconds(work: Callable[[], Any], images: int) -> float:
    """An image, the best of three rounds."""
    seconds = []
    for _ in range(3):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return round(1e3 * min(seconds) / images, 2)


if __name__ == "__main__":
    tyro.cli(main)
