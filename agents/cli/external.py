"""``dig-env eval-external``: a policy on somebody else's difference set."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from dig_env import resolve_reward
from dig_env.agents.cli.common import Answers, AnswersArgs, result_file
from dig_env.agents.cli.endpoint import Course, Endpoint, EndpointArgs
from dig_env.agents.cli.eval import named_player
from dig_env.agents.cli.output import Output, Printed, this_command


def eval_external(
    format: Literal["clevr-change", "coco"],
    data: Path,
    policy: str = "tiny",
    split: str = "test",
    unchanged: bool = False,
    size: tuple[int, int] = (480, 320),
    images: Path | None = None,
    limit: int | None = None,
    reward: str = "full",
    out: Path | None = None,
    answers: AnswersArgs = Answers(),
    endpoint: EndpointArgs = Endpoint(),
    output: Printed = Output(),
) -> None:
    """Evaluate a policy on pairs of another origin, with the same metrics.

    Args:
        format: clevr-change (the release of Robust Change Captioning) or coco (pairs in a COCO
            instances file, such as dig-env export --format coco writes).
        data: the folder that CLEVR-Change unpacks to, or the COCO file.
        policy: tiny, tiny-start, random, oracle, pixeldiff, or a model's folder or hub name; with
            --base-url the model's name at that endpoint.
        split: of clevr-change: train, val or test.
        unchanged: of clevr-change: play the distractors too, in which nothing differs.
        size: of clevr-change: width and height in pixels of the images that the boxes are for.
        images: of coco: the folder that its file names begin at; by default the file's own.
        limit: play only the first so many pairs.
        reward: name of the reward: full, paper, dense, strict, format, iou or f1.
        out: JSON file for the result; its report, .html, and plot, .png, lie beside it. By
            default runs/eval-external-POLICY-FORMAT.json.
        answers: how the policy answers.
        endpoint: where a model is served.
        output: what is printed.
    """
    config, out = resolve_reward(reward), result_file(out, "eval-external", policy, format)
    from dig_env.agents.evaluation.episodes import read_error
    from dig_env.agents.evaluation.external import (
        evaluate_external,
        read_clevr_change,
        read_coco_pairs,
    )
    from dig_env.agents.reporting.evaluation import result_tables, write_external

    if format == "clevr-change":
        pairs = read_clevr_change(data, split, unchanged=unchanged, size=size)
    else:
        pairs = read_coco_pairs(data, images)
    pairs = pairs[:limit]
    course = Course(out, output)
    player = named_player(policy, answers, endpoint, course)
    with output.counting("pairs", len(pairs)) as on_pair:
        report = evaluate_external(
            player,
            pairs,
            coordinates=answers.coordinates,
            config=config,
            batch_size=endpoint.batch_size,
            on_pair=on_pair,
            on_failure=course.on_failure,
        )
    result = {
        "policy": policy,
        "command": this_command(),
        "layout": format,
        "data": str(data),
        "usage": None if endpoint.base_url is None else player.usage_json(),
        **report.to_json(),
        **course.findings([read_error(score) for score in report.scores]),
    }
    write_external(out, report, result)
    for table in result_tables(result):
        output.table(table)
    output.result(result, result=out, report=out.with_suffix(".html"))
    course.end(result)
