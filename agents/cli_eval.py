"""``dig-env eval``: what a policy finds on held-out pairs, as a table, JSON and a page."""

from __future__ import annotations

import json
import platform
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from dig_env import COORDINATES, resolve_reward
from scenes import RenderSettings, available_cores
from scenes.files import write_whole

console = Console(highlight=False)

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
    stage: str = "single",
    episodes: int | None = None,
    seed: int = 0,
    split: str = "test",
    dataset: Path | None = None,
    width: int = 128,
    height: int = 96,
    quality: str = "draft",
    workers: int = 1,
    reward: str = "full",
    coordinates: str = "norm1000",
    max_tokens: int | None = None,
    endpoint: tyro.conf.OmitArgPrefixes[Endpoint] = Endpoint(),
    out: Path | None = None,
    page: Path | None = None,
) -> None:
    """Evaluate a policy on held-out pairs, rendered for it or stored.

    Args:
        policy: tiny, tiny-start, random, oracle, pixeldiff, or a model's folder or hub name; with
            --base-url the model's name at that endpoint.
        stage: single, dual, mixed, subtle, cluttered, nuisance or extreme; with --dataset any
            stage that it has.
        episodes: number of pairs; by default 200 rendered ones, or all that are stored.
        seed: of the draw of pairs to render, and of the resampling for the intervals.
        split: train, validation or test.
        dataset: play the pairs of this folder, which dig-env render wrote.
        width: image width in pixels; stored pairs have theirs.
        height: image height in pixels; stored pairs have theirs.
        quality: draft, standard or high; stored pairs have theirs.
        workers: Blender processes.
        reward: name of the reward: full, paper, dense, strict, format, iou or f1.
        coordinates: frame to answer in: norm1000, unit, pixel or resized_pixel.
        max_tokens: longest answer; by default 24 tokens of tiny, 256 of another local model and
            4096 of an endpoint's. A Thinking model needs thousands.
        endpoint: where a model is served.
        out: also write the result, with every answer, to this JSON file.
        page: also write it to this HTML file, with the worst and the best pairs drawn.
    """
    if coordinates not in COORDINATES:
        raise ValueError(f"--coordinates {coordinates}: give one of {', '.join(COORDINATES)}")
    for path in (out, page):
        if path is not None and not path.absolute().parent.is_dir():
            raise FileNotFoundError(f"there is no folder {path.absolute().parent}: make it first")
    from agents.evaluation import evaluate, evaluate_stored

    fresh = FRESH_EPISODES if episodes is None else episodes
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        total = fresh if dataset is None else episodes
        task = progress.add_task(f"{policy} on {stage}", total=total)
        common: dict[str, Any] = {
            "stage": stage,
            "seed": seed,
            "split": split,
            "coordinates": coordinates,
            "config": resolve_reward(reward),
            "batch_size": BATCH_SIZE if endpoint.base_url is None else 4 * endpoint.concurrency,
            "on_episode": lambda _: progress.advance(task),
        }
        player = _player(policy, coordinates, max_tokens, endpoint)
        if dataset is not None:
            report = evaluate_stored(player, dataset, episodes=episodes, **common)
        else:
            report = evaluate(
                player,
                episodes=fresh,
                settings=RenderSettings(width, height, quality),
                workers=workers,
                **common,
            )
    result = {
        "policy": policy,
        "command": shlex.join(["dig-env", *sys.argv[1:]]),
        "machine": f"{available_cores()} cores, {platform.machine()}, {platform.system()}",
        "reward_name": reward,
        "coordinates": coordinates,
        "usage": None if endpoint.base_url is None else player.usage_json(),
        **report.to_json(),
    }
    _print(result)
    if out is not None:
        answers = {"answers": [episode.to_json() for episode in report.episodes]}
        write_whole(out, json.dumps(result | answers, indent=1).encode() + b"\n")
        console.print(f"result: {out}", soft_wrap=True)
    if page is not None:
        from agents.evaluation_page import write_page

        write_page(page, report, result)
        console.print(f"page: {page}", soft_wrap=True)


def _player(policy: str, coordinates: str, max_tokens: int | None, endpoint: Endpoint) -> Any:
    """The policy that plays: here, or behind the endpoint."""
    if endpoint.base_url is None:
        from agents.mllm import named_policy

        return named_policy(policy, coordinates, max_tokens)
    from agents.api_policy import ApiPolicy

    return ApiPolicy(
        endpoint.base_url,
        policy,
        api_key_env=endpoint.api_key_env,
        max_tokens=4096 if max_tokens is None else max_tokens,
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


def _print(result: dict[str, Any]) -> None:
    """The tables, and what an endpoint took."""
    confidence = f"{100 * result['confidence']:.0f} % interval"
    console.print(
        f"{result['policy']} on {result['episodes']} pairs of {result['split']}/{result['stage']} "
        f"({'x'.join(map(str, result['size']))}, {result['source']}, seed {result['seed']})",
        markup=False,
        soft_wrap=True,
    )
    means = Table("mean over pairs", "", confidence)
    for metric, interval in result["intervals"].items():
        means.add_row(metric, *_cells(interval))
    console.print(means)
    groups = Table("recall of differences", "", "number", "", confidence)
    for axis, entries in result["recall_by"].items():
        for index, (group, entry) in enumerate(entries.items()):
            name = axis if index == 0 else ""
            groups.add_row(name, group, str(entry["differences"]), *_cells(entry["recall"]))
        groups.add_section()
    console.print(groups)
    shown = ("f1", "iou", "precision", "recall", "count_accuracy")
    counts = Table("differences", "pairs", *shown)
    for count, entry in result["by_differences"].items():
        counts.add_row(count, str(entry["pairs"]), *(f"{entry[name][0]:.3f}" for name in shown))
    console.print(counts)
    if result["usage"]:
        parts = (f"{name} {value}" for name, value in result["usage"].items())
        console.print(f"endpoint: {', '.join(parts)}", soft_wrap=True)


def _cells(interval: list[float]) -> tuple[str, str]:
    mean, low, high = interval
    return f"{mean:.3f}", f"{low:.3f} to {high:.3f}"
