"""Files of models: what they hold is read as their formats say, and no file asks for too much."""

import base64
import json
import math
import os

import DracoPy
import numpy as np
import pytest
import trimesh
from blocks import CORNERS, QUADS, TRIANGLES, Gltf, extent, is_the_block, volume
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from dig_env.scenes import object_family
from dig_env.scenes.families.mesh_files import MODEL_SUFFIXES, ModelError, read_model

# Files


@pytest.mark.parametrize("suffix", [".glb", ".obj", ".off", ".ply", ".stl"])
def test_what_trimesh_writes_is_read_with_its_size_volume_and_faces(tmp_path, suffix):
    mesh = trimesh.creation.annulus(0.4, 1.0, 1.5)
    path = tmp_path / f"ring{suffix.upper()}"
    path.write_bytes(
        trimesh.exchange.export.export_mesh(mesh, None, suffix[1:])
        if suffix in (".glb", ".stl", ".ply")
        else trimesh.exchange.export.export_mesh(mesh, None, suffix[1:]).encode()
    )
    read = read_model(path)
    if suffix in (".glb", ".obj"):  # there +Y is up
        mesh.apply_transform(trimesh.transformations.rotation_matrix(math.pi / 2, [1, 0, 0]))
    size = extent(read)[0] / mesh.extents[0]
    assert extent(read) == pytest.approx(mesh.extents * size, rel=1e-4)
    assert volume(read) == pytest.approx(mesh.volume * size**3, rel=1e-4)
    assert len(read[1]) == len(mesh.faces) and len(read[0]) == len(mesh.vertices)


def test_models_stand_on_the_floor_in_the_cylinder_of_radius_one(tmp_path):
    turn = Rotation.from_euler("z", 90, degrees=True).as_quat().tolist()
    points = np.array(Gltf(rotation=turn).read(tmp_path)[0])
    assert np.ptp(points, axis=0) == pytest.approx(np.array([3, 2, 1]) * 2 / math.hypot(3, 2))
    assert points[:, 2].min() == pytest.approx(0)
    assert np.hypot(points[:, 0], points[:, 1]).max() <= 1 + 1e-9


def test_obj_as_programs_write_it(tmp_path):
    """Relative indices, comments, tabs, continued lines, carriage returns, several objects."""
    path = tmp_path / "x.obj"
    block = ""
    for shift in (0.0, 5.0):
        block += "o part\r\nusemtl grey\r\n"
        block += "".join(f"v\t{x + shift} {y} {z} 1 1 1 # c\r\n" for x, y, z in CORNERS)
        for a, b, c, d in QUADS:
            block += f"  f {a - 8}//1 {b - 8}//1 \\\r\n {c - 8}//1 {d - 8}//1 # quad\r\n"
    path.write_bytes((block + "f 1 2\r\nl 1 2\r\n").encode())
    mesh = read_model(path)
    assert len(mesh[1]) == 12 and extent(mesh)[0] / extent(mesh)[2] == pytest.approx(6 / 3)
    scale = 3 / extent(mesh)[2]
    assert volume(mesh) * scale**3 == pytest.approx(12.0), "two blocks that look outwards"


HARMLESS = (
    "KHR_texture_transform EXT_texture_webp KHR_texture_basisu KHR_materials_unlit "
    "KHR_materials_variants KHR_lights_punctual KHR_mesh_quantization VENDOR_sparkle"
)


@pytest.mark.parametrize("name", HARMLESS.split(" "))
def test_extensions_that_do_not_move_points_are_no_matter(tmp_path, name):
    gltf = Gltf()
    gltf.json["extensionsRequired"] = gltf.json["extensionsUsed"] = [name]
    assert is_the_block(gltf.read(tmp_path))


@pytest.mark.parametrize("name", ["EXT_meshopt_compression", "EXT_mesh_gpu_instancing"])
def test_extensions_that_move_points_are_refused_by_name(tmp_path, name):
    gltf = Gltf()
    gltf.json["extensionsRequired"] = gltf.json["extensionsUsed"] = ["KHR_materials_unlit", name]
    with pytest.raises(ModelError, match=f"it needs {name}"):
        gltf.read(tmp_path)


