"""The world: plans of scene pairs, Blender that renders them, labels measured on the pixels.

Knows nothing of tasks, rewards or learning. ``bpy`` is imported in the render workers only.
"""

from scenes.dataset import PairDataset, audit_dataset, render_dataset
from scenes.difficulty import Difficulty, DifficultyError
from scenes.families import (
    Family,
    FamilyError,
    Region,
    family_named,
    object_family,
    register_family,
)
from scenes.machine import available_cores
from scenes.pair import Certificate, Difference, Pair
from scenes.photos.album import Album
from scenes.photos.make import photo_pair
from scenes.photos.plan import PHOTO_STAGES, PhotoChange, PhotoObject, PhotoPlan
from scenes.photos.planner import plan_photo_pair
from scenes.plan import Change, Nuisance, PairPlan, SceneObject
from scenes.planner import plan_pair
from scenes.process import BlenderNotFoundError, RenderError
from scenes.renderer import Renderer
from scenes.scenery import Camera, Light, Scenery, Sky, Slab
from scenes.settings import QUALITIES, RenderSettings
from scenes.splits import SEEDS_PER_SPLIT, SPLITS, pair_seed_range
from scenes.stages import PAPER_STAGES, STAGES, register_stage, resolve_stage
from scenes.view import SeenObject, View, view_of, views
from scenes.vocabulary import (
    CHANGES,
    COLORS,
    MATERIALS,
    PAPER_CHANGES,
    PHOTO_CHANGES,
    SHAPES,
    SIZES,
)

__all__ = [
    "CHANGES",
    "COLORS",
    "MATERIALS",
    "PAPER_CHANGES",
    "PAPER_STAGES",
    "PHOTO_CHANGES",
    "PHOTO_STAGES",
    "QUALITIES",
    "SEEDS_PER_SPLIT",
    "SHAPES",
    "SIZES",
    "SPLITS",
    "STAGES",
    "Album",
    "BlenderNotFoundError",
    "Camera",
    "Certificate",
    "Change",
    "Difference",
    "Difficulty",
    "DifficultyError",
    "Family",
    "FamilyError",
    "Light",
    "Nuisance",
    "Pair",
    "PairDataset",
    "PairPlan",
    "PhotoChange",
    "PhotoObject",
    "PhotoPlan",
    "Region",
    "RenderError",
    "RenderSettings",
    "Renderer",
    "SceneObject",
    "Scenery",
    "SeenObject",
    "Sky",
    "Slab",
    "View",
    "audit_dataset",
    "available_cores",
    "family_named",
    "object_family",
    "pair_seed_range",
    "photo_pair",
    "plan_pair",
    "plan_photo_pair",
    "register_family",
    "register_stage",
    "render_dataset",
    "resolve_stage",
    "view_of",
    "views",
]
