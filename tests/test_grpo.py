"""GRPO on fresh pairs: groups on one pair, one reward, a stream that follows the curriculum."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL
from PIL import Image

from agents import GRPORun, MLLMPolicy, train_grpo
from agents.mllm import TINY_PATH
from agents.report import write_report
from agents.rollouts import GroupReward, PairStream
from dig_env import Curriculum, RewardConfig, score
from scenes import STAGES, Renderer
from scenes.files import write_folder_whole, write_whole

SHORT = {
    "pairs_per_step": 4,
    "rollouts": 4,
    "steps": 3,
    "minutes": None,
    "eval_pairs": 3,
    "workers": 1,
    "window": 4,
    "promote_at": 0.01,
}


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "short"
    return train_grpo(GRPORun(out=str(out), wandb="offline", beta=0.01, **SHORT))


def test_a_run_trains_promotes_and_leaves_a_policy_that_plays(result, pairs):
    assert [step.step for step in result.steps] == [1, 2, 3]
    assert result.promotions[0][1:] == ("single", "dual")
    state = json.loads((result.checkpoint / "curriculum.json").read_text())
    assert state["stage"] == result.promotions[-1][2]
    policy = MLLMPolicy.from_pretrained(result.checkpoint, max_new_tokens=48)
    pair = pairs["single"][0]
    (answer,) = policy.act([{"image_a": pair.image_a, "image_b": pair.image_b, "prompt": "?"}])
    assert isinstance(answer, str)
    start = MLLMPolicy.from_pretrained(TINY_PATH).model.state_dict()
    trained = policy.model.state_dict()
    assert any(not torch.equal(start[name], trained[name]) for name in start)


def test_the_held_out_pairs_are_of_the_test_split_and_the_same_before_and_after(result):
    for stage in STAGES:
        before, after = result.before[stage], result.after[stage]
        assert [ep.pair.plan.seed for ep in before] == [ep.pair.plan.seed for ep in after]
        assert all(ep.pair.plan.seed >= 2 * 2**48 for ep in before)
        assert len(before) == 3


def test_the_report_is_one_page_with_everything_in_it(result):
    paths = write_report(result)
    page = paths["report"].read_text()
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "Held-out pairs" in page and '"seed": 0' in page
    assert Image.open(paths["pairs"]).size[0] > 2 * 128
    assert Image.open(paths["curves"]).size[0] > 500
    summary = json.loads(paths["result"].read_text())
    assert summary["steps"] == 3
    assert summary["held_out"]["dual"]["after"] == result.metrics("after", "dual")


def test_wandb_gets_the_run_offline_with_drawn_pairs(result):
    (folder,) = Path(result.run.out).glob("wandb/offline-run-*")
    assert list(folder.glob("*.wandb"))
    assert len(list(folder.glob("files/media/images/dig/*.png"))) >= 4


def completions(*texts):
    return [[{"role": "assistant", "content": text}] for text in texts]


def test_the_reward_is_the_games_score_and_the_curriculum_counts_pairs():
    curriculum = Curriculum(promote_at=0.6, window=2)
    logged = {}
    reward = GroupReward(curriculum, RewardConfig(format_weight=0.2))
    one, other = [[0.1, 0.1, 0.3, 0.3]], [[0.5, 0.5, 0.9, 0.9]]
    texts = [
        "[[100, 100, 300, 300]]",
        "[[100, 100, 300, 200]]",
        "nothing",
        "[[500, 500, 900, 900]]",
    ]
    rewards = reward(
        completions=completions(*texts),
        truth=[one, one, other, other],
        stage=["single"] * 4,
        pair_seed=[7, 7, 8, 8],
        log_metric=logged.__setitem__,
        prompts=None,
    )
    config = RewardConfig(format_weight=0.2)
    expected = [
        score(text, truth, config).total
        for text, truth in zip(texts, [one, one, other, other], strict=True)
    ]
    assert rewards == expected
    # Two pairs are two episodes, with the mean of their rollouts: 0.865 and 0.5 make 0.68.
    assert curriculum.episodes == 2 and curriculum.stage == "dual"
    assert logged["dig/format"] == 0.75 and logged["dig/equal_groups"] == 0.0


def test_pairs_of_an_earlier_stage_are_not_counted():
    curriculum = Curriculum(stages=("single", "dual"), promote_at=0.5, window=1)
    reward = GroupReward(curriculum, RewardConfig())
    truth = [[0.1, 0.1, 0.3, 0.3]]
    reward(
        completions=completions(*["[[100, 100, 300, 300]]"] * 3),
        truth=[truth] * 3,
        stage=["single"] * 3,
        pair_seed=[1, 2, 3],
        log_metric=lambda name, value: None,
    )
    assert curriculum.stage == "dual"
    assert curriculum.episodes == 1


def test_a_group_whose_rewards_are_equal_is_counted():
    logged = {}
    reward = GroupReward(Curriculum(), RewardConfig())
    reward(
        completions=completions("a", "b", "[[100, 100, 300, 300]]", "c"),
        truth=[[[0.1, 0.1, 0.3, 0.3]]] * 4,
        stage=["single"] * 4,
        pair_seed=[1, 1, 2, 2],
        log_metric=logged.__setitem__,
    )
    assert logged["dig/equal_groups"] == 0.5


def test_the_stream_plans_at_the_curriculums_stage_and_only_on_training_seeds():
    curriculum = Curriculum(promote_at=0.5, window=1)
    with Renderer(SMALL) as renderer:
        rows = PairStream(renderer, curriculum, GRPORun(**SHORT)).rows()
        first = [next(rows) for _ in range(4)]
        curriculum.update(1.0)
        later = [next(rows) for _ in range(8)]
        rows.close()
    assert {row["stage"] for row in first} == {"single"}
    # What was planned ahead is still of the old stage, at most one step of it.
    assert [row["stage"] for row in later][4:] == ["dual"] * 4
    assert all(len(row["truth"]) == 2 for row in later if row["stage"] == "dual")
    assert all(row["pair_seed"] < 2**48 for row in first + later)
    assert np.asarray(first[0]["images"][0]).shape == (96, 128, 3)


def test_equal_seeds_stream_equal_pairs():
    with Renderer(SMALL) as renderer:
        seeds = [
            [next(rows)["pair_seed"] for _ in range(3)]
            for rows in (
                PairStream(renderer, Curriculum(), GRPORun(seed=seed, **SHORT)).rows()
                for seed in (1, 1, 2)
            )
        ]
    assert seeds[0] == seeds[1] != seeds[2]


def test_a_model_that_does_not_exist_is_named(tmp_path):
    missing = tmp_path / "no-such-model"
    with pytest.raises(FileNotFoundError, match="no-such-model.*load_tiny"):
        train_grpo(GRPORun(out=str(tmp_path / "run"), model=str(missing)))
    tmp_path.joinpath("empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no complete model"):
        MLLMPolicy.from_pretrained(tmp_path / "empty")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rollouts": 1}, "2 or more"),
        ({"steps": 0}, "steps=0"),
        ({"stages": ("single", "triple")}, "unknown stage 'triple'"),
        ({"wandb": "on"}, "disabled, offline, online"),
    ],
)
def test_wrong_settings_are_refused_before_anything_starts(fields, message):
    with pytest.raises(ValueError, match=message):
        GRPORun(**fields)


def test_a_report_on_a_full_disk_is_an_error_and_leaves_no_half_file(tmp_path):
    target = tmp_path / "report.html"
    target.write_text("the old one")
    (tmp_path / f".report.html.{os.getpid()}").symlink_to("/dev/full")
    with pytest.raises(OSError, match="free some space"):
        write_whole(target, b"x" * 10_000)
    assert target.read_text() == "the old one"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_folder_that_fails_half_way_leaves_the_old_one(tmp_path):
    target = tmp_path / "checkpoint"
    write_folder_whole(target, lambda folder: (folder / "a").write_text("old") and None)

    def fail(folder):
        (folder / "a").write_text("new")
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        write_folder_whole(target, fail)
    assert (target / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
