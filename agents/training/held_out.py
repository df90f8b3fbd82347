"""A GRPO run's results so far, and its evaluations on held-out pairs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from dig_env import StageCurriculum
from dig_env.agents.evaluation.episodes import Episode, mean_metrics
from dig_env.agents.evaluation.pairs import pair_seeds, play_pairs
from dig_env.agents.policies.mllm import MLLMPolicy
from dig_env.agents.training.grpo_report import write_run
from dig_env.agents.training.monitor import GRPOResult, Step
from dig_env.agents.training.settings import GRPORun
from dig_env.agents.training.trainer_settings import this_process
from dig_env.envs.pairs import PairSource, stages_of
from dig_env.scenes import Pair, PairDataset
from dig_env.scenes.extras import extra

with extra("train"):
    import torch
    from accelerate.utils import gather_object


class Results:
    """What a run has so far, and the evaluations that add to it.

    Each process has an equal share of the held-out pairs; all of them play at the same time.
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
        before = play_held_out(self._policy, self._test, self._run)
        sampled = play_sampled(self._policy, self._test, self._run)
        self._start = replace(self._start, before=before, sampled={"before": sampled})

    def validate(self) -> dict[str, float]:
        """The mean F1 of the validation pairs by stage."""
        played = play_held_out(self._policy, self._validation, self._run)
        return {stage: mean_metrics(episodes)["f1"] for stage, episodes in played.items()}

    def play_after(self, steps: list[Step]) -> GRPOResult:
        """Let the trained policy answer the test pairs."""
        after = play_held_out(self._policy, self._test, self._run)
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


def held_out_share(run: GRPORun, source: PairSource, split: str) -> dict[str, list[Pair]]:
    """This process's share of ``run.eval_pairs`` pairs of each stage: fresh, or the dataset's."""
    process = this_process()
    pairs = {}
    for stage in run.stages if run.eval_pairs else ():
        seeds: Iterable[int] = pair_seeds(0, split)
        if run.dataset is not None:
            seeds = PairDataset(run.dataset).pair_seeds(stage, split)
        share = (process.process_index, run.eval_pairs, process.num_processes)
        wanted = itertools.islice(seeds, *share)
        asked = [source.submit(seed, stages_of(source)[stage]) for seed in wanted]
        pairs[stage] = [future.result() for future in asked]
    return pairs


def play_held_out(
    policy: MLLMPolicy, held_out: dict[str, list[Pair]], run: GRPORun
) -> dict[str, list[Episode]]:
    """The episodes of each stage, scored by the very reward that the run trains on.

    All processes call it with their shares of the pairs, and get the episodes of all.
    """
    process = this_process()
    episodes = {}
    for stage, pairs in held_out.items():
        played = play_pairs(policy, pairs, config=run.reward)
        places = itertools.count(process.process_index, process.num_processes)
        everywhere = gather_object(list(zip(places, played, strict=False)))
        episodes[stage] = [episode for _, episode in sorted(everywhere, key=lambda dealt: dealt[0])]
    return episodes


def play_sampled(
    policy: MLLMPolicy, held_out: dict[str, list[Pair]], run: GRPORun
) -> dict[str, list[Episode]]:
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
        return play_held_out(sampling, held_out, run)
