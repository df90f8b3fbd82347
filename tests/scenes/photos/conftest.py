"""Rendered scenes as if they were photographs."""

from pathlib import Path

import pytest
from coco_files import SIZE, coco, run_lengths
from PIL import Image

from dig_env.scenes import Album, Difficulty, plan_pair


@pytest.fixture(scope="session")
def scenes_folder(renderer, tmp_path_factory) -> Path:
    """Rendered scenes as if they were photographs: PNG files and a COCO file of their ID masks."""
    folder = tmp_path_factory.mktemp("scenes")
    images, annotations = [], []
    difficulty = Difficulty(objects=(5, 7))
    for number, pair in enumerate(renderer.imap(plan_pair(seed, difficulty) for seed in range(6))):
        Image.fromarray(pair.image_a).save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 128, "height": 96})
        for index, obj in enumerate(pair.plan.scene_a):
            annotations.append(
                {
                    "id": 100 * number + obj.id,
                    "image_id": number,
                    "category_id": 1,
                    "segmentation": run_lengths(pair.ids_a == obj.id, ("text", "plain")[index % 2]),
                    "iscrowd": 0,
                }
            )
    (folder / "instances.json").write_text(coco(images, annotations))
    return folder


@pytest.fixture(scope="session")
def album(scenes_folder) -> Album:
    return Album(scenes_folder / "instances.json", size=SIZE)
