"""Rendered pairs: the same bytes everywhere, from workers that may die."""

import dataclasses
import hashlib
import itertools
import math
import os
import random
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from small import SMALL

import dig_env.scenes.render.renderer as renderer_module
from dig_env.scenes import (
    STAGES,
    BlenderNotFoundError,
    Difficulty,
    DifficultyError,
    Renderer,
    RenderError,
    RenderSettings,
    plan_pair,
)

TINY = RenderSettings(width=64, height=48, quality="draft", device="cpu")


DIGEST = """
import hashlib, sys
from dig_env.scenes import PAPER_STAGES, STAGES, Renderer, RenderSettings, plan_pair
settings = RenderSettings(width=64, height=48, quality="draft", device="cpu")
digest = hashlib.sha256()
with Renderer(settings, workers=int(sys.argv[1])) as renderer:
    for pair in renderer.imap(plan_pair(seed, STAGES["mixed"]) for seed in range(8)):
        digest.update(pair.image_a.tobytes() + pair.image_b.tobytes())
        digest.update(repr(pair.differences).encode())
print(digest.hexdigest())
"""


def test_bytes_and_boxes_are_the_same_in_any_process_with_any_workers():
    digests = {
        subprocess.run(
            [sys.executable, "-c", DIGEST, workers],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
        ).stdout
        for workers, hash_seed in (("1", "0"), ("3", "1"))
    }
    assert len(digests) == 1


def test_a_pair_does_not_depend_on_what_was_rendered_before():
    plans = [plan_pair(seed, STAGES["mixed"]) for seed in range(6)]
    with Renderer(TINY) as one, Renderer(TINY) as other:
        forward = [digest(one.render(plan)) for plan in plans]
        backward = [digest(other.render(plan)) for plan in reversed(plans)]
    assert forward == backward[::-1]


def digest(pair):
    return hashlib.sha256(pair.image_a.tobytes() + pair.image_b.tobytes()).hexdigest()


def test_a_pair_of_another_size_is_what_a_renderer_of_that_size_makes(renderer):
    plans = [plan_pair(seed, STAGES["single"]) for seed in range(2)]
    with Renderer(TINY) as small:
        expected = [digest(small.render(plan)) for plan in plans]
        before = [digest(renderer.render(plan)) for plan in plans]
        asked = [small.submit(plan, size) for plan in plans for size in ((128, 96), (64, 48))]
        assert [digest(one.result()) for one in asked] == [
            before[0],
            expected[0],
            before[1],
            expected[1],
        ]
    with pytest.raises(ValueError, match="width=8: give"):
        renderer.submit(plans[0], (8, 96))


def test_a_killed_worker_is_replaced_and_the_same_pair_comes_back():
    plan = plan_pair(11, STAGES["mixed"])
    with Renderer(TINY) as renderer:
        before = renderer.render(plan)
        (victim,) = renderer.worker_pids
        os.kill(victim, signal.SIGKILL)
        after = renderer.render(plan)
        assert renderer.worker_pids != [victim]
    assert digest(before) == digest(after)
    assert before.differences == after.differences


def test_a_worker_that_dies_while_it_starts_does_not_cost_the_versions(monkeypatch, tmp_path):
    frail = tmp_path / "python"
    frail.write_text(
        f'#!/bin/sh\nmkdir {tmp_path}/dead && kill -9 $$\nexec {sys.executable} "$@"\n'
    )
    frail.chmod(0o755)
    monkeypatch.setenv("DIG_ENV_BLENDER", str(frail))
    with Renderer(TINY) as renderer:
        assert "blender" in renderer.versions and "processor" in renderer.versions
    assert (tmp_path / "dead").exists(), "the first worker died"


def test_a_worker_killed_during_a_render_costs_only_time():
    plan = plan_pair(11, STAGES["mixed"])
    slow = RenderSettings(width=512, height=384, quality="standard", device="cpu")
    with Renderer(slow) as renderer:
        renderer.render(plan)
        (victim,) = renderer.worker_pids
        future = renderer.submit(plan)
        time.sleep(0.3)
        assert not future.done()
        os.kill(victim, signal.SIGKILL)
        assert future.result().plan.seed == 11
        assert renderer.worker_pids != [victim]


