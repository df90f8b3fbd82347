"""Tricks that policies have found, or might, to earn reward without finding differences.

Each attack is an answer that a policy could write, beside the honest answer that it must not
outscore. Some know the truth, as a policy does that has learned half of the task; the others are
blind. ``red_team`` plays them all against a reward; ``dig-env redteam`` prints the table.
Attacks are written as "strict" reads; ``translated`` writes them as another dialect does.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from dig_env.answers import DIALECTS, format_boxes, parse_boxes
from dig_env.boxes import Boxes, checked_boxes, iou_and_giou
from dig_env.observation import instruction
from dig_env.reward import score
from dig_env.reward_config import RewardConfig, RewardLike, resolve_reward

Honest = Callable[[Boxes, RewardConfig], str]


@dataclass(frozen=True)
class Attack:
    """One trick.

    Attributes:
        name: of the trick.
        answer: writes the answer, given the true boxes (K, 4) in the unit frame and a generator.
        honest: writes the answer that it must not outscore, given the true boxes and the reward.
    """

    name: str
    answer: Callable[[Boxes, np.random.Generator], str]
    honest: Honest


@dataclass(frozen=True)
class Outcome:
    """What an attack earned under one reward.

    Attributes:
        attack: its name.
        earned: mean reward of the attack over the truths.
        honest: mean reward of the honest answers.
        wins: number of truths for which the attack earned more than the honest answer.
    """

    attack: str
    earned: float
    honest: float
    wins: int


def exact(truth: Boxes, config: RewardConfig) -> str:
    """The truth itself."""
    return _text(truth)


def found(truth: Boxes, config: RewardConfig) -> str:
    """Every difference found, loosely: at an IoU halfway between what counts and 1.

    Where any overlap counts, 0.5 takes its place.
    """
    return _text(_narrowed(truth, (1.0 + (config.match_iou or 0.5)) / 2.0))


def no_answer(truth: Boxes, config: RewardConfig) -> str:
    """No answer, which earns nothing: for what must not count at all."""
    return "I cannot tell."


def red_team(
    config: RewardLike,
    truths: Iterable[ArrayLike] | None = None,
    seed: int = 0,
    answers: str = "strict",
) -> list[Outcome]:
    """Play every attack against a reward, on a pair without a difference as well.

    "lenient" reads on purpose some of what "strict" refuses. So the truth in a text that is no
    answer to "strict" must not earn more than the truth itself.

    Args:
        config: the reward's settings, or its name; see ``dig_env.resolve_reward``.
        truths: true boxes of some pairs, each (K, 4) in the unit frame; None stands for
            ``random_truths(100)``.
        seed: of the attacks' own generator.
        answers: the dialect that attacks and honest answers are written and read in.

    Raises:
        ValueError: a truth is not (K, 4) boxes in the unit frame; an unknown dialect.
    """

    def earned_by(text: str, truth: Boxes) -> float:
        return score(translated(text, answers), truth, config, answers=answers).total

    config = resolve_reward(config)
    given = random_truths(100) if truths is None else truths
    checked = [checked_boxes(truth, "truths") for truth in (*given, [])]
    outcomes = []
    for attack in ATTACKS:
        rng = np.random.default_rng(seed)
        answer = exact if answers == "lenient" and attack.honest is no_answer else attack.honest
        earned = [earned_by(attack.answer(truth, rng), truth) for truth in checked]
        honest = [earned_by(answer(truth, config), truth) for truth in checked]
        wins = sum(a > b + 1e-9 for a, b in zip(earned, honest, strict=True))
        means = float(np.mean(earned)), float(np.mean(honest))
        outcomes.append(Outcome(attack.name, *means, wins))
    return outcomes


@lru_cache(maxsize=256)
def translated(text: str, answers: str) -> str:
    """A text with each list of boxes in it written as a dialect does; invalid ones as well."""
    if answers in ("strict", "lenient"):
        return text

    def written(match: re.Match[str]) -> str:
        parsed = parse_boxes(match[0])
        if parsed.ok:
            return format_boxes(parsed.boxes, exact=True, answers=answers)
        try:
            rows = json.loads(match[0], parse_float=str, parse_int=str, parse_constant=str)
            return DIALECTS[answers].write([[str(item) for item in row] for row in rows])
        except (ValueError, TypeError):  # no list of four items each
            return match[0]

    return _LIST.sub(written, text)


def random_truths(count: int, seed: int = 0) -> Iterator[Boxes]:
    """True boxes as rendered pairs have them: 1 to 4, sides of 0.06 to 0.3, not overlapping."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        boxes = np.empty((0, 4))
        wanted = rng.integers(1, 5)
        while len(boxes) < wanted:
            box = _random_boxes(1, rng, 0.06, 0.3)
            if all(iou_and_giou(box[0], other)[0] == 0.0 for other in boxes):
                boxes = np.vstack([boxes, box])
        yield boxes


