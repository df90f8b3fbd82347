"""The numeric view: arrays in, numbers out, and the very reward that the text answer earns."""

import json
import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from hypothesis import given
from hypothesis import strategies as st
from small import SMALL, SMALL_ENV
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env

import dig_env
from dig_env import NumericVectorView, NumericView
from dig_env.scenes import render_dataset
from dig_env.wrappers.numeric_format import SMALLEST_SIDE

VIEWS = {
    "one box": {},
    "bins": {"bins": 32},
    "three boxes": {"max_boxes": 3},
    "three boxes in bins": {"max_boxes": 3, "bins": 32},
    "dictionary": {"stack": False},
    "channels last, resized, two images": {
        "channel_first": False,
        "shape": (48, 64),
        "difference": False,
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs")
    render_dataset(path, {"single": 6, "dual": 3}, "train", SMALL, workers=1)
    return path


def made(folder, stage="single", coordinates="norm1000", **view):
    env = gym.make("DiG-v0", dataset=folder, stage=stage, coordinates=coordinates)
    return NumericView(env, **view)


def inside(draw_unit, least=SMALLEST_SIDE):
    """Boxes within the image whose sides are at least ``least``."""
    side = st.floats(least, 1.0)
    return st.tuples(side, side, draw_unit, draw_unit).map(
        lambda box: (
            box[2] * (1 - box[0]),
            box[3] * (1 - box[1]),
            box[2] * (1 - box[0]) + box[0],
            box[3] * (1 - box[1]) + box[1],
        )
    )


BOX = inside(st.floats(0.0, 1.0))
# Corners are rounded to whole thousandths, float32 actions before.
ROUNDING = 0.5e-3 + 1e-6


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_stable_baselines_checker_has_nothing_to_say(folder, view):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = made(folder, **view)
        check_env(env)
        env.close()


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_ppo_takes_a_step(folder, view):
    env = made(folder, **({"shape": (48, 64)} | view))
    policy = "CnnPolicy" if view.get("stack", True) else "MultiInputPolicy"
    model = PPO(policy, env, n_steps=4, batch_size=4, n_epochs=1, device="cpu").learn(4)
    assert model.num_timesteps == 4
    env.close()


def test_it_runs_on_fresh_pairs():
    env = NumericView(gym.make("DiG-v0", **SMALL_ENV))
    env.reset(seed=0)
    truth = env.unwrapped.pair.boxes_unit
    assert env.step(env.encode(truth))[4]["f1"] == 1.0
    env.close()


def test_images_and_their_difference_are_the_channels(folder):
    env = made(folder)
    observation, info = env.reset(seed=1)
    pair = env.unwrapped.pair
    image_a, image_b = pair.image_a.astype(int), pair.image_b.astype(int)
    assert observation.shape == (7, 96, 128) and observation.dtype == np.uint8
    np.testing.assert_array_equal(observation[:3].transpose(1, 2, 0), image_a)
    np.testing.assert_array_equal(observation[3:6].transpose(1, 2, 0), image_b)
    np.testing.assert_array_equal(observation[6], np.abs(image_a - image_b).max(axis=2))
    assert set(info) == {"pair_seed", "stage"}
    env.close()


def test_a_dictionary_and_the_other_order_of_axes_hold_the_same(folder):
    stacked, _ = made(folder).reset(seed=1)
    last, _ = made(folder, channel_first=False).reset(seed=1)
    parts, _ = made(folder, stack=False).reset(seed=1)
    np.testing.assert_array_equal(last.transpose(2, 0, 1), stacked)
    assert list(parts) == ["image_a", "image_b", "difference"]
    np.testing.assert_array_equal(np.concatenate(list(parts.values())), stacked)


def test_resizing_takes_the_mean_over_each_pixels_area(folder):
    full = made(folder).reset(seed=1)[0].astype(float)
    half, _ = made(folder, shape=(48, 64)).reset(seed=1)
    means = full.reshape(7, 48, 2, 64, 2).mean(axis=(2, 4))
    # Rounded to a whole number once an axis.
    assert np.abs(half - means).max() <= 1.0
    odd, _ = made(folder, shape=(50, 70)).reset(seed=1)
    assert odd.shape == (7, 50, 70)


def test_the_answered_pair_is_what_step_shows(folder):
    env = made(folder, shape=(48, 64))
    before, _ = env.reset(seed=2)
    after, _, terminated, _, _ = env.step(env.action_space.sample())
    assert terminated
    np.testing.assert_array_equal(before, after)


def test_no_truth_is_seen_before_the_answer(folder):
    """What a view shows is a function of the two images that the environment shows."""
    env = made(folder, shape=(48, 64))
    observation, _ = env.reset(seed=3)
    shown = {"image_a": env.unwrapped.pair.image_a, "image_b": env.unwrapped.pair.image_b}
    np.testing.assert_array_equal(observation, env.observation(shown))


@pytest.mark.parametrize("coordinates", dig_env.COORDINATES)
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_an_action_earns_what_its_text_earns(folder, coordinates, view):
    env = made(folder, "dual", coordinates, **view)
    env.action_space.seed(0)
    for seed in range(5):
        action = env.action_space.sample()
        env.reset(seed=seed)
        _, reward, _, _, info = env.step(action)
        env.unwrapped.reset(seed=seed)
        _, same, _, _, same_info = env.unwrapped.step(env.answer(action))
        assert type(reward) is float and (reward, info) == (same, same_info)
    env.close()


@pytest.mark.parametrize("coordinates", dig_env.COORDINATES)
def test_the_true_boxes_encoded_earn_everything_in_every_frame(folder, coordinates):
    env = made(folder, "dual", coordinates, max_boxes=4)
    env.reset(seed=0)
    _, reward, _, _, info = env.step(env.encode(env.unwrapped.pair.boxes_unit))
    assert info["f1"] == 1.0 and reward > 0.95
    env.close()


@given(BOX)
def test_a_box_survives_encoding_and_text(one_box, box):
    read = dig_env.parse_boxes(one_box.answer(one_box.encode([box])))
    assert read.ok
    np.testing.assert_allclose(read.boxes, [box], atol=ROUNDING)


@given(st.lists(BOX, max_size=3))
def test_several_boxes_and_none_survive_encoding_and_text(three_boxes, boxes):
    action = three_boxes.encode(boxes)
    assert three_boxes.action_space.contains(action)
    read = dig_env.parse_boxes(three_boxes.answer(action))
    assert read.ok or (read.empty and not boxes)
    np.testing.assert_allclose(read.boxes, np.reshape(boxes, (-1, 4)), atol=ROUNDING)


@given(BOX)
def test_bins_round_a_box_to_half_a_bin(binned, box):
    action = binned.encode([box])
    assert binned.action_space.contains(action)
    read = dig_env.parse_boxes(binned.answer(action)).boxes[0]
    # 65 bins: a centre is off by at most 1/128, a side by a factor of at most 64 ** (1/128).
    center, side = 0.5 / 64, (64 ** (0.5 / 64) - 1) / 2
    assert np.abs(read - box).max() <= center + side + 0.5e-3


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=4, max_size=4))
def test_every_finite_action_is_a_valid_box(one_box, numbers):
    assert dig_env.parse_boxes(one_box.answer(np.array(numbers, dtype=np.float32))).ok


