"""The layout of CLEVR-Change (Park et al., "Robust Change Captioning", ICCV 2019).

    images/CLEVR_default_000000.png          before
    sc_images/CLEVR_semantic_000000.png      after, one object changed
    nsc_images/CLEVR_nonsemantic_000000.png  after, nothing but the camera and the lights changed
    change_captions_with_bbox.json           {"0": {"bbox_before": [x, y, width, height], ...}, ...}
    type_mapping.json                        {"color": ["000000.png", ...], ...}
    splits.json                              {"train": [0, ...], "val": [...], "test": [...]}

The boxes are those of its pointing game, in pixels. One is null where the object is not there:
"bbox_before" of an added object, "bbox_after" of a dropped one. The game's box is the bounds of the
object in both images, so they are joined. For an object that moved, the joined box spans where it
was and where it is; ``ExternalReport.recall_by_change`` keeps such pairs ("move") apart.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from agents.external.pair import ExternalPair, image_size, pair_of, read_json, union, xyxy
from scenes.pair import Box


def read_clevr_change(
    folder: str | Path, split: str = "test", *, unchanged: bool = False
) -> list[ExternalPair]:
    """The pairs of a split, in its order.

    A pair without any box inside its image is left out, with a warning.

    Args:
        folder: what the release unpacks to ("data").
        split: a name in splits.json.
        unchanged: follow each pair by its distractor, in which nothing differs (K = 0).

    Raises:
        ValueError: a file is missing or of another layout, or an unknown split.
    """
    folder = Path(folder)
    splits = read_json(folder / "splits.json")
    if split not in splits:
        raise ValueError(f"unknown split {split!r}; {folder} has {', '.join(sorted(splits))}")
    labels = read_json(folder / "change_captions_with_bbox.json")
    kinds = {
        int(name.split(".")[0]): kind
        for kind, names in read_json(folder / "type_mapping.json").items()
        for name in names
    }
    pairs: list[ExternalPair] = []
    invisible: list[str] = []
    for index in splits[split]:
        name = f"{index:06d}"
        before = folder / "images" / f"CLEVR_default_{name}.png"
        after = folder / "sc_images" / f"CLEVR_semantic_{name}.png"
        boxes = _visible_boxes(name, labels.get(str(index)), image_size(before))
        if not boxes:
            invisible.append(name)
            continue
        pairs.append(pair_of(name, before, after, [union(boxes)], [kinds.get(index, "unknown")]))
        if unchanged:
            distractor = folder / "nsc_images" / f"CLEVR_nonsemantic_{name}.png"
            pairs.append(pair_of(f"{name}-unchanged", before, distractor, [], []))
    if invisible:
        warnings.warn(
            f"{len(invisible)} of {len(splits[split])} pairs have no box inside their image and "
            f"are left out: {', '.join(invisible[:5])}{' ...' if len(invisible) > 5 else ''}",
            stacklevel=2,
        )
    return pairs


def _visible_boxes(name: str, label: Any, size: tuple[int, int]) -> list[Box]:
    """The boxes before and after, of those of which a part lies inside the image."""
    if label is None or not {"bbox_before", "bbox_after"} <= set(label):
        raise ValueError(
            f"pair {name}: change_captions_with_bbox.json needs its bbox_before and bbox_after"
        )
    boxes = [xyxy(label[key]) for key in ("bbox_before", "bbox_after") if label[key]]
    return [
        (x0, y0, x1, y1)
        for x0, y0, x1, y1 in boxes
        if max(x0, 0) < min(x1, size[0]) and max(y0, 0) < min(y1, size[1])
    ]
