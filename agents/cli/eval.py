"""``dig-env eval``, ``eval-external`` and ``eval-align``: tables, JSON and a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dig_env import instruction, resolve_reward
from dig_env.agents.cli.common import (
    Answers,
    AnswersArgs,
    HeldOut,
    HeldOutArgs,
    PairAnswers,
    PairAnswersArgs,
    StageName,
    result_file,
    tasks_named,
)
from dig_env.agents.cli.evaluation import Endpoint, EndpointArgs, EvaluationRun
from dig_env.agents.cli.output import Output, Printed
from dig_env.agents.evaluation.episodes import assumptions
from dig_env.agents.policies.policy import OraclePolicy, PixelDiffPolicy, Policy, RandomPolicy
from dig_env.align import AlignSettings
from dig_env.answers import DIALECTS
from dig_env.scenes import PairDataset, resolve_stage
from dig_env.scenes.files import write_whole

if TYPE_CHECKING:
    from dig_env.agents.evaluation.pairs import EvaluationResult

FRESH_EPISODES = 200


def eval(
    policy: str = "tiny",
    stage: StageName = "single",
    episodes: int | None = None,
    workers: int = 1,
    reward: str = "full",
    out: Path | None = None,
    held_out: HeldOutArgs = HeldOut(),
    answers: PairAnswersArgs = PairAnswers(),
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
        reward: name of the reward: full, paper, dense, strict, format, iou, f1 or exact.
        out: JSON file for the result with every answer; its report, .html, and plot, .png, are
            beside it. By default runs/eval-POLICY-STAGE.json.
        held_out: which pairs are played.
        answers: how the policy answers.
        endpoint: where a model is served.
        output: what is printed.
    """
    config, out = resolve_reward(reward), result_file(out, "eval", policy, stage)
    from dig_env.agents.evaluation.pairs import evaluate, evaluate_stored

    if held_out.dataset is not None:
        stored = PairDataset(held_out.dataset)
        count = len(stored.pair_seeds(stage, held_out.split))
        settings, difficulty = stored.settings, stored.stages[stage]
    else:
        count, settings = FRESH_EPISODES, held_out.settings
        difficulty = resolve_stage(stage)[1]
    episodes = count if episodes is None else episodes
    dialect, frame = answers.chosen(policy)
    run = EvaluationRun(policy, out, frame, endpoint, output, dialect)
    size = (settings.width, settings.height)
    say_asked(run, instruction(frame.coordinates, size, difficulty, dialect))
    player = pair_policy(run)
    with output.counting("pairs", episodes) as on_episode:
        common: dict[str, Any] = {
            "stage": stage,
            "episodes": episodes,
            "seed": held_out.seed,
            "split": held_out.split,
            "config": config,
            "answers": dialect,
            **how_played(run, on_episode),
        }
        if held_out.dataset is not None:
            played = evaluate_stored(player, held_out.dataset, **common)
        else:
            played = evaluate(player, settings=settings, workers=workers, **common)
    quality = None if held_out.dataset else held_out.quality
    _report_pairs(run, player, played, {"reward_name": reward, "quality": quality})


