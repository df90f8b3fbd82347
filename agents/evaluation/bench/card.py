"""The benchmark's page on a hub: ``README.md`` with the header that ``datasets`` reads."""

from __future__ import annotations

from dig_env.agents.evaluation.bench.definition import FILE, NAME, QUALITY, SPLIT, Definition
from dig_env.scenes import STAGES
from dig_env.scenes.dataset.manifest import DATA

CARD = """\
---
license: apache-2.0
pretty_name: {name} {version}
task_categories:
- image-text-to-text
- object-detection
tags:
- rl-environment
- benchmark
- spot-the-difference
- visual-grounding
- synthetic
size_categories:
- {category}
configs:
{configs}---

# {name} {version}: find every difference between two images

{total:,} frozen pairs, {pairs} of each stage and size, rendered in Blender by
the Python package dig-env. A model gets both images and a prompt, is not told how
many differences there are, and answers with a box around each. At K = 0 nothing differs, and the
empty list is right.

| stage | differences | world | nuisances |
|---|---|---|---|
{stages}

```python
from datasets import load_dataset

pairs = load_dataset("path/of/this/folder", "{size}", split="{split}")
pairs[0]["image_a"], pairs[0]["image_b"], pairs[0]["differences"]
```

```sh
dig-env bench run --data path/of/this/folder --size {size} --policy NAME
```

- `stage` is a column. The others are explained in `{size}/README.md`.
- Quality: {quality}, on CPUs. Boxes are measured on the masks, and are pixels from the upper left
  corner.
- `{file}` has the hashes: that of the plans is the same on every machine, that of the pixels on one
  kind of machine.
- Test only: do not train on these pairs. The package never draws training pairs from this range of
  seeds.
- Scenes are synthetic. A good result says that a model sees small changes, not that it understands
  photographs.

Apache-2.0. The task is that of DiG (arXiv 2512.12633).
"""


def bench_card(made: Definition) -> str:
    """The card of a folder: the same for equal definitions."""
    names = list(dict.fromkeys(name for size in made.sizes.values() for name in size.stages))
    total = made.pairs * sum(len(size.stages) for size in made.sizes.values())
    return CARD.format(
        name=NAME,
        version=made.version,
        category="n<1K" if total < 1000 else "1K<n<10K",
        configs="".join(_config(size, index == 0) for index, size in enumerate(made.sizes)),
        total=total,
        pairs=made.pairs,
        stages="\n".join(map(_row, names)),
        size=next(iter(made.sizes)),
        split=SPLIT,
        quality=QUALITY,
        file=FILE,
    )


def _config(size: str, is_default: bool) -> str:
    lines = [f"- config_name: {size}", *(["  default: true"] if is_default else [])]
    lines += ["  data_files:", f"  - split: {SPLIT}", f"    path: {size}/{DATA}/{SPLIT}-*.parquet"]
    return "\n".join(lines) + "\n"


def _row(name: str) -> str:
    stage = STAGES[name]
    low, high = stage.differences
    count = f"{low}" if low == high else f"{low} to {high}"
    return f"| {name} | {count} | {stage.family} | {'yes' if stage.has_nuisance else ''} |"
