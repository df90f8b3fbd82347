"""Where an environment's pairs come from: rendered while the policy thinks, or read from disk."""

import contextlib
import threading
import time
from concurrent.futures import CancelledError, Future, wait

import gymnasium as gym
import numpy as np
import psutil
import pytest
from small import SMALL, SMALL_ENV

import dig_env
from dig_env.agents.evaluation.align import evaluate_align
from dig_env.agents.evaluation.pairs import pair_seeds
from dig_env.envs.dig import DiGEnv
from dig_env.envs.pairs import FreshPairs, PairCache, SharedPairs, StoredPairs
from dig_env.envs.vector import DiGVectorEnv
from dig_env.scenes import (
    STAGES,
    DifficultyError,
    PairDataset,
    Renderer,
    RenderError,
    available_cores,
    plan_pair,
    render_dataset,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs")
    for split in ("train", "test"):
        render_dataset(path, {"single": 6, "dual": 3}, split, SMALL, workers=2)
    return path


def play(env, resets, **first):
    played = []
    for index in range(resets):
        observation, info = env.reset(**(first if index == 0 else {}))
        played.append((info["pair_seed"], observation["image_a"], observation["image_b"]))
        env.step("[]")
    return played


@pytest.mark.parametrize("workers", [1, 2])
def test_rendering_ahead_changes_no_pair(renderer, workers):
    env = gym.make("DiG-Dual-v0", workers=workers, **SMALL_ENV)
    expected_seeds = pair_seeds(5, "train")
    for pair_seed, image_a, image_b in play(env, 5, seed=5):
        assert pair_seed == next(expected_seeds)
        pair = renderer.render(plan_pair(pair_seed, env.unwrapped.pairs.difficulty))
        np.testing.assert_array_equal(image_a, pair.image_a)
        np.testing.assert_array_equal(image_b, pair.image_b)
    env.close()


def test_the_next_pair_is_there_before_it_is_asked_for():
    env = gym.make("DiG-v0", **SMALL_ENV)
    env.reset(seed=1)
    ahead = dict(env.unwrapped.pairs._ahead)
    assert len(ahead) == 1
    wait(ahead.values(), timeout=60)
    # Without its workers the environment can still show what was rendered ahead.
    env.unwrapped.pairs.source.close()
    env.unwrapped.pairs.prefetch_count = 0
    _, info = env.reset()
    assert {info["pair_seed"]} == {pair_seed for pair_seed, _ in ahead}
    env.close()


def test_a_replay_is_not_taken_for_a_draw():
    env = gym.make("DiG-v0", **SMALL_ENV)
    env.reset(options={"pair_seed": 3})
    assert not env.unwrapped.pairs._ahead, "the next replay's seed cannot be foreseen"
    env.close()


def test_a_replay_that_is_announced_is_rendered_ahead():
    env = gym.make("DiG-v0", **SMALL_ENV)
    announced = {"pair_seed": 3, "stage": "dual"}
    env.unwrapped.prefetch(options=announced)
    (future,) = env.unwrapped.pairs._ahead.values()
    env.reset(options=announced)
    assert env.unwrapped.pair is future.result() and not env.unwrapped.pairs._ahead
    env.close()


def test_a_change_of_stage_discards_what_was_rendered_ahead():
    env = gym.make("DiG-v0", **SMALL_ENV)
    env.reset(seed=1)
    env.unwrapped.stage = "dual"
    _, info = env.reset()
    assert info["stage"] == "dual"
    assert len(env.unwrapped.pair.differences) == 2
    assert all(difficulty.differences == (2, 2) for _, difficulty in env.unwrapped.pairs._ahead)
    env.close()


def test_a_pair_ahead_that_cannot_be_made_is_an_error_when_its_turn_comes(monkeypatch):
    env = gym.make("DiG-v0", **SMALL_ENV)
    make_plan = dig_env.envs.pairs.plan_pair

    def plan_only_the_first(pair_seed, difficulty):
        if made:
            raise DifficultyError("no room")
        made.append(pair_seed)
        return make_plan(pair_seed, difficulty)

    made = []
    monkeypatch.setattr(dig_env.envs.pairs, "plan_pair", plan_only_the_first)
    env.reset(seed=1)
    with pytest.raises(DifficultyError, match="no room"):
        env.reset()
    env.close()


def test_a_dataset_plays_without_blender(folder, monkeypatch):
    monkeypatch.setattr(Renderer, "__init__", lambda *_, **__: pytest.fail("rendered"))
    env = gym.make("DiG-v0", dataset=str(folder))
    dataset = PairDataset(folder)
    assert env.observation_space["image_a"].shape == (SMALL.height, SMALL.width, 3)
    for pair_seed, image_a, image_b in play(env, 8, seed=2):
        assert pair_seed in dataset.pair_seeds("single", "train")
        np.testing.assert_array_equal(image_a, dataset.pair(pair_seed).image_a)
        np.testing.assert_array_equal(image_b, dataset.pair(pair_seed).image_b)
    env.close()


def test_a_dataset_is_drawn_from_by_the_seed_alone(folder):
    seeds = []
    for _ in range(2):
        env = gym.make("DiG-v0", dataset=folder, split="test", stage="dual")
        seeds.append([pair_seed for pair_seed, *_ in play(env, 6, seed=11)])
        env.close()
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0])) > 1
    assert set(seeds[0]) <= set(PairDataset(folder).pair_seeds("dual", "test"))


