"""The two pictures of a plan, made of photographs."""

from __future__ import annotations

import numpy as np
import scipy
from PIL import Image

from dig_env.scenes.color import lab_to_linear, srgb8_to_lab, to_srgb8
from dig_env.scenes.measure.pair import PairImages
from dig_env.scenes.photos.album import RIM_PX, Album, Photograph
from dig_env.scenes.photos.inpaint import inpaint
from dig_env.scenes.photos.plan import PhotoObject, PhotoPlan

FEATHER_PX = 2
"""An edit fades in over this many pixels, inside its mask."""


def compose(plan: PhotoPlan, album: Album) -> PairImages:
    """Both pictures. Pixels farther than ``RIM_PX`` from every changed object are equal."""
    return (*_picture(plan, plan.scene_a, album), *_picture(plan, plan.scene_b, album))


def _picture(
    plan: PhotoPlan, scene: tuple[PhotoObject, ...], album: Album
) -> tuple[np.ndarray, np.ndarray]:
    """One image and its object ids."""
    photo = album.photograph(plan.photo)
    assert photo is not None, "it was there when the plan was made"
    image = photo.image.copy()
    shown = {obj.annotation for obj in scene if is_in_place(obj, photo)}
    for change in plan.changes:
        for obj in (change.before, change.after):
            if obj and is_in_place(obj, photo) and obj.annotation not in shown:
                image = _without(image, obj, photo)
                break
    ids = np.zeros_like(photo.ids)
    for obj in scene:
        mask = placed(obj, album)
        ids[mask] = obj.id
        if obj.color is not None:
            image = _blended(image, _recolored(photo.image, mask, obj.color), mask)
        elif not is_in_place(obj, photo):
            image = _blended(image, _pasted(obj, album), mask)
    return image, ids


def is_in_place(obj: PhotoObject, photo: Photograph) -> bool:
    """Does the object stand where it was photographed?"""
    return obj.photo == photo.name and obj.box == photo.instance(obj.annotation).box


def placed(obj: PhotoObject, album: Album) -> np.ndarray:
    """(H, W) bool: the pixels of an object where it stands."""
    photo = album.photograph(obj.photo)
    assert photo is not None, "it was there when the plan was made"
    mask = photo.mask(obj.annotation)
    if is_in_place(obj, photo):
        return mask
    x0, y0, x1, y1 = obj.box
    cut = mask[_slices(photo.instance(obj.annotation).box)]
    shown = np.zeros_like(mask)
    shown[y0:y1, x0:x1] = _resized(cut * np.uint8(255), obj.box) >= 128
    return shown


def _pasted(obj: PhotoObject, album: Album) -> np.ndarray:
    """(H, W, 3) uint8: an object of another place where it stands; black elsewhere."""
    photo = album.photograph(obj.photo)
    assert photo is not None, "it was there when the plan was made"
    source = _slices(photo.instance(obj.annotation).box)
    pixels = np.zeros_like(photo.image)
    cut = _spread(photo.image[source], photo.mask(obj.annotation)[source])
    pixels[_slices(obj.box)] = _resized(cut, obj.box)
    return pixels


def _slices(box: tuple[int, int, int, int]) -> tuple[slice, slice]:
    x0, y0, x1, y1 = box
    return slice(y0, y1), slice(x0, x1)


def _spread(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The image, with each pixel outside the mask's inside taking the nearest colour of that.

    Else the background that an object was cut out of would shine through at its edge.
    """
    inside = scipy.ndimage.binary_erosion(mask)
    if not inside.any():
        inside = mask
    _, (rows, columns) = scipy.ndimage.distance_transform_edt(~inside, return_indices=True)
    return image[rows, columns]


def _resized(values: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    x0, y0, x1, y1 = box
    return np.asarray(Image.fromarray(values).resize((x1 - x0, y1 - y0), Image.Resampling.BICUBIC))


def _without(image: np.ndarray, obj: PhotoObject, photo: Photograph) -> np.ndarray:
    """The image with an object of the photograph taken out."""
    mask = photo.mask(obj.annotation)
    others = (photo.ids != 0) & ~mask
    hole = scipy.ndimage.binary_dilation(mask, iterations=RIM_PX) & ~others
    return np.clip(np.rint(inpaint(image.astype(float), hole, others)), 0, 255).astype(np.uint8)


def _recolored(image: np.ndarray, mask: np.ndarray, mean_ab: tuple[float, float]) -> np.ndarray:
    """The image, the masked part shifted in a* and b* so that they have this mean.

    Lightness and all texture stay; colours that sRGB has not are cut off.
    """
    lab = srgb8_to_lab(image[mask])
    lab[:, 1:] += np.array(mean_ab) - lab[:, 1:].mean(axis=0)
    result = image.copy()
    result[mask] = to_srgb8(lab_to_linear(lab))
    return result


def _blended(image: np.ndarray, pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """``pixels`` over ``image`` where the mask is, with a soft edge inside it."""
    # The picture's own edge is none of the object's.
    depth = scipy.ndimage.distance_transform_edt(np.pad(mask, FEATHER_PX, mode="edge"))
    depth = depth[FEATHER_PX:-FEATHER_PX, FEATHER_PX:-FEATHER_PX]
    opacity = np.minimum(depth / FEATHER_PX, 1.0)[..., None]
    return np.rint(opacity * pixels + (1 - opacity) * image).astype(np.uint8)
