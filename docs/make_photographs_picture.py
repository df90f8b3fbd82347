"""Make the picture of docs/photographs.md: two pairs of each kind of change, with their boxes.

python docs/make_photographs_picture.py
"""

import runpy
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from dig_env.drawing import draw_pair
from dig_env.scenes import PHOTO_STAGES, Album, Difficulty, photo_pair

FOLDER = Path(__file__).parent
SIZE = (320, 240)
SEEDS = {"color": (3, 6), "add": (16, 20), "delete": (22, 10), "replace": (20, 27)}
GUTTER_PX = 6


def main() -> None:
    """Draw them and say how large the file is."""
    write_album = runpy.run_path(str(FOLDER.parent / "examples" / "pairs" / "photographs.py"))[
        "write_album"
    ]
    with tempfile.TemporaryDirectory() as folder:
        album = Album(write_album(Path(folder)), size=SIZE)
        rows = [
            np.hstack([_drawn(seed, change, album) for seed in seeds])
            for change, seeds in SEEDS.items()
        ]
    path = FOLDER / "photographs.webp"
    sheet = Image.fromarray(np.vstack(rows)[:-GUTTER_PX, :-GUTTER_PX])
    sheet.resize((sheet.width * 3 // 4, sheet.height * 3 // 4)).save(path, quality=85, method=6)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def _drawn(seed: int, change: str, album: Album) -> np.ndarray:
    difficulty = Difficulty(objects=PHOTO_STAGES["single"].objects, changes=(change,))
    pair = photo_pair(seed, difficulty, album)
    frame = draw_pair(pair.image_a, pair.image_b, pair.boxes_unit, np.zeros((0, 4)))
    margin = ((0, GUTTER_PX), (0, GUTTER_PX), (0, 0))
    return np.pad(frame, margin, constant_values=255)


if __name__ == "__main__":
    main()
