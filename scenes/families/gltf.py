"""glTF 2.0, as .gltf or .glb: where the triangles of its scene are.

https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html, whose words and section numbers stand
here. trimesh 5.2 is not used for it: without a word it leaves out skins, sparse and normalized
accessors and triangle fans.
"""

from __future__ import annotations

import base64
import json
import struct
import urllib.parse
from pathlib import Path
from typing import Any

import numpy as np

from dig_env.scenes.extras import extra
from dig_env.scenes.files import inside

MAX_FACES = 200_000
MAX_VERTICES = 3 * MAX_FACES
MAX_JSON_BYTES, MAX_DATA_BYTES = 2**25, 2**27
"""The second of all numbers that are read from one file; its textures do not count."""
MAX_NODES = 20_000
MOVES_POINTS = (
    "EXT_meshopt_compression",
    "KHR_meshopt_compression",
    "EXT_mesh_gpu_instancing",
)
"""Extensions that are not read and without which positions would be wrong. All others that a file
may require are about looks."""
DRACO = "KHR_draco_mesh_compression"

_COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
_MAX_STRIDE = 252


class ModelError(ValueError):
    """A file that is no usable model."""


def read_gltf(path: Path, root: Path) -> tuple[np.ndarray, np.ndarray]:
    """The triangles of the file's scene, +Y up.

    Args:
        path: the file.
        root: the folder that the files which it names must be in.

    Returns:
        vertices: (N, 3) float64.
        faces: (M, 3) int64, indices of vertices.

    Raises:
        ModelError: it is too large, or needs what is not understood.
        Exception: of many kinds, where it is damaged.
    """
    file = _File(path, root)
    needed = [name for name in file.json.get("extensionsRequired", ()) if name in MOVES_POINTS]
    if needed:
        raise ModelError(f"it needs {', '.join(needed)}, which is not read: export it without")
    nodes = file.json.get("nodes", [])
    if len(nodes) > MAX_NODES:
        raise ModelError(f"it has {len(nodes)} nodes, and up to {MAX_NODES} are allowed")
    worlds = _world_matrices(nodes, _roots(file.json, nodes))
    vertices, faces = [np.empty((0, 3))], [np.empty((0, 3), np.int64)]
    vertex_count = face_count = 0
    for index, world in worlds.items():
        node = nodes[index]
        if "mesh" not in node:
            continue
        matrices = file.joint_matrices(node["skin"], worlds) if "skin" in node else world[None]
        for primitive in file.json["meshes"][node["mesh"]]["primitives"]:
            if primitive.get("mode", 4) not in (4, 5, 6):
                continue  # points and lines
            attributes, corners = file.primitive(primitive)
            points = _moved(attributes, matrices)
            triangles = _triangles(corners, primitive.get("mode", 4))
            if triangles.size and not 0 <= triangles.min() <= triangles.max() < len(points):
                raise ModelError("its faces name vertices that it has not")
            if np.linalg.det(matrices[0, :3, :3]) < 0:
                triangles = triangles[:, ::-1]  # 3.7.4: a mirror turns the winding round
            vertices.append(points)
            faces.append(triangles + vertex_count)
            vertex_count += len(points)
            face_count += len(triangles)
            if face_count > MAX_FACES or vertex_count > MAX_VERTICES:
                raise ModelError(f"it has more than {MAX_FACES} faces or {MAX_VERTICES} vertices")
    return np.concatenate(vertices), np.concatenate(faces)


