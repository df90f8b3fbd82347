"""``dig-env eval``: what a policy finds on held-out pairs, as tables, JSON and a report."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from agents.cli_common import Answers, AnswersArgs, HeldOut, HeldOutArgs, StageName, result_file
from agents.cli_output import Output, Printed, this_command
from dig_env import resolve_reward
from scenes import PairDataset

FRESH_EPISODES = 200
BATCH_SIZE = 16


@dataclass(frozen=True)
class Endpoint:
    """Where a model is served.

    Attributes:
        base_url: of an OpenAI-compatible endpoint, such as http://localhost:8000/v1.
        api_key_env: environment variable with the endpoint's key, if it wants one.
        request: JSON object with further fields of each request; null leaves one out that is sent
            else: max_completion_tokens and temperature (0).
        concurrency: requests to the endpoint at the same time.
        price: of a million prompt tokens and of a million completion tokens.
    """

    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    request: str = "{}"
    concurrency: int = 8
    price: tuple[float, float] | None = None


def eval(
    policy: str = "tiny",
    stage: StageName = "single",
    episodes: int | None = None,
    workers: int = 1,
    reward: str = "full",
    out: Path | None = None,
    held_out: HeldOutArgs = HeldOut(),
    answers: AnswersArgs = Answers(),
    endpoint: tyro.conf.OmitArgPrefixes[Endpoint] = Endpoint(),
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
    from agents.evaluation import evaluate, evaluate_stored
    from agents.evaluation_report import result_tables, write_evaluation
    from agents.report import machine

    if episodes is None:
        stored = held_out.dataset and PairDataset(held_out.dataset)
        episodes = len(stored.pair_seeds(stage, held_out.split)) if stored else FRESH_EPISODES
    player = _player(policy, answers, endpoint)
    with output.counting("pairs", episodes) as on_episode:
        common: dict[str, Any] = {
            "stage": stage,
            "episodes": episodes,
            "seed": held_out.seed,
            "split": held_out.split,
            "coordinates": answers.coordinates,
            "config": config,
            "batch_size": BATCH_SIZE if endpoint.base_url is None else 4 * endpoint.concurrency,
            "on_episode": on_episode,
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


def _player(policy: str, answers: Answers, endpoint: Endpoint) -> Any:
    """The policy that plays: here, or behind the endpoint."""
    if endpoint.base_url is None:
        from agents.mllm import named_policy

        return named_policy(policy, answers.coordinates, answers.max_tokens)
    from agents.api_policy import ApiPolicy

    return ApiPolicy(
        endpoint.base_url,
        policy,
        api_key_env=endpoint.api_key_env,
        max_tokens=4096 if answers.max_tokens is None else answers.max_tokens,
        request=_json_object(endpoint.request),
        concurrency=endpoint.concurrency,
        price=endpoint.price,
    )


def _json_object(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise ValueError(f"""--request {text}: give a JSON object, such as '{{"seed": 1}}'""")
    return fields
