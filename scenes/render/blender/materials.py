"""Procedural materials and skies. Every material takes its colour from the object that wears it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import bpy


def _socket(sockets: Iterable[Any], identifier: str) -> Any:
    """A node's input or output. Its name differs: Blender 5.0 made "Factor" of "Fac"."""
    return next(socket for socket in sockets if socket.identifier == identifier)


class _Graph:
    """The shader nodes of a new material."""

    def __init__(self, name: str) -> None:
        self.material = bpy.data.materials.new(name)
        self.material.use_nodes = True
        self._tree = self.material.node_tree
        self._tree.nodes.clear()
        self.color = self.add("ObjectInfo").outputs["Color"]
        """The object's own colour."""
        self.point = self.add("TexCoord").outputs["Object"]
        """Where on the object: shapes have radius 1, slabs are in world units."""

    def add(self, kind: str, inputs: dict[str, Any] | None = None, **properties: Any) -> Any:
        """A node; each of its ``inputs`` is a value or another node's output."""
        node = self._tree.nodes.new("ShaderNode" + kind)
        for name, value in properties.items():
            setattr(node, name, value)
        for name, value in (inputs or {}).items():
            socket = _socket(node.inputs, name)
            if isinstance(value, bpy.types.NodeSocket):
                self._tree.links.new(value, socket)
            else:
                socket.default_value = value
        return node

    def math(self, operation: str, one: Any, other: Any) -> Any:
        node = self.add("Math", operation=operation)
        for socket, value in zip(node.inputs, (one, other), strict=False):
            if isinstance(value, bpy.types.NodeSocket):
                self._tree.links.new(value, socket)
            else:
                socket.default_value = value
        return node.outputs[0]

    def stretched(self, scale: tuple[float, float, float]) -> Any:
        """The point with its axes multiplied."""
        return self.add("Mapping", {"Vector": self.point, "Scale": scale}).outputs[0]

    def range(self, value: Any, low: float, high: float, to_low: float, to_high: float) -> Any:
        """``value`` from [low, high], clamped, to [to_low, to_high]."""
        ends = {"From Min": low, "From Max": high, "To Min": to_low, "To Max": to_high}
        return self.add("MapRange", {"Value": value, **ends}).outputs[0]

    def noise(self, point: Any, scale: float, detail: float = 2.0) -> Any:
        inputs = {"Vector": point, "Scale": scale, "Detail": detail}
        return self.add("TexNoise", inputs).outputs[0]

    def shaded(self, value: Any) -> Any:
        """The object's colour times a value."""
        inputs = {"Fac": 1.0, "Color1": self.color, "Color2": value}
        return self.add("MixRGB", inputs, blend_type="MULTIPLY").outputs[0]

    def mixed(self, share: Any, one: Any, other: Any) -> Any:
        """``one`` where ``share`` is 0, ``other`` where it is 1."""
        inputs = {"Fac": share, "Color1": one, "Color2": other}
        return self.add("MixRGB", inputs).outputs[0]

    def principled(self, color: Any, roughness: Any, specular: float = 0.5, **more: Any) -> Any:
        """Finish as a Principled material."""
        inputs = {"Base Color": color, "Roughness": roughness, "Specular IOR Level": specular}
        return self.finish(self.add("BsdfPrincipled", inputs | more).outputs[0])

    def finish(self, shader: Any) -> Any:
        self.add("OutputMaterial", {"Surface": shader})
        return self.material


def _rubber() -> Any:
    g = _Graph("rubber")
    return g.principled(g.color, 0.75, 0.25)


def _metal() -> Any:
    g = _Graph("metal")
    return g.principled(g.color, 0.18, Metallic=1.0)


def _glass() -> Any:
    """Thick tinted glass. Without caustics it would cast the shadow of a stone: for shadow rays it
    is a tinted pane."""
    g = _Graph("glass")
    # Light passes two surfaces or more: with all of the colour at each, dark ones would be black.
    tint = g.add("Gamma", {"Color": g.color, "Gamma": 0.25}).outputs[0]
    inputs = {"Color": tint, "Roughness": 0.0, "IOR": 1.35}
    glass = g.add("BsdfGlass", inputs).outputs[0]
    pane = g.add("BsdfTransparent", {"Color": tint}).outputs[0]
    is_shadow = g.add("LightPath").outputs["Is Shadow Ray"]
    mix = g.add("MixShader", {"Fac": is_shadow})
    g._tree.links.new(glass, mix.inputs[1])
    g._tree.links.new(pane, mix.inputs[2])
    return g.finish(mix.outputs[0])


def _steel() -> Any:
    """Brushed round the vertical axis: fine rings, a wide soft highlight."""
    g = _Graph("steel")
    brush = g.noise(g.stretched((0.6, 0.6, 14.0)), 3.0, 4.0)
    color = g.shaded(g.range(brush, 0.3, 0.7, 0.55, 1.0))
    return g.principled(color, g.range(brush, 0.3, 0.7, 0.28, 0.48), Metallic=1.0)


def _wood() -> Any:
    """Turned from a trunk that lies at a slant: rings and fibres."""
    g = _Graph("wood")
    turned = {"Vector": g.point, "Rotation": (0.5, 1.25, 0.3), "Scale": (1.0, 1.0, 0.25)}
    inputs = {"Vector": g.add("Mapping", turned).outputs[0], "Scale": 2.2, "Distortion": 3.0}
    inputs |= {"Detail": 2.0, "Detail Scale": 1.2}
    wave = g.add("TexWave", inputs, wave_type="RINGS", rings_direction="Z")
    rings = _socket(wave.outputs, "Fac")
    return g.principled(g.shaded(g.range(rings, 0.0, 1.0, 0.3, 1.0)), 0.5, 0.35)


