"""The whole alignment pipeline of the embedded policy: four supervised stages, then GRPO on pairs.

    python examples/reproduce/align_pipeline.py

renders the pairs that are missing, writes the instruction data, trains 1a, 1b, 2 and 3, then GRPO,
and evaluates what each of them leaves. Stop at any time; the same command resumes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import arms
import torch
import tyro

from dig_env.agents import AlignMLLMPolicy, GRPORun, MLLMPolicy, evaluate_stored, train_grpo
from dig_env.agents.data.instructions.dataset import AlignData, write_align_data
from dig_env.agents.evaluation.align import align_metrics, evaluate_align
from dig_env.agents.reporting.report import machine
from dig_env.agents.training.align import train_align
from dig_env.agents.training.align_stages import GLOBAL, MULTI_SCALE, AlignRun, AlignStageName
from dig_env.align import TASKS, AlignSettings
from dig_env.scenes import PAPER_STAGES
from dig_env.scenes.files import write_whole

SETTINGS = AlignSettings(crop_px=64, options=2)
"""Two crops to choose from, since each takes as much time as the image."""


class PipelineStage(NamedTuple):
    """A supervised stage of the pipeline.

    Attributes:
        stage: as ``dig-env align`` names it.
        tasks: that it learns.
        rows: questions in its folder of data.
        per_pair: that one pair gives, at most.
    """

    stage: AlignStageName
    tasks: tuple[str, ...]
    rows: int
    per_pair: int


# Existence is learned from the start, so that arms without the third stage can say yes and no.
# Descriptions teach where things are, and are slow: four times the time of others.
STAGES = {
    "1a": PipelineStage("1a", ("box_to_text",), 84_894, 32),  # 9,600 pairs give 85,196
    "1b": PipelineStage(
        "1b", ("description", "text_to_box", "box_to_text", "existence"), 80_000, 12
    ),
    "1b-more": PipelineStage("1b", ("box_to_text", "text_to_box", "existence"), 120_000, 24),
    "2": PipelineStage("2", MULTI_SCALE, 42_000, 12),
    "3": PipelineStage("3", GLOBAL, 24_000, 12),
}
FOUNDATION = ("1a", "1b", "1b-more")
"""What all arms of the experiments share."""

TRL = {"weight_decay": 0.05, "adam_beta2": 0.98}
"""As in the warm-up."""


@dataclass(frozen=True)
class Pipeline:
    """Settings of the pipeline.

    Attributes:
        seed: of the order in which the stages learn, and of GRPO.
        questions: that each stage sees.
        grpo_steps: of 16 pairs and 8 rollouts each.
        episodes: test questions of each task.
        answer_tokens: most that an answer to one may have.
        train_pairs, test_pairs: of each of the paper's stages.
        model: what the first stage starts from.
        pairs: dataset of 128x96 pairs; what is missing is rendered.
        runs: folder for the data and the runs.
        out: file for the results.
    """

    seed: int = 0
    questions: tuple[int, ...] = (160_000, 80_000, 140_000, 12_000, 10_000)
    grpo_steps: int = 40
    episodes: int = 300
    answer_tokens: int = 110
    train_pairs: int = 3200
    test_pairs: int = 200
    model: str = "new"
    pairs: Path = Path("runs/reproduce/pairs")
    runs: Path = Path("runs/align")
    out: Path = Path("docs/results/align_pipeline.json")


def write_data(settings: Pipeline) -> None:
    """Render pairs and write questions about them, unless they are there."""
    counts = {"train_pairs": settings.train_pairs, "test_pairs": settings.test_pairs}
    arms.unseen_pairs(arms.Settings(pairs=settings.pairs, **counts))
    for name, stage in STAGES.items():
        data = AlignData(
            stage.tasks, settings=SETTINGS, dataset=str(settings.pairs), per_pair=stage.per_pair
        )
        write_align_data(settings.runs / "data" / name, stage.rows, data)


def stage_folder(settings: Pipeline, name: str) -> Path:
    """Folder of a stage. Those of the foundation are shared by the experiments' seeds."""
    return settings.runs / ("foundation" if name in FOUNDATION else f"seed{settings.seed}") / name


