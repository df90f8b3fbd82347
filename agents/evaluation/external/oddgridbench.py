"""The layout of OddGridBench (Weng et al., CVPR 2026, arXiv 2603.09326).

    test_data.json                [{"image": "image_0.png", "odd_bbox": {"x", "y", "w", "h"},
                                    "odd_type": ["color", "size"], "image_size": "[830, 640]",
                                    "answer": "Row 2, Column 5", ...}, ...]
    test_data/image/image_0.png   a grid of equal objects, one of which differs

So it has one image where the game has two, and the prompt is another one. What is asked for is a
box, whereas the benchmark's own number is the share of right rows and columns: the two cannot be
compared.

The box is that of the block which the object is drawn in, [x, y, width, height] in pixels: with a
turned object it is wider than what is seen.

Sources: ``create_images.py`` and ``create_jsons.py`` of github.com/wwwtttjjj/OddGridBench, and
``eval/configs.py`` of github.com/GML-FMGroup/OddGridBench.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dig_env.agents.evaluation.external.pair import (
    ExternalPair,
    image_size,
    load_json,
    pair_of,
    xyxy,
)
from dig_env.scenes.files import inside


def read_oddgridbench(folder: str | Path, split: str = "test") -> list[ExternalPair]:
    """The images of a split, in the file's order; each has one odd one and no image B.

    Args:
        folder: that test_data.json and test_data/ are in.
        split: "test", "val" or "train".

    Raises:
        ValueError: a file is missing or of another layout, an image has another size than the file
            says, or a box is none in its image.
    """
    path = Path(folder) / f"{split}_data.json"
    entries = load_json(path)
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path} holds no list of images, as OddGridBench has there")
    images = Path(folder) / f"{split}_data" / "image"
    return [_grid(f"{path}: image {index}", entry, images) for index, entry in enumerate(entries)]


def _grid(what: str, entry: Any, images: Path) -> ExternalPair:
    file = entry.get("image") if isinstance(entry, dict) else None
    box = entry.get("odd_bbox") if isinstance(entry, dict) else None
    if not isinstance(file, str) or not isinstance(box, dict):
        raise ValueError(
            f"{what} needs its image, a file name, and its odd_bbox, an object of x, y, w and h"
        )
    path = inside(images, file)
    size = image_size(path)
    if (said := _said_size(entry.get("image_size"))) not in (None, size):
        raise ValueError(f"{path} is {size}, and its box is for {said}: give the release's images")
    corners = xyxy([box.get(key) for key in "xywh"], what)
    kinds = entry.get("odd_type")
    kind = "+".join(sorted(map(str, kinds))) if isinstance(kinds, list) and kinds else "unknown"
    return pair_of(Path(file).stem, path, None, [corners], [kind])


def _said_size(text: Any) -> tuple[int, int] | None:
    """(width, height) of "[height, width]", as the release writes it; None if it is not."""
    try:
        height, width = json.loads(text)
        return int(width), int(height)
    except (TypeError, ValueError):
        return None
