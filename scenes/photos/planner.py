"""From a seed and an album to a plan. Drawn through ``random.Random(text).random()`` alone."""

from __future__ import annotations

import dataclasses
import math
import random

import numpy as np
import scipy

from dig_env.scenes.arguments import whole
from dig_env.scenes.families.vocabulary import PHOTO_CHANGES
from dig_env.scenes.photos.album import Album, Instance, Photograph
from dig_env.scenes.photos.compose import placed
from dig_env.scenes.photos.plan import PhotoChange, PhotoObject, PhotoPlan
from dig_env.scenes.plans.difficulty import Difficulty, DifficultyError
from dig_env.scenes.plans.draws import choice, integer, shuffled, uniform

PHOTO_FIELDS = (
    *("differences", "objects", "changes", "min_visible", "min_contrast"),
    *("max_bystander_contrast", "max_detached_area"),
)
"""What a difficulty may say of photographs."""
PHOTO_TRIES = 20
"""Photographs that are looked at for one plan."""
PASTE_TRIES = 20
"""Objects and places that are tried for one paste."""
GAP_PX = 4
"""Least distance of a pasted object from others."""
HEIGHT_JITTER = 0.1
"""A pasted object stands as high in the picture as in its own, where the ground is about as far
away, give or take this part of the height."""
SCALES = (0.5, 1.5)
"""How far an object is scaled to replace another."""
CHROMAS = (30.0, 70.0)
"""CIE chroma of a new mean colour; objects that people call coloured begin at about 30."""
COLOR_DISTANCE = 40.0
"""Least distance in a* and b* between the old mean colour and the new one."""


def plan_photo_pair(
    seed: int, difficulty: Difficulty, album: Album, attempt: int = 0
) -> PhotoPlan | None:
    """Plan the pair of a seed.

    Args:
        seed: pair seed, 0 or more.
        difficulty: the fields differences, objects and changes are drawn from; the thresholds
            are for ``label_pair``.
        album: whose photographs.
        attempt: which plan of the seed's stream.

    Returns:
        The same plan for the same arguments and photographs; None when this attempt found no
        photograph with room for its changes.

    Raises:
        DifficultyError: the difficulty asks for what cannot be done to a photograph.
    """
    seed, attempt = whole("seed", seed, 0), whole("attempt", attempt, 0)
    foreign = [change for change in difficulty.changes if change not in PHOTO_CHANGES]
    if foreign:
        raise DifficultyError(
            f"changes={difficulty.changes!r}: {', '.join(foreign)} cannot be done to photographs; "
            f"give one or more of {', '.join(PHOTO_CHANGES)}"
        )
    plain = Difficulty()
    foreign = [
        field.name
        for field in dataclasses.fields(difficulty)
        if field.name not in PHOTO_FIELDS
        and getattr(difficulty, field.name) != getattr(plain, field.name)
    ]
    if foreign:
        raise DifficultyError(
            f"{', '.join(foreign)} cannot be asked of photographs; the fields are "
            f"{', '.join(PHOTO_FIELDS)}"
        )
    rng = random.Random(f"dig-env photo pair {seed} attempt {attempt}")
    # As in plan_pair, K belongs to the seed alone.
    count = integer(random.Random(f"dig-env pair {seed} K"), *difficulty.differences)
    # Kinds are drawn before the photograph, so that they are as frequent as asked for.
    kinds = [choice(rng, difficulty.changes) for _ in range(count)]
    # Half of the added and deleted objects are pasted into the photograph, half taken out of it.
    pasted = [kind in ("add", "delete") and rng.random() < 0.5 for kind in kinds]
    for _ in range(PHOTO_TRIES):
        photo = album.photograph(choice(rng, album.names))
        if photo is not None:
            layout = _try_photo(rng, difficulty, photo, album, [*zip(kinds, pasted, strict=True)])
            if layout is not None:
                return PhotoPlan(seed, attempt, difficulty, photo.name, *layout)
    return None


def _try_photo(
    rng: random.Random,
    difficulty: Difficulty,
    photo: Photograph,
    album: Album,
    wanted: list[tuple[str, bool]],
) -> tuple[tuple[PhotoObject, ...], tuple[PhotoChange, ...]] | None:
    """The unchanged objects and the changes, or None when the photograph has no room for them."""
    least_px = difficulty.min_visible * photo.ids.size
    own = [inst for inst in photo.instances if inst.area >= least_px]
    free = shuffled(rng, [inst for inst in own if inst.is_whole])
    new_count = sum(pasted for _, pasted in wanted)
    low, high = difficulty.objects
    if not low <= len(own) + new_count <= high:
        return None
    taken = np.isin(photo.ids, [inst.id for inst in own])
    next_id = 1 + max((inst.id for inst in photo.instances), default=0)
    changes = []
    for kind, is_pasted in wanted:
        if is_pasted:
            new = _pasted(rng, next_id, album, taken, least_px)
            next_id += 1
            change = new and PhotoChange(kind, *((None, new) if kind == "add" else (new, None)))
        else:
            fit = [inst for inst in free if inst.is_removable or kind == "color"]
            if not fit:
                return None
            free.remove(fit[-1])
            change = _changed(rng, kind, fit[-1], photo, album, taken, least_px)
        if not change:
            return None
        changes.append(change)
        for obj in (change.before, change.after):
            if obj is not None:
                taken = taken | placed(obj, album)
    changed = {change.object_id for change in changes}
    objects = tuple(_unmoved(inst, photo) for inst in own if inst.id not in changed)
    return objects, tuple(sorted(changes, key=lambda change: change.object_id))


