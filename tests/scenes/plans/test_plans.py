"""Plans are pure values: same seed, same plan; CLEVR's placement; one attribute a difference."""

import dataclasses
import itertools
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dig_env
from dig_env.scenes import (
    PAPER_CHANGES,
    SIZES,
    SPLITS,
    STAGES,
    Change,
    Difficulty,
    DifficultyError,
    PairPlan,
    RenderSettings,
    SceneObject,
    pair_seed_range,
    plan_pair,
    resolve_stage,
)

seeds = st.integers(0, 2**63 - 1)
stages = st.sampled_from(sorted(STAGES))


@given(seeds, stages)
@settings(max_examples=100)
def test_a_plan_survives_json_with_every_value(seed, stage):
    plan = plan_pair(seed, STAGES[stage])
    assert PairPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert plan.to_json()["camera"]["location"] == plan.camera.location


@given(seeds, stages)
@settings(max_examples=100)
def test_each_difference_is_one_attribute_of_one_object(seed, stage):
    plan = plan_pair(seed, STAGES[stage])
    low, high = STAGES[stage].differences
    assert low <= len(plan.changes) <= high
    assert len({change.object_id for change in plan.changes}) == len(plan.changes)
    for change in plan.changes:
        if change.change == "add":
            assert change.before is None and change.after is not None
        elif change.change == "delete":
            assert change.before is not None and change.after is None
        else:
            before = dataclasses.asdict(change.before)
            after = dataclasses.asdict(change.after)
            differ = {key for key in before if before[key] != after[key]}
            assert differ and differ <= {
                "color": {"color", "shade"},
                "size": {"size", "scale"},
            }.get(change.change, {change.change})


@given(seeds, st.sampled_from([name for name in STAGES if STAGES[name].family == "clevr"]))
@settings(max_examples=100)
def test_objects_keep_clevrs_gap_and_margin_before_and_after_the_change(seed, stage):
    plan = plan_pair(seed, STAGES[stage])
    dx, dy = plan.camera.target[0] - plan.camera.location[0], -plan.camera.location[1]
    ahead = (dx / math.hypot(dx, dy), dy / math.hypot(dx, dy))
    count = len(plan.objects) + len(plan.changes)
    spacing = (10 / count) ** 2 if count > 10 else 1.0
    if STAGES[stage].occlusion[0] > 0:
        spacing = min(spacing, 0.3)
    for scene in (plan.scene_a, plan.scene_b):
        for one, other in itertools.combinations(scene, 2):
            x, y = one.x - other.x, one.y - other.y
            radii = SIZES[one.size] * one.scale + SIZES[other.size] * other.scale
            assert math.hypot(x, y) - radii >= 0.25 * spacing - 1e-9
            assert abs(x * ahead[0] + y * ahead[1]) >= 0.4 * spacing - 1e-9
            assert abs(x * ahead[1] - y * ahead[0]) >= 0.4 * spacing - 1e-9
        assert all(abs(obj.x) <= 3 and abs(obj.y) <= 3 for obj in scene)


def test_k_and_change_types_are_drawn_uniformly():
    plans = [plan_pair(seed, STAGES["mixed"]) for seed in range(2000)]
    counts = [sum(len(plan.changes) == k for plan in plans) for k in (1, 2, 3, 4)]
    assert all(430 <= count <= 570 for count in counts), counts
    kinds = [change.change for plan in plans for change in plan.changes]
    assert all(0.8 / 6 < kinds.count(kind) / len(kinds) < 1.2 / 6 for kind in PAPER_CHANGES)


@given(seeds, st.integers(1, 20))
@settings(max_examples=50)
def test_later_attempts_keep_k_so_that_it_stays_uniform(seed, attempt):
    first, later = (plan_pair(seed, STAGES["mixed"], n) for n in (0, attempt))
    assert len(first.changes) == len(later.changes) and first.camera != later.camera


def test_plans_do_not_depend_on_the_process_or_its_hash_seed():
    program = (
        "from dig_env.scenes import STAGES, plan_pair\n"
        "print([plan_pair(s, STAGES['mixed']).to_json() for s in range(20)])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "1", "12345")
    }
    assert len(outputs) == 1


