"""ms-swift's own code on an export: it reads the rows, loads the plug-in, scores, has the options.

Runs in .venv-frameworks. Not run: training, which needs vLLM and so a GPU.
"""

import dataclasses
import os
import subprocess

import numpy as np
import pytest
import torch
from answers_corpus import CORPUS
from PIL import Image
from swift.arguments import RLHFArguments
from swift.dataset import load_dataset
from swift.rewards import orms
from swift.rl_core.data import GRPOSample
from swift.rl_core.grpo_algorithm import compute_rewards_per_func
from swift.utils import import_external_file

from dig_env import format_boxes, instruction, score
from dig_env.agents.data.export import ExportSettings, export_dataset
from dig_env.scenes import PairDataset


@pytest.fixture(scope="module")
def exported(dataset, tmp_path_factory):
    settings = ExportSettings(reward="strict")
    return export_dataset(dataset, tmp_path_factory.mktemp("swift") / "out", "swift", settings)


@pytest.fixture(scope="module")
def dig(exported):
    """The reward as the trainer makes it from --external_plugins and --reward_funcs."""
    import_external_file(str(exported / "dig_plugin.py"))
    return orms["dig"](args=None)


@pytest.fixture
def rows(exported, monkeypatch):
    monkeypatch.chdir(exported)
    # Other columns are kept, as its GRPO keeps them.
    train, _ = load_dataset(["data/train-mixed.jsonl"], remove_unused_columns=False)
    return list(train)


def test_its_dataset_gives_the_pairs_pixels_prompt_and_truth(rows, dataset):
    pairs = PairDataset(dataset)
    for row, seed in zip(rows, pairs.pair_seeds("mixed", "train"), strict=True):
        pair = pairs.pair(seed)
        (message,) = row["messages"]
        assert message == {"role": "user", "content": "<image><image>" + instruction()}
        for image, pixels in zip(row["images"], (pair.image_a, pair.image_b), strict=True):
            assert np.array_equal(np.asarray(Image.open(image["path"])), pixels)
        assert row["solution"] == format_boxes(pair.boxes_unit, exact=True)
        assert (row["stage"], row["pair_seed"]) == ("mixed", seed)


def test_the_reward_is_that_of_score_to_the_last_bit(dig):
    answers = [case.answer for case in CORPUS]
    truths = [case.truth_text for case in CORPUS]
    totals = [score(case.answer, case.truth, "strict").total for case in CORPUS]
    assert dig(answers, solution=truths) == totals


def test_its_trainers_scoring_hands_each_completion_its_pairs_truth(dig, rows):
    samples = [
        GRPOSample.from_row({**row, "messages": [*row["messages"], answer]})
        for row in rows
        for answer in (
            {"role": "assistant", "content": row["solution"]},
            {"role": "assistant", "content": f"<think>\n{row['solution']}"},
        )
    ]
    rewards = compute_rewards_per_func(samples, [dig], [None], torch.device("cpu"))
    assert rewards.ravel().tolist() == [1.0, 0.0] * len(rows)


def test_the_run_gives_options_that_it_has_and_chains_the_stages(exported, tmp_path):
    """With a swift that records its words and leaves a checkpoint where asked to."""
    (tmp_path / "swift").write_text(
        f'#!/usr/bin/env bash\nprintf "%s\\t" "$@" >> {tmp_path}/calls; echo >> {tmp_path}/calls\n'
        "while [[ $1 != --output_dir ]]; do shift; done\n"
        'mkdir -p "$2/checkpoint-9" "$2/checkpoint-10"\n'
    )
    (tmp_path / "swift").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    run = ["bash", str(exported / "run.sh"), "--num_train_epochs", "1"]
    said = subprocess.run(run, env=environment, check=True, capture_output=True, text=True).stdout
    (words,) = [line.split("\t")[:-1] for line in (tmp_path / "calls").read_text().splitlines()]
    assert words[:3] == ["rlhf", "--rlhf_type", "grpo"]
    options = dict(zip(words[1::2], words[2::2], strict=True))
    fields = {f"--{field.name}" for field in dataclasses.fields(RLHFArguments)}
    assert options.keys() <= fields
    assert options["--enable_thinking"] == "true" and options["--num_train_epochs"] == "1"
    assert (exported / options["--dataset"]).is_file()
    assert said == "model: checkpoints/mixed/checkpoint-10\n"
