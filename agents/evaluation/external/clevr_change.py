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
was and where it is; the recall by change keeps such pairs ("move") apart.

The boxes are for the release's images, 480x320. For images that were resized they are scaled.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

from dig_env.agents.evaluation.external.pair import (
    ExternalPair,
    image_size,
    load_json,
    pair_of,
    union,
    xyxy,
)
from dig_env.scenes.measure.pair import Box
from dig_env.scenes.photos.picture import same_shape

SIZE = (480, 320)
"""(width, height) of the release's images, which its boxes are for."""

_NUMBERED = re.compile(r"(?:.*_)?(\d+)(?:\.png)?")


def read_clevr_change(
    folder: str | Path,
    split: str = "test",
    *,
    unchanged: bool = False,
    size: tuple[int, int] = SIZE,
) -> list[ExternalPair]:
    """The pairs of a split, in its order.

    A pair without any box inside its image is left out, with a warning.

    Args:
        folder: what the release unpacks to ("data").
        split: a name in splits.json.
        unchanged: follow each pair by its distractor, in which nothing differs (K = 0).
        size: (width, height) in pixels of the images that the boxes are for.

    Raises:
        ValueError: a file is missing or of another layout, an unknown split, images of another
            shape than the boxes are for, or a box that is none.
    """
    folder = Path(folder)
    splits = _table(folder / "splits.json")
    if split not in splits:
        raise ValueError(f"unknown split {split!r}; {folder} has {', '.join(sorted(splits))}")
    chosen = [_index(folder / "splits.json", entry) for entry in splits[split]]
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(f"{folder / 'splits.json'}: {split} is empty, or names a pair twice")
    captions, types = folder / "change_captions_with_bbox.json", folder / "type_mapping.json"
    labels = {_index(captions, key): label for key, label in _table(captions).items()}
    kinds = {_index(types, name): kind for kind, names in _table(types).items() for name in names}
    pairs: list[ExternalPair] = []
    invisible: list[str] = []
    for index in chosen:
        name = f"{index:06d}"
        before = folder / "images" / f"CLEVR_default_{name}.png"
        after = folder / "sc_images" / f"CLEVR_semantic_{name}.png"
        boxes = _visible_boxes(f"{captions}: pair {name}", labels.get(index), before, size)
        if not boxes:
            invisible.append(name)
            continue
        pairs.append(pair_of(name, before, after, [union(boxes)], [kinds.get(index, "unknown")]))
        if unchanged:
            distractor = folder / "nsc_images" / f"CLEVR_nonsemantic_{name}.png"
            pairs.append(pair_of(f"{name}-unchanged", before, distractor, [], []))
    if invisible:
        warnings.warn(
            f"{len(invisible)} of {len(chosen)} pairs have no box inside their image and "
            f"are left out: {', '.join(invisible[:5])}{' ...' if len(invisible) > 5 else ''}",
            stacklevel=2,
        )
    return pairs


def _table(path: Path) -> dict[str, Any]:
    content = load_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} is a {type(content).__name__}; CLEVR-Change has an object there")
    return content


def _index(path: Path, name: Any) -> int:
    """A pair's number, as 17, "17", "000017.png" or "CLEVR_semantic_000017.png"."""
    found = _NUMBERED.fullmatch(str(name))
    if isinstance(name, bool) or found is None:
        raise ValueError(f"{path} names {name!r}, which is no pair: give 17 or '000017.png'")
    return int(found[1])


def _visible_boxes(what: str, label: Any, image: Path, annotated: tuple[int, int]) -> list[Box]:
    """The boxes before and after, cut at the image's edge, of which a part lies inside it."""
    if not isinstance(label, dict) or not {"bbox_before", "bbox_after"} <= set(label):
        raise ValueError(f"{what} needs its bbox_before and bbox_after")
    size = image_size(image)
    if not same_shape(size, annotated):
        raise ValueError(
            f"{image} is {size[0]}x{size[1]}, and CLEVR-Change's boxes are for "
            f"{annotated[0]}x{annotated[1]}, another shape: give the release's images, or the size "
            "that the boxes are for (size=(W, H), or --size)"
        )
    scale = (size[0] / annotated[0], size[1] / annotated[1]) * 2
    boxes = []
    for key in ("bbox_before", "bbox_after"):
        is_flat = isinstance(label[key], list) and 0 in label[key][2:]
        if label[key] and not is_flat:
            corners = [a * b for a, b in zip(xyxy(label[key], what), scale, strict=True)]
            x0, y0, x1, y1 = (
                min(max(c, 0), side) for c, side in zip(corners, size * 2, strict=True)
            )
            if x0 < x1 and y0 < y1:
                boxes.append((x0, y0, x1, y1))
    return boxes
