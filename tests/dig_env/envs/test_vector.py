"""Vectors of environments: Gymnasium's two and our own give the same, whatever carries the data."""

import itertools
import json
import pickle
import warnings
from concurrent.futures import wait

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

import dig_env
from dig_env.envs.pairs import StoredPairs
from dig_env.envs.spaces import FixedTexts
from dig_env.envs.vector import DiGVectorEnv
from dig_env.scenes import RenderSettings, render_dataset

TINY = {"width": 64, "height": 48, "quality": "draft", "device": "cpu"}
IDS = ("DiG-v0", "DiG-Single-v0", "DiG-Dual-v0", "DiG-Mixed-v0")
MODES = ("sync", "async", "vector_entry_point")
ANSWERS = ("[[0, 0, 999, 999]]", "[]", "none", "[[0, 0, 500, 999], [500, 0, 999, 999]]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs")
    counts = {"single": 4, "dual": 4, "mixed": 8}
    render_dataset(path, counts, "train", RenderSettings(**TINY), workers=1)
    return str(path)


def make(mode, folder, num_envs=3, autoreset="NextStep", stage="mixed", **vector_kwargs):
    if mode == "vector_entry_point":
        kwargs = {"autoreset_mode": autoreset}
    else:
        kwargs = {"vector_kwargs": vector_kwargs | {"autoreset_mode": autoreset}}
    return gym.make_vec(
        "DiG-v0",
        num_envs=num_envs,
        vectorization_mode=mode,
        stage=stage,
        dataset=folder,
        **kwargs,
    )


def play(vector, steps=7):
    """Everything that a vector hands out, in order: (observations, ..., infos) of each call."""
    answers = itertools.cycle(ANSWERS)
    handed = [vector.reset(seed=11)]
    by_hand = vector.metadata["autoreset_mode"] == AutoresetMode.DISABLED
    for step in range(steps):
        handed.append(vector.step(tuple(next(answers) for _ in range(vector.num_envs))))
        if by_hand:
            handed.append(vector.reset(options={"reset_mask": handed[-1][2].copy()}))
            if step == 2:  # with seeds of one's own, one of them left to chance that is not used
                mask = np.array([True, False, True])[: vector.num_envs]
                seeds = [5, None, 6][: vector.num_envs]
                handed.append(vector.reset(seed=seeds, options={"reset_mask": mask}))
    vector.close()
    return handed


