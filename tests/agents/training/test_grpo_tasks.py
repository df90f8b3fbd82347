"""GRPO on the alignment tasks: what their environment shows and grades, alone and mixed."""

import itertools
import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from qwen3_vl import register, save_qwen3_vl
from wandb_lines import wandb_lines

from dig_env import Curriculum, RandomCurriculum
from dig_env.agents import GRPORun, MLLMPolicy, train_grpo
from dig_env.agents.policies.align_chat import chat
from dig_env.agents.policies.dialogue import Dialogue
from dig_env.agents.training.rollouts import GroupReward, PairStream
from dig_env.agents.training.settings import SEVERAL_TURNS, stage_of_module
from dig_env.align import TASKS, write_answer
from dig_env.envs.align import DiGAlignEnv
from dig_env.envs.pairs import StoredPairs
from dig_env.scenes import PairDataset

MIXTURE = ("single", "crop_to_box@single", "existence")
SHORT = {
    "stages": MIXTURE,
    "curriculum": "random",
    "pairs_per_step": 4,
    "rollouts": 3,
    "max_completion_length": 12,
    "minutes": None,
    "save_every": 1,
    "seed": 1,
}


def stream(source, stage, seed=0, filters=None, process=(0, 1)):
    run = GRPORun(stages=(stage,), pairs_per_step=2, rollouts=2, seed=seed, filters=filters or {})
    return PairStream(source, Curriculum(run.stages), run, process)


def graded(row, texts):
    """What TRL gets for each of some answers to a row."""
    reward = GroupReward(Curriculum(("task",)), rollouts=len(texts))
    return reward(
        completions=[[{"role": "assistant", "content": text}] for text in texts],
        asked=[row["asked"]] * len(texts),
        stage=["task"] * len(texts),
        log_metric=lambda name, value: None,
    )


ANSWERS = ("[[100, 100, 300, 300]]", "yes", "A", "small red cube", "?")


@pytest.mark.parametrize("task", [task for task in TASKS if task not in SEVERAL_TURNS])
def test_rows_and_rewards_are_those_of_the_environment_to_the_last_bit(task, stored):
    """From equal seeds, too: the first five episodes."""
    with closing(StoredPairs(stored, "train")) as source:
        played = {"dataset": source, "filters": {"crop_px": 64}}
        envs = [DiGAlignEnv(task, **played) for _ in range(1 + len(ANSWERS))]
        rows = stream(source, task, 3, played["filters"]).rows()
        for index, row in enumerate(itertools.islice(rows, 5)):
            begun = [env.reset(seed=None if index else 3) for env in envs]
            observation, info = begun[0]
            assert row["pair_seed"] == info["pair_seed"]
            messages, images = chat(Dialogue([observation]))
            assert row["prompt"] == messages and len(row["images"]) == len(images)
            assert all(map(np.array_equal, row["images"], images))
            question = envs[0].question
            texts = [write_answer(question.turns[0].truth, "norm1000", question.size), *ANSWERS]
            earned = [env.step(text)[1] for env, text in zip(envs, texts, strict=True)]
            assert graded(row, texts) == earned
            assert len(set(earned)) > 1


def test_a_pair_that_gives_nothing_to_ask_gives_way_to_another_and_moves_no_other_row(stored):
    """By areas that few objects have. The rows of other processes, which make no pair, agree."""
    filters = {"min_area": 0.02, "max_area": 0.03}
    with closing(StoredPairs(stored, "train")) as source:
        rows = [
            list(itertools.islice(stream(source, "crop_to_box", 0, *of).rows(), 12))
            for of in ((filters,), ({},), (filters, (1, 2)))
        ]
        seeds = [[row["pair_seed"] for row in of] for of in rows]
        assert seeds[0] == seeds[1] == seeds[2]
        asked = [row["asked"].info["pair_seed"] for row in rows[0]]
        moved = [one != other for one, other in zip(asked, seeds[0], strict=True)]
        assert any(moved) and not all(moved)
        for row in rows[0]:
            box = row["asked"].question.turns[0].truth.box
            assert 0.02 <= np.prod(box[2:] - box[:2]) <= 0.03
        none = stream(source, "crop_to_box", filters={"min_area": 0.9, "max_area": 1.0})
        with pytest.raises(ValueError, match="none of 50 pairs gives anything to ask for crop_to"):
            next(none.rows())


def settings(out, stored, **changes):
    return GRPORun(out=str(out), dataset=stored, **(SHORT | changes))


