"""Difference sets of others, scored with the metrics of the game's own pairs."""

from agents.external.clevr_change import read_clevr_change
from agents.external.coco import read_coco_pairs
from agents.external.evaluation import ExternalReport, evaluate_external
from agents.external.pair import ExternalPair

__all__ = [
    "ExternalPair",
    "ExternalReport",
    "evaluate_external",
    "read_clevr_change",
    "read_coco_pairs",
]
