"""TRL, EasyR1, verl, ms-swift, SkyRL, NeMo Gym: rows, the reward, and training through the stages.

The training settings are EasyR1's defaults, where the paper gives none; what a user is likely
to change stands in the written config.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from string import Template
from typing import Any

import pyarrow as pa

from dig_env import format_boxes
from dig_env.agents.data.export.annotations import save_images
from dig_env.agents.data.export.parquet import (
    BOXES,
    IMAGE_LIST,
    INT,
    MESSAGES,
    STRING,
    image_cells,
    write_parquet,
)
from dig_env.agents.data.export.source import Source
from dig_env.agents.integrations.verl import verl_row
from dig_env.agents.policies.messages import png_url
from dig_env.scenes import Pair

TEMPLATES = Path(__file__).parent / "templates"
PAIR_COLUMNS = {"stage": STRING, "pair_seed": INT}


def write_trl(source: Source, folder: Path) -> None:
    """``data/SPLIT-STAGE.parquet``: conversational prompts; and ``train.py``, a GRPO run."""

    def row(pair: Pair, split: str, stage: str, index: int) -> dict[str, Any]:
        return {
            "prompt": [{"role": "user", "content": source.prompt(pair)}],
            "images": image_cells(pair),
            "truth": pair.boxes_unit.tolist(),
        }

    columns = {"prompt": MESSAGES, "images": IMAGE_LIST, "truth": BOXES}
    _write_rows(source, folder, columns, row)
    _write_templates(source, folder, "trl", "train.py")


def write_easyr1(source: Source, folder: Path) -> None:
    """``data/SPLIT-STAGE.parquet``, ``reward.py``, ``config.yaml`` and ``run.sh``."""

    def row(pair: Pair, split: str, stage: str, index: int) -> dict[str, Any]:
        return {
            "problem": f"<image><image>{source.prompt(pair)}",
            "answer": format_boxes(pair.boxes_unit, exact=True),
            "images": image_cells(pair),
        }

    columns = {"problem": STRING, "answer": STRING, "images": IMAGE_LIST}
    _write_rows(source, folder, columns, row)
    _write_templates(source, folder, "easyr1", "reward.py", "config.yaml", "run.sh")


def write_verl(source: Source, folder: Path) -> None:
    """Rows, reward, config and run as for EasyR1; and ``live.sh``, a run on pairs that it draws."""

    def row(pair: Pair, split: str, stage: str, index: int) -> dict[str, Any]:
        extra_info = {"split": split, "index": index}
        return verl_row(source.prompt(pair), image_cells(pair), pair.boxes_unit, extra_info)

    columns = {
        "data_source": STRING,
        "prompt": MESSAGES,
        "images": IMAGE_LIST,
        "ability": STRING,
        "reward_model": pa.struct([("style", STRING), ("ground_truth", STRING)]),
        "extra_info": pa.struct([("split", STRING), ("index", INT)]),
    }
    _write_rows(source, folder, columns, row)
    files = ("reward.py", "config.yaml", "agent.yaml", "run.sh", "live.sh")
    _write_templates(source, folder, "verl", *files)


def write_swift(source: Source, folder: Path) -> None:
    """``data/SPLIT-STAGE.jsonl``, ``images/``, ``dig_plugin.py`` and ``run.sh``."""

    def row(pair: Pair, split: str, stage: str, index: int) -> dict[str, Any]:
        return {
            "messages": [{"role": "user", "content": f"<image><image>{source.prompt(pair)}"}],
            "images": save_images(pair, split, stage, folder),
            "solution": format_boxes(pair.boxes_unit, exact=True),
        }

    _write_rows(source, folder, None, row)
    _write_templates(source, folder, "swift", "dig_plugin.py", "run.sh")


def write_skyrl(source: Source, folder: Path) -> None:
    """``data/SPLIT-STAGE.parquet``, images in the prompts; ``train.py`` and ``run.sh``."""
    options = json.dumps(source.reward_options())

    def row(pair: Pair, split: str, stage: str, index: int) -> dict[str, Any]:
        files = (cell["bytes"] for cell in image_cells(pair))
        images = [{"type": "image_url", "image_url": {"url": png_url(file)}} for file in files]
        content = [*images, {"type": "text", "text": source.prompt(pair)}]
        truth = format_boxes(pair.boxes_unit, exact=True)
        return {
            "prompt": [{"role": "user", "content": content}],
            "env_class": "dig",
            "reward_spec": {"method": "rule", "ground_truth": truth},
            "reward_options": options,
        }

    url = pa.struct([("url", STRING)])
    content = pa.list_(pa.struct([("type", STRING), ("text", STRING), ("image_url", url)]))
    columns = {
        "prompt": pa.list_(pa.struct([("role", STRING), ("content", content)])),
        "env_class": STRING,
        "reward_spec": pa.struct([("method", STRING), ("ground_truth", STRING)]),
        "reward_options": STRING,
    }
    _write_rows(source, folder, columns, row)
    _write_templates(source, folder, "skyrl", "train.py", "run.sh")


def write_nemo(source: Source, folder: Path) -> None:
    """``data/SPLIT-STAGE.jsonl``, images in the prompts; ``resources_servers/dig``."""

    def row(pair: Pair, split: str, stage: str, index: int) -> dict[str, Any]:
        urls = (png_url(cell["bytes"]) for cell in image_cells(pair))
        content = [{"type": "input_image", "image_url": url, "detail": "auto"} for url in urls]
        content.append({"type": "input_text", "text": source.prompt(pair)})
        return {
            "responses_create_params": {"input": [{"role": "user", "content": content}]},
            "truth": format_boxes(pair.boxes_unit, exact=True),
            "reward_options": source.reward_options(),
        }

    _write_rows(source, folder, None, row)
    files = ("app.py", "requirements.txt", "configs/dig.yaml")
    _write_templates(source, folder, "nemo", *(f"resources_servers/dig/{file}" for file in files))


def _write_rows(
    source: Source,
    folder: Path,
    columns: dict[str, pa.DataType] | None,
    row: Callable[[Pair, str, str, int], dict[str, Any]],
) -> None:
    """Write each split and stage to its own file, Parquet or, without columns, lines of JSON.

    ``row`` gets pair, split, stage and index.
    """
    counts = source.counts()
    if "train" not in counts:
        raise ValueError(
            f"{source.dataset.folder} has no training pairs, only {', '.join(counts)}: add some "
            "with 'dig-env render --split train', or export it as coco or llava"
        )
    for split, stages in counts.items():
        for stage in stages:

            def rows(split: str = split, stage: str = stage) -> Iterator[dict[str, Any]]:
                for index, pair in enumerate(source.pairs(split, stage)):
                    own = {"stage": stage, "pair_seed": pair.plan.seed}
                    yield row(pair, split, stage, index) | own

            path = folder / "data" / f"{split}-{stage}"
            path.parent.mkdir(exist_ok=True)
            if columns is None:
                with open(path.with_suffix(".jsonl"), "w") as file:
                    file.writelines(json.dumps(line) + "\n" for line in rows())
            else:
                write_parquet(path.with_suffix(".parquet"), columns | PAIR_COLUMNS, rows())


def _write_templates(source: Source, folder: Path, name: str, *files: str) -> None:
    counts = source.counts()
    batch = _batch_size(min(counts["train"].values()))
    values = {
        "model": json.dumps(source.settings.model),  # JSON is YAML
        "model_for_shell": shlex.quote(source.settings.model),
        "stages": " ".join(counts["train"]),
        "reward_kwargs": json.dumps(source.reward_options()),
        "batch_size": batch,
        "mini_batch_size": min(128, batch),
        "thinking": json.dumps(source.settings.thinking),
        "coordinates": source.settings.coordinates,
        "width": source.size[0],
        "height": source.size[1],
        "validated": " ".join(counts.get("validation", {})),
        "datasets": json.dumps(
            [
                {
                    "name": f"{split}-{stage}",
                    "type": split,
                    "jsonl_fpath": f"data/{split}-{stage}.jsonl",
                    "license": "Apache 2.0",
                }
                for split in ("train", "validation")
                for stage in counts.get(split, {})
            ]
        ),
        # Enlarging small images leaves relative coordinates as they are, and pixels not.
        "min_pixels": 262144 if source.settings.coordinates in ("norm1000", "unit") else "null",
    }
    for file in files:
        text = (TEMPLATES / name / file).read_text()
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            Template(text).substitute(values) if file.endswith((".sh", ".yaml")) else text
        )
        path.chmod(0o755 if file.endswith(".sh") else 0o644)


def _batch_size(pairs: int) -> int:
    """Pairs a step: 512, or the power of two that the smallest stage can fill."""
    return min(512, 1 << (pairs.bit_length() - 1))
