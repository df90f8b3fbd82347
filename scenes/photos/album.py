"""A folder of photographs with COCO's instance masks: https://cocodataset.org/#format-data."""

from __future__ import annotations

import functools
import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy
from PIL import Image, ImageOps

from dig_env.scenes.arguments import whole
from dig_env.scenes.color import srgb8_to_lab
from dig_env.scenes.files import is_inside
from dig_env.scenes.measure.labels import mask_bounds
from dig_env.scenes.photos.annotations import (
    Annotation,
    Faults,
    annotations_by_file,
    decoded,
    drawn_size,
    read_json,
    segmentation_fault,
)
from dig_env.scenes.photos.picture import Geometry, geometry, read_picture, same_shape, upright

LARGEST_SHARE = 0.25
"""What covers a larger part of the image is scenery, such as a table: it is never changed, and
others may be pasted onto it."""
MAX_INSTANCES = 200
"""The largest of a photograph; an object id has 8 bits."""
RIM_PX = 2
"""An object's colours reach this far beyond its mask."""
FREE_RIM = 0.8
"""An object is whole if at least this part of its rim shows no other object."""
CALM_LEVELS = 60.0
"""An object can be removed if its surroundings vary by no more than this (standard deviation, 8-bit
levels): between a face, a wall and a black box no method knows what is behind."""
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

    Opening reads the annotations file only; photographs are read as they are needed, upright and in
    colours as a viewer shows them. An annotation may be for another size of its photograph, or for
    the photograph before its EXIF orientation turns it; it is laid where it belongs. What is
    broken, a photograph or an annotation, is left out, with a warning that says how many.

    Args:
        annotations: the JSON file: images (id, file_name, width, height; LVIS's coco_url will do),
            annotations (id, image_id, category_id, segmentation as polygons or run lengths,
            iscrowd) and categories (id, name). Crowds are scenery.
        images: the folder that its file names begin at; by default the file's own. A file that is
            not there is sought without its folders.
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
        path = Path(annotations).absolute()  # the process may go elsewhere
        folder = path.parent if images is None else Path(images).absolute()
        self.size = whole("size[0]", size[0], 1), whole("size[1]", size[1], 1)
        faults = Faults()
        try:
            digest = hashlib.sha256(path.read_bytes())
            self._annotations = annotations_by_file(read_json(path), faults)
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"cannot read {path} as a COCO instances file ({error!r}): give a JSON file with "
                "images, annotations and categories"
            ) from error
        self._files: dict[str, Path] = {}
        for name in sorted(self._annotations):
            there = [f for f in (folder / name, folder / Path(name).name) if f.is_file()]
            file = next((f for f in there if is_inside(folder, f)), None)
            if file is None:
                where = "lie outside the folder" if there else "are not there"
                faults.add(f"of its {len(self._annotations)} photographs {where}", name)
            else:
                digest.update(f"{name} {file.stat().st_size}\n".encode())
                self._files[name] = file
        self.names = tuple(self._files)
        self.digest = digest.hexdigest()
        if not self.names:
            raise ValueError(
                f"no photograph in {folder} has an object in {path}. Each object needs an image_id "
                "of an image that is there, a listed category_id and a segmentation; left out: "
                f"{faults or 'nothing, since it has no annotations'}"
            )
        if str(faults):
            warnings.warn(f"left out of {path}, photographs in {folder}: {faults}", stacklevel=2)
        self._broken: set[str] = set()
        self._warnings = 0
        self.photograph = functools.lru_cache(KEPT_PHOTOGRAPHS)(self._read)

    def _read(self, name: str) -> Photograph | None:
        """The photograph of a file name; None for one that cannot be read."""
        if name in self._broken:
            return None
        path = self._files[name]
        try:
            shape = geometry(path)
            image = np.asarray(self._fit(read_picture(path)))
        except Exception as error:  # damaged bytes can break the decoders in many ways
            self._broken.add(name)
            self._warn(f"{path} is left out: {error}")
            return None
        masks, faults = {}, Faults()
        for annotation in self._annotations[name]:
            try:
                masks[annotation.id] = self._mask(annotation, shape)
            except ValueError as error:
                faults.add(str(error), annotation.id)
        if str(faults):
            self._warn(f"of {path} are left out: {faults}")
        categories = {annotation.id: annotation.category for annotation in self._annotations[name]}
        return _described(name, image, masks, categories)

    def _mask(self, annotation: Annotation, shape: Geometry) -> np.ndarray:
        """(H, W) bool, at the album's size."""
        size = drawn_size(annotation) or shape.size
        if same_shape(size, shape.size):
            fault = segmentation_fault(annotation.segmentation, size)
            if fault:
                raise ValueError(fault)
            whole = decoded(annotation.segmentation, size)
        elif same_shape(size, shape.stored_size):
            whole = upright(decoded(annotation.segmentation, size), shape.orientation)
        else:
            raise ValueError(
                f"annotations are for {size[0]}x{size[1]} pixels, and the photograph, of "
                f"{shape.size[0]}x{shape.size[1]}, has another shape"
            )
        return np.asarray(self._fit(whole)) >= 128

    def _fit(self, picture: Image.Image) -> Image.Image:
        return ImageOps.fit(picture, self.size, Image.Resampling.BOX)

    def _warn(self, text: str) -> None:
        """Warn of the first photographs one by one, then of every tenth, hundredth and so on."""
        self._warnings += 1
        if self._warnings <= 10 or self._warnings in (100, 1000, 10_000, 100_000):
            warnings.warn(f"{text} (photograph {self._warnings} of this kind)", stacklevel=2)


def _described(
    name: str, image: np.ndarray, masks: dict[int, np.ndarray], categories: dict[int, str]
) -> Photograph:
    """The photograph with its instances: a smaller one is taken to stand before a larger one."""
    order = sorted(masks, key=lambda annotation: (-masks[annotation].sum(), annotation))
    order = [annotation for annotation in order if masks[annotation].mean() <= LARGEST_SHARE]
    ids = np.zeros(image.shape[:2], np.uint8)
    for number, annotation in enumerate(order[:MAX_INSTANCES], 1):
        ids[masks[annotation]] = number
    instances = [
        _instance(number, annotation, categories[annotation], image, ids)
        for number, annotation in enumerate(order[:MAX_INSTANCES], 1)
        if (ids == number).any()  # not wholly hidden
    ]
    return Photograph(name, image, ids, tuple(instances))


def _instance(
    number: int, annotation: int, category: str, image: np.ndarray, ids: np.ndarray
) -> Instance:
    mask = ids == number
    x0, y0, x1, y1 = (int(edge) for edge in mask_bounds(mask) or ())
    mean_ab = srgb8_to_lab(image[mask])[:, 1:].mean(axis=0)
    grown = scipy.ndimage.binary_dilation(mask, iterations=RIM_PX)
    rim = grown & ~mask
    around = scipy.ndimage.binary_dilation(mask, iterations=SURROUNDINGS_PX) & ~grown & (ids == 0)
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
