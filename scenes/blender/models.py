"""Other people's models: the geometry in .obj and .glb files, and nothing else of them.

Positions and faces are read by hand, without Blender's importers: nothing in a file is ever run.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from pathlib import Path

Mesh = tuple[list[tuple[float, float, float]], list[tuple[int, ...]]]
"""As in ``meshes``."""

MODEL_SUFFIXES = (".obj", ".glb")
MAX_MODEL_FACES = 200_000


class ModelError(ValueError):
    """A file that is no usable model."""


def find_model(folder: str, shape: str) -> Path:
    """The file in a folder that holds a shape.

    Raises:
        ModelError: there is none.
    """
    for suffix in MODEL_SUFFIXES:
        path = Path(folder, shape + suffix)
        if path.is_file():
            return path
    raise ModelError(f"there is no {shape}.obj or {shape}.glb in {folder or 'any folder'}")


def read_model(path: Path) -> Mesh:
    """The geometry of a file: upright, on z = 0, in the cylinder of radius 1 and height 2.

    Raises:
        ModelError: the file is damaged, has no faces or too many, or needs what is not understood.
    """
    try:
        read = {".obj": _read_obj, ".glb": _read_glb}[path.suffix]
        vertices, faces = read(path.read_bytes())
        used = [vertices[i] for face in faces for i in face]
    except ModelError:
        raise
    except Exception as error:  # foreign bytes can break any step of the reading
        raise ModelError(f"it cannot be read ({type(error).__name__}: {error})") from error
    if not 1 <= len(faces) <= MAX_MODEL_FACES:
        raise ModelError(f"it has {len(faces)} faces, and 1 to {MAX_MODEL_FACES} are allowed")
    if not all(math.isfinite(value) for vertex in used for value in vertex):
        raise ModelError("it has coordinates that are no finite numbers")
    low = [min(vertex[axis] for vertex in used) for axis in range(3)]
    high = [max(vertex[axis] for vertex in used) for axis in range(3)]
    middle = [(a + b) / 2 for a, b in zip(low, high, strict=True)]
    reach = max(math.hypot(v[0] - middle[0], v[2] - middle[2]) for v in used)
    size = max(reach, (high[1] - low[1]) / 2)
    if not 0 < size < math.inf:
        raise ModelError("it has no extent")
    # +Y is up in the file, +Z in the world.
    return [
        ((x - middle[0]) / size, (middle[2] - z) / size, (y - low[1]) / size)
        for x, y, z in vertices
    ], faces


def _read_obj(content: bytes) -> Mesh:
    """Wavefront OBJ: its "v" and "f" lines."""
    vertices: list[tuple[float, float, float]] = []
    faces: list[tuple[int, ...]] = []
    for line in content.decode("utf-8", errors="replace").splitlines():
        kind, *values = line.split() or [""]
        if kind == "v":
            vertices.append((float(values[0]), float(values[1]), float(values[2])))
        elif kind == "f":
            indices = [int(value.split("/")[0]) for value in values]
            face = tuple(i - 1 if i > 0 else len(vertices) + i for i in indices)
            if len(face) < 3 or not all(0 <= i < len(vertices) for i in face):
                raise ModelError(f"its face {line!r} names vertices that it has not")
            faces.append(face)
    return vertices, faces


_COMPONENTS = {5121: "B", 5123: "H", 5125: "I", 5126: "f"}


def _read_glb(content: bytes) -> Mesh:
    """Binary glTF 2.0: the triangles of the scene's meshes, where its nodes put them."""
    magic, version, _ = struct.unpack_from("<4sII", content)
    if magic != b"glTF" or version != 2:
        raise ModelError("it is no binary glTF 2.0")
    length, kind = struct.unpack_from("<I4s", content, 12)
    if kind != b"JSON":
        raise ModelError("it does not begin with its JSON")
    gltf = json.loads(content[20 : 20 + length])
    if gltf.get("extensionsRequired"):
        raise ModelError(f"it needs {', '.join(gltf['extensionsRequired'])}: export it without")
    binary = content[20 + length + 8 :]
    vertices: list[tuple[float, float, float]] = []
    faces: list[tuple[int, ...]] = []

    def add_node(index: int, parent: Sequence[float], depth: int) -> None:
        if depth > 100:
            raise ModelError("its nodes lie too deep, or in a circle")
        node = gltf["nodes"][index]
        matrix = _product(parent, _node_matrix(node))
        if "mesh" in node:
            for part in gltf["meshes"][node["mesh"]]["primitives"]:
                if part.get("mode", 4) != 4:
                    raise ModelError("it has lines or strips: export it with triangles")
                positions = _accessor(gltf, binary, part["attributes"]["POSITION"], 3)
                if "indices" in part:
                    corners = [i for (i,) in _accessor(gltf, binary, part["indices"], 1)]
                else:
                    corners = list(range(len(positions)))
                if corners and max(corners) >= len(positions):
                    raise ModelError("its faces name vertices that it has not")
                first = len(vertices)
                vertices.extend(_moved(matrix, position) for position in positions)
                faces.extend(
                    tuple(first + i for i in corners[at : at + 3])
                    for at in range(0, len(corners) - 2, 3)
                )
        for child in node.get("children", ()):
            add_node(child, matrix, depth + 1)

    for root in gltf["scenes"][gltf.get("scene", 0)]["nodes"]:
        add_node(root, _IDENTITY, 0)
    return vertices, faces


