"""Scenes built from plain values, rendered by Cycles.

Blender has one global state a process, so this is a class with a single instance, living in the
worker process. Geometry is procedural; meshes, materials and objects are made once and used again.
The colour of an object travels in its object colour, so two shaders serve all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import bpy  # isort: skip - bmesh and mathutils exist only once bpy is imported
import bmesh
from mathutils import Vector

CUBE_BEVEL = 0.08
"""Width of a cube's rounded edges, as a fraction of its half side."""
CYLINDER_BEVEL = 0.04
CUBE_HALF_SIDE = 1 / math.sqrt(2)
"""CLEVR: a cube of radius r has half side r / sqrt(2)."""
BASE_HEIGHT = {"cube": CUBE_HALF_SIDE, "sphere": 1.0, "cylinder": 1.0}
"""Height of an object's origin above the floor, as a multiple of its radius."""

GPU_BACKENDS = ("OPTIX", "CUDA", "HIP", "ONEAPI", "METAL")


class NoGPUError(RuntimeError):
    """device="gpu" was asked for and Cycles finds none."""


class Studio:
    """An empty stage with floor, lights and camera, on which scenes are set and rendered."""

    def __init__(
        self, width: int, height: int, cycles: dict[str, Any], device: str, threads: int
    ) -> None:
        bpy.ops.wm.read_factory_settings(use_empty=True)
        self._scene = bpy.context.scene
        self._size = (width, height)
        self._configure_cycles(cycles, device, threads)
        self._configure_output(width, height)
        # One mesh a shape and material: Cycles shares a mesh among objects only when the material
        # is the mesh's own.
        materials = {"rubber": _rubber(), "metal": _metal()}
        meshes = {"cube": _cube(), "sphere": _sphere(), "cylinder": _cylinder()}
        self._meshes = {
            (shape, material): _with_material(meshes[shape], materials[material])
            for shape in meshes
            for material in materials
        }
        self._add_world_and_floor()
        self._camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
        self._scene.collection.objects.link(self._camera)
        self._scene.camera = self._camera
        self._lights: dict[str, Any] = {}
        self._objects: list[Any] = []
        self._shutter = self._add_shutter()

    @property
    def versions(self) -> dict[str, str]:
        """What the bytes of an image depend on beside the plan."""
        return {"blender": bpy.app.version_string, "device": self._device}

    def set_view(self, camera: dict[str, Any], lights: Iterable[dict[str, Any]]) -> None:
        """Point the camera and lights; the dictionaries are the plan's Camera and Light fields."""
        self._camera.location = camera["location"]
        self._camera.rotation_euler = _look_at(camera["location"], camera["target"])
        self._camera.data.lens = camera["focal_mm"]
        self._camera.data.sensor_width = camera["sensor_mm"]
        for light in lights:
            lamp = self._lights.get(light["name"])
            if lamp is None:
                lamp = bpy.data.objects.new(
                    light["name"], bpy.data.lights.new(light["name"], "AREA")
                )
                self._scene.collection.objects.link(lamp)
                self._lights[light["name"]] = lamp
            lamp.location = light["location"]
            lamp.rotation_euler = _look_at(light["location"], (0.0, 0.0, 0.0))
            lamp.data.size = light["side"]
            lamp.data.energy = light["power_w"]

    def set_objects(self, objects: Iterable[dict[str, Any]]) -> None:
        """Show these objects and no others.

        Each dictionary is a SceneObject's fields with ``radius`` (world units) for its size and
        ``rgb`` (linear, 0 to 1) for its colour. Blender's objects are kept and used again: making
        them anew cost two milliseconds a picture.
        """
        count = 0
        for count, fields in enumerate(objects, start=1):
            if count > len(self._objects):
                self._objects.append(bpy.data.objects.new("object", self._meshes["cube", "rubber"]))
                self._scene.collection.objects.link(self._objects[-1])
            self._shape(self._objects[count - 1], fields)
        for index, obj in enumerate(self._objects):
            obj.hide_render = index >= count

    def render(
        self,
        path: str,
        window: Sequence[int] | None = None,
        covered: Sequence[Sequence[int]] = (),
        scale: int = 1,
    ) -> None:
        """Write a multilayer EXR with Combined, Denoising Albedo and Normal, and IndexOB.

        Args:
            path: the file.
            window: (x0, y0, x1, y1) in pixels from the top left corner: render this part only.
            covered: rectangles in such pixels whose paths end at once, to save their time; what
                the file holds there means nothing. The other pixels keep every bit.
            scale: the picture has this many times the studio's width and height, and ``window`` is
                in its pixels.
        """
        render = self._scene.render
        render.filepath = path
        width, height = (side * scale for side in self._size)
        render.resolution_x, render.resolution_y = width, height
        render.use_border = render.use_crop_to_border = window is not None
        if window is not None:
            x0, y0, x1, y1 = window
            # Blender multiplies in single precision and cuts off: a quarter of a pixel keeps clear
            # of the next lower one.
            render.border_min_x, render.border_max_x = (x0 + 0.25) / width, (x1 + 0.25) / width
            render.border_min_y = (height - y1 + 0.25) / height
            render.border_max_y = (height - y0 + 0.25) / height
        self._close_shutter(covered)
        bpy.ops.render.render(write_still=True)

    def _add_shutter(self) -> Any:
        """A mesh right before the camera that stops the camera's own rays and no others."""
        material = bpy.data.materials.new("shutter")
        material.use_nodes = True
        nodes, links = material.node_tree.nodes, material.node_tree.links
        nodes.clear()
        holdout, output = nodes.new("ShaderNodeHoldout"), nodes.new("ShaderNodeOutputMaterial")
        links.new(holdout.outputs["Holdout"], output.inputs["Surface"])
        mesh = bpy.data.meshes.new("shutter")
        mesh.materials.append(material)
        shutter = bpy.data.objects.new("shutter", mesh)
        shutter.parent = self._camera
        self._scene.collection.objects.link(shutter)
        for ray in ("diffuse", "glossy", "transmission", "shadow", "volume_scatter"):
            setattr(shutter, f"visible_{ray}", False)
        return shutter

    def _close_shutter(self, covered: Sequence[Sequence[int]]) -> None:
        """Cover rectangles of the picture, or none."""
        # Hidden, not taken out of the scene: that made Blender slower from picture to picture, by
        # four tenths after 4,000.
        self._shutter.hide_render = not covered
        if not covered:
            return
        width, height = self._size
        camera = self._camera.data
        pixel = camera.sensor_width / camera.lens / max(width, height)  # at distance 1
        corners = [
            ((x - width / 2) * pixel, (height / 2 - y) * pixel, -1.0)
            for x0, y0, x1, y1 in covered
            for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
        ]
        faces = [tuple(range(start, start + 4)) for start in range(0, len(corners), 4)]
        mesh = self._shutter.data
        mesh.clear_geometry()
        mesh.from_pydata(corners, [], faces)

    def _shape(self, obj: Any, fields: dict[str, Any]) -> None:
        obj.data = self._meshes[fields["shape"], fields["material"]]
        radius = fields["radius"]
        obj.scale = (radius, radius, radius)
        obj.location = (fields["x"], fields["y"], radius * BASE_HEIGHT[fields["shape"]])
        obj.rotation_euler = (0.0, 0.0, math.radians(fields["rotation_deg"]))
        obj.color = (*fields["rgb"], 1.0)
        obj.pass_index = fields["id"]

    def _configure_cycles(self, overrides: dict[str, Any], device: str, threads: int) -> None:
        scene = self._scene
        scene.render.engine = "CYCLES"
        scene.render.threads_mode = "FIXED"
        scene.render.threads = threads
        scene.render.use_persistent_data = True
        cycles = scene.cycles
        gpu = _enable_gpu(device) if device != "cpu" else ""
        cycles.device = "GPU" if gpu else "CPU"
        self._device = gpu or "CPU"
        cycles.seed = 0
        # Adaptive sampling and time limits make the sample count depend on more than the plan.
        cycles.use_adaptive_sampling = False
        cycles.time_limit = 0.0
        cycles.use_denoising = False
        cycles.max_bounces = 4
        cycles.diffuse_bounces = 1
        cycles.glossy_bounces = 2
        cycles.transmission_bounces = 0
        cycles.transparent_max_bounces = 0
        cycles.caustics_reflective = False
        cycles.caustics_refractive = False
        cycles.blur_glossy = 0.5
        # A one-pixel box filter: the ID pass then samples inside its own pixel, and the noise of
        # neighbours is independent, which the denoiser expects.
        cycles.pixel_filter_type = "BOX"
        for name, value in overrides.items():
            setattr(cycles, name, value)

    def _configure_output(self, width: int, height: int) -> None:
        render = self._scene.render
        render.resolution_x, render.resolution_y = width, height
        render.resolution_percentage = 100
        render.use_compositing = False
        render.use_sequencer = False
        render.image_settings.file_format = "OPEN_EXR_MULTILAYER"
        render.image_settings.color_depth = "32"
        render.image_settings.exr_codec = "NONE"
        layer = self._scene.view_layers[0]
        layer.use_pass_object_index = True
        layer.cycles.denoising_store_passes = True

    def _add_world_and_floor(self) -> None:
        world = bpy.data.worlds.new("world")
        self._scene.world = world
        world.use_nodes = True
        background = world.node_tree.nodes["Background"]
        background.inputs["Color"].default_value = (0.5, 0.52, 0.55, 1.0)
        background.inputs["Strength"].default_value = 0.45
        mesh = bpy.data.meshes.new("floor")
        half = 60.0
        mesh.from_pydata(
            [(-half, -half, 0), (half, -half, 0), (half, half, 0), (-half, half, 0)],
            [],
            [(0, 1, 2, 3)],
        )
        mesh.materials.append(
            _principled("floor", roughness=0.9, specular=0.1, color=(0.42, 0.42, 0.43, 1.0))
        )
        self._scene.collection.objects.link(bpy.data.objects.new("floor", mesh))


