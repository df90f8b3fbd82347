"""Pairs on disk: Parquet files that ``datasets`` loads, a manifest, a card, and their audit."""

from dig_env.scenes.dataset.audit import CHECKS, Audit, Problem, audit_dataset
from dig_env.scenes.dataset.manifest import Manifest
from dig_env.scenes.dataset.reader import PairDataset
from dig_env.scenes.dataset.writer import PRESETS, render_dataset

__all__ = [
    "CHECKS",
    "PRESETS",
    "Audit",
    "Manifest",
    "PairDataset",
    "Problem",
    "audit_dataset",
    "render_dataset",
]
