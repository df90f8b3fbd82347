"""Image B is rendered only where it can differ from A, and nobody can tell."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from small import SMALL

import dig_env.scenes.render.imaging as imaging
from dig_env.scenes import (
    MATERIALS,
    PAPER_STAGES,
    SIZES,
    STAGES,
    SceneObject,
    family_named,
    plan_pair,
)
from dig_env.scenes.geometry import surface_hit
from dig_env.scenes.render.imaging import TILE_PX, covers, render_pair, render_pair_whole
from dig_env.scenes.render.influence import influence_mask
from dig_env.scenes.render.passes import Window
from dig_env.scenes.render.process import RenderRequest, WorkerProcess

TIMEOUT_S = 60.0


def psnr(image, reference):
    error = np.mean((image.astype(float) - reference) ** 2)
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


@pytest.mark.parametrize("stage", PAPER_STAGES)
def test_a_pair_rendered_in_part_equals_two_full_renders(worker, denoiser, stage):
    for seed in range(8):
        plan = plan_pair(seed, STAGES[stage])
        image_a, ids_a, image_b, ids_b = render_pair(plan, worker, denoiser, TIMEOUT_S)
        full_a, full_ids_a, full_b, full_ids_b = render_pair_whole(
            plan, worker, denoiser, TIMEOUT_S
        )
        np.testing.assert_array_equal(image_a, full_a)
        np.testing.assert_array_equal(ids_a, full_ids_a)
        np.testing.assert_array_equal(ids_b, full_ids_b)
        assert psnr(image_b, full_b) > 45
        assert np.abs(image_b.astype(int) - full_b).max() <= 40


@pytest.mark.parametrize(("width", "height"), [(64, 160), (96, 96), (200, 40), (101, 67)])
def test_pictures_of_any_shape_are_rendered_in_part(denoiser, width, height):
    settings = dataclasses.replace(SMALL, width=width, height=height)
    process = WorkerProcess(settings, threads=2)
    try:
        for seed in range(4):
            plan = plan_pair(seed, STAGES["single"])
            pictures = render_pair(plan, process, denoiser, TIMEOUT_S)
            full = render_pair_whole(plan, process, denoiser, TIMEOUT_S)
            for index in (0, 1, 3):
                np.testing.assert_array_equal(pictures[index], full[index])
            assert psnr(pictures[2], full[2]) > 45
            mask = influence_mask(plan, width, height)
            changed = plan.changes[0].object_id
            assert mask[(full[1] == changed) | (full[3] == changed)].all()
            assert mask.mean() < 0.6
    finally:
        process.kill()


def test_a_window_is_rendered_to_the_pixel():
    settings = dataclasses.replace(SMALL, width=101, height=67)
    plan = plan_pair(3, STAGES["single"])
    process = WorkerProcess(settings, threads=2)
    rng = np.random.default_rng(0)
    try:
        (full,) = process.render(
            plan.camera, plan.lights, plan.scenery, [RenderRequest(plan.scene_a)], TIMEOUT_S
        )
        for _ in range(40):
            x0, x1 = sorted(rng.choice(102, 2, replace=False).tolist())
            y0, y1 = sorted(rng.choice(68, 2, replace=False).tolist())
            window = Window(x0, y0, x1, y1)
            requests = [RenderRequest(plan.scene_a, window)]
            (part,) = process.render(plan.camera, plan.lights, plan.scenery, requests, TIMEOUT_S)
            np.testing.assert_array_equal(part.color, full.crop(window).color)
    finally:
        process.kill()


def test_what_is_not_covered_keeps_every_bit(worker):
    plan = plan_pair(3, STAGES["mixed"])
    mask = np.zeros((SMALL.height, SMALL.width), bool)
    mask[16:64, 32:96] = mask[72:80, 8:20] = True
    window = Window.around(mask)
    requests = [RenderRequest(plan.scene_b), RenderRequest(plan.scene_b, window, covers(mask))]
    full, part = worker.render(plan.camera, plan.lights, plan.scenery, requests, TIMEOUT_S)
    assert part.color.shape[:2] == (window.y1 - window.y0, window.x1 - window.x0)
    seen = mask[window.slices]
    for name in ("color", "albedo", "normal", "ids"):
        expected = getattr(full.crop(window), name)
        np.testing.assert_array_equal(getattr(part, name)[seen], expected[seen])
    assert not part.color[~seen].any(), "covered pixels cost time"


def test_away_from_the_part_both_images_are_the_same(pairs):
    shares = {}
    for stage in PAPER_STAGES:
        for pair in pairs[stage]:
            mask = influence_mask(pair.plan, SMALL.width, SMALL.height)
            tiles = imaging._whole_tiles(mask)
            shares.setdefault(stage, []).append(mask.mean())
            for diff in pair.differences:
                seen = (pair.ids_a == diff.object_id) | (pair.ids_b == diff.object_id)
                assert mask[seen].all(), "a changed object lies wholly in the part"
            assert (pair.ids_a == pair.ids_b)[~mask].all()
            beyond = (pair.image_a != pair.image_b).any(axis=-1) & ~tiles
            assert not beyond.any() or beyond.mean() > 0.02, "all of B, or none beyond the part"
    assert np.mean(shares["single"]) < 0.2 < np.mean(shares["mixed"]) + 0.1


def test_a_part_that_is_too_small_is_noticed(worker, denoiser, monkeypatch):
    plan = plan_pair(3, STAGES["single"])
    expected = render_pair_whole(plan, worker, denoiser, TIMEOUT_S)
    _, ids_a, _, ids_b = expected
    changed = plan.changes[0].object_id
    window = Window.around((ids_a == changed) | (ids_b == changed))
    too_small = influence_mask(plan, SMALL.width, SMALL.height)
    too_small[:, (window.x0 + window.x1) // 2 :] = False  # half of the object itself is missed
    monkeypatch.setattr(imaging, "influence_mask", lambda *_: too_small)
    for image, full in zip(render_pair(plan, worker, denoiser, TIMEOUT_S), expected, strict=True):
        np.testing.assert_array_equal(image, full)


def test_a_new_colour_casts_no_new_shadow():
    areas = {"color": [], "size": []}
    for seed in range(60):
        plan = plan_pair(seed, STAGES["single"])
        if plan.changes[0].change in areas:
            areas[plan.changes[0].change].append(influence_mask(plan, 320, 240).mean())
    assert np.mean(areas["color"]) < np.mean(areas["size"])


@given(
    hnp.arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 6))),
    st.integers(0, TILE_PX - 1),
    st.integers(0, TILE_PX - 1),
)
def test_covers_lie_over_all_that_is_not_rendered_and_nothing_else(tiles, cut_x, cut_y):
    mask = tiles.repeat(TILE_PX, axis=0).repeat(TILE_PX, axis=1)
    mask = mask[: len(mask) - cut_y, : mask.shape[1] - cut_x]
    covered = np.zeros(mask.shape, int)
    for x0, y0, x1, y1 in covers(mask):
        covered[round(y0) : round(y1), round(x0) : round(x1)] += 1
        assert x0 > round(x0) and y0 > round(y0) and x1 < round(x1) and y1 < round(y1)
    np.testing.assert_array_equal(covered, ~mask)


@given(
    st.sampled_from(family_named("clevr").shapes),
    st.sampled_from(sorted(SIZES)),
    st.floats(0, 360),
    st.integers(0, 2**32 - 1),
)
def test_rays_meet_objects_where_walking_along_them_says(shape, size, rotation_deg, seed):
    """An oracle without formulas: small steps along each ray until a point lies inside."""
    obj = SceneObject(1, shape, size, MATERIALS[0], "red", 0.4, -0.3, rotation_deg)
    rng = np.random.default_rng(seed)
    eye = np.array((5.0, -4.0, 4.0))
    goals = np.array((obj.x, obj.y, SIZES[size])) + rng.uniform(-1.5, 1.5, (20, 3)) * SIZES[size]
    rays = (goals - eye) / np.linalg.norm(goals - eye, axis=1, keepdims=True)
    distance, normal = surface_hit(obj, eye, rays)
    steps = np.linspace(4, 11, 7001)
    inside = is_inside(obj, eye + steps[None, :, None] * rays[:, None])
    for ray in range(20):
        if inside[ray].sum() < 20:  # a miss, or a graze that steps may skip
            continue
        assert distance[ray] == pytest.approx(steps[inside[ray].argmax()], abs=2e-3)
        assert np.linalg.norm(normal[ray]) == pytest.approx(1)
        assert normal[ray] @ rays[ray] < 0
    assert np.isinf(distance[~inside.any(axis=1)]).sum() >= (~inside.any(axis=1)).sum() - 2


def is_inside(obj, points):
    radius = SIZES[obj.size]
    x, y, z = np.moveaxis(points - (obj.x, obj.y, 0), -1, 0)
    if obj.shape == "sphere":
        return x**2 + y**2 + (z - radius) ** 2 < radius**2
    if obj.shape == "cylinder":
        return (x**2 + y**2 < radius**2) & (z > 0) & (z < 2 * radius)
    angle, half = math.radians(obj.rotation_deg), radius / math.sqrt(2)
    u = x * math.cos(angle) + y * math.sin(angle)
    v = -x * math.sin(angle) + y * math.cos(angle)
    return (abs(u) < half) & (abs(v) < half) & (z > 0) & (z < 2 * half)