def test_scenes_need_neither_blender_nor_the_game_nor_a_learner():
    """To plan and to read datasets; of dig_env, its room ``scenes`` alone."""
    program = (
        "import sys, types\n"
        "package = sys.modules['dig_env'] = types.ModuleType('dig_env')\n"
        "package.__path__ = [sys.argv[1]]\n"
        "import dig_env.scenes.dataset\n"
        "dig_env.scenes.plan_pair(3, dig_env.scenes.STAGES['dual'])\n"
        "seen = {'.'.join(name.split('.')[:2]) for name in sys.modules}\n"
        "heavy = {'bpy', 'gymnasium', 'torch', 'datasets', 'pandas', 'scipy.signal'}\n"
        "print(sorted(heavy & seen | {name for name in seen if name.startswith('dig_env.')}))"
    )
    command = [sys.executable, "-c", program, str(Path(dig_env.__file__).parent)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.stdout.strip() == "['dig_env.scenes']", result.stderr


@pytest.mark.parametrize(("objects", "scale"), [(40, 1.0), (255, 0.25)])
def test_more_objects_than_fit_are_refused_with_advice_after_a_bounded_effort(objects, scale):
    crowded = Difficulty(
        objects=(objects, objects), changes=("color",), object_scale=(scale, scale), min_visible=0
    )
    with pytest.raises(DifficultyError, match="fewer objects") as refused:
        plan_pair(0, crowded)
    (tries,) = map(int, re.findall(r"in (\d+) tries", str(refused.value)))
    # As many as 50 attempts have, or as an effort of a million allows: at most objects^2 each.
    assert 10**6 / objects**2 <= tries <= 50 * 100


RARE_LAYOUTS = Difficulty(differences=(4, 4), objects=(10, 11), changes=("move",))
CROWDED_TABLE = Difficulty(objects=(20, 20), changes=("color",), family="tabletop")


@pytest.mark.parametrize("difficulty", [RARE_LAYOUTS, CROWDED_TABLE])
def test_a_layout_that_is_not_found_is_followed_by_the_next_attempt(difficulty):
    plans = [plan_pair(seed, difficulty) for seed in range(10)]
    for seed, plan in enumerate(plans):
        assert plan.seed == seed and len(plan.changes) == difficulty.differences[0]
        # Every attempt up to that one leads to it, so that a plan can be made again from its own.
        for attempt in range(plan.attempt + 1):
            assert plan_pair(seed, difficulty, attempt) == plan
        assert plan_pair(seed, difficulty, plan.attempt + 1).attempt > plan.attempt
    assert {plan.attempt for plan in plans} > {0}, "some were not found at once"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"differences": (-1, 1)}, "0 <= low <= high"),
        ({"differences": (3, 2)}, "0 <= low <= high"),
        ({"differences": 2}, "two whole numbers"),
        ({"differences": (1, 2.5)}, "two whole numbers"),
        ({"differences": (1, 7)}, "an object of its own"),
        ({"differences": (0, True)}, "two whole numbers"),
        ({"differences": (0, 10**9), "objects": (1, 10**9)}, "high <= 255"),
        ({"objects": (-1, 4)}, "1 <= low <= high"),
        ({"objects": (300, 300)}, "1 <= low <= high <= 255"),
        ({"objects": (3, 10**400)}, "high <= 255"),
        ({"changes": ()}, "one or more"),
        ({"changes": ("colour",)}, "color, shape, size"),
        ({"changes": "color"}, "give a list"),
        ({"changes": 5}, "one or more"),
        ({"changes": None}, "one or more"),
        ({"min_contrast": True}, "from 0 to 100"),
        ({"min_contrast": 10**400}, "from 0 to 100"),
        ({"object_scale": (0.5, 10**400)}, "high <= 1.5"),
        ({"min_visible": 2.0}, "from 0 to 1"),
        ({"min_contrast": math.nan}, "from 0 to 100"),
        ({"difference": (1, 1)}, "unknown difficulty field difference"),
        ({"color_distance": 10}, "two numbers"),
        ({"color_distance": (0, 10)}, "3 <= low <= high <= 80"),
        ({"color_distance": (20, 10)}, "low <= high"),
        ({"size_ratio": (1.0, 1.2)}, "1 is no change"),
        ({"size_ratio": (1.2, 2.5)}, "high <= 2"),
        ({"size_ratio": (1.2, 1.5), "object_scale": (0.5, 0.9)}, "keep it below 2"),
        ({"material_contrast": ("a", "b")}, "two numbers"),
        ({"object_scale": (0.1, 1)}, "0.25 <= low"),
        ({"object_scale": (0.5, 1)}, "keep it below 2"),
        ({"occlusion": (0.2, 1.2)}, "high <= 1"),
        ({"occlusion": (0.2, 0.5), "differences": (1, 4)}, "an object before each"),
        ({"camera_shift": -0.1}, "from 0 to 2"),
        ({"light_shift": 6}, "from 0 to 5"),
        ({"exposure_stops": math.inf}, "from 0 to 4"),
        ({"noise_levels": "8"}, "from 0 to 64"),
        ({"jpeg_quality": 100}, "from 1 to 95"),
        ({"jpeg_quality": 50.0}, "from 1 to 95"),
        ({"jpeg_quality": True}, "from 1 to 95, or None"),
    ],
)
def test_a_wrong_difficulty_says_what_is_allowed(fields, message):
    with pytest.raises(DifficultyError, match=message):
        Difficulty.from_json(fields)


