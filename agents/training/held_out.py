"""A GRPO run's results so far, and its evaluations on held-out pairs and questions."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from dig_env import StageCurriculum
from dig_env.agents.evaluation.asked import FRAME, Answered, Asked, ask
from dig_env.agents.evaluation.episodes import means
from dig_env.agents.evaluation.pairs import pair_seeds
from dig_env.agents.policies.mllm import MLLMPolicy
from dig_env.agents.training.grpo_report import write_run
from dig_env.agents.training.monitor import GRPOResult, Step
from dig_env.agents.training.settings import GRPORun, measure_of, task_and_stage
from dig_env.agents.training.trainer_settings import this_process
from dig_env.envs.align import align_settings
from dig_env.envs.pairs import PairSource, stages_of
from dig_env.scenes import PairDataset
from dig_env.scenes.extras import extra

with extra("train"):
    import torch
    from accelerate.utils import gather_object


class Results:
    """What a run has so far, and the evaluations that add to it.

    Each process has an equal share of the held-out pairs; all of them play at the same time. A pair
    that gives a task nothing to ask is left out of it.
    """

    def __init__(
        self,
        run: GRPORun,
        policy: MLLMPolicy,
        source: PairSource,
        curriculum: StageCurriculum,
    ) -> None:
        self._run, self._policy = run, policy
        self._source, self._curriculum = source, curriculum
        self._test = held_out_share(run, source, "test")
        self._validation = held_out_share(run, source, "validation") if run.eval_every else {}
        self._start = GRPOResult(run, Path(run.out, "checkpoint"), before={}, sampled={})

    def play_before(self) -> None:
        """Let the starting policy answer the test pairs."""
        before = play_held_out(self._policy, self._test)
        sampled = play_sampled(self._policy, self._test, self._run)
        self._start = replace(self._start, before=before, sampled={"before": sampled})

    def validate(self) -> dict[str, float]:
        """The mean F1 of the validation pairs, or the accuracy of the questions, by stage."""
        played = play_held_out(self._policy, self._validation)
        return {
            stage: means([episode.metrics for episode in of])[measure_of(stage)]
            for stage, of in played.items()
        }

    def play_after(self, steps: list[Step]) -> GRPOResult:
        """Let the trained policy answer the test pairs."""
        after = play_held_out(self._policy, self._test)
        sampled = {"after": play_sampled(self._policy, self._test, self._run)}
        return replace(
            self._so_far(steps),
            after=after,
            sampled=self._start.sampled | sampled,
            finished=True,
        )

    def write_report(self, steps: list[Step]) -> None:
        """Report what there is."""
        if this_process().is_main_process:
            write_run(self._so_far(steps))

    def _so_far(self, steps: list[Step]) -> GRPOResult:
        return replace(
            self._start,
            steps=steps,
            promotions=self._curriculum.history,
            renderer_versions=self._source.versions,
        )


def held_out_share(run: GRPORun, source: PairSource, split: str) -> dict[str, list[Asked | None]]:
    """This process's share of what ``run.eval_pairs`` pairs of each stage, fresh or the dataset's,
    are asked; None where one gives nothing to ask."""
    process, settings = this_process(), align_settings(FRAME, run.filters)
    asked = {}
    for stage in run.stages if run.eval_pairs else ():
        task, of = task_and_stage(stage)
        seeds: Iterable[int] = pair_seeds(0, split)
        if run.dataset is not None:
            seeds = PairDataset(run.dataset).pair_seeds(of, split)
        share = (process.process_index, run.eval_pairs, process.num_processes)
        wanted = list(itertools.islice(seeds, *share))
        made = [source.submit(seed, stages_of(source)[of]) for seed in wanted]
        asked[stage] = [
            ask(future.result(), task, seed, run.reward, settings)
            for seed, future in zip(wanted, made, strict=True)
        ]
    return asked


def play_held_out(
    policy: MLLMPolicy, held_out: dict[str, list[Asked | None]]
) -> dict[str, list[Answered]]:
    """The episodes of each stage with any, scored by the very reward that the run trains on.

    All processes call it with their shares of what is asked, and get the episodes of all.
    """
    process = this_process()
    episodes = {}
    for stage, share in held_out.items():
        places = itertools.count(process.process_index, process.num_processes)
        there = [(place, asked) for place, asked in zip(places, share, strict=False) if asked]
        texts = policy.answer_all([asked for _, asked in there], lambda asked: asked.chat())
        played = [
            (place, asked.answered(text)) for (place, asked), text in zip(there, texts, strict=True)
        ]
        everywhere = sorted(gather_object(played), key=lambda dealt: dealt[0])
        if everywhere:
            episodes[stage] = [episode for _, episode in everywhere]
    return episodes


def play_sampled(
    policy: MLLMPolicy, held_out: dict[str, list[Asked | None]], run: GRPORun
) -> dict[str, list[Answered]]:
    """The episodes of each stage at the rollouts' temperature, with their own random numbers."""
    sampling = MLLMPolicy(
        policy.model,
        policy.processor,
        max_new_tokens=policy.max_new_tokens,
        temperature=run.temperature,
        batch_size=policy.batch_size,
    )
    with torch.random.fork_rng():
        torch.manual_seed(run.seed)
        return play_held_out(sampling, held_out)