def test_a_dataset_and_a_fresh_pair_of_one_seed_earn_the_same(folder):
    pair_seed = PairDataset(folder).pair_seeds("dual", "train")[1]
    outcomes = []
    for arguments in ({"dataset": folder}, SMALL_ENV):
        env = gym.make("DiG-Dual-v0", **arguments)
        observation, _ = env.reset(options={"pair_seed": pair_seed})
        _, reward, *_, info = env.step("[[100, 100, 600, 700]]")
        outcomes.append((observation["image_b"].tobytes(), reward, info))
        env.close()
    assert outcomes[0] == outcomes[1]


def test_the_curriculum_walks_a_dataset(folder):
    env = dig_env.CurriculumWrapper(
        gym.make("DiG-v0", dataset=folder),
        dig_env.Curriculum(("single", "dual"), promote_at=0.0, window=2),
    )
    stages = []
    for _ in range(4):
        _, info = env.reset()
        stages.append(info["stage"])
        env.step("[]")
    assert stages == ["single", "single", "dual", "dual"]
    env.close()


def test_a_dataset_decides_size_and_quality(folder):
    with pytest.raises(ValueError, match="leave width out"):
        gym.make("DiG-v0", dataset=folder, width=320)
    gym.make("DiG-v0", dataset=folder, width=SMALL.width).close()


def test_a_stage_that_a_dataset_lacks_is_an_error_that_says_what_it_has(folder):
    env = gym.make("DiG-v0", dataset=folder, stage="mixed")
    with pytest.raises(ValueError, match="mixed.*train/dual.*dig-env render"):
        env.reset()
    with pytest.raises(ValueError, match="pair_seed=7"):
        env.reset(options={"pair_seed": 7, "stage": "single"})
    env.close()


def vector_of(env_id, mode, **kwargs):
    return gym.make_vec(env_id, 2, vectorization_mode=mode, stage="single", **kwargs)


PLAYERS = {
    "DiG": lambda pairs: gym.make("DiG-v0", dataset=pairs),
    "zoom": lambda pairs: gym.make("DiG-Zoom-v0", dataset=pairs),
    "align": lambda pairs: gym.make("DiG-Align-v0", stage="single", dataset=pairs),
    "numbers": lambda pairs: dig_env.NumericView(gym.make("DiG-v0", dataset=pairs)),
    "our vector": lambda pairs: vector_of("DiG-v0", "vector_entry_point", dataset=pairs),
    "a vector of Gymnasium": lambda pairs: vector_of("DiG-v0", "sync", dataset=pairs),
    "zooms in a vector": lambda pairs: vector_of("DiG-Zoom-v0", "sync", dataset=pairs),
}


@pytest.mark.parametrize("player", PLAYERS)
def test_a_source_is_its_makers_to_set_and_to_close(folder, player):
    with contextlib.closing(StoredPairs(folder, "train")) as pairs:
        before = dict(vars(pairs))
        with contextlib.closing(PLAYERS[player](pairs)) as env:
            env.reset(seed=0)
        assert vars(pairs) == before and pairs.prefetch_count == 1
        seed = pairs.pair_seed(0, "single")
        assert pairs.submit(seed, STAGES["single"]).result().plan.seed == seed


