"""From a seed to a certified pair of photographs."""

from __future__ import annotations

import importlib.metadata

from dig_env.scenes.measure.labels import label_pair
from dig_env.scenes.measure.pair import Pair
from dig_env.scenes.photos.album import Album
from dig_env.scenes.photos.compose import compose
from dig_env.scenes.photos.planner import plan_photo_pair
from dig_env.scenes.plans.difficulty import Difficulty, DifficultyError
from dig_env.scenes.plans.planner import MAX_ATTEMPTS

IMAGE_LIBRARIES = ("pillow", "pycocotools", "scipy")


def photo_pair(seed: int, difficulty: Difficulty, album: Album) -> Pair:
    """The pair of a seed: a pure function of the arguments and of the album's photographs.

    It is measured and certified by ``label_pair``, by the same rules as a rendered one; the next
    attempt of the seed follows one that fails.

    Raises:
        DifficultyError: no attempt passed, or the difficulty is not for photographs.
    """
    problem = ""
    for attempt in range(MAX_ATTEMPTS):
        plan = plan_photo_pair(seed, difficulty, album, attempt)
        if plan is None:
            problem = "no photograph had enough whole objects, or room for others"
            continue
        pair, problem = label_pair(plan, *compose(plan, album))
        if pair is not None:
            return pair
    raise DifficultyError(
        f"none of {MAX_ATTEMPTS} plans of pair seed {seed} made a pair of the {len(album.names)} "
        f"photographs; in the last, {problem}. Give more photographs, ask for fewer differences "
        "or a wider range of objects, or lower min_visible or min_contrast"
    )


def photo_versions(album: Album) -> dict[str, str]:
    """What the bytes of a pair depend on beside its seed, difficulty and size."""
    libraries = (f"{name} {importlib.metadata.version(name)}" for name in IMAGE_LIBRARIES)
    return {"photographs": album.digest, "image libraries": ", ".join(libraries)}
