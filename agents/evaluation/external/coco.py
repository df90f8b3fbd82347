"""Pairs in a COCO instances file.

Two images are a pair if they have the same "pair_id" (or "pair_seed", as ``dig-env export --format
coco`` writes it) and the "side" "a" and "b". Where an image has no "side", its file name says so:
what stands before a final "_a", "_b", "-a" or "-b" names the pair.

Annotations of a pair's images with the same "difference" are one difference, that is one object
before and after, and its box is the smallest around them all. Where they have no "difference",
every annotation is one, except that equal boxes are one. A pair without annotations is one in which
nothing differs (K = 0).

The reader checks that what it reads fits the images, and says where it does not: ids are unique and
listed, sizes are those of the files, boxes lie inside them and are not corners.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dig_env.agents.evaluation.external.pair import (
    ExternalPair,
    image_geometry,
    load_json,
    pair_of,
    union,
    xyxy,
)
from dig_env.scenes.files import inside
from dig_env.scenes.photos.annotations import file_name, segmentation_fault

_SIDED_NAME = re.compile(r"(.+)[_-]([ab])$")
_ENOUGH_BOXES = 8
"""If so many different boxes, and all, have width > x and height > y, they are taken for corners:
of random boxes one in a dozen has."""

_Entry = dict[str, Any]


def read_coco_pairs(path: str | Path, images: str | Path | None = None) -> list[ExternalPair]:
    """The pairs of a COCO instances file, in the order of their first images.

    Args:
        path: the JSON file.
        images: the folder that its file names begin at; by default the file's own.

    Raises:
        ValueError: no such file or layout, an id that is missing, unknown or not unique, an image
            whose pair or other side is missing, an image file of another size than the annotations
            are for, or a box that is none in pixels of its image.
    """
    path = Path(path)
    folder = path.parent if images is None else Path(images)
    content = load_json(path)
    lists = [_entries(path, content, name) for name in ("categories", "annotations", "images")]
    pairs = _sides_by_pair(path, lists[-1])
    listed, categories = (_by_id(path, content, name) for name in ("images", "categories"))
    annotations: dict[Any, list[_Entry]] = defaultdict(list)
    for place, entry in enumerate(_entries(path, content, "annotations")):
        what = f"{path}: annotation {entry.get('id', f'number {place}')}"
        _check_listed(what, entry, "image_id", listed)
        _check_listed(what, entry, "category_id", categories)
        xyxy(entry.get("bbox"), what)
        if _drawn_as_corners(entry):
            raise ValueError(
                f"{what} has the bbox {entry['bbox']}, which its segmentation or area shows to be "
                "corners: give [x, y, width, height]"
            )
        annotations[entry["image_id"]].append(entry)
    _refuse_corners(path, [entry for entries in annotations.values() for entry in entries])
    return [_pair(name, sides, annotations, categories, folder) for name, sides in pairs.items()]


def _sides_by_pair(path: Path, images: list[_Entry]) -> dict[str, dict[str, _Entry]]:
    """The image "a" and the image "b" of each pair, by its name."""
    pairs: dict[str, dict[str, _Entry]] = {}
    for image in images:
        name, side = _pair_and_side(path, image)
        if side in pairs.setdefault(name, {}):
            raise ValueError(f"{path}: pair {name} has more than one image of side {side!r}")
        pairs[name][side] = image
    for name, sides in pairs.items():
        if set(sides) != {"a", "b"}:
            raise ValueError(f"pair {name} has no image of side {'b' if 'a' in sides else 'a'!r}")
    if not pairs:
        raise ValueError(f"{path} lists no images")
    return pairs


def _entries(path: Path, content: Any, name: str) -> list[_Entry]:
    """A list of the file."""
    entries = content.get(name) if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(
            f"{path} is no COCO instances file: its {name!r} is no list of objects. It needs "
            "images (id, file_name), annotations (image_id, category_id, bbox; [] where nothing "
            "differs) and categories (id, name)"
        )
    return entries


def _by_id(path: Path, content: Any, name: str) -> dict[Any, _Entry]:
    found: dict[Any, _Entry] = {}
    for place, entry in enumerate(_entries(path, content, name)):
        key = entry.get("id")
        if not isinstance(key, (int, float, str)) or key in found:
            raise ValueError(
                f"{path}: number {place} of {name} has the id {key!r}; each needs one of its "
                "own, a number or a text"
            )
        found[key] = entry
    return found


def _check_listed(what: str, entry: _Entry, field: str, listed: dict[Any, _Entry]) -> None:
    value = entry.get(field)
    if isinstance(value, (int, float, str)) and value in listed:
        return
    alike = [key for key in listed if str(key) == str(value)]
    hint = f"; the file has {alike[0]!r}, which is another type" if alike else ""
    raise ValueError(
        f"{what} has the {field} {value!r}, which is none of the {len(listed)} listed{hint}. "
        "Without it a difference would be missing from its pair"
    )


def _drawn_as_corners(entry: _Entry) -> bool:
    """Whether a box fits its segmentation or area as two corners, not as COCO writes it."""
    x, y, width, height = entry["bbox"]
    if not (width > x and height > y and max(x, y) > 0):
        return False
    polygons, area = entry.get("segmentation"), entry.get("area")
    if isinstance(polygons, list) and not segmentation_fault(polygons, None):
        points = [polygon[axis::2] for axis in (0, 1) for polygon in polygons]
        xs, ys = points[: len(polygons)], points[len(polygons) :]
        right, bottom = max(map(max, xs)), max(map(max, ys))
        return max(abs(right - width), abs(bottom - height)) < min(
            abs(right - x - width), abs(bottom - y - height)
        )
    if isinstance(area, (int, float)):
        corners = (width - x) * (height - y)
        return math.isclose(area, corners, rel_tol=0.01) and not _has_area(entry)
    return False


def _has_area(entry: _Entry) -> bool:
    """Whether an annotation's area is that of its box, as tools without masks write it."""
    return entry.get("area") == entry["bbox"][2] * entry["bbox"][3]