def _text(boxes: Boxes) -> str:
    return format_boxes(boxes, exact=True)


def _narrowed(boxes: Boxes, share: float) -> Boxes:
    """Boxes whose width is cut to a share, which is then their IoU with what they were."""
    right = boxes[:, 0] + share * (boxes[:, 2] - boxes[:, 0])
    return np.column_stack([boxes[:, :2], right, boxes[:, 3]])


def _random_boxes(count: int, rng: np.random.Generator, low: float, high: float) -> Boxes:
    sides = rng.uniform(low, high, (count, 2))
    corners = rng.uniform(0.0, 1.0 - sides)
    return np.hstack([corners, corners + sides])


def _tiles(across: int) -> Boxes:
    edges = np.linspace(0.0, 1.0, across + 1)
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(across), np.arange(across)))
    return np.column_stack([edges[x], edges[y], edges[x + 1], edges[y + 1]])


def _jittered(truth: Boxes, copies: int, rng: np.random.Generator) -> Boxes:
    boxes = np.repeat(truth, copies, axis=0)
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    moved = boxes + 0.05 * sides * rng.standard_normal(boxes.shape)
    return np.clip(moved, 0.0, 1.0)


def _hull(truth: Boxes) -> Boxes:
    if not len(truth):
        return truth
    return np.concatenate([truth[:, :2].min(axis=0), truth[:, 2:].max(axis=0)])[None]


def _halves(truth: Boxes) -> Boxes:
    left = _narrowed(truth, 0.5)
    right = np.column_stack([left[:, 2], truth[:, 1:]])
    return np.vstack([left, right])


def _fixed(text: str, honest: Honest = found) -> tuple[Callable[..., str], Honest]:
    return lambda truth, rng: text, honest


def _blind(boxes: Boxes) -> tuple[Callable[..., str], Honest]:
    return _fixed(_text(boxes))


def _written(
    rewrite: Callable[[str], str], honest: Honest = exact
) -> tuple[Callable[..., str], Honest]:
    """The truth in a text that should not help it."""
    return lambda truth, rng: rewrite(_text(truth)), honest


def _unread(text: str) -> tuple[Callable[..., str], Honest]:
    """The truth where it is no answer."""
    return _written(text.format, no_answer)


def _noise(truth: Boxes, rng: np.random.Generator) -> str:
    return "".join(rng.choice(list(string.printable), rng.integers(16_384)))


_LIST = re.compile(r"\[(?:\[[^\[\]]*+\](?:, )?+)++\]")
_FULL = np.array([[0.0, 0.0, 1.0, 1.0]])
_CENTRE = np.array([[0.4, 0.4, 0.6, 0.6]])
_FULLWIDTH = str.maketrans("0123456789", "".join(map(chr, range(0xFF10, 0xFF1A))))
_LOOP = "Wait, let me look at the red cube once more, for its size may have changed. "

