"""Scenes built from plain values, rendered by Cycles.

Blender has one global state a process, so this is a class with a single instance, living in the
worker process. Geometry is procedural; meshes, materials and objects are made once and used again.
The colour of an object travels in its object colour, so one shader a material serves all.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from typing import Any

import bpy  # isort: skip - mathutils exists only once bpy is imported
from gpus import gpu_of
from materials import make_world, material_named
from mathutils import Matrix, Vector
from shapes import BASE_HEIGHT, make_mesh, make_shape, make_slab

GLASS_GAP = 0.002
"""World units between glass and what it stands on. Rays that leave through its bottom would meet
both at once, and which first would depend on what else is in the scene."""
GPU_BACKENDS = ("OPTIX", "CUDA", "HIP", "ONEAPI", "METAL")


class NoGPUError(RuntimeError):
    """device="gpu" was asked for and Cycles finds none."""


class Studio:
    """An empty stage with a camera, on which scenes are set and rendered.

    Args:
        cycles: properties of ``bpy.types.CyclesRenderSettings`` to set.
        device: "cpu", "gpu", or "auto": a GPU where Cycles finds one.
        threads: of Cycles on the CPU.
        worker: number of this process among those that share the GPUs.
    """

    def __init__(self, cycles: dict[str, Any], device: str, threads: int, worker: int) -> None:
        bpy.ops.wm.read_factory_settings(use_empty=True)
        self._scene = bpy.context.scene
        self._size = (0, 0)
        self._configure_cycles(cycles, device, threads, worker)
        self._configure_output()
        self._shapes: dict[tuple[str, str], Any] = {}
        self._meshes: dict[tuple[str, str, str], Any] = {}
        self._sceneries: dict[str, tuple[Any, list[Any]]] = {}
        self._slabs: list[Any] = []
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

    def set_size(self, width: int, height: int) -> None:
        """Size of the pictures to come, in pixels."""
        self._size = (width, height)

    def set_view(self, camera: dict[str, Any], lights: Iterable[dict[str, Any]]) -> None:
        """Point the camera and lights; the dictionaries are the plan's Camera and Light fields."""
        self._camera.location = camera["location"]
        self._camera.rotation_euler = _look_at(
            camera["location"], camera["target"], camera["upward"]
        )
        self._camera.data.lens = camera["focal_mm"]
        self._camera.data.sensor_width = camera["sensor_mm"]
        for lamp in self._lights.values():
            lamp.hide_render = True
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
            lamp.data.color = light["color"]
            lamp.hide_render = False

    def set_scenery(self, scenery: dict[str, Any]) -> None:
        """Show these slabs under this sky; the dictionary is the plan's Scenery fields."""
        key = json.dumps(scenery)
        if key not in self._sceneries:
            slabs = [self._add_slab(slab) for slab in scenery["slabs"]]
            self._sceneries[key] = (make_world(scenery["sky"]), slabs)
        world, slabs = self._sceneries[key]
        self._models = scenery["models"]
        self._scene.cycles.transparent_max_bounces = scenery["glass_surfaces"]
        if slabs is not self._slabs:
            for slab in self._slabs:
                slab.hide_render = True
            for slab in slabs:
                slab.hide_render = False
            self._scene.world, self._slabs = world, slabs

    def _add_slab(self, fields: dict[str, Any]) -> Any:
        mesh = make_slab(fields["low"], fields["high"])
        mesh.materials.append(material_named(fields["material"]))
        slab = bpy.data.objects.new("slab", mesh)
        slab.color = (*fields["color"], 1.0)
        self._scene.collection.objects.link(slab)
        return slab

    def add_models(self, paths: dict[str, str]) -> None:
        """Take meshes of the scenery's models from JSON files, and delete these."""
        for shape, path in paths.items():
            with open(path) as file:
                self._shapes[self._models, shape] = make_mesh(shape, json.load(file))
            os.unlink(path)

    def set_objects(self, objects: Iterable[dict[str, Any]]) -> None:
        """Show these objects and no others.

        Each dictionary is a SceneObject's fields with ``radius`` (world units) for its size and
        ``rgb`` (linear, 0 to 1) for its colour. Blender's objects are kept and used again: making
        them anew cost two milliseconds a picture.
        """
        count = 0
        for count, fields in enumerate(objects, start=1):
            if count > len(self._objects):
                self._objects.append(bpy.data.objects.new("object", self._mesh("cube", "rubber")))
                self._scene.collection.objects.link(self._objects[-1])
            self._shape(self._objects[count - 1], fields)
        for index, obj in enumerate(self._objects):
            obj.hide_render = index >= count

    def render(
        self,
        path: str,
        samples: tuple[int, int] | None = None,
        window: Sequence[int] | None = None,
        covered: Sequence[Sequence[int]] = (),
    ) -> None:
        """Write a multilayer EXR with the light, the denoiser's guides, and object ids.

        Args:
            path: the file.
            samples: the first of each pixel's samples to take, and the one to stop before. The
                means of two such ranges, weighted, are the mean of both. None for all.
            window: (x0, y0, x1, y1) in pixels from the top left corner: render this part only.
            covered: rectangles in such pixels whose paths end at once, to save their time; what
                the file holds there means nothing. The other pixels keep every bit.
        """
        render = self._scene.render
        render.filepath = path
        width, height = self._size
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
        self._take_samples(samples)
        bpy.ops.render.render(write_still=True)

    def _take_samples(self, samples: tuple[int, int] | None) -> None:
        cycles = self._scene.cycles
        first, end = samples or (0, self._samples)
        cycles.sample_offset = first
        if hasattr(cycles, "use_sample_subset"):
            cycles.use_sample_subset, cycles.sample_subset_length = True, end - first
        else:  # before Blender 4.5, where each range has random numbers of its own
            cycles.samples = end - first

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
        obj.data = self._mesh(fields["shape"], fields["material"])
        radius = fields["radius"]
        obj.scale = (radius, radius, radius)
        height = fields["z"] + radius * BASE_HEIGHT.get(fields["shape"], 0.0)
        if fields["material"] == "glass":
            height += GLASS_GAP
        obj.location = (fields["x"], fields["y"], height)
        obj.rotation_euler = (0.0, 0.0, math.radians(fields["rotation_deg"]))
        obj.color = (*fields["rgb"], 1.0)
        obj.pass_index = fields["id"]

    def _mesh(self, shape: str, material: str) -> Any:
        """One mesh a shape and material: Cycles shares a mesh among objects only when the material
        is the mesh's own."""
        key = (self._models, shape, material)
        if key not in self._meshes:
            if key[:2] not in self._shapes:
                self._shapes[key[:2]] = make_shape(shape)
            self._meshes[key] = self._shapes[key[:2]].copy()
            self._meshes[key].materials.append(material_named(material))
        return self._meshes[key]

    def _configure_cycles(
        self, overrides: dict[str, Any], device: str, threads: int, worker: int
    ) -> None:
        scene = self._scene
        scene.render.engine = "CYCLES"
        scene.render.threads_mode = "FIXED"
        scene.render.threads = threads
        scene.render.use_persistent_data = True
        cycles = scene.cycles
        self._device, self.gpu = _enable_gpu(device, worker) if device != "cpu" else ("CPU", "")
        cycles.device = "GPU" if self.gpu else "CPU"
        cycles.seed = 0
        # Adaptive sampling and time limits make the sample count depend on more than the plan.
        cycles.use_adaptive_sampling = False
        cycles.time_limit = 0.0
        cycles.use_denoising = False
        cycles.max_bounces = 8
        cycles.diffuse_bounces = 1
        cycles.glossy_bounces = 2
        cycles.transmission_bounces = 6  # through a piece of glass and back
        cycles.transparent_max_bounces = 0  # see set_scenery
        cycles.caustics_reflective = False
        cycles.caustics_refractive = False
        cycles.blur_glossy = 0.5
        # A one-pixel box filter: the ID pass then samples inside its own pixel, and the noise of
        # neighbours is independent, which the denoiser expects.
        cycles.pixel_filter_type = "BOX"
        if bpy.app.version >= (5, 0):  # 5.0 and 5.1 start with another; 4.3 and 4.5 with this one
            cycles.sampling_pattern = "AUTOMATIC"
        for name, value in overrides.items():
            setattr(cycles, name, value)
        self._samples = cycles.samples

    def _configure_output(self) -> None:
        render = self._scene.render
        render.resolution_percentage = 100
        render.use_compositing = False
        render.use_sequencer = False
        image = render.image_settings
        if bpy.app.version >= (5, 0):
            image.media_type = "MULTI_LAYER_IMAGE"
        image.file_format = "OPEN_EXR_MULTILAYER"
        image.color_depth = "32"
        image.exr_codec = "NONE"
        if bpy.app.version >= (5, 0):  # as before: all passes in one part of the file
            image.use_exr_interleave = True
        layer = self._scene.view_layers[0]
        layer.use_pass_object_index = True
        layer.use_pass_normal = True
        layer.use_pass_diffuse_color = True
        layer.use_pass_glossy_color = True
        layer.use_pass_transmission_color = True


def _enable_gpu(device: str, worker: int) -> tuple[str, str]:
    """Switch on one GPU of Cycles' first backend that has any.

    Returns:
        The backend with the GPU's name, and which of the GPUs it is: ``gpu_of``; "CPU" and ""
        when there is none.

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
            chosen, which = gpu_of(worker, gpus)
            for dev in preferences.devices:
                dev.use = dev == chosen
            return f"{backend} {chosen.name}", which
    if device == "gpu":
        raise NoGPUError(
            'device="gpu", but Cycles finds no GPU on this machine: check the driver, or use '
            'device="auto" or device="cpu"'
        )
    return "CPU", ""


def _look_at(
    location: Iterable[float], target: Iterable[float], upward: Sequence[float] = (0.0, 0.0, 1.0)
) -> Any:
    direction = Vector(target) - Vector(location)
    if upward[2]:
        return direction.to_track_quat("-Z", "Y").to_euler()
    right = direction.cross(Vector(upward)).normalized()
    up = right.cross(direction).normalized()
    return Matrix((right, up, -direction.normalized())).transposed().to_euler()
