"""The world: plans of scene pairs, Blender that renders them, labels measured on the pixels.

Knows nothing of tasks, rewards or learning. ``bpy`` is imported in the render workers only.
"""

from scenes.blender.process import BlenderNotFoundError, RenderError
from scenes.difficulty import STAGES, Difficulty, DifficultyError, resolve_stage
from scenes.pair import Difference, Pair
from scenes.plan import Camera, Change, Light, PairPlan, SceneObject
from scenes.planner import plan_pair
from scenes.renderer import Renderer, available_cores
from scenes.settings import QUALITIES, RenderSettings
from scenes.splits import SPLITS, pair_seed_range
from scenes.vocabulary import CHANGES, COLORS, MATERIALS, SHAPES, SIZES

__all__ = [
    "CHANGES",
    "COLORS",
    "MATERIALS",
    "QUALITIES",
    "SHAPES",
    "SIZES",
    "SPLITS",
    "STAGES",
    "BlenderNotFoundError",
    "Camera",
    "Change",
    "Difference",
    "Difficulty",
    "DifficultyError",
    "Light",
    "Pair",
    "PairPlan",
    "RenderError",
    "RenderSettings",
    "Renderer",
    "SceneObject",
    "available_cores",
    "pair_seed_range",
    "plan_pair",
    "resolve_stage",
]