def _refuse_corners(path: Path, entries: list[_Entry]) -> None:
    boxes = {tuple(entry["bbox"]) for entry in entries}
    if (
        len(boxes) >= _ENOUGH_BOXES
        and all(width > x > 0 and height > y > 0 for x, y, width, height in boxes)
        and not any(map(_has_area, entries))
    ):
        raise ValueError(
            f"{path}: all of its {len(boxes)} boxes have a width above x and a height above y, as "
            "corners have: give [x, y, width, height]. If they are, give each its 'area', width "
            "times height"
        )


def _pair_and_side(path: Path, image: _Entry) -> tuple[str, str]:
    try:
        name = Path(file_name(image))
    except (KeyError, AttributeError):
        raise ValueError(
            f"{path}: image {image.get('id')} has no file_name and no coco_url"
        ) from None
    sided_name = _SIDED_NAME.match(name.stem)
    pair_id = image.get("pair_id", image.get("pair_seed"))
    if image.get("side") in ("a", "b") and pair_id is not None:
        return str(pair_id), image["side"]
    if "side" not in image and sided_name:
        return str(name.with_name(sided_name[1])), sided_name[2]
    raise ValueError(
        f"image {name} belongs to no pair: give it a pair_id and the side 'a' or 'b', or a "
        "file name that ends in _a or _b"
    )


def _pair(
    name: str,
    sides: dict[str, _Entry],
    annotations: dict[Any, list[_Entry]],
    categories: dict[Any, _Entry],
    folder: Path,
) -> ExternalPair:
    paths = {side: inside(folder, file_name(image)) for side, image in sides.items()}
    for side, image in sides.items():
        _check_size(paths[side], image.get("width"), image.get("height"))
    both = [entry for side in "ab" for entry in annotations[sides[side]["id"]]]
    boxes, kinds = [], []
    for group in _differences(both):
        boxes.append(union(xyxy(entry["bbox"], f"pair {name}") for entry in group))
        kinds.append(str(categories[group[0]["category_id"]].get("name", "unknown")))
    return pair_of(name, paths["a"], paths["b"], boxes, kinds)


def _check_size(path: Path, width: Any, height: Any) -> None:
    there = image_geometry(path)
    size = (there.size[0] if width is None else width, there.size[1] if height is None else height)
    if size != there.size:
        why = "give the images that were annotated"
        if size == there.stored_size:
            why = "its EXIF orientation turns it: annotate it as it is seen, or store it upright"
        raise ValueError(
            f"{path} is {there.size[0]}x{there.size[1]}, but its annotations are for "
            f"{width}x{height}: {why}"
        )


def _differences(annotations: Iterable[_Entry]) -> list[list[_Entry]]:
    """The annotations of each difference, by rising "difference"; those without one come last."""
    numbered: dict[Any, list[_Entry]] = defaultdict(list)
    others: dict[Any, list[_Entry]] = defaultdict(list)
    for entry in annotations:
        difference = entry.get("difference")
        if difference is None:
            others[tuple(entry["bbox"])].append(entry)
        else:
            numbered[difference].append(entry)
    ordered = sorted(numbered.items(), key=lambda item: (isinstance(item[0], str), item[0]))
    return [*(group for _, group in ordered), *others.values()]
