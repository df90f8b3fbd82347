"""Files of photographs as people have them: masks lie where they belong, or are left out aloud."""

import gzip
import json
import warnings

import numpy as np
import pytest
from paths import ROOT
from PIL import Image, ImageCms, ImageDraw
from pycocotools.coco import COCO

from dig_env.scenes import PHOTO_STAGES, Album, photo_pair
from dig_env.scenes.photos.picture import read_picture

REAL = ROOT / "tests/real"
BOX = (300, 80, 380, 170)
SQUARE = [60, 60, 140, 60, 140, 140, 60, 140]


def polygon(x0, y0, x1, y1):
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def drawn(size=(640, 480), box=BOX):
    picture = Image.new("RGB", size, "gray")
    ImageDraw.Draw(picture).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill="red")
    return picture


def write(folder, annotations, images=None, **image):
    """An instances file beside p.png, the one image that it lists unless told otherwise."""
    listed = images or [{"id": 1, "file_name": "p.png"} | image]
    whole = {"image_id": 1, "category_id": 1, "iscrowd": 0}
    entries = [whole | {"id": number} | entry for number, entry in enumerate(annotations, 901)]
    content = {"images": listed, "annotations": entries, "categories": [{"id": 1, "name": "thing"}]}
    (folder / "instances.json").write_text(json.dumps(content))
    return folder / "instances.json"


def masked_red(album, name="p.png"):
    """Of the one object's mask and of the red pixels: the share that they have in common."""
    photo = album.photograph(name)
    red = (photo.image[..., 0] > 160) & (photo.image[..., 1] < 90)
    mask = photo.ids > 0
    return (mask & red).sum() / (mask | red).sum()


# Sizes and orientations


@pytest.mark.parametrize("factor", [0.25, 0.5, 1.0, 1.6])
def test_masks_follow_a_photograph_that_was_resized(factor, tmp_path):
    resized = drawn().resize((round(640 * factor), round(480 * factor)))
    resized.save(tmp_path / "p.png")
    entry = {"segmentation": [polygon(*BOX)]}
    album = Album(write(tmp_path, [entry], width=640, height=480))
    assert album.photograph("p.png").instances[0].box == (150, 40, 190, 85)
    assert masked_red(album) > 0.93


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff"])
def test_masks_lie_on_the_upright_photograph(orientation, suffix, tmp_path):
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = drawn()
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    name = f"p.{suffix}"
    stored.save(tmp_path / name, exif=exif)
    entry = {"segmentation": [polygon(*BOX)]}
    path = write(tmp_path, [entry], file_name=name, width=640, height=480)
    assert masked_red(Album(path), name) > 0.93


