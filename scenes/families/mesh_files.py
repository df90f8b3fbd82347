"""Other people's models: the geometry in a file, and nothing else of it.

Read here, in the process that plans, and not by Blender: nothing in a file is ever run, no texture
is opened, and what is read is bounded. glTF and OBJ are read by hand, since trimesh takes OBJ's
relative indices for others (see ``gltf`` for its glTF); the rest by trimesh.
"""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path

import numpy as np

from dig_env.scenes.extras import extra
from dig_env.scenes.families.gltf import MAX_FACES, MAX_VERTICES, read_gltf
from dig_env.scenes.families.gltf import ModelError as ModelError
from dig_env.scenes.render.blender.meshes import Mesh

MODEL_SUFFIXES = (".glb", ".gltf", ".obj", ".off", ".ply", ".stl")
"""In small letters; the files' may have any."""
Z_IS_UP = (".off", ".ply", ".stl")
"""Where that is the custom; elsewhere +Y is up."""
MAX_BYTES, MAX_LINES = 2**26, 2_000_000
"""Of a file that is no glTF: so long takes no longer than some seconds."""
LINE_ENDS = (b"\n", b"\r", b"\v", b"\f", b"\x1c", b"\x1d", b"\x1e", b"\xc2\x85", b"\xe2\x80")
FLAT = 1e-3
"""A lower model than this is lifted by ten times as much: in the floor it could not be seen."""


def read_model(path: Path, root: Path | None = None) -> Mesh:
    """The geometry of a file: upright, on z = 0, in the cylinder of radius 1 and height 2.

    Args:
        path: the file, of one of ``MODEL_SUFFIXES``.
        root: the folder that no file which it names may leave; by default its own.

    Raises:
        ModelError: the file is damaged, has no faces or too many, or needs what is not understood.
    """
    suffix = path.suffix.lower()
    try:
        with np.errstate(all="ignore"):
            if suffix in (".glb", ".gltf"):
                vertices, triangles = read_gltf(path, root or path.parent)
                faces = [tuple(face) for face in triangles.tolist()]
            else:
                vertices, faces = _read_other(path, suffix)
            return _upright(vertices, faces, suffix in Z_IS_UP)
    except ModelError:
        raise
    except Exception as error:  # foreign bytes can break any step of the reading
        raise ModelError(f"it cannot be read: {str(error) or type(error).__name__}") from error


def _read_other(path: Path, suffix: str) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    with open(path, "rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES or sum(map(content.count, LINE_ENDS)) > MAX_LINES:
        raise ModelError(f"it has more than {MAX_BYTES} bytes or {MAX_LINES} lines")
    if suffix == ".obj":
        return _read_obj(content.decode("utf-8", errors="replace"))
    with extra("models"):
        import trimesh

    with warnings.catch_warnings():
        # numpy's, of text in which no number stands where one should.
        warnings.filterwarnings("error", "string or file could not be read", DeprecationWarning)
        mesh = trimesh.load_mesh(
            io.BytesIO(content), file_type=suffix[1:], process=False, skip_materials=True
        )
    _check_size(len(mesh.vertices), len(mesh.faces))
    announced = _FACES.search(content[: 2**16])
    if announced and len(mesh.faces) < int(announced[1] or announced[2]):
        raise ModelError(f"it is cut off: {len(mesh.faces)} of its faces are there")
    mesh.merge_vertices()  # the corners of STL's faces stand alone
    return mesh.vertices, [tuple(face) for face in mesh.faces.tolist()]


def _check_size(vertices: int, faces: int) -> None:
    if faces > MAX_FACES or vertices > MAX_VERTICES:
        raise ModelError(f"it has more than {MAX_FACES} faces or {MAX_VERTICES} vertices")


_FACES = re.compile(rb"element\s+face\s+(\d+)|^C?OFF\s+\d+\s+(\d+)")
"""The number of faces in the first lines of PLY and OFF, which trimesh does not check."""
_OBJ_LINE = re.compile(r"^[ \t]*([vf])[ \t]+([^#\n\r]*)", re.MULTILINE)


def _read_obj(text: str) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """Wavefront OBJ: its "v" and "f" lines."""
    vertices: list[tuple[float, ...]] = []
    faces: list[tuple[int, ...]] = []
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\\\n", " ")
    for line in _OBJ_LINE.finditer(text):
        values = line[2].split()
        if line[1] == "v":
            vertices.append((float(values[0]), float(values[1]), float(values[2])))
        else:
            indices = [int(value.partition("/")[0]) for value in values]
            face = tuple(i - 1 if i > 0 else len(vertices) + i for i in indices)
            if not all(0 <= i < len(vertices) for i in face):
                raise ModelError(f"its face {line[0][:80]!r} names vertices that it has not")
            if len(face) >= 3:  # fewer enclose nothing
                faces.append(face)
    _check_size(len(vertices), len(faces))
    return np.array(vertices), faces


def _upright(vertices: np.ndarray, faces: list[tuple[int, ...]], z_is_up: bool) -> Mesh:
    if not faces:
        raise ModelError("it has no faces")
    corners = np.concatenate([np.array(face) for face in faces])
    used = np.unique(corners)
    if len(used) < len(vertices):
        place = np.cumsum(np.bincount(used, minlength=len(vertices))) - 1
        faces = [tuple(face) for face in (place[list(face)].tolist() for face in faces)]
        vertices = vertices[used]
    if not z_is_up:
        vertices = np.column_stack([vertices[:, 0], -vertices[:, 2], vertices[:, 1]])
    if not np.isfinite(vertices).all():
        raise ModelError("it has coordinates that are no finite numbers")
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    foot = np.append((low[:2] + high[:2]) / 2, low[2])
    reach = np.linalg.norm(vertices[:, :2] - foot[:2], axis=1).max()
    size = max(reach, (high[2] - low[2]) / 2)
    if not 0 < size < np.inf:
        raise ModelError("it has no extent")
    placed = (vertices - foot) / size
    if (high[2] - low[2]) / size < FLAT:
        placed[:, 2] += 10 * FLAT
    return [tuple(point) for point in placed.tolist()], faces
