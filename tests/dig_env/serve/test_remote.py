"""DiG-Remote-v0 behaves as the local environment does, and tells what went wrong on the way."""

import copy
import dataclasses
import re
import warnings
from types import MappingProxyType

import gymnasium as gym
import numpy as np
import pytest
from answers_corpus import answers_about
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.utils.env_match import check_environments_match
from served import ANSWER, BEARER, TINY, TOKEN, play, remote
from serving import serving
from starlette.applications import Starlette
from starlette.testclient import TestClient

import dig_env
from dig_env.envs.pairs import FreshPairs
from dig_env.envs.remote import RemoteError
from dig_env.scenes import RenderSettings
from dig_env.serve.server import server_app
from dig_env.serve.sessions import Limits, Sessions

# The environment's own behaviour


@pytest.mark.parametrize(("coordinates", "camera_shift"), [("norm1000", 0.0), ("pixel", 0.3)])
def test_fresh_pairs_are_those_of_the_local_environment_to_the_byte(
    url, renderer, coordinates, camera_shift
):
    stage = {"differences": (2, 3), "changes": ["color", "delete"], "camera_shift": camera_shift}
    options = {"stage": stage, "coordinates": coordinates} | TINY
    options |= {"reward": {"format_weight": 0.3}, "render_mode": "rgb_array"}
    answers = [ANSWER, "[[0, 0, 30, 40]]"]
    source = FreshPairs(RenderSettings(**TINY, device="cpu"), "test", renderer)
    expected = play(gym.make("DiG-v0", dataset=source, **options), answers, seed=4)
    found = play(remote(url, split="test", **options), answers, seed=4)
    assert data_equivalence(found, expected, exact=True)


def test_every_kind_of_answer_earns_what_it_earns_locally(url, folder):
    options = {"stage": "mixed", "reward": "strict", "render_mode": "rgb_array"}
    local = gym.make("DiG-v0", dataset=folder, **options)
    local.reset(seed=3)
    answers = answers_about(local.unwrapped.pair.boxes_unit, np.random.default_rng(0))
    long = "<think>" + "é".join(map(str, range(100_000))) + "</think>" + answers["right"]
    answers = [*answers.values(), long, "half a pair: \ud800", "\0", ""]
    found = play(remote(url, dataset="pairs", **options), answers, seed=3)
    assert data_equivalence(found, play(local, answers, seed=3), exact=True)


@pytest.mark.parametrize("render_mode", [None, "rgb_array", "human"])
def test_gymnasiums_checks(url, folder, render_mode):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = remote(url, dataset="pairs", render_mode=render_mode, disable_env_checker=True)
        check_env(env.unwrapped, skip_render_check=True)
        local = gym.make("DiG-v0", dataset=folder, render_mode=render_mode)
        assert env.observation_space == local.observation_space
        assert env.action_space == local.action_space
        check_environments_match(env, local, num_steps=5, seed=2)
    copies = copy.deepcopy(env)
    env.close()
    env.close()
    copies.reset(seed=0)  # its session is its own
    copies.close()


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_vector_of_them_follows_a_curriculum(url, folder, mode):
    handed = []
    for env_id, options in (
        ("DiG-Remote-v0", {"url": url, "dataset": "pairs", "vectorization_mode": mode}),
        ("DiG-v0", {"dataset": folder, "vectorization_mode": "sync"}),
    ):
        curriculum = dig_env.RandomCurriculum(("single", "mixed"), seed=4)
        vector = dig_env.VectorCurriculumWrapper(gym.make_vec(env_id, 2, **options), curriculum)
        handed.append([vector.reset(seed=0), *(vector.step((ANSWER, "[]")) for _ in range(3))])
        vector.close()
    assert data_equivalence(*handed, exact=False)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_vector_of_them_refuses_what_is_not_an_answer_for_each(url, mode):
    vector = gym.make_vec("DiG-Remote-v0", 2, vectorization_mode=mode, url=url, dataset="pairs")
    vector.reset(seed=0)
    for actions, error, message in (
        (ANSWER, TypeError, "are one str: give a list of 2 texts"),
        ([ANSWER] * 3, ValueError, "3 answers for 2 environments"),
        ([ANSWER, 7], TypeError, "answer 1 is a int, no text"),
    ):
        with pytest.raises(error, match=message):
            vector.step(actions)
    assert vector.step([ANSWER] * 2)[2].all()
    vector.close()


def test_a_reward_is_spelled_as_it_is_locally(url, folder):
    fields = dataclasses.asdict(dig_env.REWARDS["paper"])
    local = gym.make("DiG-v0", dataset=folder, reward="paper")
    spellings = ["paper", fields, MappingProxyType(fields), dig_env.REWARDS["paper"]]
    served = [remote(url, dataset="pairs", reward=reward) for reward in spellings]
    earned = []
    for env in (local, *served):
        env.reset(seed=0)
        earned.append(env.step("[[0, 0, 500, 1000], [0, 0, 1000, 1000]]")[1])
        env.close()
    assert len(set(earned)) == 1 and earned[0] > 0.1


