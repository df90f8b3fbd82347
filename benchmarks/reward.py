"""Speed of the reward beside plain ways to write it, and a million hostile strings.

python benchmarks/reward.py --out docs/results/reward.json
"""

from __future__ import annotations

import gc
import json
import platform
import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import tyro
from scipy.optimize import linear_sum_assignment
from transformers.loss.loss_for_object_detection import generalized_box_iou

from dig_env import REWARDS, format_boxes, score
from dig_env.agents.reporting.report import write_results
from dig_env.redteam import ATTACKS, random_truths
from dig_env.scenes import available_cores

FRAGMENTS = (
    *(
        "[[",
        "]]",
        "[",
        "]",
        "{",
        "}",
        ", ",
        '"',
        "\\",
        "\n",
        " ",
        "-",
        "e",
        ".",
        "é",
        "\ud800",
        "\uff11",
    ),
    *("0", "120", "999.5", "1e999", "NaN", "Infinity", "true", "null", '"bbox_2d": ', '"label": '),
    *("<think>", "</think>", "<answer>", "</answer>", "```json", "a cube", "[120, 300, 210, 400]"),
)
"""What fuzzed strings are made of, beside the answers that they damage."""


def main(
    answers: int = 2000,
    fuzzed: int = 1_000_000,
    seed: int = 0,
    out: Path = Path("docs/results/reward.json"),
) -> None:
    """Time the reward and fuzz it.

    Args:
        answers: timed calls of each kind.
        fuzzed: hostile strings to score.
        seed: of truths, answers and fuzzing.
        out: file for the results.
    """
    torch.set_num_threads(1)
    speed = {str(k): _speed(k, answers, seed) for k in (1, 2, 4)}
    results = {
        "command": "python benchmarks/reward.py",
        "machine": f"{available_cores()} cores, {platform.machine()}",
        "microseconds_an_answer_by_boxes": speed,
        "milliseconds_of_100000_boxes": round(_many_boxes(), 3),
        "fuzzed": _fuzz(fuzzed, seed),
    }
    for k, row in speed.items():
        print(f"{k} boxes: " + ", ".join(f"{name} {micro:.1f} µs" for name, micro in row.items()))
    print({key: value for key, value in results.items() if "micro" not in key})
    write_results(out, results, "microseconds an answer of four boxes", speed["4"])


def _speed(k: int, count: int, seed: int) -> dict[str, float]:
    """Median microseconds of parsing and scoring an answer of k boxes to k differences."""
    rng = np.random.default_rng(seed)
    cases = []
    while len(cases) < count:
        for truth in random_truths(4 * count, seed):
            if len(truth) == k and len(cases) < count:
                near = np.clip(truth + rng.normal(0, 0.01, truth.shape), 0, 1)
                cases.append((format_boxes(near), truth))
    ways: dict[str, Callable[[str, np.ndarray], float]] = {
        "dig_env.score": lambda text, truth: score(text, truth).total,
        "plain loops": plain_loops,
        "torch, as DETR": plain_detr,
    }
    checked = [[way(*case) for case in cases[:200]] for way in ways.values()]
    assert np.allclose(checked[0], checked[1]) and np.allclose(checked[0], checked[2], atol=1e-5)
    return {name: round(_median_us(way, cases), 1) for name, way in ways.items()}


def _median_us(way: Callable[[str, np.ndarray], float], cases: list) -> float:
    times = []
    for case in cases:
        begun = time.perf_counter()
        way(*case)
        times.append(time.perf_counter() - begun)
    return float(np.median(times)) * 1e6


def plain_loops(text: str, truth: np.ndarray) -> float:
    """What most projects write: a pattern, loops over boxes, scipy."""
    boxes = [
        [float(number) / 1000 for number in re.findall(r"-?\d+\.?\d*", row)]
        for row in re.findall(r"\[([^\[\]]*)\]", text)
    ]
    iou = np.array([[_plain_iou(a, b) for b in truth.tolist()] for a in boxes])
    rows, columns = linear_sum_assignment(-iou)
    return _plain_total(iou[rows, columns], len(boxes), len(truth))


