"""Experiment 5: what multi-scale data, global data and GRPO on pairs do for grounding and for
hallucination.

    python examples/reproduce/align.py

The questions of TinyGroundingGPT's Tables 4 and 5 (arXiv 2411.09691) and of DiG's transfer claim
(arXiv 2512.12633), three seeds each, on held-out scenes. All arms begin at what the foundation of
`align_pipeline.py` left, and two arms that are compared see the same number of questions:

1. multi-scale data (stage 2) or more of stage 1's: accuracy of text_to_box at an IoU of 0.5;
2. after that, global data (stage 3) or more of stage 2's: existence as in POPE;
3. after that, GRPO on pairs, which has nothing of either task, or none.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import align_pipeline
import numpy as np
import torch
import tyro
from align_pipeline import Pipeline

from dig_env.agents.evaluation.intervals import CONFIDENCE, resampled_means
from dig_env.agents.reporting.report import machine
from dig_env.align import TASKS
from dig_env.scenes import PAPER_STAGES
from dig_env.scenes.files import write_whole

COMPARED = {
    "multi-scale data": ("2", "no_multi_scale"),
    "global data": ("3", "no_global"),
    "GRPO on pairs": ("grpo", "3"),
}
"""Each question's arms: with, and without."""


@dataclass(frozen=True)
class AlignExperiment(Pipeline):
    """Settings of this experiment; ``seed`` is that of the shared stages 1a and 1b.

    Attributes:
        seeds: of the order in which the arms learn, and of GRPO.
        processes: runs side by side, with a thread each.
        out: file for the results.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    processes: int = 2
    out: Path = Path("docs/results/align_experiments.json")


def main(settings: AlignExperiment) -> None:
    """Train and evaluate what is missing, compare, and write the table."""
    align_pipeline.write_data(settings)
    # A process a run: what a run leaves in memory must not reach the next.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["dig_env.agents.training.grpo"])
    with ProcessPoolExecutor(settings.processes, context, max_tasks_per_child=1) as pool:
        pool.submit(foundation, settings).result()
        pipelines = {pool.submit(train_pipeline, settings, seed): seed for seed in settings.seeds}
        # An arm without global data begins at the seed's second stage.
        others = [
            pool.submit(arms_without, settings, pipelines[done]) for done in as_completed(pipelines)
        ]
        for future in (*pipelines, *others):
            future.result()
    table = {
        question: {
            task: compare(
                *(evaluations(settings, arm, task) for arm in with_and_without),
                yes_no=task in ("existence", "relation"),
            )
            for task in TASKS
        }
        | {stage: compare_f1(settings, stage, *with_and_without) for stage in PAPER_STAGES}
        for question, with_and_without in COMPARED.items()
    }
    results = {
        "command": "python examples/reproduce/align.py",
        "machine": machine(),
        "settings": json.loads(json.dumps(asdict(settings), default=str)),
        "confidence": CONFIDENCE,
        "table": table,
    }
    write_whole(settings.out, json.dumps(results, indent=1).encode() + b"\n")
    for question, rows in table.items():
        for task, numbers in rows.items():
            shown = ("{:.3f} [{:.3f}, {:.3f}]".format(*number) for number in numbers.values())
            print(question, task, dict(zip(numbers, shown, strict=True)))
    print(f"results: {settings.out}")


def foundation(settings: AlignExperiment) -> Path:
    """What all arms begin at."""
    torch.set_num_threads(1)
    model = Path(settings.model)
    for name in align_pipeline.FOUNDATION:
        model = align_pipeline.train(
            settings, model, align_pipeline.stage_folder(settings, name), name=name
        )
    return model


def train_pipeline(settings: AlignExperiment, seed: int) -> None:
    """Stages 2 and 3 and GRPO with one seed, each evaluated."""
    seeded = replace(settings, seed=seed)
    for name, _ in align_pipeline.run_stages(seeded, foundation(settings), ("2", "3", "grpo")):
        print(f"seed {seed}: {name} is done", flush=True)


def arms_without(settings: AlignExperiment, seed: int) -> None:
    """More of what was learned before in place of stage 2, and in place of stage 3."""
    base = foundation(settings)
    seeded = replace(settings, seed=seed)
    *_, second, third = settings.questions
    for arm, model, name, questions in (
        ("no_multi_scale", base, align_pipeline.FOUNDATION[-1], second),
        ("no_global", align_pipeline.stage_folder(seeded, "2") / "checkpoint", "2", third),
    ):
        out = align_pipeline.stage_folder(seeded, arm)
        align_pipeline.train(seeded, model, out, name=name, questions=questions)
        align_pipeline.evaluate(seeded, out)
        print(f"seed {seed}: {arm} is done", flush=True)


def evaluations(settings: AlignExperiment, arm: str, task: str) -> np.ndarray:
    """(runs, questions, 4) of one arm: right, said yes, yes is true, reward; all 0 to 1."""
    rows = []
    for seed in settings.seeds:
        answers = _evaluation(settings, arm, seed)["answers"][task]
        rows.append(
            [[right, read == "yes", yes is True, reward] for reward, right, read, yes in answers]
        )
    return np.array(rows, dtype=float)


def _evaluation(settings: AlignExperiment, arm: str, seed: int) -> dict[str, Any]:
    path = align_pipeline.evaluation_path(settings, settings.runs / f"seed{seed}" / arm)
    return json.loads(path.read_text())


def compare(
    with_it: np.ndarray, without: np.ndarray, *, yes_no: bool = False
) -> dict[str, list[float]]:
    """[value, low, high] of each arm's numbers and of their differences, question by question.

    Answers of yes and no have POPE's F1, for which yes is positive, and the share of yes.
    """
    measures: dict[str, Callable[[np.ndarray], Any]] = {
        "accuracy": lambda sums: sums[..., 0],
        "reward": lambda sums: sums[..., 3],
    }
    if yes_no:
        measures |= {"f1": _f1, "yes_rate": lambda sums: sums[..., 1]}
    drawn = _resampled(np.stack([_sums(with_it), _sums(without)]))
    result = {}
    for name, measure in measures.items():
        result |= _gain(name, *(measure(part) for part in drawn))
    return result


def _gain(name: str, with_it: np.ndarray, without: np.ndarray) -> dict[str, list[float]]:
    """[value, low, high] of two arms' means and resampled means, and of their differences."""
    numbers = {"with": with_it, "without": without, "gain": with_it - without}
    return {f"{name} {key}": _interval(values) for key, values in numbers.items()}


