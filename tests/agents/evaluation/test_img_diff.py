"""Img-Diff is read without the frames that its pictures have around the answer."""

import json
import warnings

import numpy as np
import pytest
from external_sets import write_json
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from dig_env.agents import OraclePolicy, PixelDiffPolicy, evaluate_external
from dig_env.agents.cli.eval import eval_external
from dig_env.agents.cli.output import Output
from dig_env.agents.evaluation.external import read_img_diff

SIZE = 512
FOLDER = "filtered_new_edit_data"
CORNER, EDGE, MIDDLE = (330, 40, 450, 130), (0, 300, 90, 420), (200, 180, 300, 290)
"""Boxes in pixels, far enough from each other that their frames share no block."""


def pictures(seed, boxes):
    """A soft pattern, and the same with something else in each box."""
    rng = np.random.default_rng(seed)
    left = gaussian_filter(rng.uniform(0, 255, (SIZE, SIZE, 3)), (6, 6, 0))
    left = ((left - left.min()) / np.ptp(left) * 200).astype(np.uint8)
    right = left.copy()
    for x0, y0, x1, y1 in boxes:
        right[y0:y1, x0:x1] = 255 - right[y0:y1, x0:x1]
    return Image.fromarray(left), Image.fromarray(right)


def write_framed(folder, name, images, boxes, first=0):
    """Entries as the release writes them: a frame of 3 pixels, 5 outside of each box."""
    (folder / FOLDER).mkdir(exist_ok=True)
    entries = []
    for index, (x0, y0, x1, y1) in enumerate(boxes, start=first):
        for side, image in enumerate(images):
            framed = image.copy()
            corners = (max(x0 - 5, 0), max(y0 - 5, 0)), (min(x1 + 5, SIZE), min(y1 + 5, SIZE))
            ImageDraw.Draw(framed).rectangle(corners, outline="red", width=3)
            framed.save(folder / FOLDER / f"{name}_{index}_{side}.jpg")
        numbers = ", ".join(f"{corner / SIZE:.2f}" for corner in (x0, y0, x1, y1))
        entries.append(
            {
                "conversations": [],
                "bbox": f"[{numbers}]",
                "captions1": "A dish.",
                "captions2": "A cat.",
                "path": f"./{FOLDER}/{name}_{index}",
            }
        )
    return entries


@pytest.fixture
def release(tmp_path):
    """Two pairs that can be restored, and one with a single difference."""
    entries = []
    for name, boxes in {
        "2_2311": (CORNER, EDGE, MIDDLE),
        "1_17": (MIDDLE, EDGE),
        "1_9": (CORNER,),
    }.items():
        entries += write_framed(tmp_path, name, pictures(len(entries), boxes), boxes)
    write_json(tmp_path / "img_diff_object_replacement.json", entries)
    return tmp_path / "img_diff_object_replacement.json"


def edited(release, change):
    entries = json.loads(release.read_text())
    change(entries)
    write_json(release, entries)


def red(image):
    return ((image[..., 0] > 200) & (image[..., 1:].max(axis=-1) < 60)).sum()


def jpeg(image, tmp_path):
    image.save(tmp_path / "plain.jpg")
    return np.asarray(Image.open(tmp_path / "plain.jpg"))


def test_the_frames_are_gone_and_the_pictures_are_as_without(release, tmp_path):
    with pytest.warns(UserWarning, match="1 of 3 pairs have a red frame"):
        first, second = read_img_diff(release)
    assert [first.name, second.name] == ["2_2311", "1_17"]
    for pair, seed, boxes in ((first, 0, (CORNER, EDGE, MIDDLE)), (second, 3, (MIDDLE, EDGE))):
        assert np.allclose(pair.boxes_unit * SIZE, boxes, atol=SIZE * 0.005)
        assert pair.changes == ("replace",) * len(boxes)
        for image, plain in zip((pair.image_a, pair.image_b), pictures(seed, boxes), strict=True):
            apart = np.abs(image.astype(int) - jpeg(plain, tmp_path))
            # Where blocks of two files meet, colours bleed across by a pixel.
            assert apart.max() <= 10 and (apart > 0).any(axis=-1).mean() < 0.005
    framed = np.asarray(Image.open(release.parent / FOLDER / "2_2311_0_0.jpg"))
    assert red(framed) > 500 and red(first.image_a) < 10


def test_the_difference_is_found_and_the_frame_is_not(release):
    with pytest.warns(UserWarning):
        pairs = read_img_diff(release)
    assert evaluate_external(OraclePolicy(), pairs).reward == pytest.approx(1.0)
    assert evaluate_external(PixelDiffPolicy(), pairs).f1 == 1.0


def test_frames_that_cross_cannot_be_removed(tmp_path):
    boxes = ((100, 100, 300, 300), (110, 110, 310, 310))
    entries = write_framed(tmp_path, "5_5", pictures(0, boxes), boxes)
    write_json(tmp_path / "set.json", entries)
    with pytest.raises(ValueError, match="1 of 1 pairs have a red frame .* none is left"):
        read_img_diff(tmp_path / "set.json")


def test_pictures_of_another_pair_are_noticed(release):
    other, _ = pictures(99, ())
    other.save(release.parent / FOLDER / "1_17_1_0.jpg")
    with pytest.warns(UserWarning):
        _, pair = read_img_diff(release)
    with pytest.raises(ValueError, match="1_17_1_0.jpg and .*1_17_0_0.jpg are not copies of one"):
        pair.image_a  # noqa: B018


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda entries: entries[0].pop("path"), "number 0 has no path"),
        (lambda entries: entries[1].pop("captions2"), "number 1 .* object removals"),
        (lambda entries: entries[0].update(bbox="[0.5, 0.1, 0.2]"), "number 0 has the bbox"),
        (lambda entries: entries[0].update(bbox=[0.5, 0.1, 0.2, 0.3]), "number 0 has the bbox"),
        (lambda entries: entries[0].update(bbox="[10, 20, 30, 40]"), "from 0 to 1"),
        (lambda entries: entries[0].update(path="./pictures/cat"), "number of a difference"),
        (lambda entries: entries[0].update(path="../../2_2311_0"), "leads out of"),
        (lambda entries: entries.clear(), "no list of differences"),
    ],
)
def test_another_layout_stops_the_reader_and_says_where(change, why, release):
    edited(release, change)
    with pytest.raises(ValueError, match=why), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read_img_diff(release)


def test_missing_and_damaged_pictures_are_named(release):
    picture = release.parent / FOLDER / "2_2311_0_1.jpg"
    picture.write_bytes(b"no picture")
    with pytest.raises(ValueError, match="no image at .*2_2311_0_1.jpg"):
        read_img_diff(release)
    with pytest.raises(ValueError, match="no image at .*elsewhere"):
        read_img_diff(release, release.parent / "elsewhere")


def test_the_command_plays_it(release, tmp_path, capsys):
    with pytest.warns(UserWarning):
        eval_external(
            "img-diff", release, "oracle", out=tmp_path / "r.json", output=Output(json=True)
        )
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["f1"] == 1.0 and result["episodes"] == 2 and result["stage"] == "img-diff"
    assert result["recall_by"]["change"]["replace"]["differences"] == 5