def _marble() -> Any:
    """Pale veins through the colour."""
    g = _Graph("marble")
    bent = g.noise(g.point, 1.3, 4.0)
    vein = g.math("ABSOLUTE", g.math("SUBTRACT", bent, 0.5), 0.0)
    share = g.range(vein, 0.0, 0.028, 0.85, 0.0)
    return g.principled(g.mixed(share, g.color, (0.9, 0.88, 0.85, 1.0)), 0.22, 0.5)


def _checker() -> Any:
    """Squares of the colour and of white, moved a little: no face lies on an edge of theirs."""
    g = _Graph("checker")
    shifted = g.add("Mapping", {"Vector": g.point, "Location": (0.013, 0.017, 0.011)}).outputs[0]
    inputs = {"Vector": shifted, "Scale": 2.6, "Color1": g.color}
    inputs |= {"Color2": (0.82, 0.81, 0.78, 1.0)}
    return g.principled(g.add("TexChecker", inputs).outputs[0], 0.45, 0.4)


def _concrete() -> Any:
    g = _Graph("concrete")
    return g.principled(g.color, 0.9, 0.1)


def _planks() -> Any:
    """Boards along x, each of its own shade, with grain."""
    g = _Graph("planks")
    brick = {"Vector": g.point, "Scale": 1.0, "Mortar Size": 0.012, "Bias": 0.0}
    brick |= {"Brick Width": 5.5, "Row Height": 0.9, "Mortar Smooth": 0.3}
    brick |= {"Color1": (0.75, 0.75, 0.75, 1), "Color2": (1, 1, 1, 1), "Mortar": (0.3, 0.3, 0.3, 1)}
    boards = g.add("TexBrick", brick, offset=0.37).outputs["Color"]
    grain = g.range(g.noise(g.stretched((0.35, 4.0, 4.0)), 2.4, 5.0), 0.3, 0.7, 0.62, 1.0)
    inputs = {"Fac": 1.0, "Color1": boards, "Color2": grain}
    both = g.add("MixRGB", inputs, blend_type="MULTIPLY").outputs[0]
    return g.principled(g.shaded(both), 0.6, 0.2)


def _tiles() -> Any:
    """Square slabs of stone, each of its own shade."""
    g = _Graph("tiles")
    brick = {"Vector": g.point, "Scale": 1.0, "Mortar Size": 0.06, "Mortar Smooth": 0.2}
    brick |= {"Brick Width": 2.2, "Row Height": 2.2}
    brick |= {"Color1": (0.8, 0.8, 0.8, 1), "Color2": (1, 1, 1, 1), "Mortar": (0.5, 0.5, 0.5, 1)}
    stones = g.add("TexBrick", brick, offset=0.5).outputs["Color"]
    return g.principled(g.shaded(stones), 0.85, 0.15)


def _cloth() -> Any:
    """Linen with a stripe here and there."""
    g = _Graph("cloth")
    inputs = {"Vector": g.point, "Scale": 0.16, "Distortion": 0.0}
    wave = g.add("TexWave", inputs, wave_type="BANDS", bands_direction="X")
    stripe = g.range(_socket(wave.outputs, "Fac"), 0.982, 0.986, 1.0, 0.72)
    weave = g.range(g.noise(g.stretched((1.0, 1.0, 1.0)), 14.0, 3.0), 0.3, 0.7, 0.88, 1.0)
    return g.principled(g.shaded(g.math("MULTIPLY", stripe, weave)), 0.95, 0.05)


def _plaster() -> Any:
    g = _Graph("plaster")
    return g.principled(g.shaded(g.range(g.noise(g.point, 0.7, 4.0), 0.3, 0.7, 0.9, 1.0)), 0.9, 0.1)


_MAKERS: dict[str, Callable[[], Any]] = {
    "rubber": _rubber,
    "metal": _metal,
    "glass": _glass,
    "steel": _steel,
    "wood": _wood,
    "marble": _marble,
    "checker": _checker,
    "concrete": _concrete,
    "planks": _planks,
    "tiles": _tiles,
    "cloth": _cloth,
    "plaster": _plaster,
}
_MADE: dict[str, Any] = {}


def material_named(name: str) -> Any:
    """The material of a word of ``scenes.MATERIALS`` or ``scenery.SURFACES``."""
    if name not in _MADE:
        _MADE[name] = _MAKERS[name]()
    return _MADE[name]


def make_world(sky: dict[str, Any]) -> Any:
    """The world of a ``Sky``'s fields."""
    world = bpy.data.worlds.new("world")
    world.use_nodes = True
    background = world.node_tree.nodes["Background"]
    background.inputs["Color"].default_value = (*sky["color"], 1.0)
    background.inputs["Strength"].default_value = sky["strength"]
    if sky["sun_elevation_deg"] is not None:
        # Nishita's model is prettier, and takes half a second each time that a scene needs it anew.
        texture = world.node_tree.nodes.new("ShaderNodeTexSky")
        texture.sky_type = "HOSEK_WILKIE"
        elevation = math.radians(sky["sun_elevation_deg"])
        texture.sun_direction = (-math.cos(elevation), 0.0, math.sin(elevation))
        texture.turbidity = 3.0
        texture.ground_albedo = 0.3
        # It is smooth: no need for a map of where it is bright.
        world.cycles.sampling_method = "NONE"
        world.node_tree.links.new(texture.outputs[0], background.inputs["Color"])
    return world
