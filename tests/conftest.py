"""Real Blender at a small size, started once; pairs rendered once and shared by all tests."""

import os

import pytest

from agents.evaluation import pair_seeds
from scenes import PAPER_STAGES, STAGES, Pair, Renderer, RenderSettings, available_cores, plan_pair
from scenes.film import Darkroom
from scenes.process import WorkerProcess

# A window that no screen shows: render_mode="human" runs everywhere.
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("WANDB_MODE", "offline")

SMALL = RenderSettings(width=128, height=96, quality="draft", device="cpu")
SMALL_ENV = {"width": 128, "height": 96, "quality": "draft", "device": "cpu"}
PAIRS_PER_STAGE = 200


@pytest.fixture(scope="session")
def renderer():
    with Renderer(SMALL, workers=available_cores()) as shared:
        yield shared


@pytest.fixture(scope="module")
def worker():
    """One Blender at the small size, without a renderer around it."""
    process = WorkerProcess(SMALL, threads=2)
    yield process
    process.kill()


@pytest.fixture(scope="module")
def darkroom():
    return Darkroom(threads=2)


@pytest.fixture(scope="session")
def pairs(renderer) -> dict[str, list[Pair]]:
    """200 pairs of each paper stage: those of evaluation with seed 0 on the test split."""
    rendered = {}
    for stage in PAPER_STAGES:
        seeds = pair_seeds(0, "test")
        plans = (plan_pair(next(seeds), STAGES[stage]) for _ in range(PAIRS_PER_STAGE))
        rendered[stage] = list(renderer.imap(plans))
    return rendered