def _enable_gpu(device: str) -> str:
    """Switch on Cycles' first GPU backend that has a device.

    Returns:
        The devices' names, or "" when there is none.

    Raises:
        NoGPUError: none was found and ``device`` is "gpu".
    """
    preferences = bpy.context.preferences.addons["cycles"].preferences
    for backend in GPU_BACKENDS:
        try:
            preferences.compute_device_type = backend
        except TypeError:  # this build of Cycles does not know the backend
            continue
        preferences.refresh_devices()
        gpus = [dev for dev in preferences.devices if dev.type == backend]
        if gpus:
            for dev in preferences.devices:
                dev.use = dev in gpus
            return f"{backend} {', '.join(dev.name for dev in gpus)}"
    if device == "gpu":
        raise NoGPUError(
            'device="gpu", but Cycles finds no GPU on this machine: check the driver, or use '
            'device="auto" or device="cpu"'
        )
    return ""


def _look_at(location: Iterable[float], target: Iterable[float]) -> Any:
    direction = Vector(target) - Vector(location)
    return direction.to_track_quat("-Z", "Y").to_euler()


def _principled(
    name: str,
    roughness: float,
    specular: float = 0.5,
    metallic: float = 0.0,
    color: tuple[float, float, float, float] | None = None,
) -> Any:
    """A Principled material; with no ``color`` it takes the object's own colour."""
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    shader = nodes["Principled BSDF"]
    shader.inputs["Roughness"].default_value = roughness
    shader.inputs["Metallic"].default_value = metallic
    shader.inputs["Specular IOR Level"].default_value = specular
    if color is None:
        info = nodes.new("ShaderNodeObjectInfo")
        links.new(info.outputs["Color"], shader.inputs["Base Color"])
    else:
        shader.inputs["Base Color"].default_value = color
    return material


def _rubber() -> Any:
    return _principled("rubber", roughness=0.75, specular=0.25)


def _metal() -> Any:
    return _principled("metal", roughness=0.18, metallic=1.0)


def _with_material(mesh: Any, material: Any) -> Any:
    copy = mesh.copy()
    copy.materials.append(material)
    return copy


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
    bmesh.ops.bevel(
        bm,
        geom=bm.edges[:],
        offset=CUBE_BEVEL * CUBE_HALF_SIDE,
        offset_type="OFFSET",
        segments=4,
        profile=0.5,
        affect="EDGES",
        clamp_overlap=True,
    )
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
    bmesh.ops.bevel(
        bm,
        geom=rims,
        offset=CYLINDER_BEVEL,
        offset_type="OFFSET",
        segments=4,
        profile=0.5,
        affect="EDGES",
        clamp_overlap=True,
    )
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