def test_numbers_mean_what_the_docstring_says(one_box):
    assert one_box.answer([0.0, 0.0, 0.0, 0.0]) == "[[438, 438, 562, 562]]"
    assert one_box.answer([0.0, 0.0, 1.0, 1.0]) == "[[0, 0, 1000, 1000]]"
    assert one_box.answer([-1.0, 1.0, 1.0, 0.0]) == "[[0, 938, 500, 1000]]"


def test_only_boxes_with_a_presence_are_answered(three_boxes):
    boxes = [[0.0, 0.0, 0.25, 0.25], [0.5, 0.5, 0.75, 0.75], [0.25, 0.25, 0.5, 0.5]]
    action = three_boxes.encode(boxes).reshape(3, 5)
    action[1, 4] = 0.0
    expected = dig_env.format_boxes([boxes[0], boxes[2]])
    assert three_boxes.answer(action.ravel()) == expected


def test_in_a_vector_of_environments(folder):
    vector = gym.make_vec(
        "DiG-v0",
        num_envs=2,
        vectorization_mode="async",
        wrappers=[lambda env: NumericView(env, shape=(48, 64))],
        dataset=folder,
    )
    observations, _ = vector.reset(seed=0)
    assert observations.shape == (2, 7, 48, 64)
    _, rewards, terminations, _, _ = vector.step(np.zeros((2, 4), np.float32))
    assert terminations.all() and ((rewards >= 0.1) & (rewards <= 1.0)).all()
    vector.close()


@pytest.mark.parametrize("autoreset", ["NextStep", "SameStep", "Disabled"])
@pytest.mark.parametrize("mode", ["sync", "async", "vector_entry_point"])
def test_the_view_of_a_vector_is_the_vector_of_views(folder, mode, autoreset):
    """Whatever carries the data: Gymnasium's loop over views is the oracle."""
    view = {"shape": (24, 32), "stack": mode != "async", "max_boxes": 2}
    mode_of = {"autoreset_mode": autoreset}
    options = mode_of if mode == "vector_entry_point" else {"vector_kwargs": mode_of}
    vector = gym.make_vec("DiG-v0", 3, vectorization_mode=mode, dataset=folder, **options)
    views = gym.make_vec(
        "DiG-v0",
        3,
        vectorization_mode="sync",
        dataset=folder,
        wrappers=[lambda env: NumericView(env, **view)],
        vector_kwargs=mode_of,
    )
    handed = []
    for envs in (NumericVectorView(vector, **view), views):
        assert envs.observation_space == views.observation_space
        assert envs.action_space == views.action_space
        assert envs.single_action_space == views.single_action_space
        envs.action_space.seed(3)
        played = [envs.reset(seed=5)]
        for _ in range(4):
            actions = envs.action_space.sample()
            played.append(envs.step(actions))
            assert envs.observation_space.contains(played[-1][0])
            if autoreset == "Disabled":
                played.append(envs.reset(options={"reset_mask": np.ones(3, dtype=bool)}))
        handed.append(played)
        envs.close()
    assert data_equivalence(*handed, exact=True)


