"""Statistics of pairs in info, pairs on disk; time limits and frame stacks do no harm."""

import functools
import json
import resource
import shutil

import datasets
import gymnasium as gym
import numpy as np
import pytest
from gymnasium import wrappers
from PIL import Image

from dig_env import NumericView, format_boxes
from dig_env.scenes import PairDataset, RenderSettings, render_dataset
from dig_env.scenes.measure.occlusion import hidden_share
from dig_env.wrappers.recording import PairStatistics, RecordPairs

TINY = RenderSettings(width=64, height=48, quality="draft", device="cpu")


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored")
    render_dataset(folder, {"mixed": 8}, "train", TINY)
    return str(folder)


@pytest.fixture
def make(stored):
    made = []

    def one(wrap=lambda env: env, **kwargs):
        made.append(wrap(gym.make("DiG-v0", stage="mixed", dataset=stored, **kwargs)))
        return made[-1]

    yield one
    for env in made:
        env.close()


def lines(folder):
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]


def answer(env, text="[]", **options):
    """One episode; the first observation and what the step returned."""
    observation, _ = env.reset(options=options or None)
    return observation, env.step(text)


# Statistics


def test_statistics_come_with_the_answer_and_not_before(make):
    env = make(PairStatistics)
    for _ in range(2):
        _, info = env.reset()
        assert set(info) == {"pair_seed", "stage"}
        info = env.step("[]")[4]
        assert info["pair"]["changes"] == [diff["change"] for diff in info["truth"]]


def test_statistics_are_what_the_masks_show(make, stored):
    env = make(PairStatistics)
    for pair_seed in PairDataset(stored).pair_seeds("mixed", "train"):
        found = answer(env, pair_seed=pair_seed)[1][4]["pair"]
        pair = env.unwrapped.pair
        masks = np.stack([pair.ids_a, pair.ids_b])
        assert found["objects"] == len(np.unique(masks)) - 1  # 0 is the background
        assert found["differences"] == len(pair.differences)
        for index, diff in enumerate(pair.differences):
            assert found["changes"][index] == diff.change
            seen = masks == diff.object_id
            rows, columns = np.nonzero(seen.any(axis=0))
            area = (np.ptp(rows) + 1) * (np.ptp(columns) + 1) / (64 * 48)
            assert found["box_area"][index] == pytest.approx(area)
            assert found["visible"][index] == seen.mean(axis=(1, 2)).max()
            assert found["hidden"][index] == hidden_share(pair, diff.object_id)
            assert found["contrast"][index] == diff.contrast


def test_statistics_go_around_numbers_and_into_vectors(make, stored):
    env = make(lambda inner: PairStatistics(NumericView(inner)))
    env.reset()
    assert env.step(env.action_space.sample())[4]["pair"]["differences"] >= 1
    vector = gym.make_vec(
        "DiG-v0",
        num_envs=2,
        vectorization_mode="sync",
        wrappers=[PairStatistics],
        stage="mixed",
        dataset=stored,
    )
    vector.reset(seed=0)
    infos = vector.step(("[]", "[]"))[4]
    for differences, truth in zip(infos["pair"]["differences"], infos["truth"], strict=True):
        assert differences == len(truth)
    vector.close()


# Recording


LOOK = "zoom(B, [0, 0, 500, 500])"


def picture(folder, name):
    return np.asarray(Image.open(folder / name))


def test_an_episode_of_several_turns_is_one_line_with_the_turns_before(stored, tmp_path):
    """Statistics come with the last turn; what a zoom showed is kept with the turn that saw it."""
    env = gym.make("DiG-Zoom-v0", stage="mixed", dataset=stored, turn_cost=0.02)
    env = RecordPairs(PairStatistics(env), tmp_path, every=2)
    for text in ("first", "second", "third"):
        env.reset()
        zoomed, _, _, _, info = env.step(LOOK)
        assert "pair" not in info
        assert "pair" in env.step(text)[4]
    env.close()
    assert [line["answer"] for line in lines(tmp_path)] == ["first", "third"]
    line = lines(tmp_path)[-1]
    np.testing.assert_array_equal(picture(tmp_path, line["zoom_file_name"]), zoomed["zoom"])
    (look,) = line["earlier"]
    assert (look["answer"], look["reward"], line["reward"]) == (LOOK, -0.02, 0.0)
    assert "zoom_file_name" not in look and "truth" not in look
    assert look["prompt"] == line["prompt"] == zoomed["prompt"]