def test_draco_is_decoded_and_without_its_decoder_the_error_names_it(tmp_path, monkeypatch):
    gltf = Gltf()
    packed = DracoPy.encode(CORNERS, np.array(TRIANGLES, np.uint32), quantization_bits=16)
    number = DracoPy.decode(packed).attributes[0]["unique_id"]
    fields = {"bufferView": gltf.view(packed), "attributes": {"POSITION": number}}
    gltf.part["extensions"] = {"KHR_draco_mesh_compression": fields}
    gltf.json["extensionsRequired"] = ["KHR_draco_mesh_compression"]
    for accessor in gltf.json["accessors"]:
        del accessor["bufferView"]
    assert is_the_block(gltf.read(tmp_path))
    monkeypatch.setitem(__import__("sys").modules, "DracoPy", None)
    with pytest.raises(ModelError, match="DracoPy is not installed; run: pip install"):
        gltf.read(tmp_path)


def test_points_are_read_however_they_are_packed(tmp_path):
    plain, sparse, quantized, strided = Gltf(), Gltf(), Gltf(scale=[3, 3, 3]), Gltf()
    assert is_the_block(plain.read(tmp_path))
    # Two corners lie elsewhere in the accessor, and are put right by its sparse part.
    wrong = CORNERS.astype("<f4")
    wrong[[2, 7]] += 9
    places, values = np.array([2, 7], "<u1"), CORNERS[[2, 7]].astype("<f4")
    fields = {
        "count": 2,
        "indices": {"bufferView": sparse.view(places.tobytes()), "componentType": 5121},
        "values": {"bufferView": sparse.view(values.tobytes())},
    }
    sparse.part["attributes"]["POSITION"] = sparse.add(wrong, sparse=fields)
    # 3 is the largest 16-bit number, and the node makes three units of it.
    short = np.rint(CORNERS / 3 * 32767).astype("<i2")
    quantized.part["attributes"]["POSITION"] = quantized.add(short, normalized=True)
    rows = np.zeros((8, 5), "<f4")
    rows[:, 2:] = CORNERS
    accessor = strided.json["accessors"][0]
    accessor |= {"bufferView": strided.view(rows.tobytes()), "byteOffset": 8}
    strided.json["bufferViews"][accessor["bufferView"]]["byteStride"] = 20
    for gltf in (sparse, quantized, strided):
        assert is_the_block(gltf.read(tmp_path))


def test_strips_and_fans_are_triangles_and_lines_are_left_out(tmp_path):
    gltf = Gltf()
    primitives = gltf.json["meshes"][0]["primitives"]
    points = primitives[0]["attributes"]
    primitives.clear()
    for place, (a, b, c, d) in enumerate(QUADS):
        corners, mode = ((a, b, d, c), 5) if place % 2 else ((a, b, c, d), 6)
        indices = gltf.add(np.array(corners, "<u2"))
        primitives.append({"attributes": points, "indices": indices, "mode": mode})
    primitives += [{"attributes": points, "mode": mode} for mode in (0, 1, 3)]
    mesh = gltf.read(tmp_path)
    assert is_the_block(mesh) and len(mesh[1]) == 12


@pytest.mark.parametrize("scale", [[-1, 1, 1], [1, -1, 1], [-1, -1, -1]])
def test_faces_of_mirrored_nodes_look_outwards(tmp_path, scale):
    parent = Gltf(scale=scale)
    assert is_the_block(parent.read(tmp_path))
    parent.json["nodes"] += [{"children": [0], "scale": [-2, 2, 2]}]
    parent.json["scenes"][0]["nodes"] = [1]
    assert is_the_block(parent.read(tmp_path))


