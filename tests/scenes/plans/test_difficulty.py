"""Difficulty beyond the count: each field does what it says, and nuisances are no differences."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv
from hypothesis import given, reject, settings
from hypothesis import strategies as st

import dig_env
from dig_env import REWARDS, Curriculum, CurriculumWrapper, score
from dig_env.agents import PixelDiffPolicy
from dig_env.agents.evaluation.breakdown import metrics_by_count, recall_by_axis
from dig_env.agents.evaluation.pairs import play_pairs
from dig_env.drawing import GUTTER_PX, TRUE_COLOR
from dig_env.redteam import red_team
from dig_env.scenes import (
    COLORS,
    PAPER_STAGES,
    SIZES,
    STAGES,
    Difficulty,
    DifficultyError,
    PairDataset,
    PairPlan,
    Renderer,
    RenderSettings,
    audit_dataset,
    pair_seed_range,
    plan_pair,
    render_dataset,
)
from dig_env.scenes.color import lab_to_srgb8, srgb8_to_lab
from dig_env.scenes.dataset.manifest import stage_seeds
from dig_env.scenes.dataset.rows import pixels_sha256
from dig_env.scenes.measure.labels import mask_bounds
from dig_env.scenes.measure.occlusion import hidden_share
from dig_env.scenes.render.nuisance import compressed, exposed, noisy

SMALL = RenderSettings(96, 72, "draft", "cpu")
SMALL_ENV = {"width": 96, "height": 72, "quality": "draft", "device": "cpu"}
DISTURBED = {
    "camera_shift": 0.2,
    "light_shift": 1.0,
    "exposure_stops": 0.5,
    "noise_levels": 6.0,
    "jpeg_quality": 70,
}

seeds = st.integers(0, 2**63 - 1)


@pytest.fixture(scope="module")
def renderer():
    with Renderer(SMALL) as shared:
        yield shared


@pytest.fixture(scope="module")
def rendered(renderer):
    """Three pairs of each stage beyond the paper's."""
    return {
        stage: [renderer.render(plan_pair(seed, STAGES[stage])) for seed in range(3)]
        for stage in STAGES
        if stage not in PAPER_STAGES
    }


def ranges(least, most):
    return st.tuples(st.floats(least, most), st.floats(least, most)).map(sorted).map(tuple)


difficulties = st.builds(
    Difficulty,
    differences=st.sampled_from([(0, 0), (0, 2), (1, 1), (2, 3)]),
    objects=st.sampled_from([(6, 8), (7, 9)]),
    color_distance=st.none() | ranges(5.0, 40.0),
    size_ratio=st.none() | ranges(1.05, 1.3),
    material_contrast=st.none() | ranges(0.0, 100.0),
    object_scale=ranges(0.6, 0.9),
    occlusion=ranges(0.0, 0.1).map(lambda low: (low[0], 0.9)),
    camera_shift=st.floats(0.0, 2.0),
    light_shift=st.floats(0.0, 5.0),
    exposure_stops=st.floats(0.0, 4.0),
    noise_levels=st.floats(0.0, 64.0),
    jpeg_quality=st.none() | st.integers(1, 95),
)


def planned(seed, difficulty):
    """A plan; seeds for which there is no room are left out: three of ten, at the very worst."""
    try:
        return plan_pair(seed, difficulty)
    except DifficultyError as error:
        assert "found no layout" in str(error)
        reject()


@given(difficulties, seeds)
@settings(max_examples=40)
def test_every_field_and_plan_survives_json(difficulty, seed):
    assert Difficulty.from_json(difficulty.to_json()) == difficulty
    plan = planned(seed, difficulty)
    assert PairPlan.from_json(plan.to_json()) == plan == plan_pair(seed, difficulty)


@given(difficulties, seeds)
@settings(max_examples=40)
def test_nuisances_leave_the_scene_as_it_is(difficulty, seed):
    quiet = dataclasses.replace(
        difficulty,
        camera_shift=0.0,
        light_shift=0.0,
        exposure_stops=0.0,
        noise_levels=0.0,
        jpeg_quality=None,
    )
    plan, clean = planned(seed, difficulty), planned(seed, quiet)
    assert clean.nuisance is None and not quiet.has_nuisance
    assert dataclasses.replace(plan, nuisance=None, difficulty=quiet) == clean
    for one, other, most in (
        (plan.camera.location, plan.camera_b.location, difficulty.camera_shift),
        *(
            (light.location, moved.location, difficulty.light_shift)
            for light, moved in zip(plan.lights, plan.lights_b, strict=True)
        ),
    ):
        assert max(abs(a - b) for a, b in zip(one, other, strict=True)) <= most + 1e-9
    assert plan.camera_b.target == plan.camera.target


