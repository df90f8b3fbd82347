"""Pairs in a COCO instances file.

Two images are a pair if they have the same "pair_id" (or "pair_seed", as ``dig-env export --format
coco`` writes it) and the "side" "a" and "b". Where an image has no "side", its file name says so:
what stands before a final "_a", "_b", "-a" or "-b" names the pair.

Annotations of a pair's images with the same "difference" are one difference, that is one object
before and after, and its box is the smallest around them all. Where they have no "difference",
every annotation is one, except that equal boxes are one. A pair without annotations is one in which
nothing differs (K = 0).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from agents.external.pair import ExternalPair, image_size, pair_of, read_json, union, xyxy

_SIDED_NAME = re.compile(r"(.+)[_-]([ab])$")


def read_coco_pairs(path: str | Path, images: str | Path | None = None) -> list[ExternalPair]:
    """The pairs of a COCO instances file, in the order of their first images.

    Args:
        path: the JSON file.
        images: the folder that its file names begin at; by default the file's own.

    Raises:
        ValueError: no such file or layout, an image whose pair or other side is missing, an image
            file of another size than the annotations are for, or a box outside its image.
    """
    path = Path(path)
    folder = path.parent if images is None else Path(images)
    content = read_json(path)
    try:
        categories = {entry["id"]: entry["name"] for entry in content["categories"]}
        annotations: dict[int, list[dict[str, Any]]] = {}
        for annotation in content["annotations"]:
            annotations.setdefault(annotation["image_id"], []).append(annotation)
        pairs: dict[str, dict[str, dict[str, Any]]] = {}
        for image in content["images"]:
            name, side = _pair_and_side(image)
            if side in pairs.setdefault(name, {}):
                raise ValueError(f"{path}: pair {name} has more than one image of side {side!r}")
            pairs[name][side] = image
        return [
            _pair(name, sides, annotations, categories, folder) for name, sides in pairs.items()
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is no COCO instances file ({error!r}). It needs images (id, file_name), "
            "annotations (image_id, category_id, bbox) and categories (id, name)"
        ) from error


def _pair_and_side(image: dict[str, Any]) -> tuple[str, str]:
    file_name = Path(image["file_name"])
    sided_name = _SIDED_NAME.match(file_name.stem)
    pair_id = image.get("pair_id", image.get("pair_seed"))
    if image.get("side") in ("a", "b") and pair_id is not None:
        return str(pair_id), image["side"]
    if "side" not in image and sided_name:
        return str(file_name.with_name(sided_name[1])), sided_name[2]
    raise ValueError(
        f"image {file_name} belongs to no pair: give it a pair_id and the side 'a' or 'b', or a "
        "file name that ends in _a or _b"
    )


def _pair(
    name: str,
    sides: dict[str, dict[str, Any]],
    annotations: dict[int, list[dict[str, Any]]],
    categories: dict[int, str],
    folder: Path,
) -> ExternalPair:
    if set(sides) != {"a", "b"}:
        raise ValueError(f"pair {name} has no image of side {'b' if 'a' in sides else 'a'!r}")
    paths = {side: folder / image["file_name"] for side, image in sides.items()}
    for side, image in sides.items():
        size = image_size(paths[side])
        if (image.get("width", size[0]), image.get("height", size[1])) != size:
            raise ValueError(
                f"{paths[side]} is {size[0]}x{size[1]}, but its annotations are for "
                f"{image['width']}x{image['height']}: give the images that were annotated"
            )
    both = [entry for side in "ab" for entry in annotations.get(sides[side]["id"], [])]
    boxes, kinds = [], []
    for group in _differences(both):
        boxes.append(union(xyxy(entry["bbox"]) for entry in group))
        kinds.append(categories[group[0]["category_id"]])
    return pair_of(name, paths["a"], paths["b"], boxes, kinds)


def _differences(annotations: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The annotations of each difference, by rising "difference"; those without one come last."""
    groups: dict[Any, list[dict[str, Any]]] = {}
    for entry in sorted(annotations, key=lambda entry: entry.get("difference", math.inf)):
        groups.setdefault(entry.get("difference", tuple(entry["bbox"])), []).append(entry)
    return list(groups.values())
