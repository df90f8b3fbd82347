"""One curriculum behind every way of playing: environments, vectors, SB3's rollouts, GRPO's steps.

It goes from each to the next as JSON, as it does when a run is stopped and goes on elsewhere.
"""

import json

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv

import dig_env.agents.training.grpo
from dig_env import (
    CurriculumWrapper,
    NumericVectorView,
    NumericView,
    PrioritizedStageReplay,
    VectorCurriculumWrapper,
)
from dig_env.agents import GRPORun, train_grpo
from dig_env.agents.integrations.sb3 import SB3Vector
from dig_env.scenes import PAPER_STAGES, RenderSettings, render_dataset

ANSWER = "[[300, 300, 700, 700]]"
ENVS = 2
EPISODES = 4
ROLLOUTS = 2
SEED = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs")
    size = RenderSettings(width=64, height=48, quality="draft")
    render_dataset(path, dict.fromkeys(PAPER_STAGES, 5), "train", size, workers=1)
    return path


def new_curriculum():
    """It draws, keeps a window and an age of each stage, and counts every episode."""
    return PrioritizedStageReplay(window=2, seed=3)


def handed_over(curriculum):
    """Another object that goes on from the JSON of this one."""
    other = new_curriculum()
    other.load_state_dict(json.loads(json.dumps(curriculum.state_dict())))
    return other


# Each way of playing returns (stage, pair seed) of every episode that ended, a list for each
# environment or stream.


def in_a_single_environment(folder, curriculum, out):
    env = CurriculumWrapper(gym.make("DiG-v0", dataset=folder), curriculum)
    played = []
    for episode in range(EPISODES):
        env.reset(seed=SEED if episode == 0 else None)
        info = env.step(ANSWER)[4]
        played.append((info["stage"], info["pair_seed"]))
    env.close()
    return [played]


def in_a_vector(vector, curriculum):
    envs = VectorCurriculumWrapper(vector, curriculum)
    envs.reset(seed=SEED)
    played = [[] for _ in range(ENVS)]
    while len(played[0]) < EPISODES // ENVS:
        _, _, ended, _, infos = envs.step([ANSWER] * ENVS)
        for index in np.flatnonzero(ended):
            played[index].append((infos["stage"][index], int(infos["pair_seed"][index])))
    envs.close()
    return played


def in_a_sync_vector(folder, curriculum, out):
    return in_a_vector(
        gym.make_vec("DiG-v0", ENVS, vectorization_mode="sync", dataset=folder), curriculum
    )


def in_an_async_vector(folder, curriculum, out):
    return in_a_vector(
        gym.make_vec("DiG-v0", ENVS, vectorization_mode="async", dataset=folder), curriculum
    )


def in_a_vector_with_one_source(folder, curriculum, out):
    return in_a_vector(gym.make_vec("DiG-v0", ENVS, dataset=folder), curriculum)


class Played(BaseCallback):
    def __init__(self):
        super().__init__()
        self.played = [[] for _ in range(ENVS)]

    def _on_step(self):
        for of_env, info in zip(self.played, self.locals["infos"], strict=True):
            of_env.append((info["stage"], info["pair_seed"]))
        return True


def in_a_rollout_of_stable_baselines(folder, curriculum, out):
    def make():
        view = NumericView(gym.make("DiG-v0", dataset=folder), max_boxes=2)
        return CurriculumWrapper(view, curriculum)

    return rollout(DummyVecEnv([make] * ENVS))


def rollout(envs):
    callback = Played()
    steps = EPISODES // ENVS
    model = PPO("CnnPolicy", envs, n_steps=steps, batch_size=2, n_epochs=1, seed=SEED, device="cpu")
    model.learn(EPISODES, callback=callback)
    envs.close()
    return callback.played


def in_a_rollout_on_a_vector_with_one_source(folder, curriculum, out):
    envs = gym.make_vec("DiG-v0", ENVS, autoreset_mode="Disabled", dataset=folder)
    view = VectorCurriculumWrapper(NumericVectorView(envs, max_boxes=2), curriculum)
    return rollout(SB3Vector(view))


def in_a_step_of_grpo(folder, curriculum, out):
    """TRL's trainer and the embedded policy; a pair with its group of answers is an episode."""
    played = []

    class Recorded(dig_env.agents.training.grpo.GroupReward):
        def __call__(self, stage, pair_seed, **columns):
            played.extend(zip(stage[::ROLLOUTS], pair_seed[::ROLLOUTS], strict=True))
            return super().__call__(stage=stage, pair_seed=pair_seed, **columns)

    run = GRPORun(
        out=str(out),
        dataset=str(folder),
        pairs_per_step=EPISODES,
        rollouts=ROLLOUTS,
        steps=1,
        eval_pairs=0,
        save_every=0,
        seed=SEED,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dig_env.agents.training.grpo, "GroupReward", Recorded)
        train_grpo(run, curriculum=curriculum)
    return [played]


WAYS = [
    in_a_single_environment,
    in_a_sync_vector,
    in_an_async_vector,
    in_a_vector_with_one_source,
    in_a_rollout_of_stable_baselines,
    in_a_rollout_on_a_vector_with_one_source,
    in_a_step_of_grpo,
]


def pair_seeds_without_a_curriculum(folder, seed, stages):
    """What a plain environment shows that is told the stages."""
    env = gym.make("DiG-v0", dataset=folder)
    seeds = []
    for episode, stage in enumerate(stages):
        _, info = env.reset(seed=seed if episode == 0 else None, options={"stage": stage})
        seeds.append(info["pair_seed"])
        env.step(ANSWER)
    env.close()
    return seeds


@pytest.fixture(scope="module")
def all_played(folder, tmp_path_factory):
    """What each way played, and how many episodes were counted when it was done."""
    curriculum, done = new_curriculum(), {}
    for way in WAYS:
        curriculum = handed_over(curriculum)
        played = way(folder, curriculum, tmp_path_factory.mktemp("run"))
        done[way] = played, curriculum.episodes
    return done


def test_every_episode_is_counted_once_wherever_it_was_played(all_played):
    for count, (played, counted) in enumerate(all_played.values(), 1):
        assert sum(map(len, played)) == EPISODES
        assert counted == count * EPISODES


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_pair_seeds_are_those_of_a_plain_environment(way, folder, all_played):
    for index, episodes in enumerate(all_played[way][0]):
        stages, seeds = zip(*episodes, strict=True)
        assert list(seeds) == pair_seeds_without_a_curriculum(folder, SEED + index, stages)


def test_one_object_that_is_never_saved_plays_the_same(folder, all_played, tmp_path):
    """And all of its stages, so that there was something to hand over."""
    curriculum = new_curriculum()
    for way, (played, _) in all_played.items():
        assert way(folder, curriculum, tmp_path / way.__name__) == played, way.__name__
    stages = {stage for played, _ in all_played.values() for env in played for stage, _ in env}
    assert stages == set(PAPER_STAGES)