@pytest.fixture(scope="module")
def result(stored, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "mixture"
    how = {"steps": 4, "eval_pairs": 3, "eval_every": 2, "wandb": "offline"}
    return train_grpo(settings(out, stored, **how))


def test_pairs_and_questions_are_learned_in_one_run_and_told_apart(result):
    assert {stage for step in result.steps for stage in step.stages} == set(MIXTURE)
    for step in result.steps:
        assert (step.f1 is None) == ("single" not in step.stages)
        if step.f1 is not None:
            assert step.f1 == step.stages["single"]["f1"]
    state = json.loads((result.checkpoint / "curriculum.json").read_text())
    assert state["kind"] == "random" and state["episodes"] == 16
    assert set(result.steps[1].held_out) == set(MIXTURE)
    (folder,) = Path(result.run.out).glob("wandb/offline-run-*")
    lines = [line for line in wandb_lines(folder) if "train/loss" in line]
    for step, line in zip(result.steps, lines, strict=True):
        for stage, of in step.stages.items():
            assert line[f"train/dig/reward/{stage}"] == pytest.approx(of["reward"])
        assert ("train/dig/f1" in line) == (step.f1 is not None)
    validated = lines[1]["train/dig/validation_accuracy/crop_to_box@single"]
    assert validated == result.steps[1].held_out["crop_to_box@single"]
    assert len(list(folder.glob("files/media/images/dig/*.png"))) == 4


def test_each_task_is_evaluated_before_and_after_on_held_out_pairs(result, stored):
    test_pairs = {
        stage: set(PairDataset(stored).pair_seeds(stage, "test")) for stage in ("single", "mixed")
    }
    for stage, pairs in zip(MIXTURE[1:], ("single", "mixed"), strict=True):
        for when, episodes in (("before", result.before), ("after", result.after)):
            seeds = [episode.info["pair_seed"] for episode in episodes[stage]]
            assert seeds and set(seeds) <= test_pairs[pairs]
            metrics = result.metrics(when, stage)
            assert metrics["reward"] == np.mean([of.reward for of in episodes[stage]])
            assert "sampled_accuracy" in metrics and "format" not in metrics
        assert [e.question.turns[0].prompt for e in result.before[stage]] == [
            e.question.turns[0].prompt for e in result.after[stage]
        ]
    page = Path(result.run.out, "report.html").read_text()
    for part in ("Held-out F1: ", "Held-out accuracy: ", "accuracy of tasks", "existence, reward"):
        assert part in page
    assert "right" in str(result.steps[-1]) or "existence" not in result.steps[-1].stages


class Killed(Exception):
    pass


def test_a_mixture_that_was_interrupted_goes_on_to_the_same_weights(stored, tmp_path):
    """Bit for bit, on one thread."""

    def kill(step):
        if step.step > 2:
            raise Killed

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    straight = train_grpo(settings(tmp_path / "straight", stored, steps=4, eval_pairs=0))
    broken = settings(tmp_path / "broken", stored, steps=4, eval_pairs=0)
    with pytest.raises(Killed):
        train_grpo(broken, kill)
    resumed = train_grpo(broken)
    torch.set_num_threads(threads)
    courses = [
        [(step.stage, step.reward, step.stages) for step in result.steps]
        for result in (straight, resumed)
    ]
    assert courses[0] == courses[1]
    one, other = (
        MLLMPolicy.from_pretrained(result.checkpoint).model.state_dict()
        for result in (straight, resumed)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_curriculum_may_lead_from_a_task_to_pairs(stored, tmp_path):
    run = settings(
        tmp_path,
        stored,
        stages=("text_to_crop@dual", "dual"),
        curriculum="threshold",
        promote_at=0.0,
        pairs_per_step=1,
        rollouts=2,
        window=1,
        steps=4,
        eval_pairs=0,
        save_every=0,
    )
    result = train_grpo(run)
    assert result.promotions == [(1, "text_to_crop@dual", "dual")]
    assert "F1" in str(result.steps[-1]) and "right" in str(result.steps[0])


def test_a_model_with_patches_learns_from_rows_of_unequal_numbers_of_images(stored, tmp_path):
    """Two images, one, and one with crops, in one batch that goes through the model in parts."""
    register()
    model = save_qwen3_vl(tmp_path / "model")
    run = settings(
        tmp_path / "run",
        stored,
        model=str(model),
        stages=("single", "text_to_box", "text_to_crop"),
        rollouts=2,
        steps=2,
        eval_pairs=1,
        temperature=1.0,
        max_completion_length=4,
        trl={"per_device_train_batch_size": 4},
        seed=4,
    )
    result = train_grpo(run)
    assert [len(step.stages) for step in result.steps] == [3, 3]
    assert set(result.after) == set(run.stages)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stages": ("single", "conversation")}, "'conversation' asks several times"),
        ({"stages": ("crop_to_box@triple",)}, "unknown stage 'crop_to_box@triple'.*relation"),
        ({"stages": ("find@single",)}, "unknown stage 'find@single'; .* TASK@STAGE, where TASK"),
        ({"filters": {"crop": 64}}, "filters has 'crop'; the fields are .*crop_px"),
        ({"curriculum": "mixed"}, "threshold, random"),
    ],
)
def test_wrong_settings_are_refused_before_anything_starts(fields, message):
    with pytest.raises(ValueError, match=message):
        GRPORun(**fields)


def test_a_task_asks_about_a_stage_that_a_module_registers(tmp_path, monkeypatch):
    text = (
        "from dig_env.scenes import register_stage\nregister_stage('lone', {'objects': (5, 5)})\n"
    )
    (tmp_path / "lone_stage.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert stage_of_module("relation@lone_stage:lone") == "relation@lone"
    assert GRPORun(stages=("relation@lone_stage:lone",)).stages == ("relation@lone",)


def test_the_kind_of_curriculum_is_part_of_a_runs_settings(result):
    with pytest.raises(ValueError, match="holds a run with curriculum='random', not 'threshold'"):
        train_grpo(GRPORun(**(vars(result.run) | {"curriculum": "threshold"})))
    again = train_grpo(result.run, curriculum=RandomCurriculum(MIXTURE, seed=1))
    for stage in MIXTURE:
        assert again.metrics("after", stage) == result.metrics("after", stage)
