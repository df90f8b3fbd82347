"""DiG behind OpenEnv: the same numbers through the wire, sessions apart, no truth too early.

Needs .venv-openenv: see constraints-openenv.txt.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("openenv.core")

from answers_corpus import answers_about
from serving import serving
from websockets.sync.client import connect

import dig_env  # noqa: F401 - registers DiG-v0
from dig_env.agents import PixelDiffPolicy
from dig_env.agents.integrations.openenv import (
    DiGAction,
    DiGClient,
    ServerSettings,
    openenv_app,
)


@contextlib.contextmanager
def playing(settings):
    """A server of these settings; its host and port."""
    pairs = settings.open_pairs()
    try:
        with serving(openenv_app(pairs, settings)) as address:
            yield address.removeprefix("http://")
    finally:
        pairs.close()


@pytest.fixture(scope="module")
def address(dataset):
    with playing(ServerSettings(dataset=dataset, stage="mixed", max_sessions=4)) as address:
        yield address


@pytest.fixture
def client(address):
    with DiGClient(f"http://{address}").sync() as client:
        yield client


@pytest.fixture
def env(dataset):
    env = gym.make("DiG-v0", dataset=dataset, stage="mixed")
    yield env
    env.close()


def test_an_episode_is_the_environments_own(client, env):
    for seed in (7, None, None):
        expected, info = env.reset(seed=seed)
        result = client.reset() if seed is None else client.reset(seed=seed)
        assert (result.reward, result.done) == (None, False)
        assert result.observation.metadata == info
        seen = result.observation.arrays()
        assert seen.keys() == expected.keys() and seen["prompt"] == expected["prompt"]
        for name in ("image_a", "image_b"):
            np.testing.assert_array_equal(seen[name], expected[name])


@pytest.mark.parametrize("reward", ["full", "paper", "dense", "strict"])
def test_scores_come_through_the_wire_to_the_last_bit(dataset, reward):
    settings = ServerSettings(dataset=dataset, stage="mixed", reward=reward)
    env = gym.make("DiG-v0", dataset=dataset, stage="mixed", reward=reward)
    rng = np.random.default_rng(5)
    with playing(settings) as address, DiGClient(f"http://{address}").sync() as client:
        _, pair = env.reset(seed=0)
        for kind, text in answers_about(env.unwrapped.pair.boxes_unit, rng).items():
            env.reset(options={"pair_seed": pair["pair_seed"]})
            client.reset(pair_seed=pair["pair_seed"])
            _, expected, done, _, info = env.step(text)
            result = client.step(DiGAction(answer=text))
            assert (result.reward, result.done) == (expected, done), kind
            assert result.observation.metadata == info, kind
    env.close()


def test_nothing_before_the_answer_tells_the_truth(address):
    with connect(f"ws://{address}/ws") as socket:

        def ask(**message):
            socket.send(json.dumps(message))
            return json.loads(socket.recv())["data"]

        before = ask(type="reset", data={"seed": 1, "episode_id": "mine"})
        assert set(before) == {"observation", "reward", "done", "metadata"}
        assert set(before["observation"]) == {"prompt", "image_a", "image_b", "metadata"}
        assert set(before["metadata"]) == {"pair_seed", "stage"}
        assert ask(type="state") == {"episode_id": "mine", "step_count": 0}
        after = ask(type="step", data={"answer": "[[100, 100, 200, 200]]"})
        assert 1 <= len(after["metadata"]["truth"]) <= 4
        assert ask(type="state") == {"episode_id": "mine", "step_count": 1}


def test_sessions_do_not_touch_one_another(address, client):
    with DiGClient(f"http://{address}").sync() as other:
        mine = client.reset(seed=1).observation.metadata["pair_seed"]
        theirs = other.reset(seed=2).observation.metadata["pair_seed"]
        assert mine != theirs
        other.step(DiGAction(answer="[]"))
        truth = client.step(DiGAction(answer="[]")).observation.metadata
        assert truth["pair_seed"] == mine
        next_of_one = client.reset().observation.metadata
        other.reset(seed=1)
        assert other.reset().observation.metadata == next_of_one


def test_what_goes_wrong_is_told_and_the_session_goes_on(client):
    answer = DiGAction(answer="[[100, 100, 200, 200]]")
    with pytest.raises(RuntimeError, match="call reset"):
        client.step(answer)
    with pytest.raises(RuntimeError, match="unknown stage 'hard'"):
        client.reset(stage="hard")
    with pytest.raises(RuntimeError, match="unknown reset option 'pairseed'"):
        client.reset(pairseed=3)
    client.reset(seed=0)
    client.step(answer)
    with pytest.raises(RuntimeError, match="has had its answer"):
        client.step(answer)
    assert client.reset(seed=0).observation.image_a


def test_one_session_too_many_is_refused(dataset):
    settings = ServerSettings(dataset=dataset, stage="mixed", max_sessions=1)
    with playing(settings) as address, DiGClient(f"http://{address}").sync() as first:
        first.reset(seed=0)
        second = DiGClient(f"http://{address}").sync()
        with second, pytest.raises(RuntimeError, match="CAPACITY_REACHED"):
            second.reset(seed=0)
        assert first.step(DiGAction(answer="[]")).done


def test_wrong_settings_are_told_before_the_first_client(dataset):
    for wrong, told in {"stage": "no pairs of stage='dual'", "reward": "unknown reward"}.items():
        settings = ServerSettings(**{"dataset": dataset, "stage": "mixed", wrong: "dual"})
        with pytest.raises(ValueError, match=told):
            openenv_app(settings.open_pairs(), settings)


def test_sessions_share_a_renderer_that_outlives_them():
    settings = ServerSettings(stage="dual", width=64, height=48, quality="draft", device="cpu")
    policy = PixelDiffPolicy()
    with playing(settings) as address:
        for _ in range(2):
            with DiGClient(f"http://{address}").sync() as client:
                observation = client.reset(seed=4).observation
                (answer,) = policy.act([observation.arrays()])
                result = client.step(DiGAction(answer=answer))
                assert result.done and len(result.observation.metadata["truth"]) == 2


def test_the_server_listens_on_this_machine_only_and_ends_when_interrupted(dataset):
    command = [sys.executable, "-u", "-m", "dig_env.agents.integrations.openenv", "--port", "0"]
    command += ["--dataset", str(dataset), "--stage", "mixed"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, text=True) as server:
        running = next(line for line in server.stderr if "running on" in line)
        (url,) = re.findall(r"http://127\.0\.0\.1:\d+", running)
        with DiGClient(url).sync() as client:
            assert client.reset(seed=0).observation.metadata["stage"] == "mixed"
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=20) in (0, -signal.SIGINT, 130)


SPACE = Path(__file__).parents[2] / "environments/dig_openenv"


def test_the_space_passes_openenvs_own_static_validation():
    from openenv.validation import Level, Verdict, run_validation

    report = run_validation(SPACE, max_level=Level.STATIC, skip_build=True)
    assert report.verdict is Verdict.PASS, report.results


def test_the_space_has_what_openenv_push_asks_for():
    names = (
        "openenv.yaml",
        "__init__.py",
        "client.py",
        "README.md",
        "Dockerfile",
        "pyproject.toml",
    )
    assert all((SPACE / name).exists() for name in names)  # openenv.cli._cli_utils


def test_the_spaces_server_plays_a_fresh_pair(dataset):
    """As its Dockerfile starts it; DIG_ENV_BLENDER is set by ``dataset``."""
    command = [sys.executable, "-m", "uvicorn", "server.app:app", "--port", "0"]
    server = subprocess.Popen(command, cwd=SPACE, env=os.environ, stderr=subprocess.PIPE, text=True)
    try:
        address = next(
            found[0] for line in server.stderr if (found := re.search(r"http://[\d.:]+", line))
        )
        with DiGClient(address, message_timeout_s=120).sync() as client:
            assert client.reset(seed=7).observation.metadata["stage"] == "single"
            assert 0 <= client.step(DiGAction(answer="[[0, 0, 500, 500]]")).reward < 1
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=30)
