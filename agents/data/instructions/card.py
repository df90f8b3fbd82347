"""The data card of instruction data: ``README.md`` with the header that `datasets` reads."""

from __future__ import annotations

from typing import Any

from dig_env.scenes.plans.splits import SPLITS

CARD = """\
---
license: apache-2.0
pretty_name: Text, coordinates and crops of rendered objects
task_categories:
- image-text-to-text
- visual-question-answering
tags:
- grounding
- referring-expressions
- synthetic
- blender
{configs}---

# Text, coordinates and crops: {total:,} instructions about rendered scenes

Questions about images whose scenes are known exactly: every answer, box and crop is exact. After
the multi-scale data of TinyGroundingGPT (arXiv 2411.09691), which came from other models. Made by
dig-env {made_with[dig-env]}; its docs/align.md shows a question of each task.

| task | {splits} |
|---|{rules}
{table}

## How it was made

- Pairs: {source}; {width}x{height} pixels, quality {quality}. Splits take their
  pair seeds from disjoint ranges, so no scene is in two.
- At most {per_pair} examples of a pair.
- Boxes: {coordinates}. Crops: {crop_px} px, with {crop_context} of the box's longer side around it.
- Filters: objects that are asked about have a box of {min_area} to {max_area} of the image and show
  at least {min_shown} of themselves; at most {options} crops to choose from, whose boxes overlap by
  an IoU of at most {max_option_iou}; every expression denotes exactly one object.
- Versions: {versions}.

## Format

{format}

## Licence

Apache-2.0.
"""

_FORMATS = {
    "trl": """\
`messages` (role, and content in parts of type "image" or "text") and `images` (the image first,
then the crops, in the order of the slots) are what TRL's SFTTrainer takes. Beside them: `task`,
`pair_seed`, `side` ("a" or "b", which image of the pair), `info` (JSON). Only the answers are to be
learned, and no row is to be cut off:

```python
from datasets import load_dataset
from trl import SFTConfig

train = load_dataset("path/of/this/folder", split="{split}")
args = SFTConfig("sft", assistant_only_loss=True, max_length=None)
```""",
    "llava": """\
`{split}.json` holds `conversations` of `from` ("human" or "gpt") and `value`; each `<image>` stands
for the next file of `image`, the image first, then the crops. `parts/` holds the same in pieces, by
which an interrupted run resumes. `dataset_info.json` is LLaMA-Factory's: `dataset_dir` is this
folder, `dataset` is `dig_align_{split}`.""",
}


def align_card(manifest: dict[str, Any]) -> str:
    """The card of a folder: the same for equal manifests.

    Args:
        manifest: what ``align.json`` holds, with at least one split.
    """
    data = manifest["data"]
    splits = [split for split in SPLITS if split in manifest["splits"]]
    counts = {
        split: {
            task: sum(file["counts"][task] for file in manifest["splits"][split]["files"])
            for task in data["tasks"]
        }
        for split in splits
    }
    rows = [
        f"| {task} | {' | '.join(f'{counts[split][task]:,}' for split in splits)} |"
        for task in data["tasks"]
    ]
    made_with = sorted(manifest["made_with"].items())
    rendered = "rendered for this" if data["dataset"] is None else "of a stored dataset"
    return CARD.format(
        configs=_configs(splits) if data["format"] == "trl" else "",
        total=sum(sum(of_split.values()) for of_split in counts.values()),
        splits=" | ".join(splits),
        rules="---|" * len(splits),
        table="\n".join(rows),
        source=f"{rendered}, stage {data['stage'] or 'any'}",
        versions=", ".join(f"{name} {version}" for name, version in made_with),
        made_with=manifest["made_with"],
        format=_FORMATS[data["format"]].format(split=splits[0]),
        per_pair=data["per_pair"],
        **data["render"],
        **data["settings"],
    )


def _configs(splits: list[str]) -> str:
    lines = ["configs:", "- config_name: default", "  data_files:"]
    for split in splits:
        lines += [f"  - split: {split}", f"    path: data/{split}-*.parquet"]
    return "\n".join(lines) + "\n"
