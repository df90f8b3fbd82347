"""Families: worlds of more shapes, materials and changes, with the guarantees of the first one."""

import collections
import dataclasses
import itertools
import json
import math

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import SMALL, SMALL_ENV

import dig_env  # noqa: F401 - registers the environments
from dig_env.align import TASKS, pose
from dig_env.align.words import read_attributes
from dig_env.scenes import (
    CHANGES,
    COLORS,
    MATERIALS,
    PAPER_CHANGES,
    SHAPES,
    Change,
    Difficulty,
    DifficultyError,
    PairDataset,
    PairPlan,
    Renderer,
    SceneObject,
    audit_dataset,
    family_named,
    plan_pair,
    render_dataset,
    views,
)
from dig_env.scenes.families.vocabulary import PATTERNS, TURNS
from dig_env.scenes.measure.occlusion import silhouette
from dig_env.scenes.render.blender.meshes import SHAPE_MESHES, shape_mesh
from dig_env.scenes.render.imaging import render_pair, render_pair_whole
from dig_env.scenes.render.process import RenderRequest

FAMILIES = ("clevr", "tabletop", "shelf")
RENDERED_CHANGES = (*PAPER_CHANGES, "move", "rotate", "texture")
TIMEOUT_S = 120.0
seeds = st.integers(0, 2**63 - 1)


def of(family, **fields):
    """The hardest difficulty of a family: up to four differences of every kind that it allows."""
    changes = [c for c in RENDERED_CHANGES if not family_named(family).unsupported([c])]
    return Difficulty(**{"differences": (1, 4), "changes": changes, "family": family} | fields)


# Plans


@given(seeds, st.sampled_from(FAMILIES))
@settings(max_examples=30)
def test_a_plan_of_any_family_survives_json_and_speaks_its_words(seed, family):
    plan = plan_pair(seed, of(family))
    assert PairPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    world = family_named(family)
    assert plan.scenery in world.sceneries
    assert plan.to_json()["scenery"]["sky"]["strength"] == plan.scenery.sky.strength
    for obj in (*plan.scene_a, *plan.scene_b):
        for attribute in ("shape", "size", "material", "color"):
            assert getattr(obj, attribute) in world.values(attribute)


@given(seeds, st.sampled_from(FAMILIES))
@settings(max_examples=30)
def test_objects_rest_on_a_slab_and_none_intersects_another(seed, family):
    plan = plan_pair(seed, of(family))
    gap = family_named(family).min_gap
    for scene in (plan.scene_a, plan.scene_b):
        for obj in scene:
            assert any(
                slab.high[2] == obj.z
                and all(
                    slab.low[axis] + obj.radius <= place <= slab.high[axis] - obj.radius
                    for axis, place in ((0, obj.x), (1, obj.y))
                )
                for slab in plan.scenery.slabs
            ), "its whole footprint lies on a slab"
            for slab in plan.scenery.slabs:
                above = [
                    slab.low[axis] < place < slab.high[axis]
                    for axis, place in ((0, obj.x), (1, obj.y))
                ]
                top = obj.z + 2 * obj.radius
                assert not all(above) or slab.high[2] <= obj.z or slab.low[2] >= top
        for one, other in itertools.combinations(scene, 2):
            if one.z == other.z:
                apart = math.dist((one.x, one.y), (other.x, other.y))
                assert apart - one.radius - other.radius >= gap
            else:
                low, high = sorted((one, other), key=lambda obj: obj.z)
                assert low.z + 2 * low.radius < high.z


@given(seeds, st.sampled_from(FAMILIES))
@settings(max_examples=50)
def test_the_further_changes_alter_what_they_say_and_can_be_seen(seed, family):
    for change in plan_pair(seed, of(family)).changes:
        before, after = change.before, change.after
        if change.change == "move":
            far = math.dist((before.x, before.y, before.z), (after.x, after.y, after.z))
            assert 1.4 <= far <= 2.6
            assert dataclasses.replace(before, x=after.x, y=after.y, z=after.z) == after
        elif change.change == "rotate":
            period = TURNS[before.shape]
            turn = (after.rotation_deg - before.rotation_deg) % period
            assert 0.3 <= turn / period <= 0.7
        elif change.change == "texture":
            assert {before.material, after.material} <= set(PATTERNS)
        elif change.change == "material":
            assert not {before.material, after.material} <= set(PATTERNS)
    assert len({c.object_id for c in plan_pair(seed, of(family)).changes}) >= 1


def test_the_papers_six_changes_are_the_default_and_all_nine_happen():
    assert Difficulty().changes == PAPER_CHANGES and set(PAPER_CHANGES) < set(CHANGES)
    plans = [plan_pair(seed, of("tabletop")) for seed in range(300)]
    kinds = collections.Counter(change.change for plan in plans for change in plan.changes)
    assert set(kinds) == set(RENDERED_CHANGES)
    assert max(kinds.values()) < 1.5 * min(kinds.values())


