"""Readers of others' difference sets; ``dig_env.agents.evaluate_external`` plays their pairs."""

from dig_env.agents.evaluation.external.clevr_change import read_clevr_change
from dig_env.agents.evaluation.external.coco import read_coco_pairs
from dig_env.agents.evaluation.external.img_diff import read_img_diff
from dig_env.agents.evaluation.external.oddgridbench import read_oddgridbench
from dig_env.agents.evaluation.external.pair import ExternalPair

__all__ = [
    "ExternalPair",
    "read_clevr_change",
    "read_coco_pairs",
    "read_img_diff",
    "read_oddgridbench",
]