@pytest.mark.parametrize("task", ["text_to_box", "box_to_crop", "conversation"])
def test_questions_about_one_image_are_recorded_with_what_they_show(stored, tmp_path, task):
    env = gym.make("DiG-Align-v0", task=task, dataset=stored)
    env = RecordPairs(env, tmp_path)
    seen, _ = env.reset(seed=0)
    asked, infos, ended = [], [], False
    while not ended:
        asked.append(seen)
        seen, _, ended, _, info = env.step(f"answer {len(asked)}")
        infos.append(info)
    env.close()
    (line,) = lines(tmp_path)
    turns = [*line.pop("earlier", []), line]
    assert len(turns) == info["turns"] == len(env.unwrapped.question.turns)
    for index, (turn, shown, info) in enumerate(zip(turns, asked, infos, strict=True), 1):
        assert turn["prompt"] == shown["prompt"] and turn["answer"] == f"answer {index}"
        assert turn["task"] == task
        for name in ("right", "iou", "read", "error", "truth"):
            assert turn[name] == info[name]
        image = picture(tmp_path, turn["image_file_name"])
        np.testing.assert_array_equal(image, shown["image"])
        crops = [picture(tmp_path, name) for name in turn.get("crops_file_names", [])]
        assert len(crops) == shown["crop_count"]
        for crop, expected in zip(crops, shown["crops"], strict=False):
            np.testing.assert_array_equal(crop, expected)


def test_what_a_policy_does_to_its_observation_is_not_recorded(make, tmp_path):
    env = make(lambda inner: RecordPairs(inner, tmp_path))
    observation, _ = env.reset()
    observation["image_a"][:] = 0
    env.step("[]")
    (line,) = lines(tmp_path)
    recorded = picture(tmp_path, line["image_a_file_name"])
    np.testing.assert_array_equal(recorded, env.unwrapped.pair.image_a)


def test_a_recorded_episode_is_what_was_seen_answered_and_earned(make, tmp_path):
    env = make(lambda inner: RecordPairs(PairStatistics(inner), tmp_path / "rec"))
    env.reset(seed=0)
    text = format_boxes(env.unwrapped.pair.boxes_unit[:1])
    for said in (text, "no idea: \u00e9 \ud800"):
        observation, (_, reward, _, _, info) = answer(env, said)
        line = lines(tmp_path / "rec")[-1]
        for name in ("image_a", "image_b"):
            picture = Image.open(tmp_path / "rec" / line.pop(f"{name}_file_name"))
            np.testing.assert_array_equal(np.asarray(picture), observation[name])
        said_of_it = {"prompt": observation["prompt"], "answer": said, "reward": reward}
        assert line == {"coordinates": "norm1000", **said_of_it, **info}


def test_hugging_face_loads_a_recording_images_and_all(make, tmp_path):
    folder = tmp_path / "rec"
    env = make(lambda inner: RecordPairs(PairStatistics(inner), folder))
    seen = [answer(env)[0] for _ in range(3)]
    rows = datasets.load_dataset(
        "imagefolder", data_dir=str(folder), split="train", cache_dir=str(tmp_path / "cache")
    )
    for row, line, observation in zip(rows, lines(folder), seen, strict=True):
        np.testing.assert_array_equal(np.asarray(row["image_b"]), observation["image_b"])
        assert row["truth"] == line["truth"] and row["reward"] == line["reward"]


def test_a_folder_is_added_to_and_the_same_images_are_kept_once(make, stored, tmp_path):
    seeds = list(PairDataset(stored).pair_seeds("mixed", "train"))
    answer(make(lambda env: RecordPairs(env, tmp_path)), "[]", pair_seed=seeds[0])
    first = (tmp_path / "metadata.jsonl").read_bytes()
    env = make(lambda inner: RecordPairs(inner, tmp_path))
    answer(env, "[[0, 0, 9, 9]]", pair_seed=seeds[0])
    answer(env, "[]", pair_seed=seeds[1])
    assert (tmp_path / "metadata.jsonl").read_bytes().startswith(first)
    assert [line["pair_seed"] for line in lines(tmp_path)] == [seeds[0], seeds[0], seeds[1]]
    assert len(list((tmp_path / "images").iterdir())) == 2 * 2


def test_every_and_most_bound_what_is_recorded(make, tmp_path):
    env = make(lambda inner: RecordPairs(inner, tmp_path, every=3, max_episodes=2))
    for episode in range(10):
        answer(env, str(episode))
    assert [line["answer"] for line in lines(tmp_path)] == ["0", "3"]


