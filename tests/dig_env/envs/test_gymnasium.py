"""What others do with an environment: checks, wrappers, copies, threads and processes."""

import contextlib
import copy
import json
import multiprocessing
import pickle
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import gymnasium as gym
import imageio.v3
import numpy as np
import pytest
from gymnasium import wrappers
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.utils.env_match import check_environments_match
from gymnasium.wrappers import vector as vector_wrappers
from serving import serving

from dig_env import (
    Curriculum,
    CurriculumWrapper,
    DiGEnv,
    NumericVectorView,
    NumericView,
    PairStatistics,
    RecordPairs,
    VectorCurriculumWrapper,
)
from dig_env.envs.align import DiGAlignEnv
from dig_env.envs.vector import DiGVectorEnv
from dig_env.envs.zoom import DiGZoomEnv
from dig_env.scenes import RenderSettings, render_dataset
from dig_env.serve.server import server_app
from dig_env.serve.sessions import Sessions

IDS = ("DiG-v0", "DiG-Single-v0", "DiG-Dual-v0", "DiG-Mixed-v0")
MODES = ("sync", "async", "vector_entry_point")
WHOLE = "[[0, 0, 1000, 1000]]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs")
    tiny = RenderSettings(width=64, height=48, quality="draft", device="cpu")
    render_dataset(path, {"single": 4, "dual": 4, "mixed": 8}, "train", tiny, workers=1)
    return str(path)


@pytest.fixture
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("render_mode", [None, "rgb_array", "human"])
@pytest.mark.parametrize("env_id", IDS)
def test_gymnasiums_checks_of_every_id_and_render_mode(folder, no_warnings, env_id, render_mode):
    env = gym.make(env_id, dataset=folder, render_mode=render_mode, disable_env_checker=True)
    # The checker makes environments of its own from the spec and leaves them open.
    check_env(env.unwrapped, skip_render_check=True)
    env.close()
    one, other = (gym.make(env_id, dataset=folder, render_mode=render_mode) for _ in range(2))
    check_environments_match(one, other, num_steps=5, seed=2)
    one.close()
    other.close()


WRAPPED = {
    "TimeLimit": lambda env: wrappers.TimeLimit(env, 1),
    "Autoreset": wrappers.Autoreset,
    "PassiveEnvChecker": wrappers.PassiveEnvChecker,
    "OrderEnforcing": wrappers.OrderEnforcing,
    "FilterObservation": lambda env: wrappers.FilterObservation(env, ["image_a", "image_b"]),
    "FlattenObservation": wrappers.FlattenObservation,
    "AddRenderObservation": lambda env: wrappers.AddRenderObservation(env, render_only=False),
    "TransformReward": lambda env: wrappers.TransformReward(env, lambda reward: 2 * reward),
    "ClipReward": lambda env: wrappers.ClipReward(env, 0.0, 0.5),
    "NormalizeReward": wrappers.NormalizeReward,
    "RenderCollection": wrappers.RenderCollection,
    "RecordEpisodeStatistics": wrappers.RecordEpisodeStatistics,
}


@pytest.mark.parametrize("name", WRAPPED)
def test_gymnasiums_wrappers_go_around_it(folder, no_warnings, name):
    env = WRAPPED[name](gym.make("DiG-v0", dataset=folder, render_mode="rgb_array"))
    for _ in range(2):
        observation, info = env.reset(seed=1)
        assert env.observation_space.contains(observation)
        assert info["stage"] == "single"
        observation, reward, terminated, _, info = env.step(WHOLE)
        assert env.observation_space.contains(observation)
        assert terminated and reward > 0 and info["truth"]
    env.close()


PAIRS = {"DiG-v0", "DiG-Zoom-v0", "DiG-Remote-v0"}
AT_HAND = PAIRS - {"DiG-Remote-v0"}
ALL = PAIRS | {"DiG-Align-v0"}
ANOTHER = "CartPole-v1"
OWN_WRAPPERS = {
    "NumericView": (lambda env, out: NumericView(env), PAIRS),
    "PairStatistics": (lambda env, out: PairStatistics(env), AT_HAND),
    "RecordPairs": (RecordPairs, ALL),
    "CurriculumWrapper": (lambda env, out: CurriculumWrapper(env, Curriculum(("single",))), ALL),
}
OWN_VECTOR_WRAPPERS = {
    "NumericVectorView": (NumericVectorView, PAIRS),
    "VectorCurriculumWrapper": (
        lambda env: VectorCurriculumWrapper(env, Curriculum(("single",))),
        ALL,
    ),
}


@pytest.fixture(scope="module")
def options(folder):
    """What makes an environment of each id."""
    sessions = Sessions(datasets={"pairs": Path(folder)})
    with contextlib.closing(sessions), serving(server_app(sessions, "token")) as url:
        yield {env_id: {"stage": "single", "dataset": folder} for env_id in ALL} | {
            "DiG-Remote-v0": {"url": url, "token": "token", "dataset": "pairs"},
            ANOTHER: {},
        }


