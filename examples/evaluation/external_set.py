"""Score a policy on external pairs: here a COCO file that is written first.

python examples/evaluation/external_set.py
"""

import tempfile
from pathlib import Path

from dig_env.agents import PixelDiffPolicy, evaluate_external
from dig_env.agents.data.export import export_dataset
from dig_env.agents.evaluation.external import read_coco_pairs
from dig_env.scenes import RenderSettings, render_dataset

with tempfile.TemporaryDirectory() as folder:
    dataset, coco = Path(folder, "pairs"), Path(folder, "coco")
    settings = RenderSettings(width=128, height=96, quality="draft")
    render_dataset(dataset, {"dual": 8}, "test", settings)
    export_dataset(dataset, coco, "coco")

    pairs = read_coco_pairs(coco / "instances-test-dual.json")
    report = evaluate_external(PixelDiffPolicy(), pairs)
    for metric, (mean, low, high) in report.to_json()["intervals"].items():
        print(f"{metric:14} {mean:.2f}  ({low:.2f} to {high:.2f})")