def _plain_iou(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union


def plain_detr(text: str, truth: np.ndarray) -> float:
    """DETR's matcher in torch, with transformers' GIoU."""
    boxes = torch.tensor(json.loads(text), dtype=torch.float64) / 1000
    true = torch.from_numpy(truth)
    cost = 5 * torch.cdist(boxes, true, p=1) - 2 * generalized_box_iou(boxes, true)
    rows, columns = linear_sum_assignment(cost.numpy())
    matched = zip(boxes[rows].tolist(), true[columns].tolist(), strict=True)
    overlaps = [_plain_iou(box, difference) for box, difference in matched]
    return _plain_total(np.array(overlaps), len(boxes), len(truth))


def _plain_total(overlaps: np.ndarray, answered: int, true: int) -> float:
    f1 = 2 * (overlaps >= 0.5).sum() / (answered + true)
    return 0.9 * (0.5 * f1 + 0.5 * overlaps.sum() / max(answered, true)) + 0.1


def _many_boxes() -> float:
    """Milliseconds for the slowest of a text, a list and an array of 100,000 boxes."""
    boxes = np.tile([0.1, 0.2, 0.3, 0.4], (100_000, 1))
    truth = next(random_truths(1))
    slowest = 0.0
    for answer in (str((boxes * 1000).tolist()), boxes.tolist(), boxes):
        for config in REWARDS.values():
            begun = time.perf_counter()
            score(answer, truth, config)
            slowest = max(slowest, time.perf_counter() - begun)
    return slowest * 1e3


def _fuzz(count: int, seed: int) -> dict[str, float]:
    """Score hostile strings under every preset in turn; an exception ends the benchmark."""
    truth = next(random_truths(1, seed))
    configs = list(REWARDS.values())
    slowest, text_of_slowest, read = 0.0, "", 0
    gc.freeze()  # else a collection of what torch keeps would be taken for a slow string
    begun_all = time.perf_counter()
    for index, text in enumerate(_hostile_strings(count, seed)):
        begun = time.perf_counter()
        result = score(text, truth, configs[index % len(configs)])
        taken = time.perf_counter() - begun
        assert 0.0 <= result.total <= 1.0
        read += result.answer.ok
        if taken > slowest:
            slowest, text_of_slowest = taken, text
    print(f"slowest: {len(text_of_slowest)} characters, {text_of_slowest[:60]!r} ...")
    return {
        "strings": count,
        "of_which_read": read,
        "slowest_ms": round(slowest * 1e3, 3),
        "mean_us": round((time.perf_counter() - begun_all) / count * 1e6, 1),
    }


def _hostile_strings(count: int, seed: int) -> Iterator[str]:
    """Fragments in any order, damaged answers, any characters, and the red team's texts cut off."""
    rng = random.Random(seed)
    truth = next(random_truths(1, seed))
    generator = np.random.default_rng(seed)
    answers = [attack.answer(truth, generator) for attack in ATTACKS]
    for index in range(count):
        text, fragment = rng.choice(answers), rng.choice(FRAGMENTS)
        if index % 4 == 0:
            yield "".join(rng.choices(FRAGMENTS, k=rng.randint(1, 60)))
        elif index % 4 == 1:
            place = rng.randrange(min(len(text), 2000) + 1)
            yield text[:place] + fragment + text[place + rng.randint(0, 3) : 2000]
        elif index % 4 == 2:
            yield "".join(map(chr, rng.choices(range(rng.choice((128, 0x110000))), k=30)))
        else:  # the long ones are seldom whole
            yield text[: len(text) if index % 400 == 3 else rng.randint(0, 3000)] + fragment * 3


if __name__ == "__main__":
    tyro.cli(main)