@pytest.mark.parametrize("env_id", sorted({*ALL, ANOTHER}))
@pytest.mark.parametrize("name", OWN_WRAPPERS)
def test_our_wrappers_work_around_an_environment_or_say_at_once_that_they_do_not(
    options, tmp_path, name, env_id
):
    wrap, around = OWN_WRAPPERS[name]
    with contextlib.closing(gym.make(env_id, **options[env_id])) as env:
        if env_id not in around:
            with pytest.raises(TypeError, match=f"{name} "):
                wrap(env, tmp_path)
            return
        wrapped = wrap(env, tmp_path)
        check_env(wrapped, skip_render_check=True, skip_close_check=True)
        for _ in range(2):
            seen, _ = wrapped.reset(seed=0)
            assert seen in wrapped.observation_space
            *_, reward, terminated, truncated, info = wrapped.step(wrapped.action_space.sample())
            assert 0 <= reward <= 1 and terminated and not truncated and info["truth"]


@pytest.mark.parametrize("name", OWN_WRAPPERS)
def test_our_wrappers_of_one_environment_name_the_form_for_a_vector(folder, tmp_path, name):
    for mode in MODES:
        vector = gym.make_vec("DiG-v0", 2, vectorization_mode=mode, dataset=folder)
        with contextlib.closing(vector), pytest.raises(TypeError, match=f"{name} .*; for .* give"):
            OWN_WRAPPERS[name][0](vector, tmp_path)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("env_id", sorted({*ALL, ANOTHER}))
@pytest.mark.parametrize("name", OWN_VECTOR_WRAPPERS)
def test_our_wrappers_of_vectors_work_around_one_or_say_at_once_that_they_do_not(
    options, name, env_id, mode
):
    wrap, around = OWN_VECTOR_WRAPPERS[name]
    if mode == "vector_entry_point" and gym.spec(env_id).vector_entry_point is None:
        return
    more = {"shared_memory": False} if (env_id, mode) == ("DiG-Align-v0", "async") else {}
    more = {"vector_kwargs": more} if more else {}
    made = gym.make_vec(env_id, 2, vectorization_mode=mode, **more, **options[env_id])
    with contextlib.closing(made) as vector:
        if env_id not in around:
            with pytest.raises(TypeError, match=f"{name} "):
                wrap(vector)
        else:
            wrapped = vector_wrappers.RecordEpisodeStatistics(wrap(vector))
            seen, _ = wrapped.reset(seed=0)
            assert seen in wrapped.observation_space
            _, rewards, terminations, _, infos = wrapped.step(wrapped.action_space.sample())
            assert terminations.all() and rewards.shape == (2,)
            assert list(infos["stage"]) == ["single"] * 2


def test_our_wrappers_of_vectors_go_around_each_other_and_gymnasiums(folder):
    vector = gym.make_vec("DiG-v0", 2, dataset=folder)
    for wrap, _ in (*OWN_VECTOR_WRAPPERS.values(), OWN_VECTOR_WRAPPERS["VectorCurriculumWrapper"]):
        vector = wrap(vector_wrappers.TransformReward(vector, lambda rewards: rewards))
    vector.reset(seed=0)
    assert vector.step(np.zeros((2, 4)))[2].all()
    vector.close()
    for wrap, _ in OWN_VECTOR_WRAPPERS.values():
        with pytest.raises(TypeError, match="wraps a vector of environments; for .* give"):
            wrap(gym.make("DiG-v0", dataset=folder))


def test_episode_statistics(folder):
    env = wrappers.RecordEpisodeStatistics(gym.make("DiG-v0", dataset=folder))
    env.reset(seed=0)
    _, reward, _, _, info = env.step(WHOLE)
    assert info["episode"]["r"] == pytest.approx(reward) and reward > 0
    assert info["episode"]["l"] == 1
    env.close()


@pytest.mark.parametrize("mode", MODES)
def test_episode_statistics_of_a_vector(folder, mode):
    vector = gym.make_vec("DiG-v0", 2, vectorization_mode=mode, dataset=folder)
    vector = vector_wrappers.RecordEpisodeStatistics(vector)
    vector.reset(seed=0)
    for _ in range(2):
        _, rewards, _, _, infos = vector.step((WHOLE, "none"))
        np.testing.assert_allclose(infos["episode"]["r"], rewards)
        assert rewards[0] > rewards[1] == 0
        assert list(infos["episode"]["l"]) == [1, 1]
        vector.step(("", ""))  # Gymnasium's autoreset
    assert vector.episode_count == 4
    vector.close()


