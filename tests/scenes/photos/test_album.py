"""An album of photographs: what is taken, what is left out and why."""

import json
import shutil

import numpy as np
import pytest
from coco_files import SIZE, coco, only
from PIL import Image

from dig_env.scenes import (
    PHOTO_STAGES,
    STAGES,
    Album,
    DifficultyError,
    photo_pair,
    plan_pair,
)
from dig_env.scenes.photos import picture


@pytest.mark.parametrize("kind", picture.PICTURE_FORMATS)
def test_photographs_are_of_the_usual_formats_alone(tmp_path, kind):
    path = tmp_path / "x.jpg"
    pixels = Image.fromarray(np.full((8, 12, 3), 200, np.uint8))
    pixels.save(path, format=kind)
    assert picture.geometry(path).size == picture.read_picture(path).size == (12, 8)
    pixels.save(path, format="EPS")
    with pytest.raises(OSError, match="cannot identify"):
        picture.read_picture(path)


@pytest.mark.parametrize("name", ["../secret.png", "{outside}", "../album/../secret.png"])
def test_an_album_reads_nothing_outside_its_folder(scenes_folder, tmp_path, name):
    outside, folder = tmp_path / "secret.png", tmp_path / "album"
    folder.mkdir()
    shutil.copy(scenes_folder / "0.png", outside)
    shutil.copy(scenes_folder / "1.png", folder)
    fields = json.loads((scenes_folder / "instances.json").read_text())
    fields["images"] = fields["images"][:2]
    fields["images"][0]["file_name"] = name.format(outside=outside)
    fields["annotations"] = [one for one in fields["annotations"] if one["image_id"] < 2]
    (folder / "instances.json").write_text(json.dumps(fields))
    with pytest.warns(UserWarning, match="lie outside the folder"):
        assert Album(folder / "instances.json", size=SIZE).names == ("1.png",)


# What may be broken


def test_photographs_of_any_shape_are_cut_to_the_middle(tmp_path):
    wide = np.zeros((50, 300, 3), np.uint8)
    wide[20:30, 140:160] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    polygon = [140, 20, 160, 20, 160, 30, 140, 30]
    entry = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [polygon]}
    path = tmp_path / "instances.json"
    path.write_text(coco([{"id": 1, "file_name": "wide.png"}], [entry]))
    photo = Album(path, size=(64, 64)).photograph("wide.png")
    mask = photo.mask(1)
    assert photo.image.shape == (64, 64, 3)
    # 50x50 of it become 64x64, so that 20x10 become about 26x13, as bright as they were.
    assert mask.sum() == pytest.approx(20 * 10 * (64 / 50) ** 2, rel=0.1)
    assert (photo.image[mask] > 100).all() and (photo.image[~mask] < 160).all()


def test_what_is_broken_is_named_and_left_out(scenes_folder, tmp_path):
    content = json.loads((scenes_folder / "instances.json").read_text())
    whole = {"category_id": 1, "iscrowd": 0, "segmentation": [[5, 5, 60, 5, 60, 60]]}
    names = ["0.png", "cut.png", "text.png", "gone.png"]
    broken = {
        "odd polygon": {"segmentation": [[1, 2, 3]]},
        "no polygon": {"segmentation": "everything"},
        "other size": {"segmentation": {"size": [9, 9], "counts": [81]}},
        "too long": {"segmentation": {"size": [96, 128], "counts": [99999]}},
        "no counts": {"segmentation": {"size": [96, 128], "counts": 3.5}},
        "no category": {"category_id": 77},
        "no segmentation": {"segmentation": None},
    }
    annotations = [entry for entry in content["annotations"] if entry["image_id"] == 0]
    annotations += [
        whole | {"id": number, "image_id": 0} | entry
        for number, entry in enumerate(broken.values(), 901)
    ]
    annotations += [whole | {"id": 910 + number, "image_id": number} for number in (1, 2, 3)]
    annotations += [whole | {"id": 920, "image_id": "nowhere"}, "no annotation"]
    images = [{"id": number, "file_name": name} for number, name in enumerate(names)]
    (tmp_path / "instances.json").write_text(coco(images, annotations))
    picture = (scenes_folder / "0.png").read_bytes()
    (tmp_path / "0.png").write_bytes(picture)
    (tmp_path / "cut.png").write_bytes(picture[: len(picture) // 2])
    (tmp_path / "text.png").write_text("no picture")
    with pytest.warns(UserWarning) as warned:
        album = Album(tmp_path / "instances.json", size=SIZE)
        assert album.names == ("0.png", "cut.png", "text.png")
        assert album.photograph("cut.png") is album.photograph("text.png") is None
        photo = album.photograph("0.png")
    intact = sum(entry["image_id"] == 0 for entry in content["annotations"])
    assert len(photo.instances) == intact
    said = "\n".join(str(warning.message) for warning in warned)
    for name in ("gone.png", "cut.png", "text.png", "number 17", *map(str, range(901, 908))):
        assert name in said
    pair = photo_pair(1, PHOTO_STAGES["single"], album)
    assert pair.plan.photo == "0.png"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"images": 3}'])
def test_what_is_no_coco_file_is_one_clear_error(content, tmp_path):
    (tmp_path / "instances.json").write_text(content)
    with pytest.raises(ValueError, match="cannot read .* as a COCO instances file"):
        Album(tmp_path / "instances.json")


def test_a_folder_without_objects_is_one_clear_error(tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "0.png")
    path = tmp_path / "instances.json"
    path.write_text(coco([{"id": 1, "file_name": "0.png"}], []))
    with pytest.raises(ValueError, match="no photograph in .* has an object"):
        Album(path)
    speck = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 3, 1, 3, 3]]}
    path.write_text(coco([{"id": 1, "file_name": "0.png"}], [speck]))
    with pytest.raises(DifficultyError, match="no photograph had enough whole objects"):
        photo_pair(1, PHOTO_STAGES["single"], Album(path, size=(64, 48)))


def test_changes_belong_to_scenes_or_to_photographs(album):
    with pytest.raises(DifficultyError, match="shape, size, material cannot be done"):
        photo_pair(1, STAGES["single"], album)
    with pytest.raises(
        DifficultyError, match="noise_levels, jpeg_quality cannot be asked of photographs"
    ):
        photo_pair(1, only("color", noise_levels=2.0, jpeg_quality=80), album)
    with pytest.raises(DifficultyError, match="replace happens in photographs only"):
        plan_pair(1, only("replace"))
