"""The world: plans of scene pairs, Blender that renders them, labels measured on the pixels.

Knows nothing of tasks, rewards or learning. ``bpy`` is imported in the render workers only.
"""

from scenes.dataset import PairDataset, audit_dataset, render_dataset
from scenes.difficulty import Difficulty, DifficultyError
from scenes.pair import Certificate, Difference, Pair
from scenes.plan import Camera, Change, Light, Nuisance, PairPlan, SceneObject
from scenes.planner import plan_pair
from scenes.process import BlenderNotFoundError, RenderError
from scenes.renderer import Renderer, available_cores
from scenes.settings import QUALITIES, RenderSettings
from scenes.splits import SEEDS_PER_SPLIT, SPLITS, pair_seed_range
from scenes.stages import PAPER_STAGES, STAGES, resolve_stage
from scenes.view import SeenObject, View, view_of, views
from scenes.vocabulary import CHANGES, COLORS, MATERIALS, SHAPES, SIZES

__all__ = [
    "CHANGES",
    "COLORS",
    "MATERIALS",
    "PAPER_STAGES",
    "QUALITIES",
    "SEEDS_PER_SPLIT",
    "SHAPES",
    "SIZES",
    "SPLITS",
    "STAGES",
    "BlenderNotFoundError",
    "Camera",
    "Certificate",
    "Change",
    "Difference",
    "Difficulty",
    "DifficultyError",
    "Light",
    "Nuisance",
    "Pair",
    "PairDataset",
    "PairPlan",
    "RenderError",
    "RenderSettings",
    "Renderer",
    "SceneObject",
    "SeenObject",
    "View",
    "audit_dataset",
    "available_cores",
    "pair_seed_range",
    "plan_pair",
    "render_dataset",
    "resolve_stage",
    "view_of",
    "views",
]