def test_a_skinned_mesh_stands_where_its_joints_put_it_and_not_its_node(tmp_path):
    """glTF 2.0, 3.7.3.1, against the sum over the joints by hand."""
    lying = [math.sqrt(0.5), 0, 0, math.sqrt(0.5)]
    gltf = Gltf(rotation=lying, skin=0)
    gltf.json["nodes"] += [{"name": "joint"}]
    gltf.json["scenes"][0]["nodes"] = [0, 1]
    gltf.json["skins"] = [{"joints": [1]}]
    assert is_the_block(gltf.read(tmp_path))

    # A Z-up skeleton under a node that turns it, as exporters write it; the upper joint is raised.
    gltf.json["nodes"][1] = {"rotation": [-lying[0], 0, 0, lying[0]], "children": [2]}
    gltf.json["nodes"] += [{"translation": [0, 0, 2], "scale": [1, 1, 2]}]
    inverse = np.stack([np.eye(4), np.eye(4)])
    inverse[1, 2, 3] = -1
    columns = inverse.transpose(0, 2, 1).reshape(2, 16).astype("<f4")
    gltf.json["skins"] = [{"joints": [1, 2], "inverseBindMatrices": gltf.add(columns)}]
    z_up = CORNERS[:, [0, 2, 1]] * [1, -1, 1]
    upper = z_up[:, 2] / 3
    weights = np.column_stack([1 - upper, upper, upper * 0, upper * 0])
    gltf.part["attributes"] = {
        "POSITION": gltf.add(z_up.astype("<f4")),
        "JOINTS_0": gltf.add(np.tile(np.array([0, 1, 0, 0], "<u1"), (8, 1))),
        "WEIGHTS_0": gltf.add(np.rint(weights * 255).astype("<u1"), normalized=True),
    }
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_quat([-lying[0], 0, 0, lying[0]]).as_matrix()
    raised = turn @ [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 2, 2], [0, 0, 0, 1]] @ inverse[1]
    points = np.column_stack([z_up, np.ones(8)])
    expected = (1 - upper)[:, None] * (points @ turn.T) + upper[:, None] * (points @ raised.T)
    high = np.ptp(expected[:, 1])
    assert extent(gltf.read(tmp_path)) == pytest.approx(np.array([1, 2, high]) * 2 / high, abs=1e-3)


@pytest.mark.parametrize("depth", [14, 100, 5000])
def test_each_node_is_visited_once_however_many_parents_it_has(tmp_path, depth):
    """Two links from each node to the next: 2 ** depth ways to the mesh."""
    gltf = Gltf()
    gltf.json["nodes"] = [{"children": [i + 1, i + 1]} for i in range(depth)] + [{"mesh": 0}]
    mesh = gltf.read(tmp_path)
    assert is_the_block(mesh) and len(mesh[1]) == 12
    gltf.json["nodes"][depth]["children"] = [0]  # a circle
    assert is_the_block(gltf.read(tmp_path))


def test_a_file_without_a_scene_shows_the_nodes_without_a_parent(tmp_path):
    gltf = Gltf()
    gltf.json["nodes"] += [{"children": [0], "rotation": [0, 1, 0, 0]}]
    del gltf.json["scenes"]
    mesh = gltf.read(tmp_path)
    assert is_the_block(mesh) and len(mesh[1]) == 12


# Files that name others


def gltf_folder(folder, uri):
    gltf = Gltf()
    gltf.json["buffers"][0]["uri"] = uri
    (folder / "models" / "sub").mkdir(parents=True, exist_ok=True)
    for place in (folder / "models" / "sub", folder / "models", folder):
        (place / "my data.bin").write_bytes(gltf.data)
    path = folder / "models" / "sub" / "x.gltf"
    path.write_text(json.dumps(gltf.json))
    return path


def test_a_gltf_reads_its_data_from_the_folder_or_from_within(tmp_path):
    inline = "data:application/octet-stream;base64," + base64.b64encode(Gltf().data).decode()
    for uri in ("my%20data.bin", "my data.bin", "../my data.bin", inline):
        path = gltf_folder(tmp_path, uri)
        assert is_the_block(read_model(path, tmp_path / "models")), uri[:40]
    assert object_family(tmp_path / "models").shapes == ("sub/x",)


