"""COCO's and LVIS's instance files: https://cocodataset.org/#format-data.

What is wrong in one is collected by its kind, so that thousands of faults make one warning.
"""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import json
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from dig_env.scenes.extras import extra

Size = tuple[int, int]

OUTSIDE = 0.02
"""A polygon may reach this part of a side, or 2 pixels, beyond the edge, where it is cut."""
LARGEST_PX = 200_000_000
"""Pixels of the largest mask that is decoded."""
_NAMED = 5
"""Examples of each kind of fault that a warning names."""


@dataclass(frozen=True)
class Annotation:
    """One object in one image.

    Attributes:
        id: unique in its image.
        category: the word for it.
        segmentation: polygons, or run lengths.
        size: (width, height) of the image that it was drawn on; None where the file does not say.
    """

    id: int
    category: str
    segmentation: Any
    size: Size | None


class Faults:
    """What is left out, by the reason."""

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = defaultdict(list)

    def add(self, reason: str, name: Any) -> None:
        """Note one more."""
        self._names[reason].append(str(name))

    def __str__(self) -> str:
        """Each reason with its number and some names: "2 files are not there (a.png, b.png)"."""
        return "; ".join(
            f"{len(names)} {reason} ({', '.join(names[:_NAMED])}{', ...' * (len(names) > _NAMED)})"
            for reason, names in self._names.items()
        )


def read_json(path: Path) -> Any:
    """The content of a JSON file in any of Unicode's encodings, gzipped or not.

    Raises:
        OSError, ValueError: it is missing, or no JSON.
    """
    content = path.read_bytes()
    return json.loads(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)


def file_name(image: dict[str, Any]) -> str:
    """An image's file: its file_name, or, as LVIS has none, the end of its coco_url.

    Raises:
        KeyError: it has neither.

    >>> file_name({"id": 1, "coco_url": "http://images.cocodataset.org/train2017/000000391895.jpg"})
    'train2017/000000391895.jpg'
    """
    if image.get("file_name"):
        return str(image["file_name"])
    return "/".join(urlsplit(image["coco_url"]).path.split("/")[-2:])


def annotations_by_file(fields: dict[str, Any], faults: Faults) -> dict[str, list[Annotation]]:
    """The annotations of single objects by the file name of their image; crowds are left out.

    One without a number of its own among those of its image is given a new one.

    Args:
        fields: a COCO instances file's content.
        faults: what is left out is added.

    Raises:
        KeyError, TypeError: a list is missing or none.
    """
    categories: dict[Any, str] = {}
    for entry in fields["categories"]:
        if categories.setdefault(entry["id"], str(entry["name"])) != str(entry["name"]):
            faults.add("category ids have more than one name; the first counts", entry["id"])
    images = _images_by_id(fields["images"], faults)
    found: dict[str, list[Annotation]] = defaultdict(list)
    for place, entry in enumerate(fields["annotations"]):
        if not isinstance(entry, dict):
            faults.add("annotations are no JSON objects", f"number {place}")
        elif not entry.get("iscrowd"):
            image, category = entry.get("image_id"), entry.get("category_id")
            file, size = _looked_up(images, image) or ("", None)
            word, segmentation = _looked_up(categories, category), entry.get("segmentation")
            if not file:
                fault = "annotations are of no listed image, or of one that is left out"
            elif word is None:
                fault = "annotations are of no listed category"
            else:
                fault = segmentation_fault(segmentation, size)
            if fault:
                faults.add(fault, entry.get("id", f"number {place}"))
            else:
                read = Annotation(_integer(entry.get("id")), str(word), segmentation, size)
                found[file].append(read)
    return {file: _numbered(annotations) for file, annotations in found.items()}


def _images_by_id(images: list[Any], faults: Faults) -> dict[Any, tuple[str, Size | None]]:
    """File name and size by id; an id that two files have is no image's."""
    found: dict[Any, tuple[str, Size | None]] = {}
    twice = set()
    for place, image in enumerate(images):
        try:
            key, name = image["id"], file_name(image)
            size = (int(image["width"]), int(image["height"])) if image.get("width") else None
            if found.setdefault(key, (name, size))[0] != name:
                twice.add(key)
        except (KeyError, TypeError, ValueError, AttributeError):
            faults.add("images lack an id, file_name (or coco_url) or size", f"number {place}")
    for key in twice:
        faults.add("image ids are of more than one file", key)
        del found[key]
    return found


