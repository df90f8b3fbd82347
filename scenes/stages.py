"""The stages that have a name: the paper's three, four beyond them, and those of other families."""

from __future__ import annotations

import dataclasses
from typing import Any

from scenes.difficulty import Difficulty, DifficultyError

STAGES: dict[str, Difficulty] = {
    "single": Difficulty(differences=(1, 1)),
    "dual": Difficulty(differences=(2, 2)),
    "mixed": Difficulty(differences=(1, 4)),
    "subtle": Difficulty(
        differences=(1, 4),
        changes=("color", "size", "material"),
        min_contrast=3.0,
        color_distance=(8.0, 20.0),
        size_ratio=(1.1, 1.3),
        material_contrast=(3.0, 30.0),
        object_scale=(0.85, 1.15),
    ),
    "cluttered": Difficulty(
        differences=(1, 4),
        objects=(12, 20),
        min_visible=60 / (320 * 240),
        object_scale=(0.6, 0.9),
        occlusion=(0.1, 0.6),
    ),
    "nuisance": Difficulty(
        differences=(0, 4),
        camera_shift=0.1,
        light_shift=1.0,
        exposure=0.3,
        noise=4.0,
        jpeg=80,
    ),
    "extreme": Difficulty(
        differences=(0, 8),
        objects=(8, 20),
        min_visible=60 / (320 * 240),
        min_contrast=3.0,
        color_distance=(8.0, 25.0),
        size_ratio=(1.1, 1.3),
        object_scale=(0.6, 0.9),
        occlusion=(0.0, 0.6),
        camera_shift=0.2,
        light_shift=1.5,
        exposure=0.5,
        noise=8.0,
        jpeg=60,
    ),
}
"""The stages that have a name; docs/difficulty.md and docs/worlds.md show them."""

PAPER_STAGES: tuple[str, ...] = ("single", "dual", "mixed")
"""The paper's curriculum: one difference, two, then one to four. Curricula walk it by default."""

STAGES |= {
    f"{family}_{stage}": dataclasses.replace(STAGES[stage], family=family)
    for family in ("tabletop", "shelf")
    for stage in PAPER_STAGES
}


def resolve_stage(stage: str | Difficulty | dict[str, Any]) -> tuple[str, Difficulty]:
    """The (name, Difficulty) that a user's ``stage`` argument means.

    Args:
        stage: a name from ``STAGES``, a Difficulty, or a dictionary of Difficulty fields. The
            latter two are called "custom" unless they equal a named stage.

    Raises:
        DifficultyError: an unknown name or invalid fields.
    """
    if isinstance(stage, str):
        if stage not in STAGES:
            raise DifficultyError(
                f"unknown stage {stage!r}; the stages are {', '.join(STAGES)}, or give a "
                "dictionary of Difficulty fields such as {'differences': (1, 2)}"
            )
        return stage, STAGES[stage]
    if isinstance(stage, dict):
        stage = Difficulty.from_json(stage)
    if not isinstance(stage, Difficulty):
        raise DifficultyError(
            f"stage={stage!r} is a {type(stage).__name__}; give a stage name "
            f"({', '.join(STAGES)}), a Difficulty, or a dictionary of its fields"
        )
    for name, difficulty in STAGES.items():
        if stage == difficulty:
            return name, stage
    return "custom", stage