class _File:
    """The JSON of a file, and the numbers that it describes."""

    def __init__(self, path: Path, root: Path) -> None:
        self._path, self._root = path, root
        self._bytes_left = MAX_DATA_BYTES
        self._embedded: dict[int, bytes] = {}
        self._chunk_at: int | None = None
        with open(path, "rb") as file:
            head = file.read(20)
            if head[:4] != b"glTF":
                text = head + file.read(MAX_JSON_BYTES)
            else:
                version, _, length, kind = struct.unpack("<III4s", head[4:])
                if version != 2 or kind != b"JSON":
                    raise ModelError("it is no binary glTF 2.0 that begins with its JSON")
                text = file.read(min(length, MAX_JSON_BYTES + 1))
                self._chunk_at = 20 + length + 8
        if len(text) > MAX_JSON_BYTES:
            raise ModelError(f"its JSON has more than {MAX_JSON_BYTES} bytes")
        self.json = json.loads(text)

    def primitive(self, primitive: dict) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Its positions, joints and weights as (N, 3 or 4) by name, and its (C,) corners."""
        named = {
            name: accessor
            for name, accessor in primitive["attributes"].items()
            if name == "POSITION" or name.startswith(("JOINTS_", "WEIGHTS_"))
        }
        packed = primitive.get("extensions", {}).get(DRACO)
        # Without a buffer view there is no uncompressed copy for those who cannot decode it.
        if packed and "bufferView" not in self.json["accessors"][named["POSITION"]]:
            return self._decoded(packed, named)
        attributes = {name: self.accessor(index) for name, index in named.items()}
        if "indices" in primitive:
            return attributes, self.accessor(primitive["indices"])[:, 0].astype(np.int64)
        return attributes, np.arange(len(attributes["POSITION"]))

    def _decoded(self, packed: dict, named: dict) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """As ``primitive``, of Draco's bytes."""
        with extra("models"):
            import DracoPy
        mesh = DracoPy.decode(self._view(packed["bufferView"], 0, None))
        found = {attribute["unique_id"]: attribute["data"] for attribute in mesh.attributes}
        attributes = {name: np.asarray(found[packed["attributes"][name]]) for name in named}
        return attributes, np.asarray(mesh.faces, np.int64).ravel()

    def joint_matrices(self, skin_index: int, worlds: dict[int, np.ndarray]) -> np.ndarray:
        """(J, 4, 4): from a skinned mesh to the world, whatever its node says (3.7.3.1)."""
        skin = self.json["skins"][skin_index]
        joints = np.array([worlds[joint] for joint in skin["joints"]])
        if "inverseBindMatrices" in skin:
            columns = self.accessor(skin["inverseBindMatrices"])[: len(joints)]
            joints = joints @ columns.reshape(-1, 4, 4).transpose(0, 2, 1)
        return joints

    def accessor(self, index: int) -> np.ndarray:
        """(N, width) numbers; normalized ones as float64 from -1 or 0 to 1 (3.6.2)."""
        accessor = self.json["accessors"][index]
        count, width = accessor["count"], _WIDTHS[accessor["type"]]
        dtype = np.dtype(_COMPONENTS[accessor["componentType"]])
        if not 0 <= count <= MAX_VERTICES:
            raise ModelError(f"it has more than {MAX_VERTICES} vertices")
        if "bufferView" in accessor:
            values = self._numbers(accessor, count, width, dtype)
        elif "sparse" in accessor:
            values = np.zeros((count, width), dtype)
        else:
            raise ModelError("it keeps positions where they are not found: export it uncompressed")
        if "sparse" in accessor:
            sparse = accessor["sparse"]
            kind = np.dtype(_COMPONENTS[sparse["indices"]["componentType"]])
            places = self._numbers(sparse["indices"], sparse["count"], 1, kind)[:, 0]
            values = values.copy()
            values[places] = self._numbers(sparse["values"], sparse["count"], width, dtype)
        if accessor.get("normalized") and dtype.kind in "iu":
            return np.maximum(values / np.iinfo(dtype).max, -1.0)
        return values

    def _numbers(self, where: dict, count: int, width: int, dtype: np.dtype) -> np.ndarray:
        size = width * dtype.itemsize
        stride = self.json["bufferViews"][where["bufferView"]].get("byteStride", size)
        if not size <= stride <= max(size, _MAX_STRIDE):
            raise ModelError(f"it has a byteStride of {stride}")
        length = (count - 1) * stride + size if count else 0
        data = self._view(where["bufferView"], where.get("byteOffset", 0), length)
        return np.ndarray((count, width), dtype, data, strides=(stride, dtype.itemsize))

    def _view(self, index: int, start: int, length: int | None) -> bytes:
        """Bytes of a buffer view from ``start`` on; None: all."""
        view = self.json["bufferViews"][index]
        length = view["byteLength"] - start if length is None else length
        if not 0 <= start <= start + length <= view["byteLength"]:
            raise ModelError("it is cut off, or its parts overlap")
        self._bytes_left -= length
        if self._bytes_left < 0:
            raise ModelError(f"it has more than {MAX_DATA_BYTES} bytes of numbers")
        data = self._buffer(view["buffer"], view.get("byteOffset", 0) + start, length)
        if len(data) != length:
            raise ModelError("it is cut off")
        return data

    def _buffer(self, index: int, start: int, length: int) -> bytes:
        uri = self.json["buffers"][index].get("uri")
        path, offset = self._path, self._chunk_at
        if uri is not None and uri.startswith("data:"):
            if index not in self._embedded:
                self._embedded[index] = base64.b64decode(uri.partition("base64,")[2])
            return self._embedded[index][start : start + length]
        if uri is not None:
            path = inside(self._root, self._path.parent / urllib.parse.unquote(uri))
            offset = 0
            if not path.is_file():
                raise ModelError(f"it names the file {uri[:80]!r}, which is not there")
        if offset is None or start < 0:
            raise ModelError("it has no data of its own and names none")
        with open(path, "rb") as file:
            file.seek(offset + start)
            return file.read(length)


