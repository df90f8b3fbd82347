"""SkyRL's gym on an export: it makes our environment of a row, steps it and averages its metrics.

Runs in .venv-frameworks. SkyRL's trainer does not import on Python 3.11; by hand, on 3.12, it took
every override of run.sh (docs/trainers.md).
"""

import json

import numpy as np
import pytest
import skyrl_gym
from answers_corpus import CORPUS
from datasets import load_dataset

from dig_env import PARTS, instruction, score
from dig_env.agents.data.export import export_dataset
from dig_env.agents.policies.messages import png_url
from dig_env.drawing import png
from dig_env.scenes import PairDataset


@pytest.fixture(scope="module")
def rows(dataset, tmp_path_factory):
    """As SkyRL's data set reads them: all columns but the prompt and the class are the extras."""
    folder = export_dataset(dataset, tmp_path_factory.mktemp("skyrl") / "out", "skyrl")
    file = str(folder / "data/train-mixed.parquet")
    return list(load_dataset("parquet", data_files=file, split="train"))


@pytest.fixture(scope="module", autouse=True)
def registered():
    skyrl_gym.register(id="dig", entry_point="dig_env.agents.integrations.skyrl:DiGEnv")


def make(row, **changes):
    extras = {key: value for key, value in row.items() if key not in ("prompt", "env_class")}
    return skyrl_gym.make(row["env_class"], env_config={}, extras=extras | changes)


def test_the_prompt_holds_both_images_and_the_instruction(rows, dataset):
    pairs = PairDataset(dataset)
    for row, seed in zip(rows, pairs.pair_seeds("mixed", "train"), strict=True):
        pair = pairs.pair(seed)
        prompt, _ = make(row).init(row["prompt"])
        (message,) = prompt
        *images, text = message["content"]
        for part, pixels in zip(images, (pair.image_a, pair.image_b), strict=True):
            assert part["image_url"]["url"] == png_url(png(pixels, compress_level=1))
        assert (message["role"], text["text"]) == ("user", instruction())


def test_the_reward_is_that_of_score_to_the_last_bit_and_ends_the_episode(rows):
    for case in CORPUS:
        spec = {"method": "rule", "ground_truth": case.truth_text}
        env = make(rows[0], reward_spec=spec)
        expected = score("<think>" + case.answer, case.truth)  # the default model thinks
        done = env.step(case.answer)
        assert (done["reward"], done["done"], done["observations"]) == (expected.total, True, [])
        assert env.get_metrics() == {name: getattr(expected, name) for name in PARTS}


def test_options_of_the_export_count_and_metrics_are_averaged(rows):
    options = json.dumps({"reward": "strict", "opening": ""})
    spec = {"method": "rule", "ground_truth": "[[100, 100, 200, 200]]"}
    episodes = [make(rows[0], reward_spec=spec, reward_options=options) for _ in range(2)]
    answers = ("[[100, 100, 200, 200]]", "[[100, 100, 200, 300]]")
    truth = np.array([[0.1, 0.1, 0.2, 0.2]])
    for env, answer in zip(episodes, answers, strict=True):
        assert env.step(answer)["reward"] == score(answer, truth, "strict").total
    means = episodes[0].aggregate_metrics([env.get_metrics() for env in episodes])
    assert means["f1"] == pytest.approx(np.mean([score(a, truth, "strict").f1 for a in answers]))