def test_what_a_killed_process_left_of_a_line_is_removed_and_nothing_else(make, tmp_path):
    env = make(lambda inner: RecordPairs(inner, tmp_path))
    answer(env, "first")
    with (tmp_path / "metadata.jsonl").open("a") as file:
        file.write('{"image_a_file_name": "images/')
    answer(env, "second")
    assert [line["answer"] for line in lines(tmp_path)] == ["first", "second"]


def test_without_its_images_there_is_no_line(make, tmp_path):
    env = make(lambda inner: RecordPairs(inner, tmp_path))
    shutil.rmtree(tmp_path / "images")
    with pytest.raises(OSError, match="could not write"):
        answer(env)
    assert not (tmp_path / "metadata.jsonl").exists()
    (tmp_path / "images").mkdir()
    answer(env)
    assert len(lines(tmp_path)) == 1


def test_a_line_for_which_there_is_no_room_leaves_none_of_itself(make, stored, tmp_path):
    env = make(lambda inner: RecordPairs(inner, tmp_path))
    pair_seed = PairDataset(stored).pair_seeds("mixed", "train")[0]
    answer(env, pair_seed=pair_seed)
    before = (tmp_path / "metadata.jsonl").read_bytes()
    env.reset(options={"pair_seed": pair_seed})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))
    try:
        with pytest.raises(OSError, match="could not write.*free some space"):
            env.step("[]")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "metadata.jsonl").read_bytes() == before
    answer(env, pair_seed=pair_seed)
    assert len(lines(tmp_path)) == 2


def test_environments_in_processes_share_a_folder(stored, tmp_path):
    vector = gym.make_vec(
        "DiG-v0",
        num_envs=3,
        vectorization_mode="async",
        wrappers=[functools.partial(RecordPairs, folder=tmp_path)],
        stage="mixed",
        dataset=stored,
    )
    vector.reset(seed=0)
    for episode in range(5):
        vector.step(tuple(f"{index}/{episode}" for index in range(3)))
        vector.step(("autoreset",) * 3)
    vector.close()
    answers = sorted(line["answer"] for line in lines(tmp_path))
    assert answers == [f"{index}/{episode}" for index in range(3) for episode in range(5)]
    for line in lines(tmp_path):
        Image.open(tmp_path / line["image_a_file_name"]).load()


def test_both_wrappers_are_in_the_spec(make, tmp_path):
    env = make(lambda inner: RecordPairs(PairStatistics(inner), tmp_path, every=2))
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    answer(again)
    again.close()
    assert lines(tmp_path)[0]["pair"]["differences"] >= 1


def test_a_folder_that_holds_something_else_is_refused(make, stored):
    with pytest.raises(ValueError, match=r"README.md, data, manifest.json.* new or an empty"):
        make(lambda env: RecordPairs(env, stored))


@pytest.mark.parametrize("setting", [{"every": 0}, {"every": 1.5}, {"max_episodes": 0}])
def test_numbers_out_of_range_are_refused(make, tmp_path, setting):
    ((name, value),) = setting.items()
    with pytest.raises(ValueError, match=f"{name}={value}: give a whole number, 1 or more"):
        make(lambda env: RecordPairs(env, tmp_path, **setting))


def test_other_environments_are_refused(make, tmp_path):
    with pytest.raises(TypeError, match="in text.*wrap with RecordPairs before what changes them"):
        make(lambda env: RecordPairs(NumericView(env), tmp_path))
    with pytest.raises(TypeError, match="records prompts.*wrap with RecordPairs before"):
        make(lambda env: RecordPairs(wrappers.FilterObservation(env, ["image_a"]), tmp_path))


# What makes no sense with one-step episodes does no harm


def test_a_time_limit_ends_nothing_earlier_and_marks_each_answer_as_truncated_too(make):
    """Hence no environment needs one; a learner must look at ``terminated`` first."""
    env = make(lambda inner: wrappers.TimeLimit(inner, 1))
    for _ in range(2):
        _, (_, reward, terminated, truncated, _) = answer(env, "[[0, 0, 500, 500]]")
        assert terminated and truncated and reward > 0.0
    env = make(lambda inner: wrappers.TimeLimit(inner, 2))
    assert answer(env)[1][2:4] == (True, False)


def test_a_stack_of_frames_is_the_same_pair_repeated(make):
    env = make(lambda inner: wrappers.FrameStackObservation(inner, 3))
    stack, result = answer(env)
    assert stack in env.observation_space and result[0] in env.observation_space
    for observation in (stack, result[0]):
        assert observation["image_a"].shape == (3, 48, 64, 3)
        for frame in observation["image_a"]:
            np.testing.assert_array_equal(frame, env.unwrapped.pair.image_a)
        assert len(set(observation["prompt"])) == 1
