"""Processes, threads and files: forks, Ctrl-C, and limits of the machine."""

import multiprocessing
import os
import pickle
import resource
import signal
import subprocess
import sys
import time

import datasets
import gymnasium as gym
import numpy as np
import psutil
import pytest
import torch
from render_workers import is_render_worker

from dig_env.envs.pairs import PairCache, StoredPairs
from dig_env.envs.vector import DiGVectorEnv
from dig_env.scenes import (
    STAGES,
    BlenderNotFoundError,
    Renderer,
    RenderError,
    RenderSettings,
    plan_pair,
    render_dataset,
)

TINY_ENV = {"width": 64, "height": 48, "quality": "draft", "device": "cpu"}
TINY = RenderSettings(**TINY_ENV)
PLANS = [plan_pair(seed, STAGES["single"]) for seed in range(4)]
FORK = multiprocessing.get_context("fork")


def pictures(pair):
    return pair.image_a.tobytes() + pair.image_b.tobytes()


@pytest.fixture(scope="module")
def expected():
    """The bytes of the plans' pairs."""
    with Renderer(TINY) as renderer:
        return [pictures(renderer.render(plan)) for plan in PLANS]


@pytest.fixture
def open_files():
    """Sets how many files this process may have open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield lambda most: resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_workers_start_and_are_replaced_beside_more_than_1024_open_files(open_files, expected):
    open_files(2048)
    others = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        with Renderer(TINY) as renderer:
            assert pictures(renderer.render(PLANS[0])) == expected[0]
            (worker,) = renderer._processes
            assert worker._replies.fileno() >= 1024
            os.kill(worker.pid, signal.SIGKILL)
            assert pictures(renderer.render(PLANS[1])) == expected[1]
    finally:
        for file in others:
            os.close(file)


def test_too_few_files_are_not_taken_for_a_missing_blender(open_files, expected):
    with Renderer(TINY) as renderer:
        open_files(max(map(int, os.listdir("/proc/self/fd"))) + 6)
        others = []
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                others.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(4):  # each lets another step of the start fail
            with pytest.raises(RenderError, match="ulimit -n") as caught:
                renderer.render(PLANS[0])
            assert not isinstance(caught.value, BlenderNotFoundError)
            os.close(others.pop())
        there = os.listdir("/proc/self/fd")
        with pytest.raises(RenderError, match="ulimit -n"):
            renderer.render(PLANS[0])
        assert os.listdir("/proc/self/fd") == there
        open_files(1024)
        for file in others:
            os.close(file)
        assert pictures(renderer.render(PLANS[0])) == expected[0]


def in_a_fork(work):
    """What ``work`` returns in a forked process."""
    receiver, sender = FORK.Pipe(duplex=False)
    process = FORK.Process(target=lambda: sender.send(work()))
    process.start()
    try:
        assert receiver.poll(120), "it hangs"
        return receiver.recv()
    finally:
        process.kill()
        process.join()


def test_a_used_renderer_starts_anew_in_a_fork_and_leaves_the_parent_its_own(expected):
    with Renderer(TINY) as renderer:
        renderer.render(PLANS[0])
        pids = renderer.worker_pids
        under_way = [renderer.submit(plan) for plan in PLANS * 3]  # as the fork happens

        def work():
            seen = [pictures(renderer.render(plan)) for plan in PLANS[:2]]
            child_pids, versions = renderer.worker_pids, renderer.versions
            renderer.close()
            return seen, child_pids, versions

        seen, child_pids, versions = in_a_fork(work)
        assert seen == expected[:2]
        assert not set(child_pids) & set(pids)
        assert [pictures(future.result()) for future in under_way] == expected * 3
        assert renderer.worker_pids == pids
        assert versions == renderer.versions


def test_a_stream_that_was_begun_continues_in_a_fork(expected):
    with Renderer(TINY) as renderer:
        stream = renderer.imap(PLANS)
        assert pictures(next(stream)) == expected[0]
        assert in_a_fork(lambda: [pictures(pair) for pair in stream]) == expected[1:]
        assert [pictures(pair) for pair in stream] == expected[1:]


def test_a_closed_renderer_is_closed_in_a_fork_too():
    renderer = Renderer(TINY)
    renderer.close()

    def work():
        with pytest.raises(RuntimeError, match="closed"):
            renderer.render(PLANS[0])
        return "refused"

    assert in_a_fork(work) == "refused"


def test_a_fork_that_ends_in_any_way_leaves_the_parents_workers_alone():
    program = (
        "import os, sys\n"
        "from dig_env.scenes import *\n"
        "renderer = Renderer(RenderSettings(64, 48, 'draft', 'cpu'))\n"
        "renderer.render(plan_pair(0, STAGES['single']))\n"
        "(worker,) = renderer._processes\n"
        "for end in ('sys.exit()', 'renderer.close(); os._exit(0)', 'del renderer; sys.exit()'):\n"
        "    if os.fork() == 0:\n"
        "        exec(end)\n"
        "    assert os.wait()[1] == 0\n"
        "    assert os.path.isdir(worker.scratch)\n"
        "    renderer.render(plan_pair(1, STAGES['single']))\n"
        "    assert renderer.worker_pids == [worker.pid]\n"
    )
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_workers_of_a_fork_end_with_it():
    with Renderer(TINY) as renderer:
        renderer.render(PLANS[0])

        def work():
            renderer.render(PLANS[0])
            return renderer.worker_pids

        (pid,) = in_a_fork(work)  # which is killed
    assert ends(pid)


def ends(pid: int) -> bool:
    """Is the process gone soon?"""
    try:
        psutil.Process(pid).wait(timeout=30)
    except psutil.NoSuchProcess:
        return True
    except psutil.TimeoutExpired:
        return False
    return True


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs")
    render_dataset(path, {"single": 6}, "train", TINY, workers=1)
    return str(path)


ENVS = {
    "fresh": lambda folder: gym.make("DiG-v0", **TINY_ENV),
    "stored": lambda folder: gym.make("DiG-v0", dataset=folder),
    "zoom": lambda folder: gym.make("DiG-Zoom-v0", **TINY_ENV),
    "align": lambda folder: gym.make("DiG-Align-v0", dataset=folder, stage="single"),
    "vector": lambda folder: DiGVectorEnv(2, **TINY_ENV),
    "stored vector": lambda folder: DiGVectorEnv(2, dataset=folder),
}


@pytest.mark.parametrize("kind", ENVS)
def test_a_used_environment_shows_the_same_in_a_fork(folder, kind):
    env = ENVS[kind](folder)
    answer = {"zoom": "zoom(A, [100, 100, 300, 300])"}.get(kind, "[]")
    action = (answer, answer) if "vector" in kind else answer
    env.reset(seed=3)

    def play():
        """The answer to the pair that is open, and the pair after it."""
        reward = env.step(action)[1]
        observation, info = env.reset()
        images = observation["image" if kind == "align" else "image_a"].tobytes()
        return np.ravel(reward).tolist(), images, np.ravel(info["pair_seed"]).tolist()

    forked = in_a_fork(play)
    assert forked == play()
    env.close()


def test_a_cache_that_another_thread_was_using_works_in_a_fork(folder):
    cache = PairCache()
    with cache._lock:
        pair = in_a_fork(
            lambda: (
                cache.get(
                    0,
                    lambda: StoredPairs(folder, "train").submit(*first_pair(folder)),
                )
                .result()
                .plan.seed
            )
        )
    assert pair == first_pair(folder)[0]


def first_pair(folder):
    return StoredPairs(folder, "train").pair_seed(0, "single"), STAGES["single"]


class Played(torch.utils.data.Dataset):
    """What an environment shows of pair seeds 0 to 3."""

    def __init__(self, env):
        self.env = env

    def __len__(self):
        return len(PLANS)

    def __getitem__(self, index):
        return self.env.reset(options={"pair_seed": index})[0]["image_a"]


def test_a_used_environment_feeds_a_data_loader_of_several_processes():
    env = gym.make("DiG-v0", **TINY_ENV)
    played = Played(env)
    alone = np.stack([played[index] for index in range(len(PLANS))])
    loader = torch.utils.data.DataLoader(played, batch_size=1, num_workers=2, timeout=120)
    np.testing.assert_array_equal(torch.cat(list(loader)).numpy(), alone)
    env.close()


def test_a_used_renderer_maps_a_data_set_in_several_processes(expected):
    with Renderer(TINY) as renderer:
        renderer.render(PLANS[0])

        def render(row):  # takes the renderer along by its pickle
            return {"bytes": pictures(renderer.render(PLANS[row["seed"]]))}

        rows = datasets.Dataset.from_dict({"seed": range(len(PLANS))})
        mapped = rows.map(render, num_proc=2, load_from_cache_file=False)
    assert mapped["bytes"][:] == expected


def test_what_is_pickled_starts_anew(folder, expected):
    """As where processes are not forked."""
    with Renderer(TINY, workers=2) as renderer:
        copy = pickle.loads(pickle.dumps(renderer))
        assert str(copy).partition(", of")[0] == str(renderer).partition(", of")[0]
        assert pictures(copy.render(PLANS[0])) == expected[0]
        copy.close()
    stored = StoredPairs(folder, "train")
    copy = pickle.loads(pickle.dumps(stored))
    assert copy.pair_seed(3, "single") == stored.pair_seed(3, "single")


HUGE = "width=1600, height=1200, quality='high', device='cpu'"
INTERRUPTED = {
    "reset": f"gym.make('DiG-v0', {HUGE}).reset(seed=1)",
    "thread": (
        "import threading\n"
        f"env = gym.make('DiG-v0', {HUGE})\n"
        "thread = threading.Thread(target=env.reset)\n"
        "thread.start(); thread.join()"
    ),
    "look-ahead": (
        f"env = gym.make('DiG-v0', {HUGE})\n"
        "env.unwrapped.prefetch(seed=1)\n"
        "import time; time.sleep(600)"
    ),
    "vector": f"gym.make_vec('DiG-v0', 2, {HUGE}).reset(seed=1)",
    "dataset": f"render_dataset(folder, {{'single': 4}}, settings=RenderSettings({HUGE}))",
    "evaluate": (
        "from dig_env.agents import PixelDiffPolicy, evaluate\n"
        f"evaluate(PixelDiffPolicy(), episodes=4, settings=RenderSettings({HUGE}))"
    ),
}


@pytest.mark.parametrize(
    ("what", "processor_s"),
    # A worker needs some 2 s of processor time to start.
    [(what, 4 if what in ("reset", "thread") else 0) for what in INTERRUPTED],
)
def test_ctrl_c_ends_a_script_at_once_and_its_workers_with_it(tmp_path, what, processor_s):
    """Whether a worker renders a picture that takes minutes, or is starting."""
    program = (
        "import gymnasium as gym\n"
        "import dig_env\n"
        "from dig_env.scenes import *\n"
        f"folder = {str(tmp_path / 'pairs')!r}\n"
        f"{INTERRUPTED[what]}"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stderr=subprocess.PIPE, text=True
    ) as script:
        worker = worker_of(script.pid)
        while sum(worker.cpu_times()[:2]) < processor_s:
            time.sleep(0.1)
        script.send_signal(signal.SIGINT)
        stderr = script.communicate(timeout=60)[1]
    assert "KeyboardInterrupt" in stderr
    assert ends(worker.pid)


def worker_of(pid: int) -> psutil.Process:
    """The process's first render worker, as soon as there is one."""
    while True:
        for child in psutil.Process(pid).children():
            if is_render_worker(child):
                return child
        time.sleep(0.05)


def test_a_script_that_closes_nothing_ends_with_what_renders_ahead():
    program = (
        "import gymnasium as gym, dig_env\n"
        f"env = gym.make('DiG-v0', {HUGE})\n"
        "env.unwrapped.prefetch(seed=1)\n"
        "print('prepared', flush=True)\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as script:
        assert script.stdout.readline() == "prepared\n"
        assert script.wait(timeout=60) == 0