def eval_external(
    format: Literal["clevr-change", "coco", "img-diff", "oddgridbench"],
    data: Path,
    policy: str = "tiny",
    split: str = "test",
    unchanged: bool = False,
    size: tuple[int, int] = (480, 320),
    images: Path | None = None,
    limit: int | None = None,
    reward: str = "full",
    out: Path | None = None,
    answers: PairAnswersArgs = PairAnswers(),
    endpoint: EndpointArgs = Endpoint(),
    output: Printed = Output(),
) -> None:
    """Evaluate a policy on pairs of another origin, with the same metrics.

    Args:
        format: clevr-change (the release of Robust Change Captioning), coco (pairs in a COCO
            instances file, such as dig-env export --format coco writes), img-diff (the object
            replacements of Img-Diff) or oddgridbench (one image with an odd one in it).
        data: the folder that CLEVR-Change or OddGridBench is in, the COCO file, or Img-Diff's
            img_diff_object_replacement.json.
        policy: tiny, tiny-start, random, oracle, pixeldiff, or a model's folder or hub name; with
            --base-url the model's name at that endpoint.
        split: of clevr-change and oddgridbench: train, val or test.
        unchanged: of clevr-change: play the distractors too, in which nothing differs.
        size: of clevr-change: width and height in pixels of the images that the boxes are for.
        images: of coco and img-diff: the folder that file names begin at; by default the file's
            own.
        limit: play only the first so many pairs.
        reward: name of the reward: full, paper, dense, strict, format, iou, f1 or exact.
        out: JSON file for the result with every answer; its report, .html, and plot, .png, are
            beside it. By default runs/eval-external-POLICY-FORMAT.json.
        answers: how the policy answers.
        endpoint: where a model is served.
        output: what is printed.
    """
    config, out = resolve_reward(reward), result_file(out, "eval-external", policy, format)
    from dig_env.agents.evaluation import external
    from dig_env.agents.evaluation.pairs import difficulty_of, evaluate_external

    if format == "clevr-change":
        pairs = external.read_clevr_change(data, split, unchanged=unchanged, size=size)
    elif format == "oddgridbench":
        pairs = external.read_oddgridbench(data, split)
    else:
        read = external.read_coco_pairs if format == "coco" else external.read_img_diff
        pairs, split = read(data, images), ""
    pairs = pairs[:limit]
    dialect, frame = answers.chosen(policy)
    run = EvaluationRun(policy, out, frame, endpoint, output, dialect)
    if pairs:
        coordinates = run.answers.coordinates
        say_asked(run, pairs[0].prompt(coordinates, difficulty_of(pairs), dialect))
    player = pair_policy(run)
    with output.counting("pairs", len(pairs)) as on_episode:
        how = how_played(run, on_episode) | {"answers": dialect}
        played = evaluate_external(
            player, pairs, source=str(data), stage=format, split=split, config=config, **how
        )
    _report_pairs(run, player, played, {"reward_name": reward})


def eval_align(
    policy: str,
    task: str = "all",
    episodes: int = 200,
    options: int = 4,
    out: Path | None = None,
    held_out: HeldOutArgs = HeldOut(),
    answers: AnswersArgs = Answers(),
    endpoint: EndpointArgs = Endpoint(),
    output: Printed = Output(),
) -> None:
    """Evaluate a policy on the alignment tasks, on held-out pairs.

    Args:
        policy: blind, oracle, or a model's folder or hub name; with --base-url the model's name at
            that endpoint.
        task: a name, several with commas, or all.
        episodes: questions of each task.
        options: crops to choose from, at most.
        out: JSON file for the metrics; their report, .html, and plot, .png, are beside it. By
            default runs/eval-align-POLICY-TASK.json.
        held_out: which pairs are played.
        answers: how the policy answers.
        endpoint: where a model is served.
        output: what is printed.
    """
    tasks = tasks_named(task)
    out = result_file(out, "eval-align", policy, task)
    from dig_env.agents.evaluation.align import align_metrics, evaluate_align
    from dig_env.agents.reporting.align import tasks_table, write_tasks_report

    run = EvaluationRun(policy, out, answers, endpoint, output)
    player = _align_policy(run, AlignSettings(answers.coordinates, options=options))
    with output.counting("questions", episodes * len(tasks)) as on_episode:
        played = {
            name: evaluate_align(
                player,
                name,
                episodes=episodes,
                seed=held_out.seed,
                split=held_out.split,
                filters={"options": options},
                **how_played(run, on_episode),
                **held_out.environment,
            )
            for name in tasks
        }
    metrics = {name: align_metrics(of, held_out.seed) for name, of in played.items()}
    errors = [graded.error for of in played.values() for e in of for graded in e.grades]
    result = run.result(player, {"seed": held_out.seed, "tasks": metrics}, errors)
    write_whole(out, json.dumps(result, indent=1).encode() + b"\n")
    write_tasks_report(out.with_suffix(".html"), played, result, answers.coordinates)
    output.table(tasks_table(metrics))
    run.finish(result, report=run.out.with_suffix(".html"))


def say_asked(run: EvaluationRun, prompt: str) -> None:
    """Print which dialect, frame and prompt the evaluation has."""
    coordinates, dialect = run.answers.coordinates, DIALECTS[run.dialect]
    run.prompt = prompt
    frame = coordinates if dialect.own is None else f"steps of its own, 0 to {dialect.own.last}"
    run.output.note(f"answers are read as: {run.dialect} ({dialect.source}), in {frame}")
    run.output.note(f"prompt: {run.prompt}")


