"""Stages: difficulties with a name. The paper's three, four beyond them, those of other families,
and what ``register_stage`` adds."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from dig_env.scenes.plans.difficulty import Difficulty, DifficultyError

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
        occlusion=(0.05, 0.6),
    ),
    "nuisance": Difficulty(
        differences=(0, 4),
        camera_shift=0.1,
        light_shift=1.0,
        exposure_stops=0.3,
        noise_levels=4.0,
        jpeg_quality=80,
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
        exposure_stops=0.5,
        noise_levels=8.0,
        jpeg_quality=60,
    ),
}
"""Every stage that has a name in this process; docs/difficulty.md and docs/worlds.md show them."""

PAPER_STAGES: tuple[str, ...] = ("single", "dual", "mixed")
"""The paper's curriculum: one difference, two, then one to four. The default order of curricula."""

STAGES |= {
    f"{family}_{stage}": dataclasses.replace(STAGES[stage], family=family)
    for family in ("tabletop", "shelf")
    for stage in PAPER_STAGES
}


BUILT_IN_STAGES: tuple[str, ...] = tuple(STAGES)
"""Those that have a name in every process. Pair seeds in datasets go by their order."""


def register_stage(name: str, difficulty: Difficulty | dict[str, Any]) -> Difficulty:
    """Give a difficulty a name that is a stage everywhere in this process.

    Environments, datasets, curricula, evaluation and training then take it. Another process that
    makes pairs of it must register it too. A dataset carries its own stages: they need no
    registration, and mean what they meant when it was rendered.

    Args:
        name: lower-case letters, digits and underscores; not "default" or "custom".
        difficulty: or a dictionary of its fields.

    Raises:
        DifficultyError: the name is none, or belongs to another difficulty; or no pair can be
            planned for the difficulty.
    """
    check_stage_name(name)
    if name == "custom":
        raise DifficultyError("'custom' is what a difficulty without a name is called: name yours")
    difficulty = resolve_stage(difficulty)[1]
    difficulty.check_family()
    if STAGES.setdefault(name, difficulty) != difficulty:
        raise DifficultyError(f"there is another stage {name!r}: choose another name")
    return difficulty


def check_stage_name(name: str) -> None:
    """Raise DifficultyError unless files can carry the name of the stage."""
    if not isinstance(name, str) or not re.fullmatch("[a-z0-9_]+", name) or name == "default":
        raise DifficultyError(
            f"stage {name!r}: name it with lower-case letters, digits and underscores, since files "
            "carry the name; 'default' is taken"
        )


def resolve_stage(
    stage: str | Difficulty | dict[str, Any], known: Mapping[str, Difficulty] = STAGES
) -> tuple[str, Difficulty]:
    """The (name, Difficulty) that a user's ``stage`` argument means.

    Args:
        stage: a name from ``known``, a Difficulty, or a dictionary of Difficulty fields. The latter
            two are called "custom" unless they equal a named stage.
        known: what names mean.

    Raises:
        DifficultyError: an unknown name, invalid fields, or an unknown family.
    """
    if isinstance(stage, str):
        if stage not in known:
            raise DifficultyError(
                f"unknown stage {stage!r}; the stages are {', '.join(known)}; give one, what "
                "you gave to dig_env.scenes.register_stage(), or a dictionary of Difficulty fields "
                "such as {'differences': (1, 2)}"
            )
        return stage, known[stage]
    if isinstance(stage, dict):
        stage = Difficulty.from_json(stage)
    if not isinstance(stage, Difficulty):
        raise DifficultyError(
            f"stage={stage!r} is a {type(stage).__name__}; give a stage name "
            f"({', '.join(known)}), a Difficulty, or a dictionary of its fields"
        )
    for name, difficulty in known.items():
        if stage == difficulty:
            return name, stage
    stage.check_family()
    return "custom", stage
