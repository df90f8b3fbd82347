"""Real Blender at a small size, started once a process; pairs rendered once for all processes."""

import gc
import os
import pickle
from pathlib import Path

# One thread each, since pytest-xdist runs a process a core: before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings
from small import SMALL, evaluation_pairs

from dig_env.scenes import (
    PAPER_STAGES,
    Pair,
    Renderer,
    available_cores,
    render_dataset,
)
from dig_env.scenes.files import write_whole
from dig_env.scenes.render.passes import Denoiser
from dig_env.scenes.render.process import WorkerProcess

# A window that no screen shows: render_mode="human" runs everywhere.
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("WANDB_MODE", "offline")

# Machines that run tests are shared: how long an example takes says nothing.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")


def pytest_collection_finish():
    """Each training run collects garbage, which took 0.6 s among all that is imported by now."""
    gc.collect()
    gc.freeze()


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
def denoiser():
    return Denoiser(threads=2)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory) -> Path:
    """For what is rendered once for all processes of this run."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def pairs(renderer, shared_folder) -> dict[str, list[Pair]]:
    """40 pairs of each paper stage: those of evaluation with seed 0 on the test split."""
    path = shared_folder / "pairs.pickle"
    with FileLock(shared_folder / "pairs.lock"):
        if not path.exists():
            write_whole(path, pickle.dumps(evaluation_pairs(renderer)))
    return pickle.loads(path.read_bytes())


@pytest.fixture(scope="session")
def stored(shared_folder) -> str:
    """A dataset with pairs of each paper stage: 6 to train on, 5 of each other split."""
    folder = shared_folder / "stored"
    with FileLock(shared_folder / "stored.lock"):  # or two processes would render the same files
        for split, count in (("train", 6), ("validation", 5), ("test", 5)):
            render_dataset(folder, dict.fromkeys(PAPER_STAGES, count), split, SMALL, workers=1)
    return str(folder)