def _accessor(gltf: dict, binary: bytes, index: int, width: int) -> list[tuple]:
    accessor = gltf["accessors"][index]
    if "sparse" in accessor or accessor["type"] != {1: "SCALAR", 3: "VEC3"}[width]:
        raise ModelError("it has sparse or odd accessors: export it without")
    view = gltf["bufferViews"][accessor["bufferView"]]
    if "uri" in gltf["buffers"][view["buffer"]]:
        raise ModelError("it keeps its data in other files: export it as one .glb")
    layout = struct.Struct("<" + width * _COMPONENTS[accessor["componentType"]])
    start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    stride = view.get("byteStride", layout.size)
    if accessor["count"] > 3 * MAX_MODEL_FACES:
        raise ModelError(f"it has more than {MAX_MODEL_FACES} faces")
    return [layout.unpack_from(binary, start + i * stride) for i in range(accessor["count"])]


_IDENTITY = (1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1)


def _node_matrix(node: dict) -> Sequence[float]:
    """A node's 4 x 4 matrix, column by column."""
    if "matrix" in node:
        return node["matrix"]
    x, y, z, w = node.get("rotation", (0, 0, 0, 1))
    a, b, c = node.get("scale", (1, 1, 1))
    tx, ty, tz = node.get("translation", (0, 0, 0))
    return (
        *(a * (1 - 2 * (y * y + z * z)), a * 2 * (x * y + z * w), a * 2 * (x * z - y * w), 0),
        *(b * 2 * (x * y - z * w), b * (1 - 2 * (x * x + z * z)), b * 2 * (y * z + x * w), 0),
        *(c * 2 * (x * z + y * w), c * 2 * (y * z - x * w), c * (1 - 2 * (x * x + y * y)), 0),
        *(tx, ty, tz, 1),
    )


def _product(one: Sequence[float], other: Sequence[float]) -> Sequence[float]:
    return [
        sum(one[row + 4 * k] * other[k + 4 * column] for k in range(4))
        for column in range(4)
        for row in range(4)
    ]


def _moved(matrix: Sequence[float], point: Sequence[float]) -> tuple[float, float, float]:
    x, y, z = point
    moved = [
        matrix[i] * x + matrix[4 + i] * y + matrix[8 + i] * z + matrix[12 + i] for i in (0, 1, 2)
    ]
    return (moved[0], moved[1], moved[2])
