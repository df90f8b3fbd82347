"""A rendered image as a scene: its objects, their boxes, depth, and how much of them shows."""

import numpy as np
from small import SMALL
from synthetic_views import SIZE, synthetic_view

from dig_env.scenes import STAGES, plan_pair, view_of, views
from dig_env.scenes.measure.labels import mask_bounds


def test_each_image_of_a_pair_has_its_own_objects(renderer):
    pair = renderer.render(plan_pair(11, STAGES["mixed"]))
    for view, ids, scene in zip(
        views(pair), (pair.ids_a, pair.ids_b), (pair.plan.scene_a, pair.plan.scene_b), strict=True
    ):
        assert [seen.object for seen in view.objects] == list(scene)
        assert view.size == (SMALL.width, SMALL.height)
        for seen in view.objects:
            assert seen.box == mask_bounds(ids == seen.id)
            assert seen.visible == (ids == seen.id).sum()
            assert (view.box_unit(seen) >= 0).all()
            assert (view.box_unit(seen) <= 1).all()


def test_depth_grows_away_from_the_camera_and_decides_what_hides_what():
    hidden = 0
    for seed in range(60):
        plan = plan_pair(seed, STAGES["mixed"])
        view = synthetic_view(plan)
        for seen in view.objects:
            if seen.shown < 0.8:
                hidden += 1
                x0, y0, x1, _ = seen.box
                overlapping = [
                    other
                    for other in view.objects
                    if other.id != seen.id
                    and other.box[0] < x1 + 2
                    and other.box[2] > x0 - 2
                    and other.box[3] > y0
                ]
                assert min(other.depth for other in overlapping) < seen.depth
    assert hidden > 5, "or nothing was tested"


def test_what_shows_is_the_part_that_no_other_object_hides():
    plan = plan_pair(3, STAGES["mixed"])
    view = synthetic_view(plan)
    whole = [seen for seen in view.objects if seen.shown == 1.0]
    assert whole
    seen = whole[0]
    ids = view.ids.copy()
    rows, columns = np.nonzero(ids == seen.id)
    ids[rows[::2], columns[::2]] = 200
    half = view_of(view.image, ids, plan.scene_a, plan.camera)
    (again,) = (other for other in half.objects if other.id == seen.id)
    assert again.shown == again.visible / seen.visible
    assert abs(again.shown - 0.5) < 0.02


def test_an_object_that_shows_nothing_is_not_seen():
    plan = plan_pair(3, STAGES["mixed"])
    view = synthetic_view(plan)
    gone = view.objects[0].id
    without = view_of(
        view.image, np.where(view.ids == gone, 0, view.ids), plan.scene_a, plan.camera
    )
    assert gone not in [seen.id for seen in without.objects]
    assert len(without.objects) == len(view.objects) - 1
    assert without.size == SIZE
