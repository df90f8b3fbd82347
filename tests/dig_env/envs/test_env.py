"""DiG-v0 as a user meets it: Gymnasium's checks, the contract of reset and step, no truth early."""

import json
import pickle
import re
import string
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from small import SMALL_ENV

import dig_env
from dig_env.align.questions import write_answer
from dig_env.scenes import PAPER_STAGES, DifficultyError, pair_seed_range

IDS = ("DiG-v0", "DiG-Single-v0", "DiG-Dual-v0", "DiG-Mixed-v0")


@pytest.fixture(scope="module")
def env():
    made = gym.make("DiG-v0", stage="mixed", render_mode="rgb_array", **SMALL_ENV)
    yield made
    made.close()


@pytest.mark.parametrize("env_id", IDS)
def test_gymnasiums_checker_has_nothing_to_say(env_id, stored):
    """The checker makes four environments: one id renders for them, the others read."""
    size = {"width": 64, "height": 48}
    source = SMALL_ENV | size if env_id == "DiG-v0" else {"dataset": stored}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # A checked env is a bare one: wrappers are not what is checked.
        made = gym.make(env_id, disable_env_checker=True, **source)
        check_env(made.unwrapped)
        made.close()


@pytest.mark.parametrize(
    ("env_id", "stage"), list(zip(IDS, ("single", "single", "dual", "mixed"), strict=True))
)
def test_each_id_plays_its_stage(env_id, stage):
    made = gym.make(env_id, **SMALL_ENV)
    assert made.unwrapped.stage == stage
    assert json.loads(made.spec.to_json())["kwargs"]["stage"] == stage
    made.close()


def test_an_episode_is_one_question_and_one_answer(env):
    observation, info = env.reset(seed=7)
    assert observation["image_a"].shape == observation["image_b"].shape == (96, 128, 3)
    assert env.observation_space.contains(observation)
    assert set(info) == {"pair_seed", "stage"}
    truth = env.unwrapped.pair.boxes_unit
    answer = dig_env.format_boxes(truth, exact=True)
    _, reward, terminated, truncated, info = env.step(answer)
    assert (terminated, truncated) == (True, False)
    assert reward == pytest.approx(1.0)
    for part in ("format", "f1", "iou", "precision", "recall"):
        assert isinstance(info[part], float) and info[part] == pytest.approx(1.0)
    assert info["error"] == ""
    boxes_px = np.array([diff["box"] for diff in info["truth"]])
    np.testing.assert_allclose(boxes_px / (128, 96, 128, 96), truth)


def test_same_seed_same_episodes_and_a_pair_seed_replays_one(env):
    first, info = env.reset(seed=7)
    second, _ = env.reset()
    again, _ = env.reset(seed=7)
    np.testing.assert_array_equal(first["image_b"], again["image_b"])
    replay, replayed = env.reset(options={"pair_seed": info["pair_seed"]})
    np.testing.assert_array_equal(first["image_a"], replay["image_a"])
    assert replayed == info
    env.reset(seed=7)
    env.reset(options={"pair_seed": 5})
    third, _ = env.reset()
    env.reset(seed=7)
    env.reset()
    without_replay, _ = env.reset()
    np.testing.assert_array_equal(third["image_a"], without_replay["image_a"])
    assert not np.array_equal(first["image_a"], second["image_a"])


def test_the_stage_option_holds_for_one_episode(env):
    for stage, (low, high) in {"single": (1, 1), "dual": (2, 2)}.items():
        _, info = env.reset(options={"stage": stage})
        assert info["stage"] == stage
        assert low <= len(env.unwrapped.pair.differences) <= high
    _, info = env.reset()
    assert info["stage"] == "mixed"


def test_a_difficulty_of_ones_own():
    stage = {"differences": (2, 3), "objects": (4, 5), "changes": ["color"]}
    made = gym.make("DiG-v0", stage=stage, **SMALL_ENV)
    _, info = made.reset(seed=0)
    assert info["stage"] == "custom"
    assert {diff.change for diff in made.unwrapped.pair.differences} == {"color"}
    made.close()


def test_splits_are_drawn_from_their_own_seeds():
    for split in ("train", "test"):
        made = gym.make("DiG-v0", split=split, **SMALL_ENV)
        seeds = [made.reset(seed=seed)[1]["pair_seed"] for seed in range(3)]
        assert all(seed in pair_seed_range(split) for seed in seeds)
        made.close()