@pytest.mark.parametrize(
    ("name", "edits"),
    [
        ("move", {"x": 1.0, "color": "blue"}),
        ("rotate", {"rotation_deg": 20.0, "y": 1.0}),
        ("texture", {"material": "glass"}),
        ("material", {"material": "marble"}),
        ("size", {"z": 1.0}),
    ],
)
def test_a_further_change_that_is_more_or_less_than_it_says_cannot_exist(name, edits):
    before = SceneObject(1, "cube", "large", "wood", "red", 0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match=f"is said to change its {name}"):
        Change(name, before, dataclasses.replace(before, **edits))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"family": "clvr"}, "unknown family 'clvr'; there are clevr, shelf, tabletop"),
        ({"family": 3}, "unknown family 3"),
        ({"changes": ("texture",)}, "fewer than two of the materials wood, marble, checker"),
    ],
)
def test_a_wrong_family_says_what_is_allowed(fields, message):
    with pytest.raises(DifficultyError, match=message):
        Difficulty(**fields)


# Shapes


@pytest.mark.parametrize("shape", SHAPE_MESHES)
def test_a_shape_stands_on_its_floor_is_closed_and_faces_outwards(shape):
    vertices, faces = shape_mesh(shape)
    points = np.array(vertices)
    assert np.hypot(points[:, 0], points[:, 1]).max() <= 1 + 1e-9
    assert points[:, 2].min() == pytest.approx(0) and points[:, 2].max() <= 2 + 1e-9
    edges = collections.Counter((face[i - 1], face[i]) for face in faces for i in range(len(face)))
    assert set(edges.values()) == {1} and all((b, a) in edges for a, b in edges)
    volume = sum(
        np.linalg.det(points[[face[0], face[i], face[i + 1]]])
        for face in faces
        for i in range(1, len(face) - 1)
    )
    assert volume > 0


def test_silhouettes_are_what_blender_shows(worker):
    """Every shape alone, at an angle: its pixels against the projection of its mesh."""
    plan = plan_pair(0, Difficulty(family="tabletop"))
    view = (plan.camera, plan.lights, plan.scenery)
    objects = [SceneObject(7, shape, "large", "rubber", "red", 0.3, -0.4, 33.0) for shape in SHAPES]
    exposures = worker.render(*view, [RenderRequest((obj,)) for obj in objects], TIMEOUT_S)
    for obj, exposure in zip(objects, exposures, strict=True):
        expected = silhouette(obj, plan.camera, SMALL.width, SMALL.height)
        seen = exposure.ids == 7
        assert (seen & expected).sum() / (seen | expected).sum() > 0.9, obj.shape


def test_turns_show_as_far_as_a_shape_has_corners(worker):
    """Turned by its period a shape looks the same, by half of it another way."""
    plan = plan_pair(0, Difficulty(family="tabletop"))
    for shape, period in TURNS.items():
        obj = SceneObject(7, shape, "large", "rubber", "red", 0.3, -0.4, 20.0)
        turned = [
            dataclasses.replace(obj, rotation_deg=obj.rotation_deg + part * period)
            for part in (0, 0.5, 1)
        ]
        same, other, again = (silhouette(one, plan.camera, 320, 240) for one in turned)
        assert (same != again).sum() < 10 < (same != other).sum()


# Pictures


@pytest.mark.parametrize("family", ["tabletop", "shelf"])
def test_a_pair_of_another_family_rendered_in_part_equals_two_full_renders(
    worker, denoiser, family
):
    for seed in range(8):
        plan = plan_pair(seed, of(family))
        image_a, ids_a, image_b, ids_b = render_pair(plan, worker, denoiser, TIMEOUT_S)
        full_a, full_ids_a, full_b, full_ids_b = render_pair_whole(
            plan, worker, denoiser, TIMEOUT_S
        )
        np.testing.assert_array_equal(image_a, full_a)
        np.testing.assert_array_equal(ids_a, full_ids_a)
        np.testing.assert_array_equal(ids_b, full_ids_b)
        error = np.abs(image_b.astype(int) - full_b)
        assert error.mean() < 0.5 and error.max() <= 60


def test_one_worker_shows_every_family_as_a_fresh_one_does(renderer):
    difficulties = [of(family) for family in (*FAMILIES, "clevr")]
    mixed = [renderer.render(plan_pair(5, difficulty)) for difficulty in difficulties * 2]
    with Renderer(SMALL) as fresh:
        for difficulty, pair in zip(reversed(difficulties), reversed(mixed), strict=False):
            again = fresh.render(plan_pair(5, difficulty))
            np.testing.assert_array_equal(again.image_a, pair.image_a)
            np.testing.assert_array_equal(again.image_b, pair.image_b)


@pytest.mark.parametrize("family", ["tabletop", "shelf"])
def test_pairs_of_a_family_are_stored_played_and_asked_about(tmp_path, family):
    difficulty = of(family)
    render_dataset(
        tmp_path, {"world": 6}, settings=SMALL, difficulties={"world": difficulty}, workers=2
    )
    assert not audit_dataset(tmp_path).problems
    pairs = list(PairDataset(tmp_path))
    for pair in pairs:
        assert pair.plan.difficulty == difficulty
        assert all(diff.contrast >= difficulty.min_contrast for diff in pair.differences)
    rng = np.random.default_rng(0)
    for task in TASKS:
        assert any(pose(views(pair), task, rng) for pair in pairs), task
    env = gym.make("DiG-v0", stage={"family": family}, **SMALL_ENV)
    env.reset(seed=1)
    _, _, _, _, info = env.step("[]")
    assert info["truth"]
    env.close()


def test_every_word_is_read_and_belongs_to_one_attribute():
    for attribute, words in (("shape", SHAPES), ("material", MATERIALS), ("color", COLORS)):
        for word in words:
            named = read_attributes(f"some {word} things")
            assert {key: set(value) for key, value in named.items() if value} == {attribute: {word}}
