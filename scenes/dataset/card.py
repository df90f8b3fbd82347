"""The dataset card: ``README.md`` with the header that ``datasets.load_dataset`` reads."""

from __future__ import annotations

from dig_env.scenes.dataset.manifest import DATA, Manifest
from dig_env.scenes.plans.difficulty import Difficulty
from dig_env.scenes.plans.splits import SPLITS
from dig_env.scenes.plans.stages import BUILT_IN_STAGES

DATASET_CARD = """\
---
license: {license}
pretty_name: Spot the difference, {made}
task_categories:
- image-text-to-text
- object-detection
tags:
- spot-the-difference
{tags}size_categories:
- {size}
{configs}---

# Spot the difference: {pairs:,} pairs of images with a box around every difference

{introduction}

- Size: {width}x{height} pixels
- Made by: dig-env {made_with[dig-env]}

| split | stage | differences a pair | pairs |
|---|---|---|---|
{table}

```python
from datasets import load_dataset

everything = load_dataset("path/of/this/folder", split="{split}")
one_stage = load_dataset("path/of/this/folder", "{stage}", split="{split}")
```

## Columns

| column | content |
|---|---|
| `pair_seed` | decides the pair together with its stage and the render settings; unique |
| `stage` | name of the difficulty; `manifest.json` holds its fields |
| `image_a`, `image_b` | the two images, lossless WebP |
| `ids_a`, `ids_b` | the object id seen in each pixel, 0 for the background, 8-bit PNG |
| `differences` | one entry a changed object: `change`, `object_id`, `box` (what is scored), \
`box_a`, `box_b` (null where it is absent), `visible_a`, `visible_b` (pixels), `contrast` (CIE76) |
| `certificate` | how much the pair differs where no box is |
| `plan` | JSON: objects, changes and all else that was drawn, every sampled value |
| `pixels_sha256` | SHA-256 of the raw pixels of image_a, ids_a, image_b, ids_b |

Boxes are `[x_min, y_min, x_max, y_max]` in pixels, measured on the masks; the right and lower edge
are behind the last pixel. A change that cannot be seen is not in here.

## Splits

Train, validation and test take their pair seeds from disjoint ranges, so no pair is in two.
`dig-env audit path/of/this/folder` checks every claim of this page on the pixels.

## Licence

{licence}
"""

RENDERED = {
    "license": "apache-2.0",
    "made": "rendered in Blender",
    "tags": "- synthetic\n- blender\n",
    "introduction": """\
Each pair shows one scene twice. K objects differ, each in its colour, shape, size or material, or
by being added or deleted. Camera, lights and image quality stay, unless the difficulty of the stage
(`manifest.json`) has nuisances. After the corpus of DiG (arXiv 2512.12633).

- Renderer: Blender {made_with[blender]} (Cycles on {made_with[device]}, then denoised)
- Quality: {quality}""",
    "licence": "Apache-2.0.",
}
PHOTOGRAPHED = {
    "license": "other",
    "made": "made of photographs",
    "tags": "- photographs\n",
    "introduction": """\
Each pair shows one photograph twice. K of its objects differ: one has another colour, is added (or
pasted in), deleted, or replaced by an object of another photograph. The masks are those of the
photographs' COCO annotations.

- Photographs: SHA-256 {made_with[photographs]}
- Libraries: {made_with[image libraries]}""",
    "licence": "That of the photographs, which this page does not know.",
}


def dataset_card(manifest: Manifest) -> str:
    """The card of a folder: the same for equal manifests."""
    counts: dict[tuple[str, str], int] = {}
    for file in manifest.files:
        counts[file.split, file.stage] = counts.get((file.split, file.stage), 0) + file.rows
    if not counts:
        return "# Spot the difference\n\nNo pair has been rendered yet.\n"
    names = [*BUILT_IN_STAGES, *sorted({stage for _, stage in counts} - {*BUILT_IN_STAGES})]
    ordered = sorted(counts, key=lambda key: (SPLITS.index(key[0]), names.index(key[1])))
    table = [
        f"| {split} | {stage} | {_range(manifest.stages[stage])} | {counts[split, stage]:,} |"
        for split, stage in ordered
    ]
    values = {
        "size": _size_category(sum(counts.values())),
        "configs": _configs(ordered),
        "pairs": sum(counts.values()),
        "made_with": manifest.made_with,
        "width": manifest.settings.width,
        "height": manifest.settings.height,
        "quality": manifest.settings.quality,
        "table": "\n".join(table),
        "split": ordered[0][0],
        "stage": ordered[0][1],
    }
    texts = PHOTOGRAPHED if "photographs" in manifest.made_with else RENDERED
    return DATASET_CARD.format(
        **values | {name: text.format(**values) for name, text in texts.items()}
    )


def _configs(present: list[tuple[str, str]]) -> str:
    """The YAML that names the files: all stages by default, and each stage by its name.

    ``present`` holds the (split, stage) combinations that have pairs.
    """
    lines = ["configs:", "- config_name: default", "  data_files:"]
    for split in dict.fromkeys(split for split, _ in present):
        lines += [f"  - split: {split}", f"    path: {DATA}/{split}-*.parquet"]
    for name in dict.fromkeys(stage for _, stage in present):
        lines += [f"- config_name: {name}", "  data_files:"]
        for split, stage in present:
            if stage == name:
                lines += [f"  - split: {split}", f"    path: {DATA}/{split}-{name}-*.parquet"]
    return "\n".join(lines) + "\n"


def _range(difficulty: Difficulty) -> str:
    low, high = difficulty.differences
    return f"{low}" if low == high else f"{low} to {high}"


def _size_category(pairs: int) -> str:
    """The Hub's word for the number of rows."""
    for limit, name in ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K")):
        if pairs < limit:
            return name
    return "100K<n<1M" if pairs < 10**6 else "n>1M"
