"""``dig-env eval-external``: a policy on somebody else's difference set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import Progress

from dig_env import resolve_reward

console = Console(highlight=False)


def eval_external(
    format: Literal["clevr-change", "coco"],
    data: Path,
    policy: str = "tiny",
    split: str = "test",
    unchanged: bool = False,
    images: Path | None = None,
    limit: int | None = None,
    reward: str = "full",
    coordinates: str = "norm1000",
    max_tokens: int | None = None,
    out: Path | None = None,
) -> None:
    """Evaluate a policy on pairs of another origin, with the metrics of the game's own.

    Args:
        format: clevr-change (the release of Robust Change Captioning) or coco (pairs in a COCO
            instances file, such as dig-env export --format coco writes).
        data: the folder that CLEVR-Change unpacks to, or the COCO file.
        policy: "tiny", "random", "oracle", "pixeldiff", or a model's folder or hub name.
        split: of clevr-change: train, val or test.
        unchanged: of clevr-change: play the distractors too, in which nothing differs.
        images: of coco: the folder that its file names begin at; by default the file's own.
        limit: play only the first so many pairs.
        reward: name of the reward: full, paper, dense, strict, format, iou or f1.
        coordinates: frame to answer in: norm1000, unit, pixel or resized_pixel.
        max_tokens: longest answer of a model; by default 24 of tiny, 256 of others. A Thinking
            model needs thousands.
        out: also write the result to this JSON file.
    """
    from agents.external import evaluate_external, read_clevr_change, read_coco_pairs
    from agents.mllm import named_policy
    from scenes.files import write_whole

    if format == "clevr-change":
        pairs = read_clevr_change(data, split, unchanged=unchanged)
    else:
        pairs = read_coco_pairs(data, images)
    pairs = pairs[:limit]
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(f"{policy} on {data}", total=len(pairs))
        report = evaluate_external(
            named_policy(policy, coordinates, max_tokens),
            pairs,
            coordinates=coordinates,
            config=resolve_reward(reward),
            on_pair=lambda: progress.advance(task),
        )
    result = {"policy": policy, "layout": format, "data": str(data), **report.to_json()}
    console.print_json(json.dumps(result))
    if out is not None:
        write_whole(out, json.dumps(result, indent=2).encode() + b"\n")
        console.print(f"result: {out}", soft_wrap=True)