def test_nothing_before_the_answer_tells_the_truth(env):
    """Same scene, other truth: everything but the images must be the same."""
    prompts, infos, frames = set(), set(), []
    for stage in PAPER_STAGES:
        observation, info = env.reset(options={"stage": stage, "pair_seed": 3})
        prompts.add(observation["prompt"])
        infos.add(tuple(sorted(info)))
        frames.append((env.render(), observation))
    assert len(prompts) == 1 and infos == {("pair_seed", "stage")}
    assert not re.search(r"\d", next(iter(prompts)).replace("1000", "").replace("0 to", ""))
    for frame, observation in frames:
        half = np.kron(observation["image_a"], np.ones((3, 3, 1), np.uint8))
        np.testing.assert_array_equal(frame[:, : half.shape[1]], half)


def test_rendering_draws_true_and_answered_boxes_after_the_answer(env):
    env.reset(seed=1)
    blank = env.render()
    env.step("[[0, 0, 500, 500]]")
    drawn = env.render()
    assert drawn.shape == blank.shape and drawn.dtype == np.uint8
    colors = {tuple(pixel) for pixel in drawn.reshape(-1, 3)}
    assert {dig_env.drawing.TRUE_COLOR, dig_env.drawing.ANSWERED_COLOR} <= colors


@pytest.mark.parametrize("coordinates", dig_env.COORDINATES)
def test_every_coordinate_frame_has_its_prompt_and_is_scored(coordinates, stored):
    made = gym.make("DiG-v0", coordinates=coordinates, dataset=stored)
    observation, _ = made.reset(seed=2)
    assert set(observation["prompt"]) <= set(string.printable)
    truth = made.unwrapped.pair.boxes_unit
    answer = dig_env.format_boxes(truth, coordinates, (128, 96), exact=True)
    assert made.step(answer)[1] == pytest.approx(1.0)
    made.close()


def test_random_text_earns_nothing(env):
    env.action_space.seed(0)
    for _ in range(10):
        env.reset()
        _, reward, _, _, info = env.step(env.action_space.sample())
        assert reward == info["f1"] == 0.0
        assert info["error"]


def test_reward_settings_reach_the_score(stored):
    made = gym.make("DiG-v0", reward={"format_weight": 0.4}, dataset=stored)
    made.reset(seed=0)
    # A box in the far corner overlaps nothing: only the format is paid.
    assert made.step("[[990, 990, 1000, 1000]]")[1] == pytest.approx(0.4)
    made.close()


def test_step_needs_a_reset_first_and_a_fresh_one_after_each_answer(stored):
    made = gym.make("DiG-v0", dataset=stored)
    for subject in (made, made.unwrapped):
        with pytest.raises(gym.error.ResetNeeded):
            subject.step("[]")
    made.reset(seed=0)
    made.step("[]")
    with pytest.raises(gym.error.ResetNeeded, match="next"):
        made.step("[]")
    made.close()


@pytest.mark.parametrize("action", [None, 3, [[1, 2, 3, 4]], b"[[1,2,3,4]]"])
def test_an_action_that_is_no_text_is_refused_and_may_be_tried_again(env, action):
    env.reset(seed=0)
    with pytest.raises(TypeError, match="str"):
        env.step(action)
    assert env.step("[]")[2] is True


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"stage": "triple"}, DifficultyError, "single, dual, mixed"),
        ({"stage": {"differences": (9, 9)}}, DifficultyError, "object of its own"),
        ({"width": 0}, ValueError, "width"),
        ({"height": -96}, ValueError, "height"),
        ({"quality": "ultra"}, ValueError, "draft, standard, high"),
        ({"workers": 0}, ValueError, "workers"),
        ({"coordinates": "percent"}, ValueError, "norm1000"),
        ({"split": "dev"}, ValueError, "train, validation, test"),
        ({"reward": {"format_weight": 2}}, ValueError, "format_weight"),
        ({"reward": {"weight": 2}}, ValueError, "unknown reward setting 'weight'"),
        ({"reward": "best"}, ValueError, "unknown reward 'best'"),
    ],
)
def test_bad_arguments_say_what_is_allowed(kwargs, error, message):
    with pytest.raises(error, match=message):
        gym.make("DiG-v0", **(SMALL_ENV | kwargs))


