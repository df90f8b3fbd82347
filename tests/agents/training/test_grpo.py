"""A GRPO run from its start to its report, stopped and resumed in between."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from wandb_lines import wandb_lines

from dig_env import Curriculum, RandomCurriculum
from dig_env.agents import GRPORun, MLLMPolicy, train_grpo
from dig_env.agents.policies.mllm import EMBEDDED
from dig_env.agents.training.grpo_report import summarize
from dig_env.agents.training.monitor import PROGRESS
from dig_env.agents.training.run_folder import latest_checkpoint
from dig_env.scenes import PAPER_STAGES, PairDataset

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
    start = MLLMPolicy.from_pretrained(EMBEDDED["tiny-start"]).model.state_dict()
    trained = policy.model.state_dict()
    assert any(not torch.equal(start[name], trained[name]) for name in start)


def test_the_held_out_pairs_are_of_the_test_split_and_the_same_before_and_after(result):
    for stage in PAPER_STAGES:
        before, after = result.before[stage], result.after[stage]
        assert [ep.pair.plan.seed for ep in before] == [ep.pair.plan.seed for ep in after]
        assert all(ep.pair.plan.seed >= 2 * 2**48 for ep in before)
        assert len(before) == 3


def test_the_report_is_one_page_with_everything_in_it(result):
    out = Path(result.run.out)
    page = (out / "report.html").read_text()
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    for part in ("Held-out pairs", "Worst pairs", "Best pairs", "transformers", "learning_rate"):
        assert part in page
    assert all(stage in page for _, *stages in result.promotions for stage in stages)
    assert Image.open(out / "pairs.png").size[0] > 2 * 128
    assert Image.open(out / "report.png").size[0] > 500
    summary = json.loads((out / "result.json").read_text())
    assert summary["steps"] == 3
    assert summary["held_out"]["dual"]["after"] == result.metrics("after", "dual")


def test_wandb_gets_the_run_offline_with_drawn_pairs(result):
    (folder,) = Path(result.run.out).glob("wandb/offline-run-*")
    assert list(folder.glob("*.wandb"))
    assert len(list(folder.glob("files/media/images/dig/*.png"))) >= 4
    lines = {
        line["train/global_step"]: line for line in wandb_lines(folder) if "train/loss" in line
    }
    assert lines.keys() == {1, 2, 3}
    for step in result.steps:
        line = lines[step.step]
        assert line["train/dig/pairs_per_s"] == pytest.approx(step.pairs_per_s)
        assert line["train/dig/f1"] == pytest.approx(step.f1)
        assert line["train/dig/stage"] == PAPER_STAGES.index(step.stage)
    assert [step for step, line in lines.items() if "dig/pairs" in line] == [1]


def settings(out, **changes):
    return GRPORun(
        out=str(out), **(SHORT | {"steps": 4, "save_every": 1, "eval_pairs": 0} | changes)
    )


class Killed(Exception):
    pass


def killed_after(step):
    def on_step(done):
        if done.step > step:
            raise Killed

    return on_step


@pytest.fixture
def one_thread():
    """Two threads add up in an order of their own, and Adam makes steps of the difference."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("fresh_pairs", "make"), [(True, None), (False, RandomCurriculum)])
def test_an_interrupted_run_goes_on_to_the_same_losses(fresh_pairs, make, stored, tmp_path):
    """Through changes of stage, with pairs planned ahead, at the temperature's own random numbers.

    Under the run's own curriculum, and under one that draws. Bit for bit.
    """
    dataset = None if fresh_pairs else stored

    def train(run, on_step=None):
        return train_grpo(run, on_step, make and make(run.stages))

    straight = train(settings(tmp_path / "straight", dataset=dataset, eval_pairs=1))
    broken = settings(tmp_path / "broken", dataset=dataset, eval_pairs=1)
    with pytest.raises(Killed):
        train(broken, killed_after(2))
    assert latest_checkpoint(broken.out, PROGRESS).name == "checkpoint-2"
    report = Path(broken.out, "report.html")
    assert "Not finished: 3 of 4 steps" in report.read_text()
    resumed = train(broken)
    assert "Not finished" not in report.read_text()
    assert latest_checkpoint(broken.out, PROGRESS) is None

    def course(result):
        return [(s.step, s.stage, s.reward, s.f1, s.window_mean, s.pairs) for s in result.steps]

    assert course(resumed) == course(straight)
    assert len({step.stage for step in straight.steps}) > 1
    assert resumed.promotions == straight.promotions
    states = [
        json.loads((result.checkpoint / "curriculum.json").read_text())
        for result in (straight, resumed)
    ]
    assert states[0] == states[1]
    one, other = (
        MLLMPolicy.from_pretrained(result.checkpoint).model.state_dict()
        for result in (straight, resumed)
    )
    for name in one:
        assert torch.equal(one[name], other[name]), name


def test_a_finished_run_is_returned_and_not_trained_anew(result):
    """The same settings, or others that may change; with different ones it is refused."""
    weights = result.checkpoint / "model.safetensors"
    written = weights.stat().st_mtime_ns
    curriculum = Curriculum(PAPER_STAGES, promote_at=0.01, window=4)
    run = replace(result.run, minutes=5.0)
    again = train_grpo(run, lambda step: pytest.fail("a step was trained"), curriculum)
    assert weights.stat().st_mtime_ns == written
    assert again.steps == result.steps and again.promotions == result.promotions
    assert curriculum.stage == result.promotions[-1][2]
    for stage in PAPER_STAGES:
        assert again.metrics("after", stage) == result.metrics("after", stage)
    assert summarize(again) | {"settings": None} == summarize(result) | {"settings": None}
    with pytest.raises(ValueError, match="holds a run with steps=3, not 4"):
        train_grpo(replace(result.run, steps=4))
    with pytest.raises(ValueError, match="of a threshold curriculum, this is a random one"):
        train_grpo(result.run, curriculum=RandomCurriculum())


