"""Spot the difference on photographs: scikit-image's, with hand-drawn masks.

python examples/pairs/photographs.py
"""

import json
import math
import tempfile
from pathlib import Path

import gymnasium as gym
import numpy as np
from PIL import Image
from scipy import ndimage
from skimage import data

import dig_env  # noqa: F401, registers the environments
from dig_env.agents import PixelDiffPolicy
from dig_env.scenes import Album, RenderSettings, render_dataset


def ellipse(x: float, y: float, x_radius: float, y_radius: float) -> list[float]:
    """A polygon x0, y0, x1, y1, ... of 32 corners."""
    angles = [2 * math.pi * corner / 32 for corner in range(32)]
    corners = [(x + x_radius * math.cos(turn), y + y_radius * math.sin(turn)) for turn in angles]
    return [edge for corner in corners for edge in corner]


def rectangle(x0: float, y0: float, x1: float, y1: float) -> list[float]:
    """The same from 4 corners."""
    return [x0, y0, x1, y0, x1, y1, x0, y1]


SHUTTLE = [386, 100, 392, 78, 404, 70, 408, 10, 420, 0, 436, 4, 441, 40, 450, 45, 453, 190]
SHUTTLE += [462, 225, 448, 240, 452, 272, 440, 284, 374, 280, 376, 244, 362, 232, 380, 175]
HELMET = [285, 440, 290, 405, 315, 370, 350, 348, 400, 343, 450, 362, 485, 405, 500, 455, 511, 495]
HELMET += [511, 511, 290, 511, 280, 475]
SPOON = [398, 68, 412, 66, 424, 72, 424, 82, 414, 112, 402, 165, 388, 215, 388, 236, 402, 256]
SPOON += [407, 280, 395, 306, 372, 322, 348, 325, 332, 312, 326, 290, 332, 268, 344, 255, 366, 243]
SPOON += [378, 216, 396, 150, 400, 100]
ROCKET = [322, 127, 332, 140, 334, 150, 333, 178, 334, 240, 332, 405, 311, 405, 309, 300, 309, 185]
ROCKET += [311, 150, 314, 138]
TOWER = [200, 124, 203, 190, 202, 380, 168, 380, 186, 192, 197, 190]
OBJECTS = {
    "astronaut": {
        "patch": [ellipse(168, 385, 36, 38)],
        "name tag": [[277, 343, 325, 339, 329, 371, 283, 378]],
        "shuttle": [SHUTTLE],
        "helmet": [HELMET],
    },
    "chelsea": {"eye": [ellipse(168, 113, 38, 31), ellipse(313, 124, 31, 31)]},
    "coffee": {"spoon": [SPOON]},
    "motorcycle_left": {
        "box": [
            rectangle(529, 31, 589, 101),
            rectangle(589, 65, 635, 101),
            rectangle(617, 183, 686, 273),
        ],
        "basket": [[523, 181, 613, 183, 608, 252, 560, 252, 552, 200, 526, 200]],
        "bottle": [[402, 57, 407, 52, 413, 57, 416, 91, 400, 91]],
    },
    "rocket": {"rocket": [ROCKET], "tower": [TOWER]},
}
"""Polygons by picture and category."""


def write_album(folder: Path) -> Path:
    """Write the pictures and a COCO file of their objects; returns the path of the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted({name for objects in OBJECTS.values() for name in objects} | {"coin"})
    images, annotations = [], []
    for name in (*OBJECTS, "coins"):
        picture = Image.open(next(Path(data.__file__).parent.glob(f"{name}.*"))).convert("RGB")
        picture.save(folder / f"{name}.png")
        width, height = picture.size
        images.append(
            {"id": len(images), "file_name": f"{name}.png", "width": width, "height": height}
        )
        found = OBJECTS.get(name) or {"coin": coins(np.asarray(picture.convert("L")))}
        for category, polygons in found.items():
            annotations += [
                {"image_id": images[-1]["id"], "category_id": names.index(category)}
                | {"segmentation": [polygon], "iscrowd": 0}
                for polygon in polygons
            ]
    content = {
        "images": images,
        "annotations": [entry | {"id": place} for place, entry in enumerate(annotations, 1)],
        "categories": [{"id": place, "name": name} for place, name in enumerate(names)],
    }
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return path


def coins(picture: np.ndarray) -> list[list[float]]:
    """Ellipses around the bright spots of the picture of coins."""
    bright = ndimage.binary_opening(ndimage.gaussian_filter(picture, 2.0) > 110, iterations=3)
    spots, _ = ndimage.label(bright)
    boxes = [
        (rows.start, rows.stop, columns.start, columns.stop)
        for rows, columns in ndimage.find_objects(spots)
    ]
    return [
        ellipse((x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2 + 1, (y1 - y0) / 2 + 1)
        for y0, y1, x0, x1 in boxes
        if 25 <= x1 - x0 <= 70 and 25 <= y1 - y0 <= 70
    ]


def main() -> None:
    """Make twelve pairs and play one."""
    with tempfile.TemporaryDirectory() as folder:
        album = Album(write_album(Path(folder, "photographs")), size=(320, 240))
        pairs = Path(folder, "pairs")
        render_dataset(pairs, {"mixed": 12}, settings=RenderSettings(320, 240), album=album)

        env = gym.make("DiG-v0", stage="mixed", dataset=pairs)
        observation, _ = env.reset(seed=1)
        answer = PixelDiffPolicy().act([observation])[0]
        *_, info = env.step(answer)
        print(f"answered {answer}: F1 {info['f1']:.2f}, the truth is {info['truth']}")
        env.close()


if __name__ == "__main__":
    main()