@pytest.mark.parametrize("stage", ["singel", 3, None, {"differences": [1, 9]}])
def test_a_wrong_stage_is_refused(stage):
    with pytest.raises(DifficultyError):
        resolve_stage(stage)


def test_a_difficulty_survives_json_and_finds_its_name():
    for name, difficulty in STAGES.items():
        fields = json.loads(json.dumps(difficulty.to_json()))
        assert resolve_stage(fields) == (name, difficulty)
    assert resolve_stage({"differences": [1, 3]})[0] == "custom"


@pytest.mark.parametrize(
    "fields",
    [
        *({"width": 0}, {"height": -5}, {"width": 12.5}, {"width": np.float32(64)}),
        *({"height": True}, {"quality": "best"}, {"device": "x"}),
    ],
)
def test_wrong_render_settings_are_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        RenderSettings(**fields)


@pytest.mark.parametrize("integer", [np.int64, np.uint8, np.array])
def test_numbers_of_other_libraries_are_taken_as_pythons_own(integer):
    fields = {"differences": (2, 2), "objects": (5, 6), "noise_levels": 4, "jpeg_quality": 70}
    theirs = {name: [integer(n) for n in fields[name]] for name in ("differences", "objects")}
    theirs |= {"noise_levels": np.float32(4), "jpeg_quality": integer(70)}
    assert Difficulty(**theirs) == Difficulty(**fields)
    plan = plan_pair(integer(7), Difficulty(**theirs), integer(1))
    assert plan.to_json() == plan_pair(7, Difficulty(**fields), 1).to_json()
    assert RenderSettings(integer(64), integer(48)) == RenderSettings(64, 48)


@pytest.mark.parametrize(
    "seed", [-1, 2**63, 1.0, True, None, "7", np.float64(7), np.bool_(True), np.array([7])]
)
def test_a_wrong_seed_is_refused(seed):
    with pytest.raises(ValueError, match="seed"):
        plan_pair(seed, STAGES["single"])


def test_a_text_that_is_no_plan_is_refused():
    with pytest.raises(ValueError, match="PairPlan"):
        PairPlan.from_json({"seed": 1})


def test_splits_are_disjoint():
    ranges = [pair_seed_range(split) for split in SPLITS]
    for one, other in itertools.combinations(ranges, 2):
        assert one.stop <= other.start or other.stop <= one.start
    with pytest.raises(ValueError, match="train, validation, test"):
        pair_seed_range("dev")


@pytest.mark.parametrize(
    ("name", "edits"),
    [
        ("color", {"color": "blue", "x": 1.5}),
        ("color", {"rotation_deg": 90.0, "color": "blue"}),
        ("color", {"size": "small"}),
        ("color", {}),
        ("x", {"x": 1.5}),
        ("add", {"color": "blue"}),
    ],
)
def test_a_change_that_is_more_or_less_than_it_says_cannot_exist(name, edits):
    before = SceneObject(1, "cube", "large", "metal", "red", 0.0, 0.0, 0.0)
    Change("color", before, dataclasses.replace(before, color="blue"))
    with pytest.raises(ValueError, match=f"is said to change its {name}"):
        Change(name, before, dataclasses.replace(before, **edits))
    with pytest.raises(ValueError, match="and changes add"):
        Change("delete", None, before)
    with pytest.raises(ValueError, match="needs an object"):
        Change("add", None, None)
