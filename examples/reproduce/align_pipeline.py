"""The whole alignment road of the embedded policy: four supervised stages, then GRPO on pairs.

    python examples/reproduce/align_pipeline.py

renders the pairs that are missing, writes the instruction data, trains 1a, 1b, 2 and 3, then GRPO,
and evaluates what each of them leaves. Stop at any time; the same command goes on.
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
from dig_env.agents.training.align_stages import GLOBAL, MULTI_SCALE, AlignRun, StageName
from dig_env.align import TASKS, AlignSettings
from dig_env.scenes import PAPER_STAGES
from dig_env.scenes.files import write_whole

SETTINGS = AlignSettings(crop_px=64, options=2)
"""Two crops to choose from, since each takes as much time as the image."""


class Leg(NamedTuple):
    """A part of the road.

    Attributes:
        stage: of ``dig-env align``.
        tasks: that it learns.
        rows: questions in its folder of data.
        per_pair: that one pair gives, at most.
    """

    stage: StageName
    tasks: tuple[str, ...]
    rows: int
    per_pair: int


# Questions of existence are learnt from the start, so that arms without the third stage know how to
# say yes and no. Descriptions teach where things are, and are slow: four times the time of others.
LEGS = {
    "1a": Leg("1a", ("box_to_text",), 84_894, 32),  # 9,600 pairs give 85,196
    "1b": Leg("1b", ("description", "text_to_box", "box_to_text", "existence"), 80_000, 12),
    "1b-more": Leg("1b", ("box_to_text", "text_to_box", "existence"), 120_000, 24),
    "2": Leg("2", MULTI_SCALE, 42_000, 12),
    "3": Leg("3", GLOBAL, 24_000, 12),
}
FOUNDATION = ("1a", "1b", "1b-more")
"""What all arms of the experiments share."""

TRL = {"weight_decay": 0.05, "adam_beta2": 0.98}
"""As in the warm-up."""


@dataclass(frozen=True)
class Road:
    """Settings of the road.

    Attributes:
        seed: of the order in which the stages learn, and of GRPO.
        questions: that each of the legs sees.
        grpo_steps: of 16 pairs and 8 rollouts each.
        episodes: test questions of each task.
        train_pairs, test_pairs: of each of the paper's stages.
        model: where it begins.
        pairs: dataset of 128x96 pairs; what lacks is rendered.
        runs: folder for the data and the runs.
        out: file for the results.
    """

    seed: int = 0
    questions: tuple[int, ...] = (160_000, 80_000, 140_000, 12_000, 10_000)
    grpo_steps: int = 40
    episodes: int = 300
    train_pairs: int = 3200
    test_pairs: int = 200
    model: str = "new"
    pairs: Path = Path("runs/reproduce/pairs")
    runs: Path = Path("runs/align")
    out: Path = Path("docs/results/align_pipeline.json")


def write_data(road: Road) -> None:
    """Render pairs and write questions about them, unless they are there."""
    counts = {"train_pairs": road.train_pairs, "test_pairs": road.test_pairs}
    arms.unseen_pairs(arms.Settings(pairs=road.pairs, **counts))
    for name, leg in LEGS.items():
        data = AlignData(
            leg.tasks, settings=SETTINGS, dataset=str(road.pairs), per_pair=leg.per_pair
        )
        write_align_data(road.runs / "data" / name, leg.rows, data)


def place(road: Road, name: str) -> Path:
    """Folder of a leg. Those of the foundation are shared by the experiments' seeds."""
    return road.runs / ("road" if name in FOUNDATION else f"seed{road.seed}") / name


def train(road: Road, model: str | Path, out: Path, *, leg: str, **fields: Any) -> Path:
    """Train one leg, unless it is there; the folder of its model."""
    fields = {
        "data": str(road.runs / "data" / leg),
        "tasks": LEGS[leg].tasks,
        "pairs": str(road.pairs),
        "pair_share": 0.15,
        "questions": road.questions[list(LEGS).index(leg)],
        "seed": road.seed,
        "trl": TRL,
    } | fields
    if leg == "1a":
        # With few boxes in a conversation, which of them is asked about is learnt sooner.
        fields |= {"pairs": None, "turns": 2}
    run = AlignRun(LEGS[leg].stage, model=str(model), out=str(out), preset="tiny", **fields)
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


def evaluation_path(road: Road, run: Path) -> Path:
    """Where the evaluation of the model that ``run`` left is kept."""
    return run / f"evaluation-{road.episodes}.json"


def evaluate(road: Road, run: Path) -> dict[str, Any]:
    """Test questions of each task, and test pairs of each stage, by the model that ``run`` left."""
    path, checkpoint = evaluation_path(road, run), run / "checkpoint"
    if not path.exists():
        policy = AlignMLLMPolicy.from_pretrained(checkpoint, max_new_tokens=110, batch_size=50)
        result: dict[str, Any] = {"tasks": {}, "answers": {}, "pairs": {}}
        for task in TASKS:
            played = evaluate_align(
                policy,
                task,
                episodes=road.episodes,
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
            report = evaluate_stored(player, road.pairs, stage=name, episodes=road.test_pairs)
            result["pairs"][name] = [episode.score.f1 for episode in report.episodes]
        write_whole(path, json.dumps(result).encode() + b"\n")
    return json.loads(path.read_text())


def _tell(out: Path) -> Callable[[int, int, float], None]:
    def tell(step: int, steps: int, loss: float) -> None:
        if step % 200 == 0:
            print(f"{out.name}: step {step} of {steps}, loss {loss:.3f}", flush=True)

    return tell


def walk(road: Road, model: str | Path, names: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """Train these legs, each from what the one before left, and evaluate them: names, folders."""
    for name in names:
        out = place(road, name)
        model = grpo(road, model, out) if name == "grpo" else train(road, model, out, leg=name)
        evaluate(road, out)
        yield name, out


def main(road: Road) -> None:
    """Walk the road and write what each leg leaves."""
    write_data(road)
    rows = {}
    for name, out in walk(road, road.model, (*LEGS, "grpo")):
        rows[name] = {"seconds": round(_seconds(out))} | summary(evaluate(road, out))
        print(name, json.dumps(rows[name]), flush=True)
    results = {
        "command": "python examples/reproduce/align_pipeline.py",
        "machine": machine(),
        "settings": json.loads(json.dumps(asdict(road), default=str)),
        "legs": rows,
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