def how_played(run: EvaluationRun, on_episode: Any) -> dict[str, Any]:
    """Arguments that all evaluations take."""
    return {
        "coordinates": run.answers.coordinates,
        "batch_size": run.endpoint.batch_size,
        "on_episode": on_episode,
        "on_failure": run.on_failure,
    }


def _report_pairs(
    run: EvaluationRun, player: Any, played: EvaluationResult, fields: dict[str, Any]
) -> None:
    """Write and print the result of an evaluation on pairs."""
    from dig_env.agents.reporting.evaluation import result_tables, write_evaluation

    fields |= {"dialect": run.dialect, "coordinates": run.answers.coordinates}
    fields |= {"prompt": run.prompt, "assumed": assumptions(played.episodes)} | played.to_json()
    result = run.result(player, fields, [episode.error for episode in played.episodes])
    write_evaluation(run.out, played, result)
    run.output.say(
        f"{run.policy} on {result['episodes']} pairs of {result['split']}/{result['stage']} "
        f"({'x'.join(map(str, result['size']))}, {result['source']}, seed {result['seed']})"
    )
    for table in result_tables(result):
        run.output.table(table)
    for note, count in result["assumed"].items():
        run.output.say(f"of {count} answers: {note}")
    if result["usage"]:
        parts = (f"{name} {value}" for name, value in result["usage"].items())
        run.output.say(f"endpoint: {', '.join(parts)}")
    run.finish(result, report=run.out.with_suffix(".html"))


def pair_policy(run: EvaluationRun) -> Any:
    """The policy that answers pairs: here, or behind the endpoint."""
    if run.endpoint.base_url is not None:
        from dig_env.agents.policies.endpoint import ApiPolicy

        return run.connect(ApiPolicy)
    coordinates, longest = run.answers.coordinates, run.answers.max_tokens
    return named_policy(run.policy, coordinates, longest, run.dialect)


def named_policy(
    name: str,
    coordinates: str = "norm1000",
    max_new_tokens: int | None = None,
    answers: str = "strict",
) -> Policy:
    """The policy that a command line's `--policy` means.

    Args:
        name: "tiny", "tiny-start", "random", "oracle", "pixeldiff", or what
            `MLLMPolicy.from_pretrained` takes.
        coordinates: frame to answer in; a model is asked for it by the prompt.
        max_new_tokens: longest answer of a model; by default 24 of the embedded ones, 256 of
            others.
        answers: dialect to answer in; a model is asked for it by the prompt.

    Raises:
        ValueError: the embedded policy is to answer in another frame or dialect than it was taught.
    """
    simple = {"random": RandomPolicy, "oracle": OraclePolicy, "pixeldiff": PixelDiffPolicy}
    if name in simple:
        return simple[name](coordinates=coordinates, answers=answers)
    from dig_env.agents.policies.mllm import EMBEDDED, MLLMPolicy, load_tiny

    settings: dict[str, Any] = {} if max_new_tokens is None else {"max_new_tokens": max_new_tokens}
    if name not in EMBEDDED:
        return MLLMPolicy.from_pretrained(name, **settings)
    if coordinates != "norm1000" or answers not in ("strict", "lenient"):
        raise ValueError(
            f"coordinates={coordinates!r}, answers={answers!r}: the embedded policy answers in "
            "norm1000, as 'strict' reads"
        )
    return load_tiny(name, **settings)


def _align_policy(run: EvaluationRun, settings: AlignSettings) -> Any:
    """The policy that answers alignment tasks: here, or behind the endpoint."""
    from dig_env.agents.policies.align import AlignBlind, AlignOracle

    if run.endpoint.base_url is not None:
        from dig_env.agents.policies.align_endpoint import AlignApiPolicy

        return run.connect(AlignApiPolicy)
    if run.policy == "blind":
        return AlignBlind(coordinates=settings.coordinates)
    if run.policy == "oracle":
        return AlignOracle(settings)
    from dig_env.agents.policies.align_mllm import AlignMLLMPolicy

    longest = 256 if run.answers.max_tokens is None else run.answers.max_tokens
    return AlignMLLMPolicy.from_pretrained(run.policy, max_new_tokens=longest, batch_size=32)
