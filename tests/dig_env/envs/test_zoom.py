"""DiG-Zoom-v0: what a request is, what it shows, and what it costs."""

import json
import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from zooms import ANSWER, ASK, ASK_B, HEIGHT, SIZE, TINY, WIDTH, make, tool_call

import dig_env
from dig_env.envs.zoom import MAX_FACTOR, ZoomRegion, read_request, zoom_message
from dig_env.scenes import render_dataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("zoom") / "pairs"
    render_dataset(path, {"dual": 4}, "train", TINY, workers=1)
    return path


@pytest.fixture
def env(folder):
    made = make(folder, turns=3, turn_cost=0.05)
    yield made
    made.close()


# What a text is.


@pytest.mark.parametrize(
    "text",
    [
        ASK,
        "I will look closer: " + ASK,
        ASK + "\n",
        f"```\n{ASK}\n```",
        "<think>[[1, 2, 3, 4]]</think>" + ASK,
        ANSWER + " may be it, but " + ASK,
        "zoom(a,[500,500,750,750]).",
        "zoom('A', [500.0, 500.0, 750.0, 750.0])",
        'zoom(image="A", bbox_2d=[500, 500, 750, 750])',
        tool_call(),
        "Closer.\n" + tool_call(),
    ],
)
def test_a_text_that_ends_in_a_request_is_that_request(text):
    request = read_request(text, "norm1000", SIZE)
    assert (request.image, request.error) == ("A", "")
    assert request.region.box.tolist() == [0.5, 0.5, 0.75, 0.75]


@pytest.mark.parametrize(
    "text",
    [
        "",
        ANSWER,
        f"{ASK} showed it: {ANSWER}",
        f"{tool_call()} showed it: <answer>{ANSWER}</answer>",
        f"<think>{ASK}</think>{ANSWER}",
        f"<think>{ASK}",
        f"<think>{tool_call()}",
        f"{ASK} was of no use (really)",
        tool_call()[: -len("</tool_call>")],
        "The cube (left)",
    ],
)
def test_any_other_text_is_an_answer(text):
    assert read_request(text, "norm1000", SIZE) is None


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("zoom(C, [1, 2, 3, 4])", "zoom"),
        ("zoom(A)", "zoom"),
        ("zoom(A, [1, 2, 3])", "four numbers"),
        ("zoom(A, [9, 9, 9, 9])", "no area"),
        ("zoom(A, [0, 0, 1e999, 9])", "finite"),
        ("zoom(A, [0, 0, " + "9" * 900 + ", 9])", "finite"),
        ("zoom(A, [[1, 2, 3, 4], [1, 2, 3, 4]])", "zoom"),
        ("zoom(A, [1, 2, 3, 4" + " " * 1000 + "])", "1000"),
        ("<tool_call>{</tool_call>", "zoom"),
        ("<tool_call>[]</tool_call>", "zoom"),
        ("<tool_call>" + "[" * 900 + "</tool_call>", "zoom"),
        (tool_call(name="crop"), "zoom"),
        (tool_call(arguments=[1]), "zoom"),
        (tool_call(arguments={"image": "C", "bbox_2d": [1, 2, 3, 4]}), '"A" or "B"'),
        (tool_call(arguments={"image": 1, "bbox_2d": [1, 2, 3, 4]}), '"A" or "B"'),
        (tool_call(arguments={"image": "A", "bbox_2d": "all"}), "four numbers"),
        (tool_call(arguments={"image": "A", "bbox_2d": [0, 0, float("nan"), 1]}), "finite"),
        (tool_call(arguments={"image": "A"}), "four numbers"),
    ],
)
def test_a_request_that_cannot_be_granted_says_why(text, error):
    request = read_request(text, "norm1000", SIZE)
    assert request.region is None
    assert error in request.error


@pytest.mark.parametrize("coordinates", dig_env.COORDINATES)
def test_a_request_is_in_the_frame_of_the_answer(coordinates):
    text = dig_env.format_boxes([[0.5, 0.5, 0.75, 0.75]], coordinates, SIZE, exact=True)
    request = read_request(f"zoom(B, {text[1:-1]})", coordinates, SIZE)
    assert request.region.box.tolist() == [0.5, 0.5, 0.75, 0.75]


def test_a_request_is_worth_nothing_as_an_answer():
    for text in (ASK, tool_call()):
        assert dig_env.score(text, [[0.5, 0.5, 0.75, 0.75]]).total == 0.0


# What a zoom shows.


