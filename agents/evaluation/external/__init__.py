"""Difference sets of others, scored with the metrics of the game's own pairs."""

from dig_env.agents.evaluation.external.clevr_change import read_clevr_change
from dig_env.agents.evaluation.external.coco import read_coco_pairs
from dig_env.agents.evaluation.external.evaluation import ExternalResult, evaluate_external
from dig_env.agents.evaluation.external.pair import ExternalPair

__all__ = [
    "ExternalPair",
    "ExternalResult",
    "evaluate_external",
    "read_clevr_change",
    "read_coco_pairs",
]