def test_bad_reset_options_are_refused(env):
    with pytest.raises(ValueError, match="unknown reset option 'stages'"):
        env.reset(options={"stages": "dual"})
    with pytest.raises(DifficultyError, match="unknown stage"):
        env.reset(options={"stage": "duel"})
    with pytest.raises(ValueError, match="seed"):
        env.reset(options={"pair_seed": -1})
    # A failed reset leaves no pair behind that could still be answered.
    with pytest.raises(gym.error.ResetNeeded):
        env.unwrapped.step("[]")


def test_a_difficulty_without_room_is_refused_at_reset():
    made = gym.make("DiG-v0", stage={"objects": (40, 40)}, **SMALL_ENV)
    with pytest.raises(DifficultyError, match="fewer objects"):
        made.reset(seed=0)
    made.close()


def test_gym_make_can_import_the_package_itself():
    program = "import gymnasium as gym; print(gym.make('dig_env:DiG-v0').unwrapped.stage)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert result.stdout.strip() == b"single"


def test_the_wrapper_plays_the_curriculums_stage_and_promotes_it(stored):
    curriculum = dig_env.Curriculum(promote_at=0.9, window=2)
    made = dig_env.CurriculumWrapper(gym.make("DiG-v0", dataset=stored), curriculum)
    stages = []
    for episode in range(5):
        _, info = made.reset(seed=episode)
        stages.append(info["stage"])
        truth = made.unwrapped.pair.boxes_unit
        made.step(dig_env.format_boxes(truth, exact=True))
    assert stages == ["single", "single", "dual", "dual", "mixed"]
    made.close()


def test_an_episode_of_several_turns_counts_with_all_that_it_earned(stored):
    """Zooms cost, and a conversation's reward comes turn by turn."""

    class Told(dig_env.RandomCurriculum):
        def update(self, reward, stage=None):
            told.append(reward)
            return super().update(reward, stage)

    told, earned = [], []
    zoom = gym.make("DiG-Zoom-v0", turn_cost=0.1, dataset=stored)
    talk = gym.make("DiG-Align-v0", task="conversation", dataset=stored)
    for env_, answers in ((zoom, ["zoom(A, [0, 0, 500, 500])", "[]"]), (talk, None)):
        made = dig_env.CurriculumWrapper(env_, Told(("mixed",)))
        for _ in range(2):
            made.reset()
            question = None if answers else made.unwrapped.question
            texts = answers or [
                write_answer(turn.truth, "norm1000", question.size) for turn in question.turns
            ]
            earned.append(sum(made.step(text)[1] for text in texts))
        made.close()
    assert told == pytest.approx(earned) and told[0] == pytest.approx(-0.1) and told[2] > 0.9

    told.clear()
    vector = gym.make_vec("DiG-Zoom-v0", 2, turn_cost=0.1, dataset=stored)
    vector = dig_env.VectorCurriculumWrapper(vector, Told(("single",)))
    vector.reset()
    vector.step(["[]", "zoom(A, [0, 0, 500, 500])"])
    vector.step(["[]", "[]"])
    assert told == pytest.approx([0.0, -0.1])
    vector.close()


@pytest.mark.parametrize(
    "remake", [lambda spec: spec, lambda spec: pickle.loads(pickle.dumps(spec))]
)
def test_a_wrapped_environment_is_made_again_from_its_specification(remake, stored):
    """With a copy of the curriculum as it was given, so that neither disturbs the other."""
    curriculum = dig_env.Curriculum(("dual", "mixed"), promote_at=0.0, window=1)
    made = dig_env.CurriculumWrapper(gym.make("DiG-v0", dataset=stored), curriculum)
    made = dig_env.NumericView(made)
    made.reset(seed=0)
    made.step(made.action_space.sample())
    assert curriculum.stage == "mixed"
    again = gym.make(remake(made.spec))
    assert type(again) is dig_env.NumericView and type(again.env) is dig_env.CurriculumWrapper
    vector = gym.make_vec(remake(made.spec), 2, vectorization_mode="sync")
    assert again.reset(seed=0)[1]["stage"] == "dual"
    assert list(vector.reset()[1]["stage"]) == ["dual", "dual"]
    again.step(again.action_space.sample())
    assert curriculum.episodes == 1 and again.env.curriculum.episodes == 1
    for env_ in (made, again, vector):
        env_.close()


def test_the_wrapper_asks_for_a_stage_each_episode(stored):
    made = dig_env.CurriculumWrapper(
        gym.make("DiG-v0", dataset=stored), dig_env.RandomCurriculum(seed=1)
    )
    stages = [made.reset(seed=0)[1]["stage"] for _ in range(6)]
    alike = dig_env.RandomCurriculum(seed=1)
    assert stages == [alike.choose() for _ in range(6)]
    assert len(set(stages)) > 1
    made.close()


