"""Blender's meshes of the shapes: CLEVR's three, those of ``meshes.py``, and others' models."""

from __future__ import annotations

import math
from typing import Any

import bpy  # isort: skip - bmesh exists only once bpy is imported
import bmesh
from meshes import SHAPE_MESHES, Mesh

CUBE_BEVEL = 0.08
"""Width of a cube's rounded edges, as a fraction of its half side."""
CYLINDER_BEVEL = 0.04
CUBE_HALF_SIDE = 1 / math.sqrt(2)
"""CLEVR: a cube of radius r has half side r / sqrt(2)."""
BASE_HEIGHT = {"cube": CUBE_HALF_SIDE, "sphere": 1.0, "cylinder": 1.0}
"""Height of an object's origin above what it stands on, as a multiple of its radius; of other
shapes it is 0."""
SLAB_BEVEL = 0.03
"""Width of the rounded edges of slabs, world units."""
SHARP_DEG = 35.0
"""Edges of a greater angle are not shaded as round."""


def make_shape(shape: str) -> Any:
    """The mesh of a shape of radius 1.

    Raises:
        KeyError: it is none of ``dig_env.scenes.SHAPES``.
    """
    makers = {"cube": _cube, "sphere": _sphere, "cylinder": _cylinder}
    return makers[shape]() if shape in makers else make_mesh(shape, SHAPE_MESHES[shape]())


def make_slab(low: tuple[float, ...], high: tuple[float, ...]) -> Any:
    """The mesh of an upright box in world units; a plane where it has no height."""
    (x0, y0, z0), (x1, y1, z1) = low, high
    plane = [(x0, y0, z1), (x1, y0, z1), (x1, y1, z1), (x0, y1, z1)]
    if z0 == z1:
        mesh = bpy.data.meshes.new("slab")
        mesh.from_pydata(plane, [], [(0, 1, 2, 3)])
        return mesh
    bm = bmesh.new()
    corners = [bm.verts.new(corner) for corner in [*plane, *[(x, y, z0) for x, y, _ in plane]]]
    for face in (
        (0, 1, 2, 3),
        (7, 6, 5, 4),
        *[(i, i + 4, (i + 1) % 4 + 4, (i + 1) % 4) for i in range(4)],
    ):
        bm.faces.new([corners[i] for i in face])
    _bevel(bm, bm.edges[:], SLAB_BEVEL)
    mesh = _mesh_from("slab", bm)
    _keep_flat_faces_flat(mesh)
    return mesh


def make_mesh(name: str, content: Mesh) -> Any:
    """A mesh of vertices and faces."""
    mesh = bpy.data.meshes.new(name)
    vertices, faces = content
    mesh.from_pydata(vertices, [], faces)
    mesh.validate()
    for polygon in mesh.polygons:
        polygon.use_smooth = True
    mesh.set_sharp_from_angle(angle=math.radians(SHARP_DEG))
    return mesh


def _bevel(bm: bmesh.types.BMesh, edges: list[Any], width: float) -> None:
    bmesh.ops.bevel(
        bm,
        geom=edges,
        offset=width,
        offset_type="OFFSET",
        segments=4,
        profile=0.5,
        affect="EDGES",
        clamp_overlap=True,
    )


def _mesh_from(name: str, bm: bmesh.types.BMesh) -> Any:
    mesh = bpy.data.meshes.new(name)
    bm.to_mesh(mesh)
    bm.free()
    for polygon in mesh.polygons:
        polygon.use_smooth = True
    return mesh


def _cube() -> Any:
    bm = bmesh.new()
    bmesh.ops.create_cube(bm, size=2 * CUBE_HALF_SIDE)
    _bevel(bm, bm.edges[:], CUBE_BEVEL * CUBE_HALF_SIDE)
    mesh = _mesh_from("cube", bm)
    _keep_flat_faces_flat(mesh)
    return mesh


def _sphere() -> Any:
    bm = bmesh.new()
    bmesh.ops.create_icosphere(bm, subdivisions=5, radius=1.0)
    return _mesh_from("sphere", bm)


def _cylinder() -> Any:
    bm = bmesh.new()
    bmesh.ops.create_cone(bm, cap_ends=True, segments=96, radius1=1.0, radius2=1.0, depth=2.0)
    rims = [edge for edge in bm.edges if abs(edge.verts[0].co.z - edge.verts[1].co.z) < 1e-6]
    _bevel(bm, rims, CYLINDER_BEVEL)
    mesh = _mesh_from("cylinder", bm)
    _keep_flat_faces_flat(mesh)
    return mesh


def _keep_flat_faces_flat(mesh: Any) -> None:
    """Weight vertex normals by face area, so that only the rounded edges shade as round."""
    largest: dict[int, tuple[float, Any]] = {}
    for polygon in mesh.polygons:
        for vertex in polygon.vertices:
            if polygon.area > largest.get(vertex, (0.0, None))[0]:
                largest[vertex] = (polygon.area, polygon.normal.copy())
    mesh.normals_split_custom_set_from_vertices(
        [largest[index][1] for index in range(len(mesh.vertices))]
    )