@pytest.mark.parametrize("mode", MODES)
def test_wrappers_of_vectors(folder, mode):
    vector = gym.make_vec(
        "DiG-v0", 2, vectorization_mode=mode, dataset=folder, render_mode="rgb_array"
    )
    vector = vector_wrappers.DictInfoToList(
        vector_wrappers.TransformReward(vector, lambda rewards: 2 * rewards)
    )
    _, infos = vector.reset(seed=0)
    assert [set(info) for info in infos] == [{"pair_seed", "stage"}] * 2
    *_, infos = vector.step((WHOLE, "none"))
    assert [info["format"] for info in infos] == [1.0, 0.0]
    frames = vector.render()
    assert len(frames) == 2 and frames[0].shape == frames[1].shape
    vector.close()


def test_videos_of_an_environment_and_of_a_vector(folder, tmp_path):
    env = gym.make("DiG-v0", dataset=folder, render_mode="rgb_array")
    env = wrappers.RecordVideo(env, str(tmp_path / "one"), episode_trigger=lambda _: True)
    for episode in range(2):
        env.reset(seed=episode)
        env.step(WHOLE)
    shown = env.render()
    env.close()
    assert len(list((tmp_path / "one").glob("*.mp4"))) == 2
    # Two frames: the question and the answer. A video keeps even sizes and compresses.
    frames = imageio.v3.imread(tmp_path / "one" / "rl-video-episode-1.mp4")
    assert frames.shape == (2, *(side // 2 * 2 for side in shown.shape[:2]), 3)
    answered = shown[: frames.shape[1], : frames.shape[2]].astype(float)
    assert np.abs(frames[1] - answered).mean() < 10 < np.abs(frames[0] - answered).max()
    vector = gym.make_vec("DiG-v0", 2, dataset=folder, render_mode="rgb_array")
    vector = vector_wrappers.RecordVideo(
        vector, str(tmp_path / "two"), episode_trigger=lambda _: True, video_aspect_ratio=(2, 1)
    )
    vector.reset(seed=0)
    for _ in range(3):
        vector.step((WHOLE, WHOLE))
    vector.close()
    assert list((tmp_path / "two").glob("*.mp4"))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_has_the_same_arguments_and_starts_anew(folder, duplicate):
    env = gym.make("DiG-v0", stage="mixed", dataset=folder, reward={"format_weight": 0.4})
    env.reset()
    again = duplicate(env)
    with pytest.raises(gym.error.ResetNeeded):
        again.unwrapped.step("[]")
    check_environments_match(env, again, num_steps=4, seed=1)
    env.close()
    again.reset(seed=0)  # what it holds is its own
    again.close()


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: DiGEnv(dataset=folder),
        lambda folder: DiGZoomEnv(dataset=folder),
        lambda folder: DiGAlignEnv(dataset=folder, stage="single"),
        lambda folder: DiGVectorEnv(2, dataset=folder),
    ],
)
def test_a_copy_made_in_another_working_directory_finds_the_dataset(
    folder, tmp_path, monkeypatch, make
):
    monkeypatch.chdir(Path(folder).parent)
    env = make(Path(folder).name)
    monkeypatch.chdir(tmp_path)
    again = pickle.loads(pickle.dumps(env))
    again.reset(seed=0)
    again.close()
    env.close()


def test_an_environment_is_made_again_from_its_specification(folder):
    stage = {"differences": (1, 2), "changes": ["color"]}
    for kwargs in ({"stage": "dual", "dataset": folder}, {"stage": stage, "width": 64}):
        env = gym.make("DiG-v0", coordinates="unit", **kwargs)
        json.loads(env.spec.to_json())
        for spec in (EnvSpec.from_json(env.spec.to_json()), pickle.loads(pickle.dumps(env.spec))):
            again = gym.make(spec)
            assert again.unwrapped.stage == env.unwrapped.stage
            assert again.unwrapped.pairs.difficulty == env.unwrapped.pairs.difficulty
            assert again.observation_space == env.observation_space
            again.close()
        env.close()


def test_closing_twice(folder):
    for mode in (None, "human"):
        env = gym.make("DiG-v0", dataset=folder, render_mode=mode)
        env.reset(seed=0)
        env.close()
        env.close()


def episodes(folder, seed):
    """Observations and rewards of three episodes, in whatever thread or process this runs."""
    env = gym.make("dig_env:DiG-v0", stage="mixed", dataset=folder)
    played = []
    for turn in range(3):
        observation, _ = env.reset(seed=seed if turn == 0 else None)
        played.append((observation, env.step(WHOLE)[1]))
    env.close()
    return played


@pytest.mark.parametrize("where", ["threads", "fork", "spawn"])
def test_environments_in_threads_and_processes(folder, where):
    expected = [episodes(folder, seed) for seed in range(4)]
    if where == "threads":
        pool = ThreadPoolExecutor(4)
    else:
        context = multiprocessing.get_context(where)
        pool = ProcessPoolExecutor(2, mp_context=context)
    with pool:
        found = list(pool.map(episodes, [folder] * 4, range(4)))
    assert data_equivalence(found, expected, exact=True)