@pytest.mark.parametrize(
    "uri",
    [
        "../../my data.bin",
        "..%2F..%2Fmy%20data.bin",
        "{folder}/my data.bin",
        "file:///etc/passwd",
        "https://example.org/my%20data.bin",
        "gone.bin",
        "pipe",
    ],
)
def test_what_lies_outside_the_folder_is_not_read(tmp_path, uri):
    path = gltf_folder(tmp_path, uri.format(folder=tmp_path))
    os.mkfifo(path.parent / "pipe")
    with pytest.raises(ModelError, match="leads out of|is not there"):
        read_model(path, tmp_path / "models")


# Bounds


def huge_accessor(gltf):
    gltf.json["accessors"][0]["count"] = 10**12


def many_nodes(gltf):
    gltf.json["nodes"] += [{}] * 10**5


def many_instances(gltf):
    gltf.json["nodes"] = [{"mesh": 0}] * 19_000
    gltf.json["scenes"][0]["nodes"] = list(range(19_000))


def many_vertices_of_few_faces(gltf):
    gltf.part["attributes"]["POSITION"] = gltf.add(np.zeros((599_000, 3), "<f4"))
    gltf.json["meshes"][0]["primitives"] *= 1000


def wide_stride(gltf):
    gltf.json["bufferViews"][0]["byteStride"] = 2**40


def sparse_without_end(gltf):
    gltf.json["accessors"][0]["sparse"] = {"count": 10**9, "indices": {}, "values": {}}


def deep_json(gltf):
    gltf.json = "REPLACED"
    gltf.glb = lambda: Gltf.glb(gltf).replace(b'"REPLACED"', b"[" * 10**6)


@pytest.mark.parametrize(
    "spoil",
    [
        huge_accessor,
        many_nodes,
        many_instances,
        many_vertices_of_few_faces,
        wide_stride,
        sparse_without_end,
        deep_json,
    ],
)
def test_a_small_gltf_cannot_ask_for_more_than_is_allowed(tmp_path, spoil):
    gltf = Gltf()
    spoil(gltf)
    with pytest.raises(ModelError):
        gltf.read(tmp_path)


@pytest.mark.parametrize("suffix", ["glb", "off", "ply", "stl"])
def test_a_file_that_was_cut_off_is_refused(tmp_path, suffix):
    mesh = trimesh.creation.icosphere(1)
    options = {"encoding": "ascii"} if suffix == "ply" else {}
    content = trimesh.exchange.export.export_mesh(mesh, None, suffix, **options)
    content = content if isinstance(content, bytes) else content.encode()
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(content)
    assert len(read_model(path)[1]) == len(mesh.faces)
    path.write_bytes(content[: len(content) * 9 // 10])
    with pytest.raises(ModelError):
        read_model(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\n" + b"f 1 2 3\n" * 200_001),
        ("x.obj", b"\n" * 2**24),
        ("x.ply", b"ply\nformat ascii 1.0\nelement vertex 3\nend_header\n" + b"\v" * 2**24),
        ("x.off", b"OFF\n3 999999999999 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"),
        ("x.stl", b"\0" * (2**26 + 1)),
        ("x.ply", b"ply\nformat binary_little_endian 1.0\nelement vertex 99999999999\n"
                  b"property float x\nend_header\n"),
    ],
)  # fmt: skip
def test_other_files_that_are_too_large_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError):
        read_model(tmp_path / name)


@given(st.binary(max_size=400), st.sampled_from(MODEL_SUFFIXES))
@settings(max_examples=100)
def test_no_bytes_break_the_reader(tmp_path_factory, content, suffix):
    path = tmp_path_factory.getbasetemp() / ("x" + suffix)
    whole = Gltf().glb()
    ply = trimesh.exchange.export.export_mesh(trimesh.creation.box(), None, "ply")
    for damaged in (
        content,
        whole[:20] + content,
        whole[: -len(content) - 1] + content,
        ply[: -len(content) - 1] + content,
        b"solid x\nfacet\nvertex " + content,
        b"OFF\n" + content,
    ):
        path.write_bytes(damaged)
        try:
            vertices, faces = read_model(path)
        except ModelError as error:
            assert not str(error).rstrip().endswith(":")
            continue
        assert faces and np.isfinite([vertices[i] for face in faces for i in face]).all()
