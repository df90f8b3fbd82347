"""Export pairs with their reward for EasyR1 and verl, and look at what they will read.

python examples/trainers/export.py
"""

from pathlib import Path

import pyarrow.parquet as pq

from dig_env.agents.data.export import ExportSettings, export_dataset
from dig_env.scenes import PAPER_STAGES, RenderSettings, render_dataset

settings = RenderSettings(width=128, height=96, quality="draft")
for split in ("train", "validation"):
    render_dataset("runs/to_export", dict.fromkeys(PAPER_STAGES, 4), split, settings)

for trainer in ("easyr1", "verl"):
    out = Path("runs", f"to_export-{trainer}")
    export_dataset("runs/to_export", out, trainer, ExportSettings(reward="full"))
    rows = pq.read_table(out / "data" / "train-dual.parquet")
    print(f"{trainer}: {rows.num_rows} rows of {', '.join(rows.column_names)}")
    print(f"    {', '.join(sorted(path.name for path in out.iterdir()))}")
    print(f"    where the GPUs are: bash {out}/run.sh")
print("the reward of both: examples/trainers/easyr1_reward.py, examples/trainers/verl_reward.py")