def _unmoved(inst: Instance, photo: Photograph) -> PhotoObject:
    return PhotoObject(inst.id, photo.name, inst.annotation, inst.category, inst.box)


def _changed(
    rng: random.Random,
    kind: str,
    inst: Instance,
    photo: Photograph,
    album: Album,
    taken: np.ndarray,
    least_px: float,
) -> PhotoChange | None:
    """A change of an object of the photograph; None when no other can replace it."""
    obj = _unmoved(inst, photo)
    if kind == "add":
        return PhotoChange(kind, None, obj)
    if kind == "delete":
        return PhotoChange(kind, obj, None)
    if kind == "color":
        return PhotoChange(kind, obj, dataclasses.replace(obj, color=_new_color(rng, inst)))
    blocked = _with_gap(taken & (photo.ids != inst.id))
    for _ in range(PASTE_TRIES):
        found = _liftable(rng, album, least_px)
        if found is None or (found[0].name, found[1].annotation) == (photo.name, inst.annotation):
            continue
        box = _fitted(found[1].box, inst.box, photo)
        if box is not None:
            new = _lifted(inst.id, *found, box)
            if not (placed(new, album) & blocked).any():
                return PhotoChange(kind, obj, new)
    return None


def _fitted(
    box: tuple[int, int, int, int], into: tuple[int, int, int, int], photo: Photograph
) -> tuple[int, int, int, int] | None:
    """Where a box of another object goes to stand where ``into`` stands, about as large."""
    width, height = box[2] - box[0], box[3] - box[1]
    scale = math.sqrt((into[2] - into[0]) * (into[3] - into[1]) / (width * height))
    width, height = round(scale * width), round(scale * height)
    x0, y0 = (into[0] + into[2] - width) // 2, into[3] - height
    image_height, image_width = photo.ids.shape
    is_inside = x0 >= 0 and y0 >= 0 and x0 + width <= image_width and into[3] <= image_height
    if not is_inside or not SCALES[0] <= scale <= SCALES[1]:
        return None
    return x0, y0, x0 + width, y0 + height


def _new_color(rng: random.Random, inst: Instance) -> tuple[float, float]:
    """A mean a* and b* far from the object's own; at most one in six hues is near it."""
    while True:
        chroma, hue = uniform(rng, *CHROMAS), uniform(rng, 0.0, 2 * math.pi)
        color = round(chroma * math.cos(hue), 3), round(chroma * math.sin(hue), 3)
        if math.dist(color, inst.mean_ab) >= COLOR_DISTANCE:
            return color


def _pasted(
    rng: random.Random, object_id: int, album: Album, taken: np.ndarray, least_px: float
) -> PhotoObject | None:
    """An object of any photograph, in a place where nothing is yet."""
    image_height, image_width = taken.shape
    blocked = _with_gap(taken)
    for _ in range(PASTE_TRIES):
        found = _liftable(rng, album, least_px)
        if found is not None:
            x0, y0, x1, y1 = found[1].box
            width, height = x1 - x0, y1 - y0
            jitter = HEIGHT_JITTER * image_height
            left = integer(rng, 0, image_width - width)
            top = y0 + integer(rng, -round(jitter), round(jitter))
            top = min(max(top, 0), image_height - height)
            new = _lifted(object_id, *found, (left, top, left + width, top + height))
            if not (placed(new, album) & blocked).any():
                return new
    return None


def _lifted(
    object_id: int, photo: Photograph, inst: Instance, box: tuple[int, int, int, int]
) -> PhotoObject:
    return PhotoObject(object_id, photo.name, inst.annotation, inst.category, box)


def _liftable(
    rng: random.Random, album: Album, least_px: float
) -> tuple[Photograph, Instance] | None:
    """An object that can be cut out of a photograph, and the photograph."""
    photo = album.photograph(choice(rng, album.names))
    if photo is None:
        return None
    found = [inst for inst in photo.instances if inst.is_liftable and inst.area >= least_px]
    return (photo, choice(rng, found)) if found else None


def _with_gap(taken: np.ndarray) -> np.ndarray:
    return scipy.ndimage.binary_dilation(taken, iterations=GAP_PX)
