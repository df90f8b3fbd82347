"""Pairs on disk: Parquet files that ``datasets`` loads, a manifest, a card, and their audit."""

from scenes.dataset.audit import CHECKS, Audit, Problem, audit_dataset
from scenes.dataset.manifest import Manifest
from scenes.dataset.reader import PairDataset
from scenes.dataset.writer import PRESETS, render_dataset

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