def test_views_of_a_vector_on_fresh_pairs_share_one_blender():
    envs = NumericVectorView(gym.make_vec("DiG-v0", 3, **SMALL_ENV))
    envs.reset(seed=0)
    pairs = [env.pair for env in envs.unwrapped.envs]
    actions = np.stack([envs.encode(pair.boxes_unit) for pair in pairs])
    _, rewards, terminations, _, infos = envs.step(actions)
    assert (infos["f1"] == 1.0).all() and (rewards > 0.8).all() and terminations.all()
    (source,) = {id(env.pairs.source): env.pairs.source for env in envs.unwrapped.envs}.values()
    assert len(source._renderer.worker_pids) == 1
    envs.close()


WRONG_ARRAYS = {
    "too few": (np.zeros((1, 4)), r"of shape \(1, 4\); give \(2, 4\): for each of 2 environments"),
    "too many": (np.zeros((3, 4)), r"of shape \(3, 4\)"),
    "one for all": (np.zeros(4), r"of shape \(4,\)"),
    "of another length": (np.zeros((2, 5)), r"of shape \(2, 5\)"),
    "ragged": ([[0.0] * 4, [0.0] * 3], "no finite numbers"),
    "texts": (["[]", "[]"], "no finite numbers"),
    "one text": ("[]", "no finite numbers"),
    "nan": (np.full((2, 4), np.nan), "no finite numbers"),
    "none": (None, "no finite numbers"),
}


@pytest.mark.parametrize("wrong", WRONG_ARRAYS)
def test_a_view_of_a_vector_refuses_what_is_not_an_action_for_each(folder, wrong):
    actions, message = WRONG_ARRAYS[wrong]
    envs = NumericVectorView(gym.make_vec("DiG-v0", 2, dataset=folder))
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        envs.step(actions)
    assert envs.step(np.zeros((2, 4)))[2].all()  # no environment has lost its turn
    envs.close()


def test_its_specification_pickles_and_makes_it_again(folder):
    env = made(str(folder), shape=(48, 64), max_boxes=2)
    env.reset(seed=4)
    json.loads(env.spec.to_json())
    again = gym.make(pickle.loads(pickle.dumps(env.spec)))
    assert isinstance(again, NumericView)
    assert (again.observation_space, again.action_space) == (
        env.observation_space,
        env.action_space,
    )
    np.testing.assert_array_equal(again.reset(seed=4)[0], env.reset(seed=4)[0])


@pytest.mark.parametrize(
    ("view", "message"),
    [
        ({"shape": (48,)}, "height, width"),
        ({"shape": (0, 64)}, "shape.0.=0"),
        ({"shape": (48.0, 64)}, "whole number"),
        ({"max_boxes": 0}, "max_boxes=0: give a whole number, 1 or more"),
        ({"bins": 1}, "bins=1: give a whole number, 2 or more"),
    ],
)
def test_bad_arguments_say_what_is_allowed(folder, view, message):
    with pytest.raises(ValueError, match=message):
        made(folder, **view)


def test_it_wraps_an_environment_with_answers_in_text_only():
    with pytest.raises(TypeError, match="wraps environments of dig_env"):
        NumericView(gym.make("CartPole-v1"))


@pytest.mark.parametrize("action", [[0.0] * 5, [np.nan] * 4, [[0.0] * 4], None, "[]", [[0.0], 1]])
def test_an_action_of_another_shape_or_not_finite_is_refused(one_box, action):
    with pytest.raises(ValueError, match=r"give a finite one of Box\(-1"):
        one_box.answer(action)


@pytest.mark.parametrize("boxes", [[], [[0.0, 0.0, 0.5, 0.5]] * 2])
def test_a_number_of_boxes_that_no_action_stands_for_is_refused(one_box, boxes):
    with pytest.raises(ValueError, match="set max_boxes"):
        one_box.encode(boxes)


@pytest.fixture(scope="module")
def one_box(folder):
    return made(folder)


@pytest.fixture(scope="module")
def three_boxes(folder):
    return made(folder, max_boxes=3)


@pytest.fixture(scope="module")
def binned(folder):
    return made(folder, bins=65)
