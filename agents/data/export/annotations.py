"""COCO and LLaVA: pairs as detection data, and as conversations for supervised fine-tuning."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dig_env import format_boxes
from dig_env.agents.data.export.source import Source
from dig_env.drawing import png
from dig_env.scenes import CHANGES, Pair
from dig_env.scenes.measure.pair import Box


def write_coco(source: Source, folder: Path) -> None:
    """COCO instances: every image of a pair is an image, every changed object an annotation.

    ``instances-SPLIT-STAGE.json`` and ``images/``. The category is the kind of change. ``bbox`` and
    ``segmentation`` are of the object in that very image, so an added object is in image B only;
    ``pair_box`` is the game's box, the bounds of the object in both.
    """
    categories = [{"id": i, "name": name} for i, name in enumerate(CHANGES, 1)]
    for split, stages in source.counts().items():
        for stage in stages:
            images: list[dict[str, Any]] = []
            annotations: list[dict[str, Any]] = []
            for pair in source.pairs(split, stage):
                names = save_images(pair, split, stage, folder)
                for side, name in zip("ab", names, strict=True):
                    image = {"id": len(images) + 1, "file_name": name, "side": side}
                    image |= {"width": source.size[0], "height": source.size[1]}
                    images.append(image | {"pair_seed": pair.plan.seed})
                    for annotation in _annotations(pair, side):
                        ids = {"id": len(annotations) + 1, "image_id": len(images)}
                        annotations.append(ids | annotation)
            content = {"images": images, "annotations": annotations, "categories": categories}
            (folder / f"instances-{split}-{stage}.json").write_text(json.dumps(content))


def _annotations(pair: Pair, side: str) -> Iterator[dict[str, Any]]:
    """COCO's annotations of one of a pair's images, without their ids."""
    for index, diff in enumerate(pair.differences):
        ids, box = (pair.ids_a, diff.box_a) if side == "a" else (pair.ids_b, diff.box_b)
        if box is None:
            continue
        mask = ids == diff.object_id
        yield {
            "category_id": CHANGES.index(diff.change) + 1,
            "bbox": _xywh(box),
            "area": int(mask.sum()),
            "segmentation": _run_lengths(mask),
            "iscrowd": 0,
            "difference": index,
            "pair_box": _xywh(diff.box),
        }


def write_llava(source: Source, folder: Path) -> None:
    """LLaVA conversations: the game's question, and the boxes as a policy should write them.

    ``SPLIT-STAGE.json``, ``dataset_info.json`` with them as ``dig_SPLIT_STAGE``, and ``images/``.
    Boxes are rounded as ``dig_env.format_boxes`` does.
    """
    files = {}
    for split, stages in source.counts().items():
        for stage in stages:
            conversations = []
            for pair in source.pairs(split, stage):
                answer = format_boxes(pair.boxes_unit, source.settings.coordinates, source.size)
                turns = [
                    {"from": "human", "value": f"<image>\n<image>\n{source.prompt(pair)}"},
                    {"from": "gpt", "value": answer},
                ]
                names = save_images(pair, split, stage, folder)
                name = f"{split}-{stage}-{pair.plan.seed}"
                conversations.append({"id": name, "image": names, "conversations": turns})
            text = json.dumps(conversations, indent=1)
            files[f"dig_{split}_{stage}"] = f"{split}-{stage}.json"
            (folder / f"{split}-{stage}.json").write_text(text)
    (folder / "dataset_info.json").write_text(dataset_info(files))


def dataset_info(files: Mapping[str, str]) -> str:
    """LLaMA-Factory's ``dataset_info.json`` for files of conversations, by data set's name."""
    columns = {"messages": "conversations", "images": "image"}
    entries = {
        name: {"file_name": file, "formatting": "sharegpt", "columns": columns}
        for name, file in files.items()
    }
    return json.dumps(entries, indent=2) + "\n"


def save_images(pair: Pair, split: str, stage: str, folder: Path) -> list[str]:
    """Write both images; returns their paths relative to ``folder``."""
    names = [f"images/{split}-{stage}-{pair.plan.seed}-{side}.png" for side in "ab"]
    (folder / "images").mkdir(exist_ok=True)
    for name, image in zip(names, (pair.image_a, pair.image_b), strict=True):
        (folder / name).write_bytes(png(image, compress_level=1))
    return names


def _xywh(box: Box) -> list[float]:
    x0, y0, x1, y1 = box
    return [x0, y0, x1 - x0, y1 - y0]


def _run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """A mask as COCO's uncompressed run lengths: column by column, zeros first."""
    flat = np.concatenate([[False], mask.ravel(order="F"), [False]])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    bounds = np.concatenate([[0], edges, [mask.size]])
    counts = np.diff(bounds)
    if counts[-1] == 0:
        counts = counts[:-1]
    return {"counts": counts.tolist(), "size": list(mask.shape)}
