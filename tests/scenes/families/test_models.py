"""Objects from files: what is read, what of it, and what is refused by name."""

import collections
import json
import math
import warnings

import numpy as np
import pytest
import trimesh
from blocks import CORNERS, QUADS, UPRIGHT, Gltf, extent, is_the_block
from paths import ROOT
from small import SMALL

from dig_env.align import pose
from dig_env.scenes import (
    Difficulty,
    DifficultyError,
    FamilyError,
    PairPlan,
    Renderer,
    object_family,
    plan_pair,
    views,
)
from dig_env.scenes.families.models import model_mesh
from dig_env.scenes.measure.occlusion import silhouette

REAL = ROOT / "tests/real" / "models"


def obj_text():
    lines = [f"v {x} {y} {z}" for x, y, z in CORNERS]
    lines += ["f " + " ".join(f"{i + 1}/1/1" for i in quad) for quad in QUADS]
    return "# made by hand\nmtllib evil.mtl\n" + "\n".join(lines) + "\n"


# Folders


def test_the_layouts_of_public_collections_are_read():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        family = object_family(REAL, name="collections")
    assert family.shapes == (
        "gltf-sample-assets/Models/Block/glTF/Block",
        "google_scanned_objects/Block/meshes/model",
        "modelnet40/block/train/block_0001",
        "objaverse/glbs/000-023/0a1b2c3d4e5f60718293a4b5c6d7e8f9",
        "pybullet_data/random_urdfs/000/000",
        "shapenet/02691156/1a04e3eab45ca15dd86060f189eb133/models/model_normalized",
        "thingi10k/32770",
        "ycb/003_cracker_box/google_16k/nontextured.ply",
        "ycb/003_cracker_box/google_16k/nontextured.stl",
    )
    for shape in family.shapes:
        assert is_the_block(model_mesh(str(REAL), shape)), shape


@pytest.mark.parametrize(
    ("file", "word"),
    [
        ("chair.OBJ", "chair"),
        ("000.obj", "000"),
        ("Duck.obj", "Duck"),
        ("red.obj", "red"),
        ("mug.v2.obj", "mug.v2"),
        ("Tasse für Öl (1).obj", "Tasse für Öl (1)"),
        ("a/b/model.obj", "a/b/model"),
        ("cube.obj", "cube.obj"),  # a shape that there is
    ],
)
def test_any_file_name_is_a_word_of_plans(tmp_path, file, word):
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(obj_text())
    (tmp_path / "other.obj").write_text(obj_text())
    family = object_family(tmp_path)
    assert set(family.shapes) == {word, "other"} and is_the_block(model_mesh(str(tmp_path), word))
    plan = plan_pair(3, Difficulty(family=str(tmp_path)))
    assert PairPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_files_that_share_a_word_keep_their_suffixes(tmp_path):
    for name in ("mug.obj", "mug.glb", "mug.obj.glb"):
        content = Gltf(scale=[1, 0.5, 1]).glb() if name == "mug.glb" else Gltf().glb()
        (tmp_path / name).write_bytes(obj_text().encode() if name == "mug.obj" else content)
    assert object_family(tmp_path).shapes == ("mug.glb", "mug.obj", "mug.obj.glb")
    assert extent(model_mesh(str(tmp_path), "mug.glb")) != pytest.approx(UPRIGHT)