def assert_same(one, other):
    """Equal values of equal types, arrays' included."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, (tuple, list)):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype and one.shape == other.shape
        assert_same(one.tolist(), other.tolist())
    else:
        assert one == other


@pytest.mark.parametrize("autoreset", ["NextStep", "SameStep", "Disabled"])
@pytest.mark.parametrize(
    ("mode", "how"),
    [
        ("vector_entry_point", {}),
        ("async", {"shared_memory": True}),
        ("async", {"shared_memory": False}),
    ],
)
def test_every_vector_hands_out_what_a_loop_over_environments_does(folder, mode, how, autoreset):
    expected = play(make("sync", folder, autoreset=autoreset))
    assert_same(play(make(mode, folder, autoreset=autoreset, **how)), expected)


def test_spawned_processes_hand_out_the_same(folder):
    expected = play(make("sync", folder, num_envs=2), steps=3)
    for shared_memory in (True, False):
        spawned = make("async", folder, 2, context="spawn", shared_memory=shared_memory)
        assert_same(play(spawned, steps=3), expected)


@pytest.mark.parametrize("mode", MODES)
def test_environment_i_is_the_environment_with_seed_plus_i(folder, mode):
    vector = make(mode, folder, autoreset="SameStep")
    observations, infos = vector.reset(seed=3)
    batches = [(observations, infos["pair_seed"])]
    for _ in range(2):
        observations, *_, infos = vector.step(("[]",) * 3)
        batches.append((observations, infos["pair_seed"]))
    vector.close()
    for index in range(3):
        env = gym.make("DiG-v0", stage="mixed", dataset=folder)
        for turn, (batch, pair_seeds) in enumerate(batches):
            observation, info = env.reset(seed=3 + index if turn == 0 else None)
            assert pair_seeds[index] == info["pair_seed"]
            for name in ("image_a", "image_b"):
                np.testing.assert_array_equal(batch[name][index], observation[name])
            assert batch["prompt"][index] == observation["prompt"]
        env.close()


@pytest.mark.parametrize("mode", MODES)
def test_environments_of_one_vector_differ_in_their_number_of_differences(folder, mode):
    counts = [
        {len(truth) for truth in infos["truth"]}
        for *_, infos in play(make(mode, folder))
        if "truth" in infos
    ]
    assert max(map(len, counts)) > 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("env_id", IDS)
def test_a_vector_of_any_id_has_the_spaces_and_the_metadata_it_declares(folder, env_id, mode):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vector = gym.make_vec(env_id, num_envs=2, vectorization_mode=mode, dataset=folder)
        assert vector.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
        assert vector.spec.id == env_id
        observations, infos = vector.reset(seed=0)
        assert vector.observation_space.contains(observations)
        assert list(infos["stage"]) == [vector.spec.kwargs["stage"]] * 2
        vector.action_space.seed(0)
        observations, rewards, *_ = vector.step(vector.action_space.sample())
        assert vector.observation_space.contains(observations)
        assert rewards.dtype == np.float64 and rewards.shape == (2,)
        vector.close()


def test_our_own_vector_is_what_make_vec_makes(folder):
    vector = gym.make_vec("DiG-v0", num_envs=2, dataset=folder)
    assert isinstance(vector, DiGVectorEnv)
    vector.close()


@pytest.mark.parametrize("mode", MODES)
def test_a_curriculum_plays_the_same_stages_on_every_vector(folder, mode):
    curriculum = dig_env.RandomCurriculum(seed=4)
    vector = dig_env.VectorCurriculumWrapper(make(mode, folder, stage="single"), curriculum)
    played = [vector.reset(seed=0)[1]["stage"].tolist()]
    for _ in range(6):
        played.append(vector.step(("[]",) * 3)[-1]["stage"].tolist())
    alike = dig_env.RandomCurriculum(seed=4)
    chosen = [[alike.choose() for _ in range(3)] for _ in range(4)]
    assert played == [stages for stages in chosen for _ in (0, 1)][:7]
    assert len({stage for stages in played for stage in stages}) == 3
    vector.close()


@pytest.mark.parametrize("mode", MODES)
def test_attributes_are_read_set_and_called_by_environment(folder, mode):
    vector = make(mode, folder)
    vector.set_attr("stage", ["single", "dual", "mixed"])
    assert tuple(vector.get_attr("stage")) == ("single", "dual", "mixed")
    assert list(vector.reset(seed=0)[1]["stage"]) == ["single", "dual", "mixed"]
    vector.set_attr("stage", "dual")
    assert tuple(vector.call("has_wrapper_attr", "stage")) == (True,) * 3
    assert list(vector.reset()[1]["stage"]) == ["dual"] * 3
    vector.close()


class NotedPairs(StoredPairs):
    """Stored pairs that note in which order they are asked for."""

    prefetch_count = 3

    def __init__(self, folder):
        super().__init__(folder, "train")
        self.asked = []

    def submit(self, pair_seed, difficulty):
        self.asked.append((pair_seed, difficulty.differences))
        return super().submit(pair_seed, difficulty)


def test_pairs_to_show_are_asked_for_before_any_pair_ahead(folder):
    """And no more of those than the source finds worth it, however many environments share it."""
    pairs = NotedPairs(folder)
    vector = DiGVectorEnv(3, dataset=pairs)
    _, infos = vector.reset(seed=1)
    assert [pair_seed for pair_seed, _ in pairs.asked[:3]] == list(infos["pair_seed"])
    assert len(pairs.asked) == 2 * 3
    vector.step(("[]",) * 3)
    pairs.asked.clear()
    vector.set_attr("stage", "dual")  # all that was rendered ahead is of no use
    *_, infos = vector.step(("[]",) * 3)
    assert [pair_seed for pair_seed, _ in pairs.asked[:3]] == list(infos["pair_seed"])
    assert {differences for _, differences in pairs.asked} == {(2, 2)}
    vector.close()


def test_live_pairs_are_the_same_from_one_renderer_as_from_one_for_each_environment():
    own, sync = (
        gym.make_vec("DiG-v0", 2, vectorization_mode=mode, stage="mixed", **TINY)
        for mode in ("vector_entry_point", "sync")
    )
    assert [len({id(env.unwrapped.pairs.source) for env in vec.envs}) for vec in (own, sync)] == [
        1,
        2,
    ]
    assert_same(play(own, steps=3), play(sync, steps=3))


def test_a_live_vector_renders_every_environments_next_pair_ahead():
    vector = DiGVectorEnv(2, stage="dual", **TINY)
    vector.reset(seed=5)
    ahead = [dict(env.pairs._ahead) for env in vector.envs]
    assert [len(futures) for futures in ahead] == [1, 1]
    wait([future for futures in ahead for future in futures.values()], timeout=60)
    # Without its worker the vector can still show what was rendered ahead.
    vector.envs[0].pairs.source.close()
    for env in vector.envs:
        env.pairs.prefetch_count = 0
    vector.step(("[]", "[]"))
    *_, infos = vector.step(("[]", "[]"))
    assert list(infos["pair_seed"]) == [seed for futures in ahead for seed, _ in futures]
    vector.close()


@pytest.mark.parametrize("mode", MODES)
def test_a_vector_is_made_again_from_its_specification(folder, mode):
    vector = gym.make_vec("DiG-v0", 2, vectorization_mode=mode, stage="mixed", dataset=folder)
    text = vector.spec.to_json()
    assert json.loads(text)["kwargs"]["num_envs"] == 2
    expected = play(vector, steps=2)
    for spec in (EnvSpec.from_json(text), pickle.loads(pickle.dumps(vector.spec))):
        again = gym.make_vec(spec)
        assert type(again) is type(vector)
        assert_same(play(again, steps=2), expected)


def test_a_pickled_vector_starts_anew(folder):
    vector = make("vector_entry_point", folder, autoreset="SameStep")
    vector.reset()
    again = pickle.loads(pickle.dumps(vector))
    assert_same(play(again), play(vector))


@pytest.mark.parametrize("mode", MODES)
def test_closing_twice(folder, mode):
    for used in (False, True):
        vector = make(mode, folder)
        if used:
            vector.reset(seed=0)
        vector.close()
        vector.close()


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"num_envs": 0}, ValueError, "num_envs=0"),
        ({"num_envs": "2"}, ValueError, "num_envs='2'"),
        ({"autoreset_mode": "never"}, ValueError, "never"),
        ({"stage": "triple"}, ValueError, "single, dual, mixed"),
        ({"pool": 3}, TypeError, "pool"),
    ],
)
def test_bad_arguments_say_what_is_allowed(folder, kwargs, error, message):
    with pytest.raises(error, match=message):
        DiGVectorEnv(**{"dataset": folder, **kwargs})


WRONG_ACTIONS = {
    "one text for all": ("[[0, 0, 9, 9]]", TypeError, "are one str: give a list of 3 texts"),
    "as many letters as environments": ("[ ]", TypeError, "are one str"),
    "bytes": (b"[ ]", TypeError, "are one bytes"),
    "none": (None, TypeError, "are one NoneType"),
    "a dictionary": ({0: "[]", 1: "[]", 2: "[]"}, TypeError, "are one dict"),
    "too few": (["[]"] * 2, ValueError, "2 answers for 3 environments: give a list of 3 texts"),
    "too many": (("[]",) * 4, ValueError, "4 answers for 3 environments"),
    "one in an array": (np.array("[]"), ValueError, "1 answers for 3 environments"),
    "boxes among them": (["[]", [[0, 0, 9, 9]], "[]"], TypeError, "answer 1 is a list, no text"),
    "a missing one": (["[]", "[]", None], TypeError, "answer 2 is a NoneType, no text"),
    "numbers": (np.zeros((3, 4), np.float32), TypeError, "answer 0 is a ndarray, no text"),
}


@pytest.mark.parametrize(
    ("env_id", "mode"),
    [*(("DiG-v0", mode) for mode in MODES), ("DiG-Zoom-v0", "sync"), ("DiG-Align-v0", "sync")],
)
def test_a_vector_takes_one_text_for_each_environment_and_refuses_all_else(folder, env_id, mode):
    """Before any environment takes a step: the right answers still count after all refusals."""
    vector = gym.make_vec(env_id, 3, vectorization_mode=mode, stage="mixed", dataset=folder)
    vector.reset(seed=0)
    for actions, error, message in WRONG_ACTIONS.values():
        with pytest.raises(error, match=message):
            vector.step(actions)
    right = ["[[0, 0, 999, 999]]"] * 3
    for actions in (right, tuple(right), np.array(right), iter(right)):
        vector.step(actions)
    vector.reset(seed=0)
    assert vector.step(right)[2].all()
    samples = vector.action_space.sample()
    assert samples in vector.action_space and len(set(samples)) == 3
    vector.close()


def test_a_reset_that_is_refused_is_refused_as_gymnasium_does(folder):
    for mode in ("sync", "vector_entry_point"):
        vector = make(mode, folder, autoreset="Disabled")
        for seed, options, error, message in (
            ([1, 2], None, ValueError, "num_envs=3"),
            (0, {"reset_mask": [True, True, True]}, TypeError, "numpy array"),
            (0, {"reset_mask": np.zeros(3, bool)}, ValueError, "at least one"),
            (0, {"stage": "duel"}, ValueError, "unknown stage"),
            (0, {"mask": np.ones(3, bool)}, ValueError, "unknown reset option 'mask'"),
        ):
            with pytest.raises(error, match=message):
                vector.reset(seed=seed, options=options)
        vector.close()


class Word(gym.Env):
    """Shows a word in a ``Text`` space of Gymnasium's own."""

    observation_space = gym.spaces.Text(5)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return "hello", {}


@pytest.mark.xfail(strict=True, reason="Gymnasium 1.4 decodes a Text once, before it is written")
def test_gymnasiums_texts_arrive_through_shared_memory():
    """When this passes, ``FixedTexts`` need no longer look texts up when they are read."""
    vector = AsyncVectorEnv([Word], shared_memory=True)
    try:
        assert vector.reset()[0] == ("hello",)
    finally:
        vector.close()


def test_the_prompts_space_holds_the_prompts_alone(folder):
    env = gym.make("DiG-v0", dataset=folder)
    space = env.observation_space["prompt"]
    prompt = env.reset(seed=0)[0]["prompt"]
    assert isinstance(space, gym.spaces.Text) and isinstance(space, FixedTexts)
    assert prompt in space and prompt[:-1] not in space and 3 not in space
    assert space.sample() in space.texts and prompt == space.texts[0]
    assert pickle.loads(pickle.dumps(space)) == space != FixedTexts(["Find it."])
    flat = gym.spaces.flatten(space, prompt)
    assert gym.spaces.flatten_space(space).contains(flat)
    assert gym.spaces.unflatten(space, flat) == prompt
    env.close()