def test_a_renderer_outlives_the_environments_that_take_its_pairs(renderer):
    pairs = FreshPairs(SMALL, "train", renderer)
    for player in ("DiG", "our vector"):
        with contextlib.closing(PLAYERS[player](pairs)) as env:
            env.reset(seed=0)
        assert pairs.prefetch_count == renderer.workers
    pairs.close()
    assert renderer.render(plan_pair(0, STAGES["single"])).differences


def test_an_evaluation_leaves_the_source_it_was_given_open(folder):
    class Silent:
        def reply(self, dialogues):
            return [""] * len(dialogues)

    with contextlib.closing(StoredPairs(folder, "train")) as pairs:
        evaluate_align(
            Silent(), "text_to_box", episodes=2, dataset=pairs, stage="single", split="train"
        )
        assert pairs.submit(pairs.pair_seed(0, "single"), STAGES["single"]).result()


@pytest.mark.parametrize("vectorized", [False, True])
def test_what_an_environment_started_ends_with_it(vectorized):
    if vectorized:
        env = DiGVectorEnv(2, **SMALL_ENV)
        source = env.envs[0].pairs.source
        assert env.envs[1].pairs.source is source
    else:
        env = gym.make("DiG-v0", **SMALL_ENV)
        source = env.unwrapped.pairs.source
    env.reset(seed=0)
    (pid,) = source._renderer.worker_pids
    env.close()
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=20)
    assert not psutil.pid_exists(pid)


def test_what_was_asked_for_in_advance_is_called_off_when_an_environment_closes():
    with Renderer(SMALL, workers=1) as renderer:
        pairs = FreshPairs(SMALL, "train", renderer)
        pairs.prefetch_count = 5
        env = gym.make("DiG-v0", dataset=pairs)
        env.reset(seed=0)
        ahead = list(env.unwrapped.pairs._ahead.values())
        env.close()
        assert sum(future.cancelled() for future in ahead) >= 4  # one may be under way


def test_closing_does_not_wait_for_what_is_ahead():
    env = gym.make("DiG-v0", width=1024, height=768, quality="high", device="cpu")
    env.unwrapped.pairs.source.submit(1, env.unwrapped.pairs.difficulty)
    begun = time.monotonic()
    env.close()
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("calls_off", ["prepare", "stage", "close"])
def test_what_one_environment_calls_off_another_one_still_gets(folder, calls_off):
    """Of a source that environments share, a pair is made once for all that ask for it."""
    stored = StoredPairs(folder, "train")
    one, other = (DiGEnv(dataset=SharedPairs(stored, cache)) for cache in [PairCache()] * 2)
    readers_are_free = threading.Event()
    for _ in range(available_cores()):  # so that nothing that is asked for now has begun
        stored._readers.submit(readers_are_free.wait)
    one.prefetch(seed=1)
    other.prefetch(seed=1)
    if calls_off == "prepare":
        one.prefetch(seed=2)
    elif calls_off == "stage":
        one.stage = "dual"
        one.prefetch(seed=1)
    else:
        one.close()
    readers_are_free.set()
    _, info = other.reset(seed=1)
    one.stage = "single"
    assert one.reset(seed=1)[1] == info
    stored.close()


def test_vectors_of_one_shared_source_call_nothing_off_for_each_other(folder):
    stored = StoredPairs(folder, "train")
    cache = PairCache()
    vectors = [DiGVectorEnv(2, dataset=SharedPairs(stored, cache)) for _ in range(2)]
    readers_are_free = threading.Event()
    for _ in range(available_cores()):
        stored._readers.submit(readers_are_free.wait)
    for vector in vectors:
        for index, env in enumerate(vector.envs):
            env.prefetch(seed=index)
    vectors[0].envs[0].prefetch(seed=5)
    readers_are_free.set()
    shown = [vector.reset(seed=0)[1]["pair_seed"].tolist() for vector in vectors]
    assert shown[0] == shown[1]
    stored.close()


def test_a_shared_pair_that_fails_fails_for_all_and_is_made_again_when_asked_for():
    cache, made = PairCache(), [Future(), Future()]
    asked = [cache.get("key", lambda: made[0]) for _ in range(2)]
    made[0].set_exception(RenderError("no Blender"))
    for future in asked:
        with pytest.raises(RenderError, match="no Blender"):
            future.result(timeout=1)
    assert made[1].cancel()  # as where what makes it is closed
    with pytest.raises(CancelledError):
        cache.get("key", lambda: made[1]).result(timeout=1)
    pair = object()
    done = Future()
    done.set_result(pair)
    assert cache.get("key", lambda: done).result(timeout=1) is pair
