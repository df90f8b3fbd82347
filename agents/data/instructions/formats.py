"""How instruction data is written: for TRL's SFTTrainer, and for trainers in LLaVA's style."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dig_env.agents.data.export.annotations import dataset_info
from dig_env.agents.data.export.parquet import IMAGE_LIST, INT, STRING, write_parquet
from dig_env.agents.policies.align_chat import messages_of, question_images, right_answers
from dig_env.align import AlignSettings, Question
from dig_env.align.questions import IMAGE, OBJECT
from dig_env.drawing import png
from dig_env.scenes.files import write_whole
from dig_env.scenes.plans.splits import SPLITS

_CONTENT = pa.list_(pa.struct([("type", STRING), ("text", STRING), ("object", pa.bool_())]))
_COLUMNS = {
    "messages": pa.list_(pa.struct([("role", STRING), ("content", _CONTENT)])),
    "images": IMAGE_LIST,
    "task": STRING,
    "pair_seed": INT,
    "side": STRING,
    "info": STRING,
}


@dataclass(frozen=True, eq=False)
class Example:
    """A question with where it comes from.

    Attributes:
        question: see there.
        name: unique in its split.
        pair_seed: of the pair.
        side: which of the pair's images, "a" or "b".
        settings: how it was posed.
    """

    question: Question
    name: str
    pair_seed: int
    side: str
    settings: AlignSettings

    @property
    def answers(self) -> list[str]:
        """The right answers, one a turn."""
        return right_answers(self.question, self.settings.coordinates)


def _write_trl(out: Path, split: str, index: int, examples: Sequence[Example]) -> str:
    """A Parquet file with the columns that TRL's SFTTrainer takes, and some of ours.

    ``messages``: role and content parts, {"type": "image"}, {"type": "image", "object": True} for a
    crop, or {"type": "text", "text": ...}; ``images``: PNG files, the image first, then the crops
    in the order of their slots.

    Returns:
        Its path relative to ``out``.
    """
    path = f"data/{split}-{index:05d}.parquet"
    (out / "data").mkdir(exist_ok=True)
    content = io.BytesIO()
    write_parquet(content, _COLUMNS, map(_row, examples))
    write_whole(out / path, content.getvalue())
    return path


def _write_llava(out: Path, split: str, index: int, examples: Sequence[Example]) -> str:
    """A JSON file of conversations, and PNG files in a folder of their own in ``images/``.

    Each slot is an ``<image>``, for the crops too, and ``image`` lists the files in that order.
    ``finish_llava`` joins a split's files to the one that trainers read.

    Returns:
        Its path relative to ``out``.
    """
    folder = f"images/{split}-{index:05d}"
    (out / folder).mkdir(parents=True, exist_ok=True)
    (out / "parts").mkdir(exist_ok=True)
    entries = [_conversation(example, split, folder, out) for example in examples]
    path = f"parts/{split}-{index:05d}.json"
    write_whole(out / path, json.dumps(entries, indent=1).encode())
    return path


def finish_llava(out: Path, split: str, parts: Sequence[str]) -> None:
    """Join the parts of a split to ``SPLIT.json``; list all splits for LLaMA-Factory."""
    joined = io.StringIO()
    for index, part in enumerate(parts):
        joined.write("[" if index == 0 else ",")
        joined.write((out / part).read_text()[1:].rstrip().removesuffix("]"))
    joined.write("]\n")
    write_whole(out / f"{split}.json", joined.getvalue().encode())
    files = {f"dig_align_{name}": f"{name}.json" for name in SPLITS}
    there = {name: file for name, file in files.items() if (out / file).is_file()}
    write_whole(out / "dataset_info.json", dataset_info(there).encode())


WRITERS: dict[str, Callable[[Path, str, int, Sequence[Example]], str]] = {
    "trl": _write_trl,
    "llava": _write_llava,
}
"""What writes each format's next file."""


def _row(example: Example) -> dict[str, Any]:
    prompts = [turn.prompt for turn in example.question.turns]
    return {
        "messages": messages_of(prompts, example.answers),
        "images": [
            {"bytes": _png(image), "path": None} for image in question_images(example.question)
        ],
        "task": example.question.task,
        "pair_seed": example.pair_seed,
        "side": example.side,
        "info": json.dumps(example.question.info),
    }


def _conversation(example: Example, split: str, folder: str, out: Path) -> dict[str, Any]:
    """An example's entry, whose images are written on the way; its pair's image once."""
    images = question_images(example.question)
    files = [f"{folder}/{example.pair_seed}-{example.side}.png"]
    files += [f"{folder}/{example.name}-crop{index}.png" for index in range(len(images) - 1)]
    for path, image in zip(files, images, strict=True):
        if not (out / path).exists():
            write_whole(out / path, _png(image))
    turns = []
    for turn, answer in zip(example.question.turns, example.answers, strict=True):
        turns.append({"from": "human", "value": turn.prompt.replace(OBJECT, IMAGE)})
        turns.append({"from": "gpt", "value": answer})
    return {
        "id": f"{split}-{example.name}",
        "image": files,
        "conversations": turns,
        "task": example.question.task,
    }


def _png(image: np.ndarray) -> bytes:
    return png(image, compress_level=1)
