"""The calibration card: the reward of answers of known quality, and where pixels mislead.

Two things are measured on fixed test pairs, each with a confidence interval:

- the reference answers on the paper's stages and on others, under every reward preset:
  does a better answer earn more?
- policies that use the images, on the same pairs; ``benchmarks/axes.py`` plays them along each
  axis of difficulty.

Answers are given once and scored under each preset; ``page.py`` shows the card.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from dig_env import PARTS, REWARDS, score_batch
from dig_env.agents.evaluation.calibration.reference_answers import (
    HUMAN,
    RANKS,
    Answerer,
    answers_of,
    reference_answers,
)
from dig_env.agents.evaluation.human_answers import read_answers
from dig_env.agents.evaluation.intervals import CONFIDENCE, mean_intervals, rounded
from dig_env.agents.evaluation.pairs import held_out_pairs
from dig_env.agents.policies.mllm import load_tiny
from dig_env.agents.policies.policy import PixelDiffPolicy, TrainedPrompt
from dig_env.scenes import (
    PAPER_CHANGES,
    PAPER_STAGES,
    STAGES,
    Difficulty,
    Pair,
    Renderer,
    RenderSettings,
    available_cores,
)
from dig_env.scenes.files import write_whole

DIFFICULTIES: dict[str, Difficulty] = {
    **{stage: STAGES[stage] for stage in PAPER_STAGES},
    **{f"{change} only": Difficulty(changes=(change,)) for change in PAPER_CHANGES},
    "crowded": Difficulty(objects=(8, 10)),
    "crowded, 1 to 4": Difficulty(differences=(1, 4), objects=(8, 10)),
    "small, 1 to 4": Difficulty(
        differences=(1, 4), objects=(8, 10), min_visible=50 / (320 * 240), min_contrast=2.3
    ),
}
"""Where the reference answers are played; one difference unless the name says otherwise."""

THRESHOLDS = (10, 15, 20, 25, 35, 50, 70, 100)
"""What the pixel difference "at its best" may choose from, in 8-bit levels."""

Progress = Callable[[str, int, int], None]
"""Called for each condition: its name, how many are done, and of how many."""


@dataclass(frozen=True)
class CalibrationSettings:
    """What to calibrate on.

    Attributes:
        pairs: test pairs of each stage and difficulty, at least 2.
        seed: of the draw of pairs, the random answers, the jitter and the resampling.
        width, height: image size in pixels.
        quality: draft, standard or high.
        workers: Blender processes; None for one a core. The card does not depend on it.
        resamples: of the pairs, for the confidence intervals.
        human: file of answers that ``dig-env play`` kept, to be scored beside the policies'; None
            for no such row.

    Raises:
        ValueError: too few pairs or resamples, or a negative seed.
    """

    pairs: int = 200
    seed: int = 0
    width: int = 128
    height: int = 96
    quality: str = "draft"
    workers: int | None = None
    resamples: int = 2000
    human: str | None = None

    def __post_init__(self) -> None:
        for name, least in (("pairs", 2), ("seed", 0), ("resamples", 100)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)!r}: give {least} or more")

    @property
    def command(self) -> str:
        """The command that makes the same card."""
        words = ["dig-env calibrate"]
        for field in fields(self):
            value = getattr(self, field.name)
            unusual = value != field.default and field.name != "workers"
            if unusual or field.name in ("pairs", "seed"):
                words.append(f"--{field.name} {value}")
        return " ".join(words)


def calibrate(
    settings: CalibrationSettings = CalibrationSettings(),
    on_condition: Progress = lambda name, done, total: None,
) -> dict[str, Any]:
    """Render the pairs, let every policy answer them, score the answers.

    The embedded policy takes part at 128x96 draft only, which is what it was trained on.

    Returns:
        The card as JSON values. "rows" holds an entry for each condition and policy; in it
        "f1", "iou", "precision", "recall", "format" (of the preset "full") and each of "reward"
        are [mean, low, high]. "order" says of each stage or difficulty and preset whether the
        ranks of ``reference_answers.RANKS`` come out in order; see ``order_of``.
    """
    render = RenderSettings(settings.width, settings.height, settings.quality, "cpu")
    answerers = reference_answers(settings.seed) | image_policies(render)
    given = [] if settings.human is None else load_human_answers(Path(settings.human), render)
    total = len(DIFFICULTIES)
    card: dict[str, Any] = {
        "command": settings.command,
        "machine": f"{available_cores()} cores, {platform.machine()}",
        "settings": {k: v for k, v in asdict(settings).items() if k != "workers"},
        "split": "test",
        "confidence": CONFIDENCE,
        "presets": {name: asdict(config) for name, config in REWARDS.items()},
        "difficulties": {name: value.to_json() for name, value in DIFFICULTIES.items()},
    }
    rows: list[dict[str, Any]] = []
    order: dict[str, Any] = {}
    with Renderer(render, settings.workers) as renderer:
        for done, (name, difficulty) in enumerate(DIFFICULTIES.items()):
            on_condition(name, done, total)
            pairs = list(held_out_pairs(renderer, difficulty, settings.pairs, settings.seed))
            answered = answer_all(answerers, pairs)
            order[name] = order_of(answered, settings)
            rows += table_rows(name, answered | human_row(given, name, pairs), settings)
        card["versions"] = renderer.versions
    on_condition("done", total, total)
    return card | {"rows": rows, "order": order}


def image_policies(render: RenderSettings) -> dict[str, Answerer]:
    """The policies that use the images; the embedded one only at what it was trained on."""
    policies = {"pixel difference": answers_of(PixelDiffPolicy())}
    if (render.width, render.height, render.quality) == (128, 96, "draft"):
        policies["embedded policy"] = answers_of(TrainedPrompt(load_tiny()))
    return policies


@dataclass(frozen=True, eq=False)
class Answered:
    """What one policy earned on n pairs.

    Attributes:
        rewards: (n,) totals by preset.
        parts: (n,) values of the preset "full", by the names of ``PARTS``.
        note: a remark for the table.
    """

    rewards: dict[str, np.ndarray]
    parts: dict[str, np.ndarray]
    note: str = ""


def answer_all(answerers: dict[str, Answerer], pairs: Sequence[Pair]) -> dict[str, Answered]:
    """Let each answer the pairs and score it, plus pixel difference at its best threshold.

    The latter is the threshold of ``THRESHOLDS`` that earns most on these very pairs: more than
    a policy that subtracts pixels could know, so it is an upper bound for thresholds.
    """
    result = {name: _scored(answer(pairs), pairs) for name, answer in answerers.items()}
    tried = {
        threshold: _scored(answers_of(PixelDiffPolicy(threshold))(pairs), pairs)
        for threshold in THRESHOLDS
    }
    best = max(tried, key=lambda threshold: tried[threshold].rewards["full"].mean())
    at_best = Answered(tried[best].rewards, tried[best].parts, f"threshold {best}")
    return result | {"pixel difference at its best": at_best}


def load_human_answers(path: Path, render: RenderSettings) -> list[dict[str, Any]]:
    """The answers of a file that were given to the card's images.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or no such answer in it.
    """
    answers = read_answers(path, render)
    if not answers:
        raise ValueError(
            f"{path} has no answers to images of {render.width}x{render.height} {render.quality}, "
            f"which the card has: give some with 'dig-env play --width {render.width} --height "
            f"{render.height} --quality {render.quality} --out {path}'"
        )
    return answers


def human_row(
    answers: list[dict[str, Any]], stage: str, pairs: Sequence[Pair]
) -> dict[str, Answered]:
    """What a human earned on those of the pairs that were answered, as ``HUMAN``.

    Empty where fewer than 2 were: an interval needs more than one.
    """
    texts = {given["pair_seed"]: given["answer"] for given in answers if given["stage"] == stage}
    played = [pair for pair in pairs if pair.plan.seed in texts]
    if len(played) < 2:
        return {}
    earned = _scored([texts[pair.plan.seed] for pair in played], played)
    return {HUMAN: Answered(earned.rewards, earned.parts, f"on {len(played)} pairs")}


def table_rows(
    condition: str, answered: dict[str, Answered], settings: CalibrationSettings
) -> Iterator[dict[str, Any]]:
    """A row of means and intervals for each policy; see ``calibrate``."""
    for policy, result in answered.items():
        values = np.column_stack([*result.parts.values(), *result.rewards.values()])
        numbers = rounded(mean_intervals(values, settings.resamples, settings.seed))
        row: dict[str, Any] = {"condition": condition, "policy": policy}
        row |= {"note": result.note} if result.note else {}
        row |= dict(zip(result.parts, numbers, strict=False))
        rewards = dict(zip(result.rewards, numbers[len(result.parts) :], strict=True))
        yield row | {"reward": rewards}


def order_of(answered: dict[str, Answered], settings: CalibrationSettings) -> dict[str, Any]:
    """Whether each rank of reference answers earns at least what the one below it earns, by preset.

    Returns:
        For each preset: "holds", whether no mean is below one of the rank before; "gap", the
        smallest such rise as [mean, low, high] over the pairs; and "between", which two.
    """
    order = {}
    for preset in REWARDS:
        links = [
            (lower, upper) for below, above in pairwise(RANKS) for lower in below for upper in above
        ]
        rises = np.column_stack(
            [answered[hi].rewards[preset] - answered[lo].rewards[preset] for lo, hi in links]
        )
        gaps = mean_intervals(rises, settings.resamples, settings.seed)
        smallest = int(np.argmin(gaps[:, 0]))
        order[preset] = {
            "holds": bool(gaps[smallest, 0] >= -1e-9),  # the rounding of means of equal values
            "gap": rounded(gaps)[smallest],
            "between": list(links[smallest]),
        }
    return order


def write_card(card: dict[str, Any], path: Path) -> None:
    """Write a card, or results like it, as JSON with an entry of a list or mapping a line."""
    lines = []
    for key, value in card.items():
        text = json.dumps(value)
        if isinstance(value, list):
            text = "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n ]"
        elif isinstance(value, dict):
            entries = (f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in value.items())
            text = "{\n  " + ",\n  ".join(entries) + "\n }"
        lines.append(f" {json.dumps(key)}: {text}")
    write_whole(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())


def _scored(answers: list[str], pairs: Sequence[Pair]) -> Answered:
    truths = [pair.boxes_unit for pair in pairs]
    scores = {name: score_batch(answers, truths, config) for name, config in REWARDS.items()}
    return Answered(
        {name: np.array([score.total for score in of]) for name, of in scores.items()},
        {part: np.array([getattr(score, part) for score in scores["full"]]) for part in PARTS},
    )
