"""A block as files of models: 1 wide, 3 high and 2 deep, +Y up, whose faces look outwards."""

import json
import struct

import numpy as np

from dig_env.scenes.families.mesh_files import read_model

# A block 1 wide, 3 high and 2 deep, +Y up, whose faces look outwards.
CORNERS = np.array([(x, y, z) for x in (0, 1) for y in (0, 3) for z in (0, 2)], float)
QUADS = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
TRIANGLES = [t for a, b, c, d in QUADS for t in ((a, b, c), (a, c, d))]
UPRIGHT = np.array([1, 2, 3]) * 2 / 3
"""Its extent once it is read: 3 high is 2."""


class Gltf:
    """The block as glTF, to be edited: ``json`` and ``data`` are what the file will hold."""

    def __init__(self, **node):
        self.data = b""
        self.json = {
            "asset": {"version": "2.0"},
            "scenes": [{"nodes": [0]}],
            "nodes": [{"mesh": 0, **node}],
            "bufferViews": [],
            "accessors": [],
            "buffers": [{"byteLength": 0}],
        }
        points = self.add(CORNERS.astype("<f4"))
        corners = self.add(np.ravel(TRIANGLES).astype("<u2"))
        part = {"attributes": {"POSITION": points}, "indices": corners}
        self.json["meshes"] = [{"primitives": [part]}]

    @property
    def part(self):
        return self.json["meshes"][0]["primitives"][0]

    def view(self, content: bytes):
        """A buffer view of these bytes; its number."""
        start = len(self.data) + -len(self.data) % 4
        self.data = self.data.ljust(start, b"\0") + content
        self.json["buffers"][0]["byteLength"] = len(self.data)
        view = {"buffer": 0, "byteOffset": start, "byteLength": len(content)}
        self.json["bufferViews"].append(view)
        return len(self.json["bufferViews"]) - 1

    def add(self, array, **fields):
        """An accessor of an array (N,) or (N, width); its number."""
        kinds = {"f4": 5126, "u4": 5125, "u2": 5123, "i2": 5122, "u1": 5121, "i1": 5120}
        width = {1: "SCALAR", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
        accessor = {
            "bufferView": self.view(array.tobytes()),
            "componentType": kinds[array.dtype.str[1:]],
            "count": len(array),
            "type": width[array.shape[1] if array.ndim > 1 else 1],
        }
        self.json["accessors"].append(accessor | fields)
        return len(self.json["accessors"]) - 1

    def glb(self):
        text = json.dumps(self.json).encode()
        text += b" " * (-len(text) % 4)
        body = self.data + bytes(-len(self.data) % 4)
        chunks = struct.pack("<I4s", len(text), b"JSON") + text
        chunks += struct.pack("<I4s", len(body), b"BIN\0") + body
        return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks

    def read(self, folder):
        path = folder / "x.glb"
        path.write_bytes(self.glb())
        return read_model(path)


def extent(mesh):
    return np.ptp(np.array(mesh[0]), axis=0)


def volume(mesh):
    """Positive where the faces look outwards."""
    points, faces = np.array(mesh[0]), mesh[1]
    return sum(
        np.linalg.det(points[[face[0], face[i], face[i + 1]]]) / 6
        for face in faces
        for i in range(1, len(face) - 1)
    )


def is_the_block(mesh):
    return np.allclose(extent(mesh), UPRIGHT, atol=1e-3) and np.isclose(
        volume(mesh), np.prod(UPRIGHT), rtol=1e-3
    )