def test_nothing_before_the_answer_tells_the_truth(sessions):
    client = TestClient(server_app(sessions, TOKEN), headers=BEARER)
    opened = client.post("/sessions", json={"dataset": "pairs"}).json()
    assert opened.keys() == {"session", "width", "height"}
    told = client.post(f"/sessions/{opened['session']}/reset", json={"seed": 1}).json()
    assert told.keys() == {"observation", "info"}
    assert told["observation"].keys() == {"image_a", "image_b", "prompt"}
    assert told["info"].keys() == {"pair_seed", "stage"}


@pytest.mark.parametrize(
    "options",
    [
        {"stage": "triple"},
        {"stage": {"differences": [9, 9]}},
        {"width": 8},
        {"quality": "ultra"},
        {"coordinates": "percent"},
        {"split": "dev"},
        {"reward": {"weight": 2}},
        {"reward": "best"},
    ],
)
def test_bad_arguments_are_refused_as_they_are_locally(url, options):
    with pytest.raises(ValueError) as local:
        gym.make("DiG-v0", **options)
    with pytest.raises(type(local.value), match=f"^{re.escape(str(local.value))}$"):
        remote(url, **options)


def test_bad_calls_are_refused_as_they_are_locally(url, folder):
    made = remote(url, dataset="pairs"), gym.make("DiG-v0", dataset=folder)
    calls = [
        lambda env: env.unwrapped.step("[]"),
        lambda env: env.reset(seed=-1),
        lambda env: env.reset(options={"stages": "dual"}),
        lambda env: env.reset(options={"stage": "duel"}),
        lambda env: env.reset(options={"pair_seed": -1}),
        lambda env: env.unwrapped.step("[]"),  # a failed reset leaves no pair
        lambda env: env.reset(seed=0) and env.step(3),
        lambda env: env.step("[]") and env.step("[]"),
    ]
    for call in calls:
        told = []
        for env in made:
            with pytest.raises(Exception) as refused:
                call(env)
            told.append((refused.type, str(refused.value).replace(str(folder), "pairs")))
        assert told[0] == told[1]
    for env in made:
        env.close()


# What goes wrong on the way


def test_a_session_that_is_gone_and_a_server_that_is_gone_are_told_apart(folder, clock):
    sessions = Sessions(datasets={"pairs": folder}, limits=Limits(idle_s=60))
    with serving(server_app(sessions, TOKEN)) as address:
        env = remote(address, dataset="pairs")
        env.reset(seed=0)
        clock[0] += 61
        with pytest.raises(RemoteError, match=r"idle for more than 60 s.*make a new env"):
            env.step(ANSWER)
    with pytest.raises(RemoteError, match=r"gave no answer.*'dig-env serve' runs there"):
        env.reset(seed=0)
    env.close()
    with pytest.raises(RemoteError, match="gave no answer"):
        remote(address)


def test_an_address_where_something_else_answers_is_named():
    told = pytest.raises(RemoteError, match="404 and not as 'dig-env serve' does")
    with serving(Starlette()) as address, told:
        remote(address)


def test_a_client_that_is_too_fast_is_told_when_to_come_again_and_does(folder, clock, monkeypatch):
    limits = Limits(requests_per_s=4)
    sessions = Sessions(datasets={"pairs": folder}, limits=limits)
    client = TestClient(server_app(sessions, TOKEN), headers=BEARER)
    replies = [client.delete("/sessions/none") for _ in range(6)]
    assert [reply.status_code for reply in replies] == [404] * 4 + [429] * 2
    assert int(replies[-1].headers["Retry-After"]) >= 1
    waits = []

    def wait(seconds):
        waits.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr("dig_env.envs.remote.sleep", wait)
    with serving(server_app(sessions, TOKEN)) as address:
        env = remote(address, dataset="pairs", render_mode="rgb_array")
        assert len(play(env, ["[]"] * 3)) == 12
    assert waits == [1.0], "of eight requests, four at once, and four a second later"


def test_wrong_tokens_do_not_count_against_the_clients_behind_the_same_address(sessions):
    sessions = Sessions(datasets={}, limits=Limits(requests_per_s=4))
    app = server_app(sessions, TOKEN)
    wrong = TestClient(app, headers={"Authorization": "Bearer wrong"})
    replies = [wrong.delete("/sessions/none").status_code for _ in range(10)]
    assert set(replies) == {401, 429} and replies[:4] == [401] * 4
    right = TestClient(app, headers=BEARER)
    assert [right.delete("/sessions/none").status_code for _ in range(4)] == [404] * 4
