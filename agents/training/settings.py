"""Settings of a training run, apart from what it imports, so that the command line starts fast."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import tyro

from dig_env import RewardConfig, RewardLike, resolve_reward
from dig_env.align import TASKS
from dig_env.envs.align import align_settings
from dig_env.scenes import PAPER_STAGES, STAGES

WandbMode = Literal["disabled", "offline", "online"]
CurriculumKind = Literal["threshold", "random"]
SEVERAL_TURNS = ("conversation",)
"""Tasks whose episodes have several answers."""


def task_and_stage(name: str) -> tuple[str | None, str]:
    """What a stage of training asks, an alignment task or None for a pair's differences, and the
    stage of its pairs.

    >>> task_and_stage("dual"), task_and_stage("crop_to_box"), task_and_stage("relation@single")
    ((None, 'dual'), ('crop_to_box', 'mixed'), ('relation', 'single'))
    """
    task, _, stage = name.partition("@")
    return (task, stage or "mixed") if task in TASKS else (None, name)


def measure_of(name: str) -> str:
    """The metric that sums up the answers of a stage: "f1" of pairs, "accuracy" of a task."""
    return "f1" if task_and_stage(name)[0] is None else "accuracy"


def stage_of_module(text: str) -> str:
    """The stage's name in "name" or "module:name"; the module, which registers it, is imported.

    Raises:
        ValueError: there is no such module.
    """
    task, at, stage = text.rpartition("@")
    module, _, name = stage.rpartition(":")
    if module:
        sys.path.append("")  # a file of the current folder, as in "python -m"
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise ValueError(f"{text}: cannot import {module} ({error})") from error
    return task + at + name


@dataclass(frozen=True)
class GRPORun:
    """Settings of one training run; the defaults are those of the demo.

    Attributes:
        out: folder for the checkpoint, the history and the pictures; made if absent.
        model: "tiny-start" or "tiny" (the embedded policy), a folder, or a hub name.
        thinking: whether the answer begins with a thought; None: as in its chat template.
        lora: settings of peft.LoraConfig, to train adapters only; None: all weights.
        stages: names of the curriculum's stages, from first to last: of pairs, or an alignment
            task, such as crop_to_box, which asks about mixed pairs, or crop_to_box@single, about
            single ones. MODULE:NAME is a stage that your module registers.
        curriculum: "threshold" goes from stage to stage; "random" draws one for each pair.
        promote_at: mean reward of the window at which the next stage begins.
        demote_below: mean reward of the window below which the stage before returns; None: never.
        window: pairs that a stage is judged by.
        dataset: folder that dig-env render wrote, to train and evaluate on instead of fresh
            pairs; it decides the images' size and quality.
        width: image width in pixels.
        height: image height in pixels.
        quality: "draft", "standard" or "high"; see dig_env.scenes.RenderSettings.
        workers: Blender processes; 0 takes one a CPU core, if they fit in memory.
        pairs_per_step: pairs in one optimiser step.
        rollouts: answers to each pair, the group over which advantages are normalised.
        min_group_std: a group whose rewards have a smaller standard deviation (over rollouts - 1)
            counts as one with zero variance, and is not learned from. 0: only such groups.
        steps: optimizer steps at most.
        minutes: training stops after the step that ends later than this, by the first process's
            clock; None: never.
        learning_rate: of AdamW at first; it falls linearly to 0 over the steps.
        beta: weight of the KL divergence to the starting policy.
        temperature: of the rollouts' sampling. The embedded policy spreads some weight over all
            1,001 number tokens: at 1.0 most of its rollouts miss, and 0.3 learned fastest.
        max_completion_length: tokens of an answer at most.
        eval_pairs: held-out pairs of each stage (test split) on which the policy is evaluated,
            greedily, before and after; 0: not at all.
        eval_every: steps between evaluations on as many validation pairs; 0: none.
        save_every: steps between checkpoints, from which a stopped run resumes; 0: none.
        seed: of the pair stream, the sampling and the optimiser.
        wandb: "disabled", "offline" or "online".
        reward: settings of the reward of pairs, or a name from dig_env.REWARDS.
        filters: how questions are posed, such as {"crop_px": 64}; see DiGAlignEnv.
        trl: further settings of trl.GRPOConfig, those excepted that this run decides. With
            per_device_train_batch_size among them, a step's rollouts go through the model in so
            many parts as that takes.
    """

    out: str = "runs/grpo"
    model: str = "tiny-start"
    thinking: bool | None = None
    lora: tyro.conf.Suppress[dict[str, Any] | None] = None
    stages: tuple[str, ...] = PAPER_STAGES
    curriculum: CurriculumKind = "threshold"
    promote_at: float = 0.7
    demote_below: float | None = None
    window: int = 128
    dataset: str | None = None
    width: int = 128
    height: int = 96
    quality: str = "draft"
    workers: int = 0
    pairs_per_step: int = 16
    rollouts: int = 8
    min_group_std: float = 0.0
    steps: int = 80
    minutes: float | None = 7.0
    learning_rate: float = 1e-4
    beta: float = 0.0
    temperature: float = 0.3
    max_completion_length: int = 24
    eval_pairs: int = 100
    eval_every: int = 0
    save_every: int = 20
    seed: int = 0
    wandb: WandbMode = "disabled"
    reward: tyro.conf.Suppress[RewardLike] = field(default_factory=RewardConfig)
    filters: dict[str, Any] = field(default_factory=dict)
    trl: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reward", resolve_reward(self.reward))
        object.__setattr__(self, "stages", tuple(map(stage_of_module, self.stages)))
        least = {"pairs_per_step": 1, "steps": 1, "window": 1}
        least |= {"eval_pairs": 0, "eval_every": 0, "save_every": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name}={getattr(self, name)!r}: give {low} or more")
        if self.eval_every and not self.eval_pairs:
            raise ValueError(f"eval_every={self.eval_every} needs eval_pairs of 1 or more")
        if not 0.0 <= self.min_group_std < 1.0:
            raise ValueError(f"min_group_std={self.min_group_std!r}: give 0 or more, less than 1")
        if self.rollouts < 2:
            raise ValueError(f"rollouts={self.rollouts!r}: a group needs 2 or more to compare")
        for name, kinds in (("wandb", WandbMode), ("curriculum", CurriculumKind)):
            if getattr(self, name) not in get_args(kinds):
                given, allowed = getattr(self, name), ", ".join(get_args(kinds))
                raise ValueError(f"{name}={given!r}: give one of {allowed}")
        align_settings("norm1000", self.filters)  # raises what is wrong with them
        self._check_stages()

    def _check_stages(self) -> None:
        asked = {name: task_and_stage(name) for name in self.stages}
        several = [name for name, (task, _) in asked.items() if task in SEVERAL_TURNS]
        if several:
            raise ValueError(
                f"stage {several[0]!r} asks several times in an episode, and a group compares "
                "single answers: leave it out"
            )
        unknown = [name for name, (_, stage) in asked.items() if stage not in STAGES]
        if unknown and self.dataset is None:  # a dataset has stages of its own
            tasks = [task for task in TASKS if task not in SEVERAL_TURNS]
            raise ValueError(
                f"unknown stage {unknown[0]!r}; the stages are {', '.join(STAGES)}, and TASK or "
                f"TASK@STAGE, where TASK is one of {', '.join(tasks)}"
            )
