"""Render the sheet of docs/difficulty.md: a pair for each axis of ``dig_env.scenes.Difficulty``.

    python docs/make_difficulty_picture.py

The true boxes are drawn (green), each image's own where the camera moves.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tyro
from PIL import Image, ImageDraw, ImageFont

from dig_env.drawing import TRUE_COLOR
from dig_env.scenes import STAGES, Difficulty, Pair, Renderer, RenderSettings, plan_pair

SIZE = RenderSettings(256, 192, "standard", "cpu")
SHOWN: dict[str, tuple[int, Difficulty]] = {
    "differences=(0, 0), light_shift=2": (4, Difficulty(differences=(0, 0), light_shift=2.0)),
    "differences=(8, 8), objects=(10, 10)": (3, Difficulty(differences=(8, 8), objects=(10, 10))),
    "color_distance=(12, 15)": (
        1,
        Difficulty(changes=("color",), color_distance=(12.0, 15.0), min_contrast=3.0),
    ),
    "size_ratio=(1.15, 1.2)": (5, Difficulty(changes=("size",), size_ratio=(1.15, 1.2))),
    "material_contrast=(5, 12)": (
        8,
        Difficulty(changes=("material",), material_contrast=(5.0, 12.0)),
    ),
    "objects=(20, 20), object_scale=(0.6, 0.9)": (
        6,
        Difficulty(objects=(20, 20), object_scale=(0.6, 0.9), min_visible=60 / (320 * 240)),
    ),
    "occlusion=(0.4, 0.6)": (
        7,
        Difficulty(occlusion=(0.4, 0.6), min_visible=60 / (320 * 240)),
    ),
    "object_scale=(0.5, 0.6)": (
        1,
        Difficulty(object_scale=(0.5, 0.6), min_visible=60 / (320 * 240)),
    ),
    "camera_shift=0.4": (9, Difficulty(camera_shift=0.4)),
    "light_shift=3": (10, Difficulty(light_shift=3.0)),
    "exposure_stops=1": (11, Difficulty(exposure_stops=1.0)),
    "noise_levels=16": (12, Difficulty(noise_levels=16.0)),
    "jpeg_quality=10": (13, Difficulty(jpeg_quality=10)),
    'STAGES["extreme"]': (14, STAGES["extreme"]),
}
"""The pair seed and difficulty under each caption."""
COLUMNS, GAP_PX, LINE_PX = 2, 4, 22
INK, PAPER = (70, 70, 70), (255, 255, 255)


def main(out: Path = Path("docs/difficulty.webp")) -> None:
    """Render the sheet.

    Args:
        out: file for it.
    """
    plans = [plan_pair(seed, difficulty) for seed, difficulty in SHOWN.values()]
    with Renderer(SIZE) as renderer:
        cells = [_cell(*named) for named in zip(SHOWN, renderer.imap(plans), strict=True)]
    width, height = cells[0].size
    rows = -(-len(cells) // COLUMNS)
    step = (width + 3 * GAP_PX, height + GAP_PX)
    sheet = Image.new("RGB", (COLUMNS * step[0] - 3 * GAP_PX, rows * step[1]), PAPER)
    for index, cell in enumerate(cells):
        sheet.paste(cell, (index % COLUMNS * step[0], index // COLUMNS * step[1]))
    sheet.save(out, quality=80, method=6)
    print(f"{out}: {out.stat().st_size / 1000:.0f} kB")


def _cell(caption: str, pair: Pair) -> Image.Image:
    """Both images of a pair with their boxes, and a caption below."""
    moved = pair.plan.camera_b != pair.plan.camera
    images = []
    for pixels, boxes in (
        (pair.image_a, [diff.box_a if moved else diff.box for diff in pair.differences]),
        (pair.image_b, [diff.box_b if moved else diff.box for diff in pair.differences]),
    ):
        image = Image.fromarray(pixels)
        for box in boxes:
            if box is not None:
                x0, y0, x1, y1 = box
                corners = (x0 - 2, y0 - 2, x1 + 1, y1 + 1)
                ImageDraw.Draw(image).rectangle(corners, outline=TRUE_COLOR)
        images.append(np.asarray(image))
    height, width = pair.image_a.shape[:2]
    cell = Image.new("RGB", (2 * width + GAP_PX, height + LINE_PX), PAPER)
    for index, pixels in enumerate(images):
        cell.paste(Image.fromarray(pixels), (index * (width + GAP_PX), 0))
    middle = height + LINE_PX / 2
    ImageDraw.Draw(cell).text((2, middle), caption, INK, ImageFont.load_default(14), "lm")
    return cell


if __name__ == "__main__":
    tyro.cli(main)