@pytest.fixture(scope="module")
def killed(stored, tmp_path_factory):
    """The settings of a run that was killed in its third step."""
    run = settings(tmp_path_factory.mktemp("killed") / "run", dataset=stored)
    with pytest.raises(Killed):
        train_grpo(run, killed_after(2))
    return run


def test_a_checkpoint_that_was_cut_off_is_passed_over(killed, tmp_path):
    copy = shutil.copytree(killed.out, tmp_path / "run")
    (copy / "trainer" / "checkpoint-2" / "progress.json").unlink()
    assert latest_checkpoint(copy, PROGRESS).name == "checkpoint-1"


def test_an_unfinished_run_with_other_settings_is_not_mixed_up(killed):
    with pytest.raises(ValueError, match="holds a run with learning_rate=0.0001, not 1e-06"):
        train_grpo(replace(killed, learning_rate=1e-6))
    with pytest.raises(ValueError, match="of a threshold curriculum, this is a random one"):
        train_grpo(killed, curriculum=RandomCurriculum())


def test_a_curriculum_may_only_choose_stages_of_the_run(tmp_path):
    with pytest.raises(ValueError, match="may choose stage 'mixed'.*single, dual"):
        train_grpo(settings(tmp_path, stages=("single", "dual")), curriculum=Curriculum())


def test_a_run_on_a_dataset_trains_and_evaluates_on_its_pairs(stored, tmp_path):
    result = train_grpo(settings(tmp_path, dataset=stored, eval_pairs=3, eval_every=2, steps=2))
    dataset = PairDataset(stored)
    for stage, episodes in result.after.items():
        seeds = [episode.pair.plan.seed for episode in episodes]
        assert seeds == list(dataset.pair_seeds(stage, "test")[:3])
    assert result.renderer_versions == dataset.manifest.made_with
    assert [step.held_out is None for step in result.steps] == [True, False]
    assert set(result.steps[1].held_out) == set(PAPER_STAGES)


@pytest.mark.parametrize("lora", [None, {"r": 4, "target_modules": ["q_proj"]}])
def test_a_run_that_was_stopped_after_its_last_step_takes_no_other(
    lora, stored, tmp_path, monkeypatch
):
    """Its last checkpoint holds what it learned."""
    few = {"dataset": stored, "steps": 2, "lora": lora}
    straight = train_grpo(settings(tmp_path / "straight", **few))
    broken = settings(tmp_path / "broken", **few)
    with monkeypatch.context() as patch, pytest.raises(Killed):

        def kill(*arguments):
            raise Killed

        patch.setattr("dig_env.agents.training.grpo._trained", kill)
        train_grpo(broken)
    assert latest_checkpoint(broken.out, PROGRESS).name == "checkpoint-2"
    resumed = train_grpo(broken)
    assert [step.reward for step in resumed.steps] == [step.reward for step in straight.steps]
    one, other = (
        (result.checkpoint / "model.safetensors").read_bytes() for result in (straight, resumed)
    )
    assert one == other


def test_rollouts_may_be_learned_from_in_several_steps(stored, tmp_path):
    """Two steps from the two halves of a batch, twice over; resumed to the same rewards."""
    trl = {"per_device_train_batch_size": 8, "num_iterations": 2, "steps_per_generation": 2}
    settled = {"dataset": stored, "pairs_per_step": 2, "steps": 8, "save_every": 4, "trl": trl}
    straight = train_grpo(settings(tmp_path / "straight", **settled))
    assert [step.pairs for step in straight.steps] == [4] * 4 + [8] * 4
    rewards = [step.reward for step in straight.steps]
    assert len(set(rewards[:4])) == len(set(rewards[4:])) == 1 and len(set(rewards)) == 2
    assert straight.promotions[0] == (4, "single", "dual")
    broken = settings(tmp_path / "broken", **settled)
    with pytest.raises(Killed):
        train_grpo(broken, killed_after(5))
    resumed = train_grpo(broken)
    assert [(step.step, step.stage, step.reward) for step in resumed.steps] == [
        (step.step, step.stage, step.reward) for step in straight.steps
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"save_every": 3, "trl": {"num_iterations": 2}},
            "save_every=3 is not a multiple of the 2",
        ),
        (
            {"trl": {"per_device_train_batch_size": 8, "steps_per_generation": 1}},
            "not a multiple of gradient_accumulation_steps=2",
        ),
    ],
)
def test_a_batch_of_rollouts_is_for_whole_steps(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        train_grpo(settings(tmp_path, **changes))


def test_a_steps_rollouts_may_go_through_the_model_in_parts(stored, tmp_path):
    run = settings(tmp_path, dataset=stored, steps=1, trl={"per_device_train_batch_size": 4})
    assert [step.pairs for step in train_grpo(run).steps] == [4]


def test_parts_that_do_not_make_a_step_are_refused(tmp_path):
    with pytest.raises(ValueError, match="4 x rollouts=4 is not per_device_train_batch_size=5"):
        train_grpo(settings(tmp_path, trl={"per_device_train_batch_size": 5}))


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
        ({"eval_pairs": 0, "eval_every": 5}, "needs eval_pairs"),
        ({"stages": ("single", "triple")}, "unknown stage 'triple'"),
        ({"wandb": "on"}, "disabled, offline, online"),
    ],
)
def test_wrong_settings_are_refused_before_anything_starts(fields, message):
    with pytest.raises(ValueError, match=message):
        GRPORun(**fields)