def test_a_hung_worker_is_replaced(monkeypatch):
    plan = plan_pair(11, STAGES["single"])
    with Renderer(TINY) as renderer:
        before = renderer.render(plan)
        (victim,) = renderer.worker_pids
        monkeypatch.setattr(renderer_module, "render_timeout_s", lambda settings: 1.0)
        os.kill(victim, signal.SIGSTOP)
        assert digest(renderer.render(plan)) == digest(before)
        assert renderer.worker_pids != [victim]


def test_workers_are_recycled_without_a_trace(monkeypatch):
    plans = [plan_pair(seed, STAGES["single"]) for seed in range(4)]
    with Renderer(TINY) as renderer:
        expected = [digest(renderer.render(plan)) for plan in plans]
    monkeypatch.setattr(renderer_module, "RECYCLE_AFTER", 2)
    with Renderer(TINY) as renderer:
        assert [digest(pair) for pair in renderer.imap(plans)] == expected


def test_crashes_at_random_moments_change_no_pair(monkeypatch):
    """``benchmarks/endurance.py chaos`` strikes two hundred times."""
    plans = [plan_pair(seed, STAGES["mixed"]) for seed in range(24)]
    with Renderer(TINY, workers=2) as renderer:
        expected = [digest(pair) for pair in renderer.imap(plans)]
    rng = random.Random(0)
    struck = []
    monkeypatch.setattr(renderer_module, "render_timeout_s", lambda settings: 1.0)
    with Renderer(TINY, workers=2) as renderer:
        stream = renderer.imap(plans)
        pairs = []
        for fault in (signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV) * 2:
            pairs += itertools.islice(stream, 3)
            time.sleep(rng.uniform(0, 0.05))
            victim = rng.choice(renderer.worker_pids)
            os.kill(victim, fault)
            struck.append(victim)
        pairs += stream
        assert not set(struck) & set(renderer.worker_pids)
    assert [pair.plan.seed for pair in pairs] == list(range(24))
    assert [digest(pair) for pair in pairs] == expected


def test_a_worker_that_grows_is_replaced(monkeypatch):
    monkeypatch.setattr(renderer_module, "RECYCLE_GROWTH_BYTES", -1)
    with Renderer(TINY) as renderer:
        first = renderer.render(plan_pair(1, STAGES["single"]))
        assert renderer.worker_pids == []
        assert digest(renderer.render(plan_pair(1, STAGES["single"]))) == digest(first)


@pytest.mark.parametrize("during_a_render", [False, True])
def test_no_worker_and_no_file_outlives_a_killed_parent(during_a_render):
    program = (
        "import os, signal, time\n"
        "from dig_env.scenes import *\n"
        "renderer = Renderer(RenderSettings(512, 384, 'standard'))\n"
        "renderer.render(plan_pair(1, STAGES['single']))\n"
        "(worker,) = renderer._processes\n"
        "print(worker.pid, worker.scratch, flush=True)\n"
        f"if {during_a_render}:\n"
        "    renderer.submit(plan_pair(2, STAGES['single']))\n"
        "    time.sleep(0.2)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    parent = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    pid, scratch = parent.stdout.split()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and (process_runs(int(pid)) or os.path.exists(scratch)):
        time.sleep(0.1)
    assert not process_runs(int(pid))
    assert not os.path.exists(scratch)


def test_nothing_is_left_on_disk_when_workers_die_or_end():
    with Renderer(TINY) as renderer:
        folders = set()
        for _ in range(2):
            renderer.render(plan_pair(1, STAGES["single"]))
            (worker,) = renderer._processes
            folders.add(worker.scratch)
            os.kill(worker.pid, signal.SIGKILL)
        renderer.render(plan_pair(1, STAGES["single"]))
        folders |= {worker.scratch for worker in renderer._processes}
    assert len(folders) == 3
    assert not any(os.path.exists(folder) for folder in folders)


def process_runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] != "Z"