@given(seeds, ranges(5.0, 60.0))
@settings(max_examples=40)
def test_a_changed_colour_is_as_far_away_as_asked_and_has_the_nearest_name(seed, distances):
    difficulty = Difficulty(differences=(2, 2), changes=("color",), color_distance=distances)
    plan = plan_pair(seed, difficulty)
    for change in plan.changes:
        old, new = (srgb8_to_lab(np.array(obj.rgb)) for obj in (change.before, change.after))
        assert distances[0] - 1.001 <= np.linalg.norm(new - old) <= distances[1] + 1.001
    for obj in (*plan.scene_a, *plan.scene_b):
        apart = {
            name: np.linalg.norm(srgb8_to_lab(np.array(rgb)) - srgb8_to_lab(np.array(obj.rgb)))
            for name, rgb in COLORS.items()
        }
        assert obj.shade is not None and apart[obj.color] == min(apart.values())


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_lab_and_back_is_the_same_colour(rgb):
    assert np.array_equal(lab_to_srgb8(srgb8_to_lab(np.array(rgb))), rgb)


def test_lab_beyond_srgb_has_no_colour():
    green = srgb8_to_lab(np.array([0, 255, 0]))
    assert lab_to_srgb8(green * 1.05) is None and lab_to_srgb8(np.array([50.0, 120.0, -10])) is None


@given(seeds, ranges(1.05, 1.4))
@settings(max_examples=40)
def test_a_changed_size_has_the_asked_ratio_and_keeps_its_word(seed, ratios):
    difficulty = Difficulty(
        differences=(2, 2), changes=("size",), size_ratio=ratios, object_scale=(0.9, 1.1)
    )
    plan = plan_pair(seed, difficulty)
    for change in plan.changes:
        radii = sorted((change.before.radius, change.after.radius))
        assert ratios[0] - 1e-9 <= radii[1] / radii[0] <= ratios[1] + 1e-9
        assert change.before.size == change.after.size
    small = [obj.radius for obj in plan.scene_a if obj.size == "small"]
    large = [obj.radius for obj in plan.scene_a if obj.size == "large"]
    assert max(small, default=0) < min(large, default=9)


def test_twenty_objects_fit_when_they_are_smaller():
    difficulty = Difficulty(objects=(20, 20), object_scale=(0.6, 0.9))
    for seed in range(20):
        plan = plan_pair(seed, difficulty)
        assert len(plan.objects) + len(plan.changes) == 20
        for obj in plan.scene_a:
            assert 0.6 <= obj.radius / SIZES[obj.size] <= 0.9


def test_the_rules_hold_on_the_pixels_of_every_stage(rendered):
    for stage, pairs in rendered.items():
        difficulty = STAGES[stage]
        for pair in pairs:
            clean = dataclasses.replace(pair, plan=dataclasses.replace(pair.plan, nuisance=None))
            for diff in pair.differences:
                assert diff.contrast >= difficulty.min_contrast
                if diff.change == "material" and difficulty.material_contrast:
                    low, high = difficulty.material_contrast
                    assert low <= diff.contrast <= high
                if pair.plan.nuisance is None:
                    low, high = difficulty.occlusion
                    assert low <= hidden_share(clean, diff.object_id) <= high
            least = difficulty.min_visible * pair.ids_a.size
            for ids, scene in ((pair.ids_a, pair.plan.scene_a), (pair.ids_b, pair.plan.scene_b)):
                assert all((ids == obj.id).sum() >= least for obj in scene)


def test_changed_objects_of_the_cluttered_stage_are_hidden_in_part(rendered):
    hidden = [
        hidden_share(pair, diff.object_id)
        for pair in rendered["cluttered"]
        for diff in pair.differences
    ]
    assert hidden and min(hidden) >= 0.05 and max(hidden) <= 0.6