@pytest.mark.parametrize("runs", [False, True])
def test_a_mask_of_the_stored_pixels_is_turned_with_them(runs, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # 640x480 as stored, 480x640 upright
    drawn().save(tmp_path / "p.jpg", exif=exif)
    shape = {"segmentation": [polygon(*BOX)]}
    if runs:
        mask = np.zeros((480, 640), bool)
        mask[BOX[1] : BOX[3], BOX[0] : BOX[2]] = True
        edges = np.flatnonzero(np.diff(mask.ravel(order="F"), prepend=False))
        counts = np.diff([0, *edges, mask.size]).tolist()
        shape = {"segmentation": {"size": [480, 640], "counts": counts}}
    path = write(tmp_path, [shape], file_name="p.jpg", width=640, height=480)
    assert masked_red(Album(path), "p.jpg") > 0.9


def test_annotations_for_another_shape_are_left_out_with_a_warning(tmp_path):
    drawn().resize((600, 600)).save(tmp_path / "p.png")
    path = write(tmp_path, [{"segmentation": [polygon(*BOX)]}] * 2, width=640, height=480)
    with pytest.warns(UserWarning, match="2 annotations are for 640x480 pixels, .* 600x600"):
        assert Album(path).photograph("p.png").instances == ()


# What is wrong in an annotation


@pytest.mark.parametrize(
    ("segmentation", "why"),
    [
        ([], "no segmentation"),
        (None, "no segmentation"),
        ({}, "no size"),
        ("everything", "neither a list of polygons nor run lengths"),
        (SQUARE, "neither a list of polygons nor run lengths"),
        ([SQUARE[:-1]], "an odd number of coordinates"),
        ([SQUARE, [1, 2, 3]], "an odd number of coordinates"),
        ([[10, 10, 60, 60]], "fewer than three points"),
        ([SQUARE, []], "fewer than three points"),
        ([[str(value) for value in SQUARE]], "no finite number"),
        ([[*SQUARE[:-1], float("nan")]], "no finite number"),
        ([[value / 640 for value in SQUARE]], "in the frame 0 to 1"),
        ([[value * 5 for value in SQUARE]], "leave the image"),
        ({"size": [480, 640], "counts": [99999999]}, "do not fill their size"),
        ({"size": [480, 640], "counts": [100, 200]}, "do not fill their size"),
        ({"size": [480, 640], "counts": "00000"}, "do not fill their size"),
        ({"size": [480, 640], "counts": "\x7f\x00\xff"}, "run lengths"),
        ({"size": [480, 640], "counts": [-5, 307205]}, "run lengths are damaged"),
        ({"size": [480, 640], "counts": 3.5}, "run lengths are damaged"),
        ({"size": [480], "counts": [480]}, "no size"),
        ({"size": [10**6, 10**6], "counts": [10**12]}, "a size that no picture has"),
    ],
)
def test_a_broken_segmentation_is_named_and_the_others_stay(segmentation, why, tmp_path):
    drawn().save(tmp_path / "p.png")
    entries = [{"segmentation": [polygon(*BOX)]}, {"segmentation": segmentation}]
    path = write(tmp_path, entries, width=640, height=480)
    with pytest.warns(UserWarning, match=rf"1 .*{why}.* \(902\)"):
        album = Album(path)
    assert masked_red(album) > 0.93


@pytest.mark.parametrize("ids", [(1, 1, 1), (None, None, None), ("a", "b", "b"), (7, "7", 8)])
def test_every_object_counts_whatever_its_id(ids, tmp_path):
    Image.new("RGB", (640, 480), "gray").save(tmp_path / "p.png")
    squares = [polygon(x, 60, x + 80, 140) for x in (60, 260, 460)]
    entries = [{"id": i, "segmentation": [s]} for i, s in zip(ids, squares, strict=True)]
    instances = Album(write(tmp_path, entries)).photograph("p.png").instances
    assert sorted(inst.box[0] for inst in instances) == [30, 130, 230]
    assert len({inst.annotation for inst in instances}) == 3


def test_an_image_id_of_two_files_is_no_images(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        drawn().save(tmp_path / name)
    images = [{"id": i, "file_name": f"{name}.png"} for i, name in ((1, "a"), (1, "b"), (2, "c"))]
    entries = [{"segmentation": [SQUARE]}, {"segmentation": [SQUARE], "image_id": 2}]
    with pytest.warns(UserWarning, match=r"1 image ids are of more than one file \(1\); 1 .*901"):
        assert Album(write(tmp_path, entries, images)).names == ("c.png",)


def test_thousands_of_missing_files_make_one_warning_with_their_number(tmp_path):
    drawn().save(tmp_path / "0.png")
    images = [{"id": i, "file_name": f"{i}.png"} for i in range(3001)]
    entries = [{"image_id": i, "segmentation": [SQUARE]} for i in range(3001)]
    with pytest.warns(UserWarning) as warned:
        assert Album(write(tmp_path, entries, images)).names == ("0.png",)
    (only,) = warned
    assert "3000 of its 3001 photographs are not there (1.png, 10.png," in str(only.message)


def test_thousands_of_damaged_files_make_few_warnings(tmp_path):
    images = [{"id": i, "file_name": f"{i}.png"} for i in range(150)]
    for image in images:
        (tmp_path / image["file_name"]).write_text("no picture")
    entries = [{"image_id": i, "segmentation": [SQUARE]} for i in range(150)]
    album = Album(write(tmp_path, entries, images))
    with pytest.warns(UserWarning) as warned:
        assert not any(album.photograph(name) for name in album.names)
    assert len(warned) < 15 and "photograph 100" in str(warned[-1].message)


def test_nothing_left_says_what_was_wrong(tmp_path):
    drawn().save(tmp_path / "p.png")
    with pytest.raises(ValueError, match=r"2 annotations have no segmentation \(901, 902\)"):
        Album(write(tmp_path, [{"segmentation": []}] * 2))


# Colours


def as_a_viewer(kind):
    """A picture of a kind, and what is seen of it."""
    ramp = np.linspace(0, 255, 64).astype(np.uint8)[None].repeat(48, 0)
    colours = np.dstack([ramp, ramp[:, ::-1], np.full_like(ramp, 90)])
    rgb, gray = Image.fromarray(colours), Image.fromarray(ramp)
    alpha = np.tile(np.array([0, 255], np.uint8), (48, 32))
    on_white = np.where(alpha[..., None] > 0, colours, 255)
    if kind == "gray 16":
        return Image.fromarray(ramp.astype(np.uint16) * 257), np.dstack([ramp] * 3)
    if kind == "gray 32":
        return Image.fromarray(ramp.astype(np.int32) * 257), np.dstack([ramp] * 3)
    if kind == "1-bit":
        return gray.convert("1", dither=0), np.dstack([np.where(ramp > 127, 255, 0)] * 3)
    if kind == "gray":
        return gray, np.dstack([ramp] * 3)
    if kind == "gray, alpha":
        both = gray.convert("LA")
        both.putalpha(Image.fromarray(alpha))
        return both, np.dstack([np.where(alpha > 0, ramp, 255)] * 3)
    if kind == "colour, alpha":
        both = rgb.copy()
        both.putalpha(Image.fromarray(alpha))
        return both, on_white
    if kind == "CMYK":
        inks = rgb.convert("CMYK")
        return inks, np.asarray(inks.convert("RGB"))
    palette = rgb.quantize(16)
    seen = np.asarray(palette.convert("RGB")).copy()
    if kind == "palette, transparent":
        palette.info["transparency"] = 3
        seen[np.asarray(palette) == 3] = 255
    return palette, seen


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [
        ("gray 16", "png"),
        ("gray 16", "tiff"),
        ("gray 32", "tiff"),
        ("1-bit", "png"),
        ("1-bit", "tiff"),
        ("gray", "jpg"),
        ("gray, alpha", "png"),
        ("colour, alpha", "png"),
        ("colour, alpha", "webp"),
        ("CMYK", "jpg"),
        ("CMYK", "tiff"),
        ("palette", "gif"),
        ("palette, transparent", "png"),
        ("palette, transparent", "gif"),
    ],
)
def test_pictures_are_read_as_a_viewer_shows_them(kind, suffix, tmp_path):
    picture, seen = as_a_viewer(kind)
    options = {"transparency": 3} if "transparent" in kind else {}
    options |= {"lossless": True} if suffix == "webp" else {}
    picture.save(tmp_path / f"p.{suffix}", **options)
    read = read_picture(tmp_path / f"p.{suffix}")
    assert read.mode == "RGB"
    tolerance = 12 if suffix == "jpg" else 1
    assert np.abs(np.asarray(read).astype(int) - seen).max() <= tolerance


def test_inks_with_a_profile_that_is_none_of_inks_are_seen_as_without(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    inks = Image.new("CMYK", (64, 48), (10, 200, 30, 0))
    inks.save(tmp_path / "p.tiff", icc_profile=profile)
    assert read_picture(tmp_path / "p.tiff").getpixel((5, 5)) == inks.convert("RGB").getpixel(
        (5, 5)
    )


@pytest.mark.parametrize("levels", [np.float32(0.5), np.int32(70000)])
def test_levels_that_viewers_do_not_agree_about_are_left_out(levels, tmp_path):
    Image.fromarray(np.full((480, 640), levels)).save(tmp_path / "p.tiff")
    album = Album(write(tmp_path, [{"segmentation": [SQUARE]}], file_name="p.tiff"))
    with pytest.warns(UserWarning, match="p.tiff is left out: its levels"):
        assert album.photograph("p.tiff") is None


# Layouts


def test_coco_is_read_as_pycocotools_reads_it():
    path, name = REAL / "coco/instances_val2017.json", "000000000139.jpg"
    album = Album(path, REAL / "coco/val2017", size=(160, 120))
    assert album.names == (name,)
    coco = COCO(path)
    photo = album.photograph(name)
    assert [inst.annotation for inst in photo.instances] == [1769, 1768, 1770]  # not the crowd
    for inst in photo.instances:
        assert np.array_equal(
            photo.mask(inst.annotation), coco.annToMask(coco.anns[inst.annotation])
        )
        assert coco.cats[coco.anns[inst.annotation]["category_id"]]["name"] == inst.category


@pytest.mark.parametrize("images", ["lvis", "lvis/val2017"])
def test_lvis_has_its_files_by_their_address(images):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        album = Album(REAL / "lvis/lvis_v1_val.json", REAL / images, size=(160, 120))
    assert album.names == ("val2017/000000397133.jpg",)
    photo = album.photograph(album.names[0])
    assert sorted(inst.box for inst in photo.instances) == [
        (20, 30, 44, 50),
        (80, 60, 110, 90),
        (120, 10, 140, 26),
    ]
    assert photo_pair(1, PHOTO_STAGES["single"], album).differences


def test_an_image_without_a_name_and_an_address_is_named(tmp_path):
    drawn().save(tmp_path / "p.png")
    images = [{"id": 1, "file_name": "p.png"}, {"id": 2, "flickr_url": "x"}]
    with pytest.warns(UserWarning, match=r"1 images lack an id, file_name .* \(number 1\)"):
        Album(write(tmp_path, [{"segmentation": [SQUARE]}], images))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "gzip"])
def test_annotations_may_be_in_any_unicode_or_gzipped(encoding, tmp_path):
    drawn().save(tmp_path / "p.png")
    path = write(tmp_path, [{"segmentation": [SQUARE]}])
    text = path.read_text()
    path.write_bytes(gzip.compress(text.encode()) if encoding == "gzip" else text.encode(encoding))
    assert Album(path).names == ("p.png",)