def train(settings: Pipeline, model: str | Path, out: Path, *, name: str, **fields: Any) -> Path:
    """Train one stage, unless it is there; the folder of its model."""
    fields = {
        "data": str(settings.runs / "data" / name),
        "tasks": STAGES[name].tasks,
        "pairs": str(settings.pairs),
        "pair_share": 0.15,
        "questions": settings.questions[list(STAGES).index(name)],
        "seed": settings.seed,
        "trl": TRL,
    } | fields
    if name == "1a":
        # With few boxes in a conversation, which of them is asked about is learned sooner.
        fields |= {"pairs": None, "turns": 2}
    run = AlignRun(STAGES[name].stage, model=str(model), out=str(out), preset="tiny", **fields)
    result = train_align(run, _print_loss(out))
    assert result is not None, "one process"
    return result.checkpoint


def grpo(settings: Pipeline, model: Path, out: Path) -> Path:
    """Train GRPO on pairs of the automatic curriculum, unless it is there."""
    checkpoint = out / "checkpoint"
    if not checkpoint.exists():
        run = GRPORun(
            out=str(out),
            model=str(model),
            dataset=str(settings.pairs),
            steps=settings.grpo_steps,
            learning_rate=5e-5,
            minutes=None,
            eval_pairs=0,
            save_every=20,
            seed=settings.seed,
        )
        train_grpo(run)
    return checkpoint


def evaluation_path(settings: Pipeline, run: Path) -> Path:
    """Where the evaluation of the model that ``run`` left is kept."""
    return run / f"evaluation-{settings.episodes}.json"


def evaluate(settings: Pipeline, run: Path) -> dict[str, Any]:
    """Test questions of each task, and test pairs of each stage, by the model that ``run`` left."""
    path, checkpoint = evaluation_path(settings, run), run / "checkpoint"
    if not path.exists():
        policy = AlignMLLMPolicy.from_pretrained(
            checkpoint, max_new_tokens=settings.answer_tokens, batch_size=50
        )
        result: dict[str, Any] = {"tasks": {}, "answers": {}, "pairs": {}}
        for task in TASKS:
            played = evaluate_align(
                policy,
                task,
                episodes=settings.episodes,
                batch_size=50,
                dataset=str(settings.pairs),
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
            report = evaluate_stored(
                player, settings.pairs, stage=name, episodes=settings.test_pairs
            )
            result["pairs"][name] = [episode.score.f1 for episode in report.episodes]
        write_whole(path, json.dumps(result).encode() + b"\n")
    return json.loads(path.read_text())


def _print_loss(out: Path) -> Callable[[int, int, float], None]:
    def on_loss(step: int, steps: int, loss: float) -> None:
        if step % 200 == 0:
            print(f"{out.name}: step {step} of {steps}, loss {loss:.3f}", flush=True)

    return on_loss


def run_stages(
    settings: Pipeline, model: str | Path, names: Iterable[str]
) -> Iterator[tuple[str, Path]]:
    """Train these stages, each from what the one before left, and evaluate them: names, folders."""
    for name in names:
        out = stage_folder(settings, name)
        model = (
            grpo(settings, model, out) if name == "grpo" else train(settings, model, out, name=name)
        )
        evaluate(settings, out)
        yield name, out


def main(settings: Pipeline) -> None:
    """Run the pipeline and write what each stage leaves."""
    write_data(settings)
    rows = {}
    for name, out in run_stages(settings, settings.model, (*STAGES, "grpo")):
        rows[name] = {"seconds": round(_seconds(out))} | summary(evaluate(settings, out))
        print(name, json.dumps(rows[name]), flush=True)
    results = {
        "command": "python examples/reproduce/align_pipeline.py",
        "machine": machine(),
        "settings": json.loads(json.dumps(asdict(settings), default=str)),
        "stages": rows,
    }
    write_whole(settings.out, json.dumps(results, indent=1).encode() + b"\n")
    print(f"results: {settings.out}")


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
    main(tyro.cli(Pipeline))