def test_what_is_not_read_is_named_with_the_reason_and_companions_are_not(tmp_path):
    (tmp_path / "tower.obj").write_text(obj_text())
    (tmp_path / "broken.glb").write_bytes(Gltf().glb()[:100])
    (tmp_path / "empty.obj").write_text("v 0 0 0\n")
    (tmp_path / "wild.obj").write_text("v 0 0 0\nv nan 0 0\nv 0 1 0\nf 1 2 3\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "void.stl").write_bytes(b"")
    unread = ("a.fbx", "b.blend", "c.dae", "sub/D.USDZ", "e.3mf")
    for name in (*unread, "evil.py", "tower.mtl", "wood.png", ".hidden.obj"):
        (tmp_path / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (tmp_path / "link").symlink_to(tmp_path / "sub")
    with pytest.warns(UserWarning) as caught:
        assert object_family(tmp_path).shapes == ("tower",)
    text = str(caught[0].message)
    for name in ("broken.glb", "empty.obj", "wild.obj", "sub/void.stl", "link", *unread):
        assert f"{name} (" in text
    assert not any(name in text for name in ("evil", "mtl", "png", "hidden"))
    assert not (tmp_path / "ran").exists()


def test_a_warning_of_many_files_gives_their_number(tmp_path):
    (tmp_path / "tower.obj").write_text(obj_text())
    for number in range(200):
        (tmp_path / f"{number}.fbx").touch()
    with pytest.warns(UserWarning, match="skipped 200 in") as caught:
        object_family(tmp_path)
    assert len(str(caught[0].message)) < 5000


@pytest.mark.parametrize("files", [[], ["notes.txt"], ["chair.fbx"], ["chair.obj"]])
def test_a_folder_without_a_usable_model_says_what_is_needed(tmp_path, files):
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(FamilyError, match="no usable .glb, .gltf, .obj") as caught:
        object_family(tmp_path)
    assert not str(caught.value).rstrip().endswith(":")
    assert all(name in str(caught.value) for name in files if not name.endswith("txt"))
    with pytest.raises(FamilyError, match="is no folder"):
        object_family(tmp_path / "nowhere")


def test_more_models_than_can_be_read_in_reasonable_time_are_refused(tmp_path):
    for number in range(2001):
        (tmp_path / f"{number}.obj").touch()
    with pytest.raises(FamilyError, match="2001 models, and up to 2000"):
        object_family(tmp_path)


# Pictures


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    (folder / "tower.obj").write_text(obj_text())
    turn = [0, 0, math.sqrt(0.5), math.sqrt(0.5)]
    (folder / "Plank 2.glb").write_bytes(Gltf(rotation=turn).glb())
    (folder / "sheet.stl").write_bytes(
        trimesh.exchange.export.export_mesh(
            trimesh.Trimesh([(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)], [(0, 1, 2), (0, 2, 3)]),
            None,
            "stl",
        )
    )
    return folder


def test_a_folder_of_models_is_a_family(models, renderer):
    difficulty = Difficulty(family=str(models), changes=("shape", "rotate", "color", "move"))
    shown = collections.Counter()
    for seed in range(4):
        pair = renderer.render(plan_pair(seed, difficulty))
        assert PairPlan.from_json(json.loads(json.dumps(pair.plan.to_json()))) == pair.plan
        for obj in pair.plan.scene_a:
            outline = silhouette(obj, pair.plan.camera, SMALL.width, SMALL.height)
            seen = pair.ids_a == obj.id
            assert outline[seen].all(), "it lies in its cylinder"
            alone = silhouette(
                obj,
                pair.plan.camera,
                SMALL.width,
                SMALL.height,
                model_mesh(str(models), obj.shape),
            )
            assert (seen & ~alone).sum() <= 0.1 * seen.sum() + 4, "the file's own shape is seen"
            shown[obj.shape] += 1
    assert set(shown) == {"Plank 2", "tower", "sheet"}, "a sheet on the floor is seen too"
    with pytest.raises(ValueError, match="no words to ask about"):
        pose(views(pair), "text_to_box", np.random.default_rng(0))


def test_a_thin_model_is_named_where_no_plan_can_show_it(tmp_path):
    (tmp_path / "tower.obj").write_text(obj_text())
    needle = "v 0 0 0\nv 0.01 0 0\nv 0 0 0.01\nv 0 4 0\nf 1 3 2\nf 1 2 4\nf 2 3 4\nf 3 1 4\n"
    (tmp_path / "my needle.obj").write_text(needle)
    difficulty = Difficulty(
        family=str(tmp_path), objects=(5, 5), changes=("color", "shape"), min_visible=0.004
    )
    with Renderer(SMALL) as renderer, pytest.raises(DifficultyError) as caught:
        renderer.render(plan_pair(0, difficulty))
    text = str(caught.value)
    assert "model 'my needle' is too flat or thin" in text and "'tower'" not in text


def test_a_model_that_went_away_is_named(tmp_path):
    (tmp_path / "tower.obj").write_text(obj_text())
    plan = plan_pair(0, Difficulty(family=str(tmp_path), changes=("color",)))
    (tmp_path / "tower.obj").unlink()
    with Renderer(SMALL) as renderer, pytest.raises(RuntimeError, match="the model 'tower' of"):
        renderer.render(plan)
