"""Families that users register: planned, rendered, stored; refused where they cannot be built."""

import dataclasses
import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest
from small import SMALL

import dig_env  # noqa: F401 - registers the environments
from dig_env.scenes import (
    Difficulty,
    DifficultyError,
    FamilyError,
    Light,
    PairDataset,
    Region,
    Slab,
    family_named,
    plan_pair,
    register_family,
    render_dataset,
    views,
)
from dig_env.scenes.measure.occlusion import silhouette
from dig_env.scenes.render.imaging import render_pair, render_pair_whole

TIMEOUT_S = 120.0


# Families of one's own


def test_a_registered_family_is_planned_and_its_name_is_its_own():
    mine = dataclasses.replace(
        family_named("tabletop"),
        name="stones",
        shapes=("sphere",),
        materials=("glass", "marble"),
        regions=(Region(-1.5, -1.5, 1.5, 1.5),),
    )
    assert register_family(mine) is register_family(mine)
    difficulty = Difficulty(family="stones", objects=(2, 2), changes=("material", "color"))
    plan = plan_pair(1, difficulty)
    assert {obj.shape for obj in plan.scene_a} == {"sphere"}
    with pytest.raises(FamilyError, match="another family 'stones'"):
        register_family(dataclasses.replace(mine, shapes=("cube",)))
    with pytest.raises(DifficultyError, match="one shape only"):
        Difficulty(family="stones", changes=("shape",))


FRESH = """
import json, sys
import dig_env, gymnasium as gym
from dig_env.agents import PixelDiffPolicy
from dig_env.agents.evaluation.pairs import evaluate_stored
from dig_env.scenes import *
EVOLVED
folder, text = sys.argv[1:]
dataset = PairDataset(folder)
(pair,) = dataset
plan = PairPlan.from_json(json.load(open(text)))
assert pair.plan == plan and json.dumps(plan.to_json()) == open(text).read()
env = gym.make("DiG-v0", dataset=folder, stage="pebbles")
assert env.reset(seed=0)[1]["stage"] == "pebbles"
env.step("[]")
evaluate_stored(PixelDiffPolicy(), folder, stage="pebbles", split="train")
for make in (
    lambda: plan_pair(1, plan.difficulty),
    lambda: gym.make("DiG-v0", stage=plan.difficulty.to_json()),
    lambda: Difficulty(**plan.difficulty.to_json()),
    lambda: render_dataset(folder, {"pebbles": 2}, "train", dataset.settings),
):
    try:
        make()
    except DifficultyError as error:
        assert MESSAGE in str(error), error
    else:
        assert False
print([problem.message for problem in audit_dataset(folder).problems])
"""
EVOLVED = """
import dataclasses
register_family(dataclasses.replace(family_named("clevr"), name="pebbles", materials=("metal",)))
"""


@pytest.mark.parametrize(
    ("evolved", "message"),
    [("", "unknown family 'pebbles'"), (EVOLVED, "its objects have one material")],
)
def test_pairs_of_a_family_are_read_where_it_is_not_known_or_known_otherwise(
    tmp_path, evolved, message
):
    family = dataclasses.replace(family_named("tabletop"), name="pebbles", shapes=("sphere",))
    difficulty = Difficulty(family=register_family(family).name, changes=("material",))
    folder, text = tmp_path / "pairs", tmp_path / "plan.json"
    own = {"pebbles": difficulty}
    render_dataset(folder, {"pebbles": 1}, settings=SMALL, difficulties=own, workers=1)
    text.write_text(json.dumps(next(iter(PairDataset(folder))).plan.to_json()))
    program = FRESH.replace("EVOLVED", evolved).replace("MESSAGE", repr(message))
    command = [sys.executable, "-W", "ignore", "-c", program, str(folder), str(text)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def lit_and_seen(**fields):
    """CLEVR's family with one light and the camera altered."""
    clevr = family_named("clevr")
    light = {name: fields.pop(name) for name in LIGHT_FIELDS if name in fields}
    camera = {name: fields.pop(name) for name in CAMERA_FIELDS if name in fields}
    return dataclasses.replace(
        clevr,
        **{
            "name": "x",
            "lights": (dataclasses.replace(clevr.lights[0], **light),),
            "camera": dataclasses.replace(clevr.camera, **camera),
        }
        | fields,
    )


LIGHT_FIELDS = ("side", "power_w", "color")
CAMERA_FIELDS = ("target", "focal_mm", "sensor_mm")
NAN, INF = math.nan, math.inf
CLEVR_LIGHT = family_named("clevr").lights[0]
FLOOR = family_named("clevr").sceneries[0]


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ({"name": ""}, "give a family a name"),
        ({"name": None}, "give a family a name"),
        ({"shapes": ("teapot",)}, "one or more of cube, sphere"),
        ({"shapes": ()}, "one or more of cube, sphere"),
        ({"shapes": ["cube"]}, "as a tuple"),
        ({"shapes": ("cube", "cube")}, "each once"),
        ({"materials": ()}, "one or more of rubber"),
        ({"colors": ()}, "one or more of gray"),
        ({"sizes": ("huge",)}, "one or more of large"),
        ({"materials": ("glass",)}, "glass_surfaces=4"),
        ({"regions": ()}, "no regions"),
        ({"sceneries": ()}, "no sceneries"),
        ({"lights": ()}, "no lights"),
        ({"lights": (CLEVR_LIGHT, dataclasses.replace(CLEVR_LIGHT, side=2.0))}, "'key', 'key'"),
        ({"lights": (dataclasses.replace(CLEVR_LIGHT, location=(0.0, 0.0, 0.0)),)}, "the origin"),
        ({"lights": (dataclasses.replace(CLEVR_LIGHT, location=(0.0, NAN, 9.0)),)}, "location of"),
        ({"side": 0.0}, "side of light 'key'=0.0"),
        ({"power_w": -1.0}, "power_w of light"),
        ({"power_w": INF}, "power_w of light"),
        ({"color": (1.0, 2.0, 1.0)}, "color of light"),
        ({"color": (1.0, 1.0)}, "tuple of 3 numbers"),
        ({"target": (7.2, -7.0, 6.0)}, "camera stands at"),
        ({"target": (0.0, 0.0, "up")}, "camera.target"),
        ({"focal_mm": 0.0}, "camera.focal_mm=0.0"),
        ({"sensor_mm": NAN}, "camera.sensor_mm=nan"),
        ({"camera_jitter": -0.1}, "camera_jitter=-0.1"),
        ({"light_jitter": NAN}, "light_jitter=nan"),
        ({"min_gap": True}, "min_gap=True"),
        ({"regions": (Region(-1.0, -1.0, INF, 1.0),)}, "x_max of a region=inf"),
        ({"regions": (Region(1.0, -1.0, -1.0, 1.0),)}, "x_min <= x_max"),
        ({"regions": (Region(-1.0, -1.0, 1.0, 1.0, z=2.0),)}, "is not on a slab"),
        ({"regions": (Region(-59.9, -1.0, 1.0, 1.0),)}, "with 0.7 to its edges"),
        ({"regions": ((-1, -1, 1, 1),)}, "give dig_env.scenes.Region values"),
        ({"sceneries": (dataclasses.replace(FLOOR, glass_surfaces=2.5),)}, "glass_surfaces=2.5"),
        ({"sceneries": (dataclasses.replace(FLOOR, slabs=()),)}, "is not on a slab"),
        (
            {"shapes": ("mug",), "sceneries": (dataclasses.replace(FLOOR, models="/no"),)},
            "'mug' is",
        ),
    ],
)
def test_a_family_that_could_not_be_built_is_refused_with_the_reason(edits, message):
    with pytest.raises(FamilyError, match=re.escape(message)) as caught:
        lit_and_seen(**edits)
    assert not str(caught.value).endswith(":")


