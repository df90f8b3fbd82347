"""Answers of humans as JSON lines: ``dig-env play`` writes, the calibration card reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dig_env.scenes import RenderSettings
from dig_env.scenes.files import write_whole

FIELDS = {
    *("stage", "width", "height", "quality", "pair_seed"),
    *("answer", "seconds", "reward", "f1", "iou"),
}
"""What a line has at least; the rest is that of ``Episode.to_json``."""


def read_answers(path: Path, settings: RenderSettings) -> list[dict[str, Any]]:
    """The answers that were given to images of this size and quality, in their order.

    Args:
        path: JSON lines that ``dig-env play`` wrote.
        settings: of the images; other answers in the file are left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line of it is no answer.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}: give a file that 'dig-env play' wrote")
    answers = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            fields = json.loads(line)
        except ValueError:
            fields = None
        if not isinstance(fields, dict) or not fields.keys() >= FIELDS:
            raise ValueError(
                f"{path} line {number} is no answer that 'dig-env play' wrote: take it out, or "
                "give another file"
            )
        answers.append(fields)
    look = (settings.width, settings.height, settings.quality)
    return [a for a in answers if (a["width"], a["height"], a["quality"]) == look]


def append_answers(path: Path, answers: list[dict[str, Any]]) -> None:
    """Add lines to the file, all or none; it is made if absent.

    Raises:
        OSError: they could not be written; what the file held it still holds.
    """
    before = path.read_bytes() if path.exists() else b""
    lines = "".join(json.dumps(answer) + "\n" for answer in answers)
    write_whole(path, before + lines.encode())
