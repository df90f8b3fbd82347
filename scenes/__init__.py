"""The world: plans of scene pairs, Blender that renders them, labels measured on the pixels.

Knows nothing of tasks, rewards or learning. ``bpy`` is imported in the render workers only.
"""

from dig_env.scenes.dataset import PairDataset, audit_dataset, render_dataset
from dig_env.scenes.families import (
    Family,
    FamilyError,
    Region,
    family_named,
    object_family,
    register_family,
)
from dig_env.scenes.families.scenery import Camera, Light, Scenery, Sky, Slab
from dig_env.scenes.families.vocabulary import (
    CHANGES,
    COLORS,
    MATERIALS,
    PAPER_CHANGES,
    PHOTO_CHANGES,
    SHAPES,
    SIZES,
)
from dig_env.scenes.machine import available_cores
from dig_env.scenes.measure.pair import Certificate, Difference, Pair
from dig_env.scenes.measure.view import SeenObject, View, view_of, views
from dig_env.scenes.photos.album import Album
from dig_env.scenes.photos.make import photo_pair
from dig_env.scenes.photos.plan import PHOTO_STAGES, PhotoChange, PhotoObject, PhotoPlan
from dig_env.scenes.photos.planner import plan_photo_pair
from dig_env.scenes.plans.difficulty import Difficulty, DifficultyError
from dig_env.scenes.plans.plan import Change, Nuisance, PairPlan, Plan, SceneObject
from dig_env.scenes.plans.planner import plan_pair
from dig_env.scenes.plans.splits import SEEDS_PER_SPLIT, SPLITS, pair_seed_range
from dig_env.scenes.plans.stages import PAPER_STAGES, STAGES, register_stage, resolve_stage
from dig_env.scenes.render.process import BlenderNotFoundError, RenderError
from dig_env.scenes.render.renderer import Renderer
from dig_env.scenes.render.settings import QUALITIES, RenderSettings

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
    "Plan",
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