def test_only_a_family_can_be_registered():
    with pytest.raises(FamilyError, match="is no dig_env.scenes.Family"):
        register_family({"name": "pebbles"})


def test_regions_one_above_the_other_leave_room_for_objects():
    slabs = tuple(
        Slab((-4.0, -4.0, z - 0.1), (4.0, 4.0, z), "planks", (0.4,) * 3) for z in (0.0, 1.2)
    )
    low, high = (Region(-1.0, -1.0, 1.0, 1.0, z) for z in (0.0, 1.2))
    with pytest.raises(FamilyError, match=r"more than 1.4 apart in height"):
        lit_and_seen(regions=(low, high), sceneries=(dataclasses.replace(FLOOR, slabs=slabs),))


FROM_ABOVE = [
    ((0.0, 0.0, 11.0), 0.0),
    ((0.0, 0.0, 11.0), 0.4),
    ((1e-5, -1e-6, 11.0), 0.0),
]


@pytest.mark.parametrize(("location", "jitter"), FROM_ABOVE)
def test_a_camera_straight_above_and_a_lamp_overhead_simply_work(
    renderer, worker, denoiser, location, jitter
):
    """No number is NaN, shapes are seen where the geometry says, and B in part is B in full."""
    clevr = family_named("clevr")
    lamp = Light("lamp", (0.0, 0.0, 9.0), side=2.0, power_w=900.0)
    camera = dataclasses.replace(clevr.camera, location=location, target=(0.0, 0.0, 0.0))
    family = register_family(
        dataclasses.replace(
            clevr,
            name=f"above {location} {jitter}",
            camera=camera,
            lights=(lamp,),
            camera_jitter=jitter,
            light_jitter=jitter,
        )
    )
    for seed in range(3):
        plan = plan_pair(seed, Difficulty(family=family.name, differences=(1, 2)))
        image_a, ids_a, image_b, ids_b = render_pair(plan, worker, denoiser, TIMEOUT_S)
        _, _, full_b, full_ids_b = render_pair_whole(plan, worker, denoiser, TIMEOUT_S)
        np.testing.assert_array_equal(ids_b, full_ids_b)
        error = np.abs(image_b.astype(int) - full_b)
        assert error.mean() < 0.5 and error.max() <= 60
        for obj in plan.scene_a:
            seen = ids_a == obj.id
            expected = silhouette(obj, plan.camera, SMALL.width, SMALL.height) & (ids_a != 0)
            assert (seen & ~expected).sum() <= 4 + 0.1 * seen.sum(), obj
        assert image_a.max() > 60, "the lamp shines"
    # A camera that moves a little shows nearly the same picture, and not one that is turned.
    moved = Difficulty(family=family.name, differences=(1, 1), camera_shift=0.05)
    pair = renderer.render(plan_pair(5, moved))
    assert ((pair.ids_a != pair.ids_b) & (pair.ids_a != 0)).mean() < 0.05
    views(pair)
