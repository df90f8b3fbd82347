"""A folder of photographs with COCO's instance masks: https://cocodataset.org/#format-data."""

from __future__ import annotations

import functools
import hashlib
import json
import warnings
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from scipy import ndimage

from scenes.color import srgb8_to_lab
from scenes.labels import mask_bounds

LARGEST = 0.25
"""What covers a larger part of the image is scenery, such as a table: it is never changed, and
others may be pasted onto it."""
MOST_OBJECTS = 200
"""The largest of a photograph; an object id has 8 bits."""
RIM_PX = 2
"""An object's colours reach this far beyond its mask."""
FREE_RIM = 0.8
"""An object is whole if at least this part of its rim shows no other object."""
CALM_LEVELS = 60.0
"""An object can be removed if its surroundings vary by no more than this (standard deviation, 8-bit
levels): between a face, a wall and a black box nobody can tell what stands behind."""
SURROUNDINGS_PX = 6
"""How far they reach beyond the mask; they begin where the rim ends."""
KEPT_PHOTOGRAPHS = 32
"""Photographs of which the decoded pixels stay in memory, about 1 MB each at 320x240."""


@dataclass(frozen=True)
class Instance:
    """An annotated object of a photograph, at the photograph's resized size.

    Attributes:
        id: 1, 2, ...: by falling size.
        annotation: its id in the annotations file.
        category: its word there.
        box: (x_min, y_min, x_max, y_max) in pixels, the bounds of its mask.
        area: pixels that show it.
        mean_ab: mean CIE a* and b* of its pixels.
        is_whole: nothing seems to stand before it.
        is_removable: it is whole, and what stands behind it can be guessed.
        is_liftable: it is whole and wholly inside the image, so that it can be pasted elsewhere.
    """

    id: int
    annotation: int
    category: str
    box: tuple[int, int, int, int]
    area: int
    mean_ab: tuple[float, float]
    is_whole: bool
    is_removable: bool
    is_liftable: bool


@dataclass(frozen=True, eq=False)
class Photograph:
    """A photograph at the album's size.

    Attributes:
        name: its file name in the annotations file.
        image: (H, W, 3) uint8, sRGB.
        ids: (H, W) uint8, the id of the instance seen in each pixel, 0 for everything else.
        instances: by id.
    """

    name: str
    image: np.ndarray
    ids: np.ndarray
    instances: tuple[Instance, ...]

    def mask(self, annotation: int) -> np.ndarray:
        """(H, W) bool: where an instance is seen."""
        return self.ids == self.instance(annotation).id

    def instance(self, annotation: int) -> Instance:
        """The instance of an annotation."""
        return next(inst for inst in self.instances if inst.annotation == annotation)


