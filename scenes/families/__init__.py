"""Families: worlds of objects, each with its surroundings. Importing this registers them."""

from dig_env.scenes.families import clevr, shelf, tabletop  # noqa: F401 - they register themselves
from dig_env.scenes.families.family import (
    Family,
    FamilyError,
    family_named,
    is_pattern_change,
    object_family,
    register_family,
    turn_deg,
)
from dig_env.scenes.families.scenery import Region

__all__ = [
    "Family",
    "FamilyError",
    "Region",
    "family_named",
    "is_pattern_change",
    "object_family",
    "register_family",
    "turn_deg",
]