def test_a_region_is_the_most_enlarged_window_that_holds_the_box():
    rng = np.random.default_rng(0)
    for _ in range(300):
        low, high = np.sort(rng.uniform(0, 1, (2, 2)), axis=0)
        region = ZoomRegion.around(np.concatenate([low, high]), SIZE)
        fits = [k for k in range(1, MAX_FACTOR + 1) if k * (high - low).max() <= 1]
        assert region.factor == fits[-1]
        box_px, half = region.box * (SIZE * 2) * region.factor, 0.5 + 1e-9
        assert region.box.min() >= 0 and region.box.max() <= 1
        np.testing.assert_allclose(box_px[2:] - box_px[:2], SIZE)
        np.testing.assert_allclose(box_px, np.rint(box_px))
        # To half a pixel of the enlarged image, the grid on which windows lie.
        asked = np.concatenate([low, high]) * (SIZE * 2) * region.factor
        assert (box_px[:2] <= asked[:2] + half).all() and (box_px[2:] >= asked[2:] - half).all()


@pytest.mark.parametrize("box", [(0.2, 0.8), (0.1, 0.3), (0.4, 0.6), (0.6, 0.8), (0.3, 0.4)])
def test_decimals_fit_as_often_as_on_paper(box):
    low, high = box
    factor = ZoomRegion.around(np.array([low, low, high, high]), SIZE).factor
    assert factor == min(MAX_FACTOR, int(1 / round(high - low, 6)))


def test_a_zoom_shows_the_pixels_of_its_region():
    """A bicubic enlargement of a ramp is the ramp: every pixel says where it comes from."""
    ramp = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    ramp[..., 0] = 3 * np.arange(WIDTH)
    ramp[..., 1] = 4 * np.arange(HEIGHT)[:, None]
    for box in ([0.5, 0.5, 0.75, 0.75], [0.11, 0.4, 0.3, 0.5], [0.3, 0.3, 0.35, 0.33]):
        region = ZoomRegion.around(np.array(box), SIZE)
        shown = region.resampled(ramp)
        x, y = (
            (corner + np.arange(side) + 0.5) / region.factor - 0.5
            for corner, side in zip(region.corner, SIZE, strict=True)
        )
        assert shown.shape == ramp.shape
        np.testing.assert_allclose(shown[0, :, 0], 3 * x, atol=1)
        np.testing.assert_allclose(shown[:, 0, 1], 4 * y, atol=1)


def test_an_enlargement_by_one_is_the_image(env):
    env.reset(seed=0)
    observation = env.step("zoom(B, [100, 100, 800, 300])")[0]
    np.testing.assert_array_equal(observation["zoom"], observation["image_b"])
    assert observation["region"].tolist() == [0, 0, 1, 1]


def test_a_request_is_shown_the_image_that_it_names(env):
    first, _ = env.reset(seed=0)
    assert not first["zoom"].any() and not first["region"].any() and first["shown"] == 0
    for text, shown, image in ((ASK, 1, "image_a"), (ASK_B, 2, "image_b")):
        observation = env.step(text)[0]
        assert env.observation_space.contains(observation)
        assert observation["shown"] == shown
        region = ZoomRegion.around(observation["region"], SIZE)
        assert region.box.tolist() == [0.5, 0.5, 0.75, 0.75]
        np.testing.assert_array_equal(observation["zoom"], region.resampled(first[image]))
        np.testing.assert_array_equal(observation["image_a"], first["image_a"])


# The episode.


def test_the_message_names_region_image_and_turns(env):
    env.reset(seed=0)
    observation = env.step(ASK_B)[0]
    assert zoom_message(observation) == (
        "This is [500, 500, 750, 750] of image B, enlarged. 2 turns are left."
    )
    assert "[32, 24, 48, 36]" in zoom_message(observation, "pixel")
    observation = env.step("zoom(A)")[0]
    assert "could not be read" in zoom_message(observation)
    assert "last turn" in zoom_message(observation)