def test_an_episode_of_a_stage_of_ones_own_is_not_counted_by_a_threshold(stored):
    curriculum = dig_env.Curriculum(stages=("single", "dual"))
    made = dig_env.CurriculumWrapper(gym.make("DiG-v0", dataset=stored), curriculum)
    made.reset(seed=0, options={"stage": "dual"})
    made.step("[]")
    assert curriculum.episodes == 0
    made.close()


def test_the_wrapper_does_not_touch_the_stream_of_pair_seeds():
    plain = gym.make("DiG-v0", **SMALL_ENV)
    wrapped = dig_env.CurriculumWrapper(
        gym.make("DiG-v0", **SMALL_ENV), dig_env.Curriculum(stages=("dual", "mixed"))
    )
    for env_ in (plain, wrapped):
        env_.reset(seed=3)
    assert plain.reset()[1]["pair_seed"] == wrapped.reset()[1]["pair_seed"]
    plain.close()
    wrapped.close()


def test_one_curriculum_serves_a_vector_of_environments(stored):
    curriculum = dig_env.Curriculum(promote_at=0.05, window=2)
    vector = gym.make_vec("DiG-v0", num_envs=2, vectorization_mode="sync", dataset=stored)
    wrapped = dig_env.VectorCurriculumWrapper(vector, curriculum)
    _, infos = wrapped.reset(seed=0)
    assert list(infos["stage"]) == ["single", "single"]
    _, rewards, terminations, _, infos = wrapped.step(("[[0, 0, 999, 999]]",) * 2)
    assert terminations.all() and (rewards > 0.05).all()
    assert curriculum.stage == "dual"
    _, _, _, _, infos = wrapped.step(("[]", "[]"))  # autoreset: the answers are not read
    assert list(infos["stage"]) == ["dual", "dual"]
    assert curriculum.episodes == 2
    wrapped.close()


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_each_environment_of_a_vector_gets_a_stage_of_its_own(mode, stored):
    """Also in Gymnasium's autoreset, with environments that are not in step."""
    curriculum, alike = (dig_env.RandomCurriculum(seed=2) for _ in range(2))
    vector = gym.make_vec("DiG-v0", num_envs=2, vectorization_mode=mode, dataset=stored)
    wrapped = dig_env.VectorCurriculumWrapper(vector, curriculum)
    wait = ("[]", "[]")
    _, infos = wrapped.reset(seed=0)
    one, other = alike.choose(), alike.choose()
    assert list(infos["stage"]) == [one, other]
    wrapped.step(wait)
    one = alike.choose()
    _, infos = wrapped.reset(options={"reset_mask": np.array([True, False])})
    assert infos["stage"][0] == one
    for _ in range(3):
        other = alike.choose()
        _, _, terminations, _, infos = wrapped.step(wait)  # an answer, and an autoreset
        assert list(terminations) == [True, False]
        assert list(infos["stage"]) == [one, other]
        one = alike.choose()
        _, _, terminations, _, infos = wrapped.step(wait)
        assert list(terminations) == [False, True]
        assert list(infos["stage"]) == [one, other]
    assert curriculum.episodes == 2 + 6
    wrapped.close()


def test_a_vector_that_is_reset_by_hand_is_asked_for_at_its_resets_alone(stored):
    curriculum, alike = (dig_env.RandomCurriculum(seed=2) for _ in range(2))
    vector = gym.make_vec(
        "DiG-v0",
        num_envs=2,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": gym.vector.AutoresetMode.DISABLED},
        dataset=stored,
    )
    wrapped = dig_env.VectorCurriculumWrapper(vector, curriculum)
    for _ in range(3):
        _, infos = wrapped.reset()
        assert list(infos["stage"]) == [alike.choose(), alike.choose()]
        wrapped.step(("[]", "[]"))
    wrapped.close()


def test_a_vector_that_resets_before_the_reward_is_known_is_refused():
    vector = gym.make_vec(
        "DiG-v0",
        num_envs=1,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP},
        **SMALL_ENV,
    )
    with pytest.raises(ValueError, match="SAME_STEP.*NEXT_STEP"):
        dig_env.VectorCurriculumWrapper(vector, dig_env.Curriculum())
    vector.close()