def _roots(gltf: dict, nodes: list[dict]) -> list[int]:
    if gltf.get("scenes"):
        return gltf["scenes"][gltf.get("scene", 0)].get("nodes", [])
    children = {child for node in nodes for child in node.get("children", ())}
    return [index for index in range(len(nodes)) if index not in children]


def _world_matrices(nodes: list[dict], roots: list[int]) -> dict[int, np.ndarray]:
    """(4, 4) of every node below the roots, each once: more parents than one, and circles, are
    against the specification (3.5.2), and would take for ever."""
    worlds: dict[int, np.ndarray] = {}
    waiting = [(root, np.eye(4)) for root in reversed(roots)]
    while waiting:
        index, parent = waiting.pop()
        if index not in worlds:
            worlds[index] = parent @ _matrix(nodes[index])
            children = nodes[index].get("children", [])
            waiting += [(child, worlds[index]) for child in reversed(children)]
    return worlds


def _matrix(node: dict[str, Any]) -> np.ndarray:
    if "matrix" in node:
        return np.reshape(np.array(node["matrix"], float), (4, 4)).T
    from scipy.spatial.transform import Rotation  # here, since it takes a while to import

    matrix = np.eye(4)
    turn = Rotation.from_quat(node.get("rotation", (0, 0, 0, 1))).as_matrix()
    matrix[:3, :3] = turn * np.array(node.get("scale", (1, 1, 1)), float)
    matrix[:3, 3] = node.get("translation", (0, 0, 0))
    return matrix


def _moved(attributes: dict[str, np.ndarray], matrices: np.ndarray) -> np.ndarray:
    """(N, 3) positions in the world: by the one matrix, or by the joints' as their weights say."""
    points = np.column_stack([attributes["POSITION"], np.ones(len(attributes["POSITION"]))])
    if "JOINTS_0" not in attributes or len(matrices) == 1:
        return (points @ matrices[0].T)[:, :3]
    sets = range(sum(name.startswith("JOINTS_") for name in attributes))
    joints = np.column_stack([attributes[f"JOINTS_{i}"] for i in sets]).astype(int)
    weights = np.column_stack([attributes[f"WEIGHTS_{i}"] for i in sets]).astype(float)
    weights[weights.sum(axis=1) == 0, 0] = 1.0
    weights /= weights.sum(axis=1, keepdims=True)
    moved = np.zeros((len(points), 4))
    for joint, weight in zip(joints.T, weights.T, strict=True):
        moved += weight[:, None] * np.einsum("nij,nj->ni", matrices[joint], points)
    return moved[:, :3]


def _triangles(corners: np.ndarray, mode: int) -> np.ndarray:
    """(M, 3) of a list (4), a strip (5) or a fan (6) of triangles (3.7.2.1)."""
    if mode == 4:
        return corners[: len(corners) // 3 * 3].reshape(-1, 3)
    if mode == 6:
        first = np.full(max(0, len(corners) - 2), corners[0] if len(corners) else 0)
        return np.column_stack([first, corners[1:-1], corners[2:]])
    triangles = np.column_stack([corners[:-2], corners[1:-1], corners[2:]])
    triangles[1::2] = triangles[1::2, ::-1]
    return triangles