def test_gymnasiums_checker_has_nothing_to_say(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = make(folder, disable_env_checker=True)
        check_env(made.unwrapped)
        made.close()


@pytest.mark.parametrize(
    "text", [ANSWER, "truth", "[]", "Nothing.", "[[0, 0, 1000, 1000]]", ASK[5:]]
)
def test_an_answer_earns_what_it_earns_in_dig_v0(folder, env, text):
    plain = gym.make("DiG-v0", dataset=folder, stage="dual")
    plain.reset(seed=5)
    env.reset(seed=5)
    if text == "truth":
        text = dig_env.format_boxes(plain.unwrapped.pair.boxes_unit, exact=True)
    env.step(ASK)
    _, reward, terminated, truncated, info = env.step(text)
    assert (reward, terminated, truncated, info) == plain.step(text)[1:]
    plain.close()


def test_with_one_turn_it_is_dig_v0(folder):
    plain, made = gym.make("DiG-v0", dataset=folder, stage="dual"), make(folder, turns=1)
    assert plain.reset(seed=0)[0]["prompt"] == made.reset(seed=0)[0]["prompt"]
    plain.close()
    made.close()


def test_each_request_costs_its_turn_and_its_cost(env):
    assert env.reset(seed=0)[0]["turns_left"] == 3
    for left, text, error in ((2, ASK, ""), (1, "zoom(A)", "request")):
        observation, reward, terminated, truncated, info = env.step(text)
        assert (reward, terminated, truncated) == (-0.05, False, False)
        assert observation["turns_left"] == left
        assert observation["shown"] == (0 if error else 1)
        assert error in info["error"] and bool(error) == bool(info["error"])
    truth = dig_env.format_boxes(env.unwrapped.pair.boxes_unit, exact=True)
    observation, reward, terminated, truncated, _ = env.step(truth)
    assert reward == pytest.approx(1.0)
    assert (terminated, truncated, observation["turns_left"]) == (True, False, 0)


def test_a_request_in_the_last_turn_ends_the_episode_with_nothing(env):
    env.reset(seed=0)
    env.step(ASK)
    env.step(ASK)
    # A draft before the request does not count either.
    observation, reward, terminated, truncated, info = env.step(f"[[0, 0, 999, 999]] {ASK}")
    assert (reward, terminated, truncated) == (-0.05, False, True)
    assert not observation["zoom"].any()
    assert info["f1"] == info["format"] == 0.0 and "3 turns" in info["error"]
    assert len(info["truth"]) == 2
    with pytest.raises(gym.error.ResetNeeded, match="next"):
        env.step(ANSWER)


def test_nothing_before_the_answer_tells_the_truth(env):
    observation, info = env.reset(seed=0)
    assert set(info) == {"pair_seed", "stage"}
    prompts = {observation["prompt"]}
    observation, *_, info = env.step(ASK)
    assert set(info) == {"pair_seed", "stage", "error"}
    assert prompts == {observation["prompt"]}
    # What is shown follows from what was visible before.
    region = ZoomRegion.around(np.array([0.5, 0.5, 0.75, 0.75]), SIZE)
    np.testing.assert_array_equal(observation["zoom"], region.resampled(observation["image_a"]))


def test_an_action_that_is_no_text_takes_no_turn(env):
    with pytest.raises(gym.error.ResetNeeded):
        env.unwrapped.step(ASK)
    env.reset(seed=0)
    with pytest.raises(TypeError, match="str"):
        env.step(None)
    assert env.step(ASK)[0]["turns_left"] == 2


def test_a_reset_in_the_middle_begins_anew(env):
    first, _ = env.reset(seed=0)
    env.step(ASK)
    again, _ = env.reset(seed=0)
    assert all(np.array_equal(first[key], again[key]) for key in first)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"turns": 0}, "turns=0.*1 to 64"),
        ({"turns": 2.0}, "turns=2.0"),
        ({"turn_cost": -1}, "turn_cost=-1"),
        ({"turn_cost": float("inf")}, "turn_cost=inf"),
    ],
)
def test_bad_arguments_say_what_is_allowed(folder, settings, message):
    with pytest.raises(ValueError, match=message):
        make(folder, **settings)


@pytest.mark.parametrize("vector", ["sync", "shared", "unshared"])
def test_vectors_show_what_single_environments_show(folder, vector):
    mode, memory = (
        ("sync", {}) if vector == "sync" else ("async", {"shared_memory": vector == "shared"})
    )
    batch = gym.make_vec(
        "DiG-Zoom-v0",
        num_envs=2,
        vectorization_mode=mode,
        vector_kwargs=memory,
        dataset=folder,
        stage="dual",
    )
    single = make(folder)
    batch.reset(seed=[3, 4])
    observations, rewards, *_ = batch.step((ASK, ANSWER))
    for index, text in enumerate((ASK, ANSWER)):
        single.reset(seed=3 + index)
        expected, reward, *_ = single.step(text)
        assert reward == rewards[index]
        for key, value in expected.items():
            np.testing.assert_array_equal(observations[key][index], value)
    batch.close()
    single.close()


def test_a_pickled_copy_has_the_same_settings(env):
    copy = pickle.loads(pickle.dumps(env.unwrapped))
    assert copy.observation_space == env.observation_space
    copy.reset(seed=0)
    assert copy.step(ASK)[1] == -0.05
    copy.close()
    assert json.loads(env.spec.to_json())["kwargs"]["turns"] == 3


def test_wrappers_see_one_episode_of_several_steps(folder):
    curriculum = dig_env.Curriculum(stages=("dual",), window=5)
    made = dig_env.CurriculumWrapper(make(folder, turn_cost=0.05), curriculum)
    made = gym.wrappers.RecordEpisodeStatistics(made)
    made.reset(seed=0)
    made.step(ASK)
    truth = dig_env.format_boxes(made.unwrapped.pair.boxes_unit, exact=True)
    info = made.step(truth)[-1]
    assert info["episode"]["l"] == 2 and info["episode"]["r"] == pytest.approx(0.95)
    assert curriculum.episodes == 1
    made.close()