ATTACKS: tuple[Attack, ...] = tuple(
    Attack(name, *trick)
    for name, trick in {
        # Too many boxes
        "right + 1 more": (
            lambda t, g: _text(np.vstack([t, _random_boxes(1, g, 0.1, 0.3)])),
            exact,
        ),
        "right + 50 more": (
            lambda t, g: _text(np.vstack([t, _random_boxes(50, g, 0.1, 0.3)])),
            exact,
        ),
        "right, twice": (lambda t, g: _text(np.vstack([t, t])), exact),
        "right, ten times": (lambda t, g: _text(np.vstack([t] * 10)), exact),
        "two jittered copies": (lambda t, g: _text(_jittered(t, 2, g)), found),
        "five jittered copies": (lambda t, g: _text(_jittered(t, 5, g)), found),
        "halves": (lambda t, g: _text(_halves(t)), exact),
        "right + box around all": (lambda t, g: _text(np.vstack([t, _hull(t)])), exact),
        "100,000 boxes": _fixed("[" + ", ".join(["[120, 300, 210, 400]"] * 100_000) + "]"),
        # Blind boxes
        "full frame": _blind(_FULL),
        "full frame, 4 times": _blind(np.repeat(_FULL, 4, axis=0)),
        "centre": _blind(_CENTRE),
        "4 random boxes": (lambda t, g: _text(_random_boxes(4, g, 0.1, 0.3)), found),
        "2 x 2 tiles": _blind(_tiles(2)),
        "5 x 5 tiles": _blind(_tiles(5)),
        "30 x 30 tiles": _blind(_tiles(30)),
        "tiles of all sizes": _blind(np.vstack([_tiles(across) for across in range(1, 13)])),
        "tiny": _fixed("[[500, 500, 501, 501]]"),
        "no height": _fixed("[[0, 500, 1000, 500.0000001]]"),
        "huge": _fixed("[[-1e308, -1e308, 1e308, 1e308]]"),
        "one box around all": (lambda t, g: _text(_hull(t)), exact),  # of one, it is the answer
        # No boxes
        "nothing": _fixed(""),
        "empty list": _fixed("[]"),
        "a list in a list": _fixed("[[]]"),
        "format alone": _fixed("<think></think><answer>[[x, y, x, y]]</answer>"),
        "the prompt": _fixed(instruction()),
        "the prompt's example": _fixed("[[120, 300, 210, 400]]"),
        "code": _fixed("__import__('os').system('true')"),
        # "[]" that does not say that nothing differs
        "check boxes": _fixed("- [ ] colour\n- [x] shape", no_answer),
        "empty list in Python": _fixed("results = []", no_answer),
        "empty array in C": _fixed("int a[] = {1, 2};", no_answer),
        "empty link": _fixed("see [](http://a) or [ ]( )", no_answer),
        "empty citation": _fixed("as in [] and [1]", no_answer),
        "two empty lists": _fixed("Image A: []\nImage B: []", no_answer),
        "empty list under a key": _fixed('{"differences": []}', no_answer),
        "empty list of a draft": _fixed("Draft: []", no_answer),
        "empty list, then boxes": _fixed("Perhaps: []\n(1, 2), (3, 4)", no_answer),
        "noise": (_noise, no_answer),
        # No numbers
        "infinity": _fixed("[[-Infinity, -Infinity, Infinity, Infinity]]"),
        "not a number": _fixed("[[NaN, NaN, NaN, NaN]]"),
        "booleans": _fixed("[[false, false, true, true]]"),
        "strings": _written(lambda text: text.replace("[[", '[["').replace(", ", '", "')),
        "unicode digits": _written(lambda text: text.translate(_FULLWIDTH)),
        "inverted": (
            lambda t, g: str((t[:, [2, 3, 0, 1]] * 1000).tolist()),
            exact,
        ),
        # The truth where it does not count, and hedging
        "in the thought": _unread("<think>{}</think>I cannot tell."),
        "in a thought cut off": _unread("<think>It might be {}"),
        "in a nested thought": _unread("<think>a <think>b</think> {}"),
        "in Mistral's thought": _unread("[THINK]{}[/THINK]I cannot tell."),
        "in gpt-oss's thought": _unread("<|channel|>analysis<|message|>{}"),
        "on a scratch pad": _unread("<scratchpad>\n{}\n</scratchpad>"),
        "in a draft": _unread("Draft: {}"),
        "draft, then another notation": _unread("Perhaps {}\nFinal: (400, 400), (600, 600)"),
        "draft, then half a list": _unread("Perhaps {}\n[[400, 400, 600"),
        "draft, then half an object": _unread('{}\n{{"label": "cube", "bbox'),
        "beside the answer's tag": _unread("{}<answer>I cannot tell.</answer>"),
        "under a key": _unread('{{"boxes": {}}}'),
        "beside another notation": _unread("{} or (0.4, 0.4, 0.6, 0.6)"),
        "then another answer": _written(lambda text: f"{text}, or else [[400, 400, 600, 600]]"),
        "two answer tags": _written(
            lambda text: f"<answer>{text}</answer><answer>{_text(_tiles(3))}</answer>"
        ),
        "nested": _written(lambda text: f"[{text}, {_text(_tiles(3))}]"),
        "cut off": _written(lambda text: text[:-2]),
        "trailing comma": _written(lambda text: text[:-2] + ",],]"),
        # Too much text
        "nesting bomb": _fixed("[" * 100_000),
        "closed nesting bomb": _fixed("[" * 50_000 + "]" * 50_000),
        "loop": _written(lambda text: 500 * _LOOP + text),
        "a megabyte": _written(lambda text: "".join(map(chr, range(33, 91))) * 17_000 + text),
    }.items()
)
"""Every attack."""
