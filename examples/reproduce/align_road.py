"""The whole alignment road of the embedded policy: four supervised stages, then GRPO on pairs.

    python examples/reproduce/align_road.py

renders the pairs that are missing, writes the instruction data, trains 1a, 1b, 2 and 3, then GRPO,
and evaluates what each of them leaves. Stop at any time; the same command goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import arms
import torch
import tyro

from agents import AlignMLLMPolicy, GRPORun, MLLMPolicy, evaluate_stored, train_grpo
from agents.align.data import AlignData, write_align_data
from agents.align.evaluation import align_metrics, evaluate_align
from agents.align.stages import GLOBAL, MULTI_SCALE, AlignRun, StageName
from agents.align.training import train_align
from agents.report import machine
from dig_env.align import TASKS, AlignSettings
from scenes import PAPER_STAGES
from scenes.files import write_whole

SETTINGS = AlignSettings(crop_px=64, options=2)
"""Two crops to choose from, since each takes as much time as the image."""

FIRST = ("text_to_box", "box_to_text", "existence")
"""What stage 1b learns. Questions of existence are among it, so that arms without the third stage
know how to say yes and no."""

DATA = {
    "base": (("description", *FIRST), 80_000),
    "multi_scale": (MULTI_SCALE, 42_000),
    "global": (GLOBAL, 24_000),
}
"""Tasks and number of questions of each folder."""

EPISODES = 300
"""Test questions of each task; there are 200 test pairs of each stage besides."""

STAGE_NAMES: tuple[StageName, ...] = ("1a", "1b", "2", "3")

TRL = {"weight_decay": 0.05, "adam_beta2": 0.98}
"""As in the warm-up."""


@dataclass(frozen=True)
class Road:
    """Settings of the road.

    Attributes:
        seed: of the order in which the stages learn, and of GRPO.
        questions: that stages 1a, 1b, 2 and 3 see.
        grpo_steps: of 16 pairs and 8 rollouts each.
        model: where it begins.
        pairs: dataset of 128x96 pairs; what lacks is rendered.
        runs: folder for the data and the runs.
        out: file for the results.
    """

    seed: int = 0
    questions: tuple[int, int, int, int] = (10_000, 100_000, 12_000, 10_000)
    grpo_steps: int = 40
    model: str = "new"
    pairs: Path = Path("runs/reproduce/pairs")
    runs: Path = Path("runs/align")
    out: Path = Path("docs/results/align_road.json")


def write_data(road: Road) -> None:
    """Render pairs and write questions about them, unless they are there."""
    arms.unseen_pairs(arms.Settings(pairs=road.pairs))
    for name, (tasks, count) in DATA.items():
        data = AlignData(tasks, settings=SETTINGS, dataset=str(road.pairs), per_pair=12)
        write_align_data(road.runs / "data" / name, count, data)


def place(road: Road, name: str) -> Path:
    """Folder of a stage. Stages 1a and 1b are shared by the experiments' seeds."""
    shared = name in ("1a", "1b")
    return road.runs / ("road" if shared else f"seed{road.seed}") / name


def stage(road: Road, model: str | Path, out: Path, *, name: StageName, **fields: Any) -> Path:
    """Train one stage, unless it is there; the folder of its model."""
    folder = {"1a": "base", "1b": "base", "2": "multi_scale", "3": "global"}[name]
    fields = {
        "data": str(road.runs / "data" / folder),
        "tasks": FIRST if name == "1b" else None,
        "pairs": str(road.pairs),
        "pair_share": 0.15,
        "questions": road.questions[STAGE_NAMES.index(name)],
        "seed": road.seed,
        "trl": TRL,
    } | fields
    run = AlignRun(name, model=str(model), out=str(out), preset="tiny", **fields)
    result = train_align(run, _tell(out))
    assert result is not None, "one process"
    return result.checkpoint


def grpo(road: Road, model: Path, out: Path) -> Path:
    """Train GRPO on pairs of the automatic curriculum, unless it is there."""
    checkpoint = out / "checkpoint"
    if not checkpoint.exists():
        run = GRPORun(
            out=str(out),
            model=str(model),
            dataset=str(road.pairs),
            steps=road.grpo_steps,
            learning_rate=5e-5,
            minutes=None,
            eval_pairs=0,
            save_every=20,
            seed=road.seed,
        )
        train_grpo(run)
    return checkpoint


def evaluate(road: Road, checkpoint: Path, tasks: tuple[str, ...], episodes: int) -> dict[str, Any]:
    """Test questions of each task, and 200 test pairs of each stage; kept beside the model."""
    path = checkpoint.parent / f"evaluation-{episodes}.json"
    if not path.exists():
        policy = AlignMLLMPolicy.from_pretrained(checkpoint, max_new_tokens=110, batch_size=50)
        result: dict[str, Any] = {"tasks": {}, "answers": {}, "pairs": {}}
        for task in tasks:
            played = evaluate_align(
                policy,
                task,
                episodes=episodes,
                batch_size=50,
                dataset=str(road.pairs),
                filters={"crop_px": SETTINGS.crop_px, "options": SETTINGS.options},
            )
            result["tasks"][task] = align_metrics(played)
            result["answers"][task] = [
                [graded.reward, float(graded.right), graded.read, getattr(turn.truth, "yes", None)]
                for episode in played
                for graded, turn in zip(episode.grades, episode.question.turns, strict=True)
            ]
        player = MLLMPolicy(policy.model, policy.processor, max_new_tokens=24, batch_size=50)
        for name in PAPER_STAGES:
            report = evaluate_stored(player, road.pairs, stage=name, episodes=200)
            result["pairs"][name] = [episode.score.f1 for episode in report.episodes]
        write_whole(path, json.dumps(result).encode() + b"\n")
    return json.loads(path.read_text())


def _tell(out: Path) -> Callable[[int, int, float], None]:
    def tell(step: int, steps: int, loss: float) -> None:
        if step % 200 == 0:
            print(f"{out.name}: step {step} of {steps}, loss {loss:.3f}", flush=True)

    return tell


def main(road: Road) -> None:
    """Walk the road and write what each stage leaves."""
    write_data(road)
    model, rows = Path(road.model), {}
    for name in (*STAGE_NAMES, "grpo"):
        out = place(road, name)
        train = grpo if name == "grpo" else partial(stage, name=name)
        model = train(road, model=model, out=out)
        scores = summary(evaluate(road, model, tuple(TASKS), EPISODES))
        rows[name] = {"seconds": round(_seconds(out))} | scores
        print(name, json.dumps(rows[name]), flush=True)
    results = {
        "command": "python examples/reproduce/align_road.py",
        "machine": machine(),
        "episodes": EPISODES,
        "settings": json.loads(json.dumps(asdict(road), default=str)),
        "stages": rows,
    }
    write_whole(road.out, json.dumps(results, indent=1).encode() + b"\n")
    print(f"results: {road.out}")


def _seconds(out: Path) -> float:
    """Wall time that the training of a stage took, whatever stopped it in between."""
    history = json.loads((out / "history.json").read_text())
    return history["seconds"] if isinstance(history, dict) else history[-1]["elapsed_s"]


def summary(evaluation: dict[str, Any]) -> dict[str, float]:
    """Accuracy of each task, and mean F1 of the pairs of each stage."""
    accuracy = {task: round(n["accuracy"][0], 4) for task, n in evaluation["tasks"].items()}
    f1 = {stage: round(sum(v) / len(v), 4) for stage, v in evaluation["pairs"].items()}
    return accuracy | f1


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(tyro.cli(Road))
