"""The layout of Img-Diff's object replacements (Jiao et al., CVPR 2025, arXiv 2408.04594).

    img_diff_object_replacement.json       [{"path": "./filtered_new_edit_data/2_2311_0",
                                             "bbox": "[0.86, 0.41, 0.98, 0.54]", "captions1": ...,
                                             "captions2": ..., "conversations": [...]}, ...]
    filtered_new_edit_data/2_2311_0_0.jpg  the left image of its difference 0
    filtered_new_edit_data/2_2311_0_1.jpg  the right one

A box is [x0, y0, x1, y1], each axis from 0 to 1, to two decimals. The release draws it into both
images as a red frame, since it asks what differs *within* it. Who is to find the difference would
find the frame. But each difference of a pair has images of its own, which are the same but for the
frame. So what a frame covers is taken from the images of another difference of the same pair, in
whole blocks of JPEG: what comes out is what the release would hold without frames, but for a few
levels in lines of one pixel, where blocks of two files meet. A pair with one difference, or with
frames that cross, cannot be restored, and is left out.

Differences that the release's filters dropped have no box: recall is right, precision is a lower
bound. The images are drawn by a diffusion model, so small things may differ all over.

Sources: ``generate_final_data_new_edit.py`` in the branch ImgDiff of github.com/modelscope/
data-juicer, the examples in the paper's appendix, and the files that huggingface.co/datasets/
datajuicer/Img-Diff lists.
"""

from __future__ import annotations

import dataclasses
import math
import re
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from dig_env.agents.evaluation.external.pair import (
    ExternalPair,
    Patched,
    image_size,
    load_json,
    pair_of,
)
from dig_env.scenes.files import inside
from dig_env.scenes.measure.pair import Box

_NAME = re.compile(r"(.+)_(\d+)")
_BLOCK_PX = 16
"""JPEG's unit where its colours are stored at half the resolution, as Pillow does."""
_OUTSIDE_PX, _INSIDE_PX, _INDENT_PX, _ROUNDED = 7, 1, 5, 0.005
"""How far the frame may reach from its box: it is drawn 5 pixels outside of it, 3 wide, its colour
bleeds by one, and the box was rounded by up to so much of a side."""


def read_img_diff(path: str | Path, images: str | Path | None = None) -> list[ExternalPair]:
    """The pairs of which all frames can be removed, in the file's order.

    Args:
        path: img_diff_object_replacement.json.
        images: the folder that filtered_new_edit_data is in; by default the file's own.

    Raises:
        ValueError: a file is missing or of another layout, a box is none, or no pair can be
            restored.
    """
    path = Path(path)
    entries = load_json(path)
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path} holds no list of differences, as Img-Diff has there")
    folder = path.parent if images is None else Path(images)
    by_pair: dict[str, list[tuple[Path, Box]]] = defaultdict(list)
    for place, entry in enumerate(entries):
        stem, box = _difference(f"{path}: number {place}", entry)
        pair = _NAME.fullmatch(Path(stem).name)
        if pair is None:
            raise ValueError(f"{path}: {stem!r} does not end in the number of a difference, as _0")
        by_pair[pair[1]].append((inside(folder, stem), box))
    pairs = [
        restored
        for name, differences in by_pair.items()
        if len(differences) > 1 and (restored := _restored(name, differences)) is not None
    ]
    left_out = len(by_pair) - len(pairs)
    why = f"of {len(by_pair)} pairs have a red frame around a difference that nothing can replace"
    if not pairs:
        raise ValueError(f"{path}: {left_out} {why}, so none is left to play")
    if left_out:
        warnings.warn(f"{left_out} {why}, and are left out", stacklevel=2)
    return pairs


def _difference(what: str, entry: Any) -> tuple[str, Box]:
    """The path of its images, without their ending, and its box in the unit frame."""
    if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
        raise ValueError(f"{what} has no path: give img_diff_object_replacement.json")
    if "captions2" not in entry:
        raise ValueError(
            f"{what} has no captions2, so it is one of the object removals: each of these has its "
            "own pair, and what its frame covers is nowhere else. Give "
            "img_diff_object_replacement.json"
        )
    numbers = re.findall(r"[-+.\w]+", str(entry.get("bbox")))
    try:
        x0, y0, x1, y1 = map(float, numbers)
    except ValueError:
        x0 = y0 = x1 = y1 = 0.0
    if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
        raise ValueError(
            f"{what} has the bbox {entry.get('bbox')!r:.80}: give [x0, y0, x1, y1], from 0 to 1"
        )
    return entry["path"], (x0, y0, x1, y1)


def _restored(name: str, differences: list[tuple[Path, Box]]) -> ExternalPair | None:
    """A pair without frames; None if some part of one is under all others, too."""
    stems = [stem for stem, _ in differences]
    width, height = size = image_size(_image(stems[0], 0))
    boxes = [
        (x0 * width, y0 * height, x1 * width, y1 * height) for _, (x0, y0, x1, y1) in differences
    ]
    framed = [_framed(box, size) for box in boxes]
    missing, taken = framed[0].copy(), []
    for other in framed[1:]:
        taken.append(missing & ~other)
        missing &= other
    if missing.any():
        return None
    files = [[_image(stem, side) for stem in stems] for side in (0, 1)]
    pair = pair_of(name, files[0][0], files[1][0], boxes, ["replace"] * len(boxes))
    differing = np.logical_or.reduce(framed)
    restored = [
        Patched(first, tuple(zip(others, taken, strict=True)), differing, _BLOCK_PX)
        for first, *others in files
    ]
    return dataclasses.replace(pair, path_a=restored[0], path_b=restored[1])


def _image(stem: Path, side: int) -> Path:
    return stem.with_name(f"{stem.name}_{side}.jpg")


def _framed(box: Box, size: tuple[int, int]) -> np.ndarray:
    """(rows, columns) bool: the blocks that a frame around this box may touch."""
    rounded = [math.ceil(side * _ROUNDED) for side in size]
    outer = [_OUTSIDE_PX + slack for slack in rounded]
    inner = [_INSIDE_PX + slack for slack in rounded]
    frame = np.zeros([-(-side // _BLOCK_PX) * _BLOCK_PX for side in size[::-1]], bool)
    x0, y0, x1, y1 = map(round, box)
    frame[max(y0 - outer[1], 0) : y1 + outer[1], max(x0 - outer[0], 0) : x1 + outer[0]] = True
    # Where the box is at the image's edge, the frame is drawn along the edge.
    x0, y0 = max(x0, _INDENT_PX), max(y0, _INDENT_PX)
    x1, y1 = min(x1, size[0] - _INDENT_PX), min(y1, size[1] - _INDENT_PX)
    frame[y0 + inner[1] : max(y1 - inner[1], 0), x0 + inner[0] : max(x1 - inner[0], 0)] = False
    rows, columns = (side // _BLOCK_PX for side in frame.shape)
    return frame.reshape(rows, _BLOCK_PX, columns, _BLOCK_PX).any(axis=(1, 3))
