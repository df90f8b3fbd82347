"""The alignment tasks by name, and how a question about a pair is posed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from dig_env.align.questions import Question
from dig_env.align.settings import AlignSettings
from dig_env.align.tasks_objects import (
    box_to_crop,
    box_to_text,
    crop_to_box,
    crop_to_text,
    text_to_box,
    text_to_crop,
)
from dig_env.align.tasks_scene import conversation, description, existence, relation
from dig_env.align.words import values_in
from dig_env.scenes import View

Task = Callable[[View, np.random.Generator, AlignSettings], Question | None]
"""Asks about a view, or returns None where the view gives nothing to ask."""

TASKS: dict[str, Task] = {
    "text_to_box": text_to_box,
    "box_to_text": box_to_text,
    "crop_to_box": crop_to_box,
    "box_to_crop": box_to_crop,
    "text_to_crop": text_to_crop,
    "crop_to_text": crop_to_text,
    "relation": relation,
    "conversation": conversation,
    "description": description,
    "existence": existence,
}


def pose(
    images: tuple[View, View],
    task: str,
    rng: np.random.Generator,
    settings: AlignSettings = AlignSettings(),
) -> tuple[str, Question] | None:
    """Ask about one of a pair's images, drawn at random; about the other where that gives nothing.

    Args:
        images: what ``dig_env.scenes.views`` sees of a pair.
        task: a name in ``TASKS``.
        rng: decides everything that is drawn.
        settings: see there.

    Returns:
        ("a" or "b", the question), or None where neither image gives anything to ask.

    Raises:
        ValueError: the images' family has shapes without a word.
    """
    values_in(images[0].family)
    for side in rng.permutation(2).tolist():
        question = TASKS[task](images[side], rng, settings)
        if question is not None:
            return "ab"[side], question
    return None


def resolve_tasks(task: str | Sequence[str]) -> tuple[str, ...]:
    """The task names that an argument means: one name, or several.

    Raises:
        ValueError: an unknown name, one that is given twice, or none.
    """
    names = (task,) if isinstance(task, str) else tuple(task)
    unknown = [name for name in names if name not in TASKS]
    if unknown or not names or len(set(names)) < len(names):
        raise ValueError(f"task={task!r}: give one or more of {', '.join(TASKS)}, each once")
    return names
