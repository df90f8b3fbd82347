"""Views of planned scenes without a renderer: silhouettes in the order of their distance."""

import numpy as np

from dig_env.scenes import PairPlan, View, view_of
from dig_env.scenes.measure.occlusion import silhouette

SIZE = (128, 96)


def synthetic_view(plan: PairPlan) -> View:
    """Image A of a plan, in flat grey levels."""
    width, height = SIZE
    ids = np.zeros((height, width), np.uint8)
    eye = plan.camera.location
    from_far_to_near = sorted(
        plan.scene_a, key=lambda obj: -np.hypot(obj.x - eye[0], obj.y - eye[1])
    )
    for obj in from_far_to_near:
        ids[silhouette(obj, plan.camera, width, height)] = obj.id
    image = np.repeat(ids[..., None] * 20, 3, axis=-1)
    return view_of(image, ids, plan.scene_a, plan.camera)
