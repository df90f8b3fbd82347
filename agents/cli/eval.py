"""``dig-env eval``: what a policy finds on held-out pairs, as tables, JSON and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dig_env import resolve_reward
from dig_env.agents.cli.common import (
    Answers,
    AnswersArgs,
    HeldOut,
    HeldOutArgs,
    StageName,
    result_file,
)
from dig_env.agents.cli.endpoint import Course, Endpoint, EndpointArgs
from dig_env.agents.cli.output import Output, Printed, this_command
from dig_env.scenes import PairDataset

FRESH_EPISODES = 200


def eval(
    policy: str = "tiny",
    stage: StageName = "single",
    episodes: int | None = None,
    workers: int = 1,
    reward: str = "full",
    out: Path | None = None,
    held_out: HeldOutArgs = HeldOut(),
    answers: AnswersArgs = Answers(),
    endpoint: EndpointArgs = Endpoint(),
    output: Printed = Output(),
) -> None:
    """Evaluate a policy on held-out pairs, rendered for it or stored.

    Args:
        policy: tiny, tiny-start, random, oracle, pixeldiff, or a model's folder or hub name; with
            --base-url the model's name at that endpoint.
        stage: single, dual, mixed, subtle, cluttered, nuisance or extreme; with --dataset any
            stage that it has; or MODULE:NAME for one that your module registers.
        episodes: number of pairs; by default 200 rendered ones, or all that are stored.
        workers: Blender processes.
        reward: name of the reward: full, paper, dense, strict, format, iou or f1.
        out: JSON file for the result with every answer; its report, .html, and plot, .png, lie
            beside it. By default runs/eval-POLICY-STAGE.json.
        held_out: which pairs are played.
        answers: how the policy answers.
        endpoint: where a model is served.
        output: what is printed.
    """
    config, out = resolve_reward(reward), result_file(out, "eval", policy, stage)
    from dig_env.agents.evaluation.episodes import read_error
    from dig_env.agents.evaluation.pairs import evaluate, evaluate_stored
    from dig_env.agents.reporting.evaluation import result_tables, write_evaluation
    from dig_env.agents.reporting.report import machine

    if episodes is None:
        stored = held_out.dataset and PairDataset(held_out.dataset)
        episodes = len(stored.pair_seeds(stage, held_out.split)) if stored else FRESH_EPISODES
    course = Course(out, output)
    player = named_player(policy, answers, endpoint, course)
    with output.counting("pairs", episodes) as on_episode:
        common: dict[str, Any] = {
            "stage": stage,
            "episodes": episodes,
            "seed": held_out.seed,
            "split": held_out.split,
            "coordinates": answers.coordinates,
            "config": config,
            "batch_size": endpoint.batch_size,
            "on_episode": on_episode,
            "on_failure": course.on_failure,
        }
        if held_out.dataset is not None:
            report = evaluate_stored(player, held_out.dataset, **common)
        else:
            report = evaluate(player, settings=held_out.settings, workers=workers, **common)
    result = {
        "policy": policy,
        "command": this_command(),
        "machine": machine(),
        "reward_name": reward,
        "coordinates": answers.coordinates,
        "quality": None if held_out.dataset else held_out.quality,
        "usage": None if endpoint.base_url is None else player.usage_json(),
        **report.to_json(),
        **course.findings([read_error(episode.score) for episode in report.episodes]),
    }
    write_evaluation(out, report, result)
    output.say(
        f"{policy} on {result['episodes']} pairs of {result['split']}/{result['stage']} "
        f"({'x'.join(map(str, result['size']))}, {result['source']}, seed {result['seed']})"
    )
    for table in result_tables(result):
        output.table(table)
    if result["usage"]:
        parts = (f"{name} {value}" for name, value in result["usage"].items())
        output.say(f"endpoint: {', '.join(parts)}")
    output.result(result, result=out, report=out.with_suffix(".html"))
    course.end(result)


def named_player(policy: str, answers: Answers, endpoint: Endpoint, course: Course) -> Any:
    """The policy that plays: here, or behind the endpoint, its answers kept."""
    if endpoint.base_url is None:
        from dig_env.agents.policies.mllm import named_policy

        return named_policy(policy, answers.coordinates, answers.max_tokens)
    from dig_env.agents.policies.endpoint import ApiPolicy

    settings = endpoint.settings(answers)
    return ApiPolicy(endpoint.base_url, policy, kept=course.keep(), **settings)