def _sums(answers: np.ndarray) -> np.ndarray:
    """(runs, questions, 5): right, said yes, yes is true, reward, said yes where it is true."""
    both = answers[..., 1] * answers[..., 2]
    return np.concatenate([answers, both[..., None]], axis=-1)


def _resampled(values: np.ndarray) -> np.ndarray:
    """(arms, 1 + resamples, ...): means over runs and questions, then over resampled ones."""
    means = values.mean(axis=(1, 2))[:, None]
    drawn = resampled_means(np.moveaxis(values, 0, 2))
    return np.concatenate([means, np.moveaxis(drawn, 1, 0)], axis=1)


def _f1(sums: np.ndarray) -> np.ndarray:
    return 2 * sums[..., 4] / np.maximum(sums[..., 1] + sums[..., 2], 1e-9)


def _interval(values: np.ndarray) -> list[float]:
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(values[1:], [tail, 100 - tail])
    return [round(float(number), 4) for number in (values[0], low, high)]


def compare_f1(
    settings: AlignExperiment, stage: str, with_it: str, without: str
) -> dict[str, list[float]]:
    """The same of the F1 on pairs."""
    scores = []
    for arm in (with_it, without):
        scores.append([_evaluation(settings, arm, s)["pairs"][stage] for s in settings.seeds])
    return _gain("F1", *_resampled(np.array(scores)[..., None])[..., 0])


if __name__ == "__main__":
    main(tyro.cli(AlignExperiment))