def test_where_the_camera_moved_each_image_is_drawn_with_the_boxes_of_its_own_objects():
    stage = {"differences": (2, 2), "camera_shift": 0.3}
    env = gym.make("DiG-v0", stage=stage, render_mode="rgb_array", **SMALL_ENV)
    env.reset(options={"pair_seed": 4})
    env.step("[]")
    pair, frame = env.unwrapped.pair, env.render()
    env.close()
    halves = np.split(np.delete(frame, np.s_[384 : 384 + GUTTER_PX], axis=1), 2, axis=1)
    assert pair.camera_moved
    for half, name in zip(halves, ("box_a", "box_b"), strict=True):
        rows, columns = np.nonzero((half == TRUE_COLOR).all(-1))
        boxes = [box for diff in pair.differences if (box := getattr(diff, name))]
        around = np.array(boxes) * 4
        assert (columns.min(), rows.min()) == tuple(around[:, :2].min(0))
        assert (columns.max() + 1, rows.max() + 1) == tuple(around[:, 2:].max(0))


def test_nothing_differs_where_k_is_0(renderer):
    pair = renderer.render(plan_pair(3, Difficulty(differences=(0, 0))))
    assert np.array_equal(pair.image_a, pair.image_b) and np.array_equal(pair.ids_a, pair.ids_b)
    assert pair.differences == () and pair.boxes_unit.shape == (0, 4)
    assert set(dataclasses.astuple(pair.certificate)) == {0.0}
    noisy_pair = renderer.render(plan_pair(3, Difficulty(differences=(0, 0), **DISTURBED)))
    assert np.array_equal(noisy_pair.image_a, pair.image_a) and noisy_pair.differences == ()
    assert not np.array_equal(noisy_pair.image_b, pair.image_b)


def test_k_is_drawn_uniformly_from_0_to_8():
    difficulty = Difficulty(differences=(0, 8), objects=(8, 10))
    counts = [len(plan_pair(seed, difficulty).changes) for seed in range(900)]
    assert all(60 <= counts.count(k) <= 140 for k in range(9)), counts


def test_the_empty_list_is_right_where_nothing_differs_and_its_prompt_says_so():
    env = gym.make("DiG-v0", stage={"differences": (0, 0)}, **SMALL_ENV)
    for answer, total in (("[]", 1.0), ("[[10, 10, 90, 90]]", 0.1), ("no", 0.0)):
        observation, _ = env.reset(options={"pair_seed": 5})
        assert "empty list []" in observation["prompt"] and "none" in observation["prompt"]
        assert observation in env.observation_space
        *_, info = env.step(answer)
        assert score(answer, []).total == total
        assert info["format"] == (total > 0) and info["f1"] == (total == 1.0)
        assert info["truth"] == []
    observation, _ = env.reset(options={"stage": "single", "pair_seed": 5})
    assert "empty" not in observation["prompt"] and observation in env.observation_space
    assert env.step("[]")[1] == 0.0
    env.close()


@pytest.mark.parametrize("name", REWARDS)
def test_no_trick_beats_the_empty_list_where_nothing_differs(name):
    truths = [np.empty((0, 4))] * 3
    assert score("[]", truths[0], REWARDS[name]).total == 1.0
    assert all(outcome.wins == 0 for outcome in red_team(REWARDS[name], truths))


def test_results_without_a_difference_can_be_reported(renderer):
    pairs = [renderer.render(plan_pair(s, Difficulty(differences=(0, 0)))) for s in range(2)]
    episodes = play_pairs(PixelDiffPolicy(), pairs)
    assert [episode.score.total for episode in episodes] == [1.0, 1.0]
    assert all(not groups for groups in recall_by_axis(episodes).values())
    assert metrics_by_count(episodes)["0"]["pairs"] == 2


def test_each_pixel_nuisance_is_a_function_of_the_clean_image(renderer):
    clean = renderer.render(plan_pair(11, Difficulty()))
    for fields in ({"exposure_stops": 1.0}, {"noise_levels": 9.0}, {"jpeg_quality": 40}):
        pair = renderer.render(plan_pair(11, Difficulty(**fields)))
        nuisance = pair.plan.nuisance
        made = clean.image_b
        if nuisance.exposure_stops:
            made = exposed(made, nuisance.exposure_stops)
        if nuisance.noise_levels:
            made = noisy(made, nuisance.noise_levels, 11)
        if nuisance.jpeg_quality:
            made = compressed(made, nuisance.jpeg_quality)
        assert np.array_equal(pair.image_b, made) and not np.array_equal(made, clean.image_b)
        assert np.array_equal(pair.image_a, clean.image_a)
        assert pair.differences == clean.differences and pair.certificate == clean.certificate


def test_a_light_that_moved_changes_pixels_and_no_label(renderer):
    clean = renderer.render(plan_pair(12, Difficulty()))
    pair = renderer.render(plan_pair(12, Difficulty(light_shift=3.0)))
    assert np.array_equal(pair.ids_b, clean.ids_b) and pair.differences == clean.differences
    assert np.mean(pair.image_b != clean.image_b) > 0.5