def test_imap_keeps_order_and_does_not_run_far_ahead(renderer):
    read = []

    def endless():
        seed = 0
        while True:
            read.append(seed)
            yield plan_pair(seed, STAGES["single"])
            seed += 1

    stream = renderer.imap(endless(), prefetch_count=3)
    assert [next(stream).plan.seed for _ in range(5)] == [0, 1, 2, 3, 4]
    assert len(read) <= 5 + 3
    stream.close()


def test_a_pair_that_cannot_be_seen_is_never_handed_out(renderer):
    hidden = Difficulty(objects=(3, 3), min_visible=0.5)
    with pytest.raises(DifficultyError, match="lower min_visible"):
        renderer.render(plan_pair(0, hidden))


def test_a_failed_plan_is_followed_by_the_next_of_its_seed(renderer):
    strict = Difficulty(objects=(4, 5), min_visible=0.004)
    pairs = [renderer.render(plan_pair(seed, strict)) for seed in range(6)]
    retried = [pair for pair in pairs if pair.plan.attempt > 0]
    assert retried, "the test needs a difficulty that fails now and then"
    for pair in retried:
        assert pair.plan == plan_pair(pair.plan.seed, strict, pair.plan.attempt)
        # A stored plan names its attempt, so it renders to the same pair at once.
        assert digest(renderer.render(pair.plan)) == digest(pair)


def test_without_blender_the_error_says_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "bpy.py").write_text("raise ImportError('libXrender.so.1: cannot open')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(renderer_module, "MAX_CRASHES", 1)
    # The worker puts the package first on its path, and the fake bpy before site-packages.
    with Renderer(TINY) as renderer, pytest.raises(BlenderNotFoundError, match="dig-env doctor"):
        renderer.render(plan_pair(0, STAGES["single"]))


@pytest.mark.parametrize("limit_bytes", [0, 20_000])
def test_a_full_disk_is_reported_and_no_picture_is_handed_out(limit_bytes):
    """A limit on the worker's file size stands in for the full disk: writes fail the same way."""
    plan, other = (plan_pair(seed, STAGES["single"]) for seed in (0, 1))
    with Renderer(TINY) as renderer:
        good = renderer.render(plan)
        (worker,) = renderer.worker_pids
        unlimited = resource.prlimit(worker, resource.RLIMIT_FSIZE)
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (limit_bytes, unlimited[1]))
        with pytest.raises(RenderError, match="free some space"):
            renderer.render(other)
        resource.prlimit(worker, resource.RLIMIT_FSIZE, unlimited)
        assert digest(renderer.render(plan)) == digest(good)
        assert renderer.worker_pids == [worker]


def test_a_limit_on_the_size_of_files_is_not_taken_for_a_full_disk():
    """It is this process's, and its workers have it from there."""
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Renderer(TINY) as renderer:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, unlimited[1]))
        try:
            with pytest.raises(RenderError, match=r"20000 bytes \(ulimit -f\): raise that limit"):
                renderer.render(plan_pair(0, STAGES["single"]))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)


def test_a_closed_renderer_says_so():
    renderer = Renderer(TINY)
    renderer.close()
    renderer.close()
    with pytest.raises(RuntimeError, match="closed"):
        renderer.render(plan_pair(0, STAGES["single"]))


@pytest.mark.parametrize("workers", [0, -1, 1.5, True])
def test_a_wrong_number_of_workers_is_refused(workers):
    with pytest.raises(ValueError, match="workers"):
        Renderer(TINY, workers=workers)


def test_more_samples_come_closer_to_the_reference():
    plan = plan_pair(5, STAGES["single"])
    images = {}
    for quality in ("draft", "standard", "high"):
        with Renderer(dataclasses.replace(SMALL, quality=quality)) as renderer:
            images[quality] = renderer.render(plan).image_a.astype(float)

    def psnr(quality):
        error = np.mean((images[quality] - images["high"]) ** 2)
        return 10 * math.log10(255**2 / error)

    assert psnr("standard") > psnr("draft") > 28
