"""Where the ground is plain, objects get more samples; which pixels do tells no difference."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from small import SMALL

from dig_env.scenes import STAGES, Difficulty, RenderSettings, plan_pair
from dig_env.scenes.families.scenery import Slab
from dig_env.scenes.render.imaging import render_pair, render_pair_whole
from dig_env.scenes.render.influence import detail_mask
from dig_env.scenes.render.passes import Window
from dig_env.scenes.render.process import RenderRequest, WorkerProcess
from dig_env.scenes.render.settings import QUALITIES

TIMEOUT_S = 60.0
STANDARD = dataclasses.replace(SMALL, quality="standard")


@pytest.fixture(scope="module")
def standard_worker():
    process = WorkerProcess(STANDARD, threads=2)
    yield process
    process.kill()


def exposures(worker, plan, *ranges):
    requests = [RenderRequest(plan.scene_a, samples=samples) for samples in ranges]
    return worker.render(plan.camera, plan.lights, plan.scenery, requests, TIMEOUT_S)


def test_two_ranges_of_samples_add_up_to_both(standard_worker):
    first, later, both = exposures(
        standard_worker, plan_pair(3, STAGES["mixed"]), (0, 1), (1, 4), (0, 4)
    )
    assert np.abs(first.color - both.color).max() > 0.1
    everywhere = np.ones(first.ids.shape, bool)
    first.mix(later, Window.around(everywhere), everywhere, weight=3 / 4)
    for field in ("color", "albedo", "normal"):
        np.testing.assert_allclose(getattr(first, field), getattr(both, field), atol=2e-5)
    np.testing.assert_array_equal(first.ids, both.ids)


@pytest.mark.parametrize("family", ["clevr", "tabletop"])
@pytest.mark.parametrize("quality", ["standard", "high"])
def test_a_picture_does_not_depend_on_those_before_it(denoiser, quality, family):
    settings = RenderSettings(64, 48, quality, "cpu")
    plan = plan_pair(5, Difficulty(differences=(1, 2), family=family))
    other = plan_pair(6, Difficulty(family={"clevr": "tabletop", "tabletop": "clevr"}[family]))
    found = []
    for before in ([], [other, plan, other]):
        process = WorkerProcess(settings, threads=2)
        try:
            for earlier in before:
                render_pair(earlier, process, denoiser, TIMEOUT_S)
            found.append(render_pair(plan, process, denoiser, TIMEOUT_S))
        finally:
            process.kill()
    for one, same in zip(*found, strict=True):
        np.testing.assert_array_equal(one, same)


@pytest.mark.parametrize("differences", [(0, 0), (1, 1), (3, 4)])
def test_a_pair_of_more_samples_in_part_equals_two_full_renders(
    standard_worker, denoiser, differences
):
    for seed in range(3):
        plan = plan_pair(seed, Difficulty(differences=differences))
        part = render_pair(plan, standard_worker, denoiser, TIMEOUT_S)
        full = render_pair_whole(plan, standard_worker, denoiser, TIMEOUT_S)
        for index in (0, 1, 3):
            np.testing.assert_array_equal(part[index], full[index])
        assert np.abs(part[2].astype(int) - full[2]).max() <= 24


def test_details_are_the_objects_of_both_images_and_a_ring_around_them(pairs):
    for pair in pairs["mixed"]:
        plan = pair.plan
        mask = detail_mask(plan, plan.camera, SMALL.width, SMALL.height)
        assert mask[(pair.ids_a > 0) | (pair.ids_b > 0)].all()
        assert mask.mean() < 0.6
        swapped = SimpleNamespace(scene_a=plan.scene_b, scene_b=plan.scene_a)
        assert (detail_mask(swapped, plan.camera, SMALL.width, SMALL.height) == mask).all()


def test_textured_ground_has_the_same_samples_everywhere():
    plain, textured = (plan_pair(0, Difficulty(family=name)).scenery for name in ("clevr", "shelf"))
    for quality, samples in QUALITIES.items():
        assert RenderSettings(quality=quality).samples == samples
        assert samples.on(plain) == (samples.few, samples.many)
        assert samples.on(textured) == (samples.textured, samples.textured)
    mixed = dataclasses.replace(
        plain, slabs=(*plain.slabs, Slab((0, 0, 0), (1, 1, 1), "tiles", (1, 1, 1)))
    )
    assert QUALITIES["standard"].on(mixed)[0] == QUALITIES["standard"].textured