@pytest.mark.parametrize("seed", range(4))
def test_where_the_camera_moved_the_box_is_that_of_image_a_or_else_of_image_b(renderer, seed):
    changes = ("add", "delete", "size")
    difficulty = Difficulty(differences=(2, 2), changes=changes, camera_shift=1.0)
    pair = renderer.render(plan_pair(seed, difficulty))
    assert pair.plan.camera_b != pair.plan.camera
    for diff in pair.differences:
        box_a = mask_bounds(pair.ids_a == diff.object_id)
        box_b = mask_bounds(pair.ids_b == diff.object_id)
        assert (diff.box_a, diff.box_b) == (box_a, box_b)
        assert diff.box == (box_b if diff.change == "add" else box_a)
        assert (diff.box_a is None) == (diff.change == "add")
    unchanged = [obj.id for obj in pair.plan.objects]
    moved = [mask_bounds(pair.ids_a == i) != mask_bounds(pair.ids_b == i) for i in unchanged]
    assert any(moved)


def test_the_same_bytes_from_another_renderer_with_other_workers(rendered):
    with Renderer(SMALL, workers=2) as other:
        for stage, pairs in rendered.items():
            again = other.render(plan_pair(0, STAGES[stage]))
            assert pixels_sha256(again) == pixels_sha256(pairs[0]), stage
            assert again.differences == pairs[0].differences


def test_noise_is_that_of_the_seed_and_as_strong_as_asked():
    gray = np.full((200, 200, 3), 128, np.uint8)
    noise = noisy(gray, 8.0, seed=1).astype(int) - 128
    assert abs(noise.std() - 8.0) < 0.1 and abs(noise.mean()) < 0.1
    assert np.array_equal(noisy(gray, 8.0, 1), noisy(gray, 8.0, 1))
    assert not np.array_equal(noisy(gray, 8.0, 1), noisy(gray, 8.0, 2))


@given(st.integers(0, 255), st.floats(-4.0, 4.0))
def test_a_stop_doubles_linear_light(level, stops):
    image = np.full((1, 1, 3), level, np.uint8)
    light = (level / 255 / 12.92) if level <= 10 else ((level / 255 + 0.055) / 1.055) ** 2.4
    light = min(1.0, light * 2.0**stops)
    curve = light * 12.92 if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055
    assert abs(int(exposed(image, stops)[0, 0, 0]) - curve * 255) <= 0.5 + 1e-6


def test_a_dataset_keeps_pairs_with_nuisances_and_its_audit_passes(tmp_path):
    render_dataset(tmp_path, {"nuisance": 3, "extreme": 2}, settings=SMALL, workers=1)
    assert audit_dataset(tmp_path).problems == ()
    dataset = PairDataset(tmp_path)
    seed = stage_seeds("train", "nuisance")[0]
    assert seed in pair_seed_range("train")
    pair = dataset.pair(seed)
    assert pair.plan == plan_pair(seed, STAGES["nuisance"], pair.plan.attempt)
    env = gym.make("DiG-v0", dataset=tmp_path, stage="nuisance")
    observation, _ = env.reset(options={"pair_seed": seed})
    assert "does not count" in observation["prompt"]
    *_, info = env.step(dig_env.format_boxes(pair.boxes_unit, exact=True))
    assert info["f1"] == 1.0
    env.close()


def test_prompts_tell_of_the_stage_and_arrive_from_other_processes():
    def make():
        return gym.make("DiG-v0", stage="nuisance", **SMALL_ENV)

    vector = AsyncVectorEnv([make])
    try:
        (first,) = vector.reset(seed=1)[0]["prompt"]
        assert "none" in first and "as the first image shows it" in first
        (then,) = vector.reset(options={"stage": "single"})[0]["prompt"]
        assert then == dig_env.instruction()
    finally:
        vector.close()


def test_a_curriculum_can_walk_the_further_stages():
    curriculum = Curriculum(("single", "subtle", "extreme"), promote_at=0.0, window=1)
    env = CurriculumWrapper(gym.make("DiG-v0", **SMALL_ENV), curriculum)
    played = []
    for seed in range(3):
        _, info = env.reset(seed=seed)
        played.append(info["stage"])
        env.step("[]")
    env.close()
    assert played == ["single", "subtle", "extreme"]
    assert Curriculum().stages == PAPER_STAGES