def _numbered(annotations: list[Annotation]) -> list[Annotation]:
    new = itertools.count(1 + max(annotation.id for annotation in annotations))
    seen: set[int] = set()
    numbered = []
    for annotation in annotations:
        if annotation.id < 0 or annotation.id in seen:
            annotation = dataclasses.replace(annotation, id=next(new))
        seen.add(annotation.id)
        numbered.append(annotation)
    return numbered


def _integer(value: Any) -> int:
    """An id as a number; -1 for any other."""
    try:
        return max(-1, int(value))
    except (TypeError, ValueError, OverflowError):
        return -1


def _looked_up(table: dict[Any, Any], key: Any) -> Any:
    return table.get(key) if isinstance(key, (int, float, str)) else None


def segmentation_fault(segmentation: Any, size: Size | None) -> str:
    """What is wrong with a segmentation, in words that follow a number of them; "" for nothing.

    Args:
        segmentation: polygons, or run lengths as a text or as a list.
        size: (width, height) of the image that polygons were drawn on, where it is known.
    """
    if isinstance(segmentation, dict):
        return _run_length_fault(segmentation)
    if not segmentation:
        return "annotations have no segmentation"
    if not isinstance(segmentation, list) or not all(isinstance(p, list) for p in segmentation):
        return "segmentations are neither a list of polygons nor run lengths"
    numbers = [number for polygon in segmentation for number in polygon]
    if not all(type(number) in (int, float) and math.isfinite(number) for number in numbers):
        return "segmentations hold what is no finite number"
    if any(len(polygon) % 2 for polygon in segmentation):
        return "segmentations have an odd number of coordinates"
    if any(len(polygon) < 6 for polygon in segmentation):
        return "segmentations have a polygon of fewer than three points"
    if max(numbers) <= 1:
        return "segmentations are in the frame 0 to 1; pixels are needed"
    if size is not None:
        for axis, side in enumerate(size):
            along = [value for polygon in segmentation for value in polygon[axis::2]]
            slack = max(2.0, OUTSIDE * side)
            if min(along) < -slack or max(along) > side + slack:
                return "segmentations leave the image whose width and height the file gives"
    return ""


def _run_length_fault(segmentation: dict[str, Any]) -> str:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if not (isinstance(size, list) and len(size) == 2 and all(type(n) is int for n in size)):
        return "run lengths have no size [height, width]"
    if not 0 < size[0] * size[1] <= LARGEST_PX:
        return "run lengths are of a size that no picture has"
    runs = _runs(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(n) is int and n >= 0 for n in runs):
        return "run lengths are damaged"
    # pycocotools reads and writes beyond its memory where this does not hold.
    return "" if sum(runs) == size[0] * size[1] else "run lengths do not fill their size"


def _runs(text: str) -> list[int]:
    """The run lengths in COCO's compressed text (``rleFrString`` of cocoapi's maskApi.c)."""
    runs: list[int] = []
    run = shift = 0
    for code in text.encode():
        chunk = code - 48
        run |= (chunk & 0x1F) << shift
        shift += 5
        if not chunk & 0x20:
            if chunk & 0x10:
                run -= 1 << shift
            runs.append(run + runs[-2] if len(runs) > 2 else run)
            run = shift = 0
    return runs


def drawn_size(annotation: Annotation) -> Size | None:
    """(width, height) of the image that an annotation was drawn on, where it is known."""
    if isinstance(annotation.segmentation, dict):
        height, width = annotation.segmentation["size"]
        return width, height
    return annotation.size


def decoded(segmentation: Any, size: Size) -> Image.Image:
    """The mask of a segmentation without a fault: 255 where the object is, of a size."""
    with extra("photos"):
        from pycocotools import mask as coco_mask

    width, height = size
    if isinstance(segmentation, list):
        runs = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        runs = coco_mask.frPyObjects(segmentation, height, width)
    else:
        runs = segmentation
    return Image.fromarray(coco_mask.decode(runs) * np.uint8(255))
