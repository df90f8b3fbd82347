"""COCO files of photographs."""

import json

import numpy as np
from pycocotools import mask as coco_mask

from dig_env.scenes import Difficulty

SIZE = (128, 96)


def only(change, **fields):
    return Difficulty(objects=(1, 255), changes=(change,), **fields)


def coco(images, annotations):
    """A COCO instances file's content."""
    categories = [{"id": 1, "name": "thing"}]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories})


def run_lengths(mask, kind):
    """A mask as COCO knows it: compressed text, or plain counts."""
    if kind == "text":
        runs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        return runs | {"counts": runs["counts"].decode()}
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat])))
    return {
        "size": list(mask.shape),
        "counts": np.diff([0, *edges, mask.size]).tolist(),
    }