class Album:
    """Photographs and the masks of their objects, cut to the middle and resized to one size.

    Opening reads the annotations file only; photographs are read as they are needed. What is
    broken, a photograph or an annotation, is named in a warning and left out.

    Args:
        annotations: the JSON file: images (id, file_name, width, height), annotations (id,
            image_id, category_id, segmentation as polygons or run lengths, iscrowd) and
            categories (id, name). Crowds are scenery.
        images: the folder that its file names begin at; by default the file's own.
        size: (width, height) in pixels of what ``photograph`` gives.

    Attributes:
        names: the photographs that are there and have annotated objects, sorted.
        digest: SHA-256 over the annotations and over the photographs' names and file sizes.

    Raises:
        ValueError: the file is missing or no COCO instances file, or no photograph is left.
    """

    def __init__(
        self,
        annotations: str | Path,
        images: str | Path | None = None,
        size: tuple[int, int] = (320, 240),
    ) -> None:
        path = Path(annotations)
        self._folder = path.parent if images is None else Path(images)
        self.size = size
        try:
            content = path.read_bytes()
            fields = json.loads(content)
            self._categories = {entry["id"]: entry["name"] for entry in fields["categories"]}
            files = {entry["id"]: str(entry["file_name"]) for entry in fields["images"]}
            entries = list(fields["annotations"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"cannot read {path} as a COCO instances file ({error!r}): give a JSON file with "
                "images, annotations and categories"
            ) from error
        self._annotations = _by_file(entries, files)
        digest = hashlib.sha256(content)
        names = []
        for name in sorted(self._annotations):
            try:
                digest.update(f"{name} {(self._folder / name).stat().st_size}\n".encode())
                names.append(name)
            except OSError as error:
                _warn(self._folder / name, error.strerror)
        self.names = tuple(names)
        self.digest = digest.hexdigest()
        if not names:
            raise ValueError(
                f"no photograph in {self._folder} has an object in {path}: it names {len(files)} "
                f"images and {len(entries)} annotations; each object needs an image_id of an image "
                "that is there and a segmentation"
            )
        self._broken: set[str] = set()
        self.photograph = functools.lru_cache(KEPT_PHOTOGRAPHS)(self._read)

    def _read(self, name: str) -> Photograph | None:
        """The photograph of a file name; None for one that cannot be read."""
        if name in self._broken:
            return None
        path = self._folder / name
        try:
            with Image.open(path) as file:
                picture = file.convert("RGB")
            image = np.asarray(self._fit(picture))
        except Exception as error:  # damaged bytes can break the decoders in many ways
            self._broken.add(name)
            _warn(path, error)
            return None
        masks = {}
        for entry in self._annotations[name]:
            try:
                masks[entry["id"]] = self._mask(entry, picture.size)
                self._categories[entry["category_id"]]
            except Exception as error:  # likewise
                masks.pop(entry.get("id"), None)
                _warn(f"annotation {entry.get('id')} of {path}", error)
        categories = {
            entry["id"]: self._categories[entry["category_id"]]
            for entry in self._annotations[name]
            if entry.get("id") in masks
        }
        return _described(name, image, masks, categories)

    def _mask(self, entry: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
        """(H, W) bool, at the album's size, from an annotation for an image of ``size``."""
        from pycocotools import mask as coco_mask  # here, since trainers' environments lack it

        width, height = size
        segmentation = entry["segmentation"]
        if isinstance(segmentation, list):
            runs = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
        elif isinstance(segmentation["counts"], list):
            runs = coco_mask.frPyObjects(segmentation, height, width)
        else:
            runs = segmentation
        if list(runs["size"]) != [height, width]:
            raise ValueError(f"it is for {runs['size'][::-1]} pixels, the image has {size}")
        whole = Image.fromarray(coco_mask.decode(runs) * np.uint8(255))
        return np.asarray(self._fit(whole)) >= 128

    def _fit(self, picture: Image.Image) -> Image.Image:
        return ImageOps.fit(picture, self.size, Image.Resampling.BOX)


def _by_file(entries: list[Any], files: dict[Any, str]) -> dict[str, list[dict[str, Any]]]:
    """The annotations of single objects, by the file name of their image."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for place, entry in enumerate(entries):
        try:
            if not entry.get("iscrowd"):
                found[files[entry["image_id"]]].append(entry | {"id": int(entry["id"])})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            _warn(f"annotation number {place}", repr(error))
    return found


def _described(
    name: str, image: np.ndarray, masks: dict[int, np.ndarray], categories: dict[int, str]
) -> Photograph:
    """The photograph with its instances: a smaller one is taken to stand before a larger one."""
    order = sorted(masks, key=lambda annotation: (-masks[annotation].sum(), annotation))
    order = [annotation for annotation in order if masks[annotation].mean() <= LARGEST]
    ids = np.zeros(image.shape[:2], np.uint8)
    for number, annotation in enumerate(order[:MOST_OBJECTS], 1):
        ids[masks[annotation]] = number
    instances = [
        _instance(number, annotation, categories[annotation], image, ids)
        for number, annotation in enumerate(order[:MOST_OBJECTS], 1)
        if (ids == number).any()  # not wholly hidden
    ]
    return Photograph(name, image, ids, tuple(instances))


def _instance(
    number: int, annotation: int, category: str, image: np.ndarray, ids: np.ndarray
) -> Instance:
    mask = ids == number
    x0, y0, x1, y1 = (int(edge) for edge in mask_bounds(mask) or ())
    mean_ab = srgb8_to_lab(image[mask])[:, 1:].mean(axis=0)
    grown = ndimage.binary_dilation(mask, iterations=RIM_PX)
    rim = grown & ~mask
    around = ndimage.binary_dilation(mask, iterations=SURROUNDINGS_PX) & ~grown & (ids == 0)
    is_whole = bool(rim.any() and (ids[rim] == 0).mean() >= FREE_RIM)
    is_calm = bool(around.any() and image[around].std(axis=0).mean() <= CALM_LEVELS)
    is_inside = min(x0, y0) > 0 and x1 < image.shape[1] and y1 < image.shape[0]
    return Instance(
        id=number,
        annotation=annotation,
        category=category,
        box=(x0, y0, x1, y1),
        area=int(mask.sum()),
        mean_ab=(round(float(mean_ab[0]), 6), round(float(mean_ab[1]), 6)),
        is_whole=is_whole,
        is_removable=is_whole and is_calm,
        is_liftable=is_whole and is_inside,
    )


def _warn(what: Any, why: Any) -> None:
    warnings.warn(f"{what} is left out: {why}", stacklevel=2)
